"""Pairs of answers as samples: their rows in a micro-batch, and the metrics of a step's pairs.

Shapes: n pairs of a micro-batch, T positions. A collator gives 2n rows, the chosen answers first, then the rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from samplewise.core.distributed import totals
from samplewise.core.errors import SamplewiseError
from samplewise.core.micro_batch import MicroBatch

BY_POSITION = ("input_ids", "attention_mask", "completion_mask")
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
"""[n] each, of a pair. All other inputs have a row for each answer."""

COUNTED_BY = {"entropy": 0, "logits/chosen": 1, "mean_token_accuracy": 1, "logits/rejected": 2}
"""Metrics that are means over tokens: of both answers, of the chosen or of the rejected one. Others are over pairs."""
OVER_PAIRS = 3


def by_pair(micro: MicroBatch) -> MicroBatch:
    """The micro-batch with a row for each pair: what had 2n rows is [n, T, 2], which the engine can cut and deal.

    Errors: SamplewiseError where there are not two rows for each pair.
    """
    rows = len(micro.inputs["input_ids"])
    if rows != 2 * len(micro):
        raise SamplewiseError(
            "data_collator", expected="all chosen answers, then all rejected ones", got=f"{rows} rows for {len(micro)} "
            "pairs", remedy="Use TRL's DataCollatorForPreference.",
        )  # fmt: skip
    pairs = {k: v if k in REFERENCE else torch.stack(v.chunk(2), -1) for k, v in micro.inputs.items()}
    # One at least: a pair without a token to predict counts in TRL's mean too.
    counts = answer_lengths(micro.inputs["completion_mask"]).sum(1).clamp(min=1).cpu()
    return replace(micro, inputs=pairs, counts=counts, padding=dict.fromkeys(BY_POSITION, 0))


def by_answer(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of `by_pair` as the collator gave them: 2n rows."""
    return {k: v if k in REFERENCE else torch.cat(v.unbind(-1)) for k, v in inputs.items()}


def one_pair(rows: Mapping[str, Tensor], i: int) -> dict[str, Tensor]:
    """Pair i of tensors with 2n rows, in the same layout: two rows."""
    n = {k: len(v) // 2 for k, v in rows.items()}
    return {k: v[i : i + 1] if k in REFERENCE else v[[i, n[k] + i]] for k, v in rows.items()}


def answer_lengths(completion_mask: Tensor) -> Tensor:
    """[n, 2] predicted tokens of the chosen and the rejected answers; nothing predicts a row's first. [2n, T] given."""
    return torch.stack(completion_mask[:, 1:].sum(1).chunk(2), 1)


class PairMetrics:
    """The metrics of a step's pairs: each pair's counts once, however often it went through the model."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, bool], tuple[dict[str, float], list[int]]] = {}

    def add(self, micro: MicroBatch, i: int, metrics: dict[str, float], completion_mask: Tensor) -> None:
        """Those of pair i of a micro-batch. completion_mask: [2, T], its own."""
        real = micro.coefficient is None or bool(micro.coefficient[i] != 0)  # else a blank row, or not asked for
        chosen, rejected = answer_lengths(completion_mask)[0].tolist()
        counts = [chosen + rejected, chosen, rejected, 1]
        self.seen[int(micro.id[i]), real] = metrics, counts if real else [0] * len(counts)

    def take(self, device: torch.device) -> dict[str, tuple[float, float]]:
        """(sum, count) of each metric over the step's pairs of all ranks; forgets them."""
        pairs, self.seen = list(self.seen.values()), {}
        names = sorted(pairs[0][0])  # every rank runs a pair, be it a blank one
        sums: list[float] = []
        for name in names:
            by = COUNTED_BY.get(name, OVER_PAIRS)
            sums.append(sum(metrics[name] * counts[by] for metrics, counts in pairs if counts[by]))
            sums.append(sum(counts[by] for _, counts in pairs))
        whole = totals(sums, device)
        return {name: (whole[2 * k], whole[2 * k + 1]) for k, name in enumerate(names)}
