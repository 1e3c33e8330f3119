"""A column of scores beside the rows of a dataset, by sample id: what `by("excess", …)` and stored losses train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.store import Scores, column, open_scores


def add_column(dataset: Any, scores: Scores | str | Path, name: str, rename: str | None = None) -> Any:
    """A `datasets.Dataset` with one more column, joined by its column `sample_id`.

    name: a column of the scores, such as "loss", or "reference" from `samplewise score --as reference`. rename: what it
    is called in the dataset, such as "reference_loss". Costs 28 bytes for each score in memory.

    Raises SamplewiseError where the dataset has no `sample_id`, where it has ids that the scores do not have, or have
    no loss for, and, where its rows hold `labels`, where the first rows predict other numbers of tokens than the
    scores' windows: they were cut by other settings.
    """
    if "sample_id" not in dataset.column_names:
        raise SamplewiseError(
            "dataset", expected="a column sample_id", got=", ".join(dataset.column_names),
            remedy="Add a column sample_id to the data before scoring and training.",
        )  # fmt: skip
    scores = scores if isinstance(scores, Scores) else open_scores(scores)
    ids, values = column(scores, name)
    order = np.argsort(ids, kind="stable")
    wanted = np.asarray(dataset["sample_id"], np.int64)
    at = np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)
    found = order[at] if len(ids) else np.zeros(len(wanted), np.int64)
    missing = ids[found] != wanted if len(ids) else np.ones(len(wanted), bool)
    if missing.any():
        raise SamplewiseError(
            "scores", expected="a score for every sample_id of the dataset",
            got=f"none for {int(missing.sum()):,} of {len(wanted):,}, the first {wanted[missing][0]}",
            remedy="Score the same data with the same --max-length, --min-tokens and tokenizer.",
        )  # fmt: skip
    joined = values[found]
    if joined.dtype.kind == "f" and not np.isfinite(joined).all():
        raise SamplewiseError(
            name, expected="a finite number for every sample",
            got=f"{int((~np.isfinite(joined)).sum()):,} that are not", remedy="Remove those samples from the dataset.",
        )  # fmt: skip
    _check_lengths(dataset, scores, found)
    return dataset.add_column(rename or name, joined)


def _check_lengths(dataset: Any, scores: Scores, found: np.ndarray) -> None:
    if "labels" not in dataset.column_names or "completion_tokens" in scores.columns:
        return
    _, counts = column(scores, "n_tokens")
    for row, stored in zip(dataset.select(range(min(len(dataset), 100)))["labels"], counts[found[:100]], strict=True):
        own = sum(label != -100 for label in row[1:])
        if own != stored:
            raise SamplewiseError(
                "scores", expected="windows of as many tokens as the dataset's rows",
                got=f"{stored} where a row has {own}",
                remedy="Score with the --max-length, --min-tokens and tokenizer of the training.",
            )  # fmt: skip
