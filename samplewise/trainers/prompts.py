"""A weight for the prompt: its tokens are predicted too, each counting a fraction of the completion's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from samplewise.core.columns import TOKEN_WEIGHTS
from samplewise.core.errors import SamplewiseError
from samplewise.losses.token_losses import IGNORED
from samplewise.trainers.messages import has_weights


def check_prompt_weight(weight: object) -> float | None:
    """The weight, None for 0, which leaves the prompt out. Errors: SamplewiseError unless it is in [0, 1], or None."""
    if weight is None:
        return None
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= 1:
        raise SamplewiseError(
            "prompt_weight", expected="a number in [0, 1], or None", got=repr(weight),
            remedy="0 trains on completions alone, 1 on all tokens alike.",
        )  # fmt: skip
    return float(weight) or None


def with_prompts(dataset: Any, args: Any, host: Callable[[Any, Any, bool], Any], weight: float, masked: bool) -> Any:
    """The dataset in tokens, all of them labels, with token weights: 1 where TRL predicts, `weight` elsewhere.

    host: (dataset, args, packing) -> dataset, TRL's own preparation. masked: whether it masks anything. Token weights
    that the data has are multiplied.
    Errors: SamplewiseError where TRL masks no prompt, or where labels say what is predicted already.
    """
    if not masked:
        raise SamplewiseError(
            "prompt_weight", expected="data of prompts and completions, or assistant_only_loss", got="neither",
            remedy="Leave it out: all tokens are predicted alike.",
        )  # fmt: skip
    if "labels" in next(iter(dataset)):
        raise SamplewiseError(
            "prompt_weight", expected="data without labels", got="a column labels",
            remedy=f"Give those rows a column {TOKEN_WEIGHTS}, and all their tokens as labels.",
        )  # fmt: skip
    if has_weights(dataset):
        raise SamplewiseError(
            "prompt_weight", expected="messages without weights", got="weights inside messages",
            remedy="Leave one of them out: such messages are encoded with the assistant's part alone predicted.",
        )  # fmt: skip
    whole = copy.copy(args)
    whole.max_length, whole.shuffle_dataset = None, False

    def weighted(row: dict[str, Any]) -> dict[str, Any]:
        given = row.get(TOKEN_WEIGHTS) or [1.0] * len(row["input_ids"])
        own = [m if label != IGNORED else weight * m for m, label in zip(given, row["labels"], strict=True)]
        return {"labels": row["input_ids"], TOKEN_WEIGHTS: own}

    return host(dataset, whole, False).map(weighted)
