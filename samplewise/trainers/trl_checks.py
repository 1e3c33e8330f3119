"""What TRL's trainers cannot train on with weights, and the remedies."""

from __future__ import annotations

from typing import Any

from trl import SFTConfig  # pyright: ignore[reportPrivateImportUsage]

from samplewise.core.errors import SamplewiseError


def refuse_empty(dataset: Any) -> None:
    """Errors: SamplewiseError for data without any row."""
    if dataset is not None and next(iter(dataset), None) is None:  # the host looks at the first row in the same way
        raise SamplewiseError(
            "train_dataset", expected="at least 1 row", got="no rows", remedy="Look at what reads or filters the data."
        )


def refuse_config(config: SFTConfig) -> None:
    """Errors: SamplewiseError for a loss of TRL's that replaces the one that is weighted."""
    if config.loss_type == "dft":
        raise SamplewiseError(
            "loss_type", expected='"nll" with sample weighting', got=repr(config.loss_type),
            remedy="Use 'nll' with token_rule='dft()' (and per='token', rule='uniform()' for TRL's own gradient).",
        )  # fmt: skip


def refuse_images(given: bool) -> None:
    """Errors: SamplewiseError for data with images."""
    if given:
        raise SamplewiseError(
            "train_dataset", expected="text", got="images",
            remedy="Remove the images: image datasets are not supported yet.",
        )  # fmt: skip


def refuse_all_left_out(given: Any, prepared: Any, max_length: int | None) -> None:
    """Errors: SamplewiseError where no row has a token to predict once TRL has prepared the data."""
    if hasattr(prepared, "__len__") and len(prepared) == 0:
        raise SamplewiseError(
            "train_dataset", expected="rows with something to predict",
            got=f"none: all {len(given)} were left out while they were prepared",
            remedy=f"Raise max_length, now {max_length}: no predicted token was within it.",
        )  # fmt: skip


def no_training_template(error: ValueError) -> SamplewiseError:
    """The error of a template that TRL cannot mark the assistant's part in, and the remedies."""
    return SamplewiseError(
        "assistant_only_loss", expected="a chat template that marks the assistant's part", got=str(error),
        remedy="Put {% generation %} and {% endgeneration %} around the assistant's part of the tokenizer's template. "
        "Or leave assistant_only_loss out and encode the rows here, which needs no marks for most templates: "
        "samplewise.data.to_dataset(list(encode_conversations(read_instructions(rows), chat_template(tokenizer)))).",
    )  # fmt: skip
