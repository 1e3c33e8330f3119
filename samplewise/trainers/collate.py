"""The training collator: fields of samples are set aside, and added to what the Trainer's collator returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplewise.core.columns import COLUMNS, GROUP, ID, SEGMENTS, TOKEN_WEIGHTS
from samplewise.core.errors import SamplewiseError
from samplewise.losses.segments import (
    MASK,
    POSITION,
    is_numbered,
    nested_ids,
    numbered_runs,
    part_numbers,
    read_numbered_mask,
    segments_of,
    split_turns,
)
from samplewise.losses.token_losses import IGNORED
from samplewise.trainers.bins import collate_bins, is_bins
from samplewise.trainers.identify import checked

Batch = dict[str, Any]

LENGTHS = "seq_lengths"  # of the segments of a packed row, as TRL and others name it
DTYPES = {ID: torch.int64, GROUP: torch.int64}  # fp64 for the others
Read = Callable[[str, Any], int | float]
"""(column, value) -> the number that it is."""


class PlainCollator:
    """A data collator that leaves out the fields of samples, which evaluation and the model do not use.

    collate: the host's.
    """

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, features: Sequence[Any]) -> Any:
        """The batch that `collate` makes of the rows without those columns."""
        return self.collate([_without_fields(row) for row in features])


class FieldsCollator:
    """A data collator that keeps `sample_id`, `sample_weight`, `group`, `reference_loss` and `token_weights`.

    collate: the host's; it must keep the order of the rows: there is no other way to know which value is whose. What
        it returns may be padded (a row each), one flat row of all (padding-free, packed), or rows whose attention mask
        numbers their samples: the last two get a map of segments, and one flat row.
    turns: every run of predicted labels becomes a sample of its own.
    columns: of samples, those that are read: what is not the number it must be is an error there, and NaN (of groups:
        −1) elsewhere. None where nobody knows: NaN, which a rule that reads the column refuses, naming the sample.
    negative: whether a weight may be below 0.
    """

    def __init__(
        self, collate: Callable[[list[Any]], Any], *, turns: bool = False, columns: frozenset[str] | None = None,
        negative: bool = False,
    ) -> None:  # fmt: skip
        self.collate, self.turns, self.columns = collate, turns, columns
        self.checked = partial(checked, negative=negative)

    def __call__(self, features: Sequence[Any]) -> Batch:
        """The batch that `collate` makes of the rows, with the fields of the n samples, [n] each.

        features: rows; or, of a sampler that packs, a list of rows for each row of the batch.
        """
        if is_bins(features):
            batch = collate_bins(self.collate, [[without_fields(row) for row in own] for own in features])
            features = [row for own in features for row in own]
        else:
            batch = read_numbered_mask(self.collate([without_fields(row) for row in features]))
        return self._with_fields(batch, features)

    def _with_fields(self, batch: Batch, features: Sequence[Mapping[str, Any]]) -> Batch:
        columns = [name for name in COLUMNS if name in features[0]]
        lengths = [_lengths(feature) for feature in features]
        counts = torch.tensor([len(own) for own in lengths])
        every = [length for own in lengths for length in own]
        if SEGMENTS in batch:
            _check_lengths(batch[SEGMENTS], every)
        elif "labels" in batch and (_is_flat(batch, features) or bool((counts > 1).any())):
            batch[SEGMENTS] = _one_row(batch, every)
        if TOKEN_WEIGHTS in features[0]:
            batch[TOKEN_WEIGHTS] = _by_position(features, batch)
            batch["labels"] = batch["labels"].masked_fill(batch[TOKEN_WEIGHTS] == 0, IGNORED)  # so the host counts too
        batch |= {name: _field(name, features, counts, self._reader(name)) for name in columns}
        return split_into_turns(batch) if self.turns and "labels" in batch else batch

    def _reader(self, name: str) -> Read:
        read = name == ID or (self.columns is None and name == GROUP) or name in (self.columns or ())
        return self.checked if read else _number_or_none


def without_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without the columns that are this library's."""
    return {key: value for key, value in row.items() if key not in COLUMNS and key != TOKEN_WEIGHTS}


def _without_fields(row: Any) -> Any:
    if isinstance(row, list):
        return [_without_fields(each) for each in row]
    return without_fields(row) if isinstance(row, Mapping) else row


def _lengths(feature: Mapping[str, Any]) -> list[int]:
    """How long its samples are: as its column says, or the mask that numbers them; else it is one."""
    given = feature.get(LENGTHS)
    if given is not None:
        return [int(length) for length in given]
    mask = feature.get(MASK)
    mask = None if mask is None else torch.as_tensor(mask)[None]
    return _run_lengths(numbered_runs(mask)[0]) if is_numbered(mask) else [len(feature.get("input_ids", ()))]


def _run_lengths(segments: Tensor) -> list[int]:
    return segments[segments >= 0].bincount().tolist()


def _check_lengths(segments: Tensor, lengths: list[int]) -> None:
    found = _run_lengths(segments)
    if found != lengths:
        raise SamplewiseError(
            "data_collator", expected=f"the {len(lengths)} samples of its rows, in order, of {sum(lengths)} tokens",
            got=f"{len(found)} that the attention mask numbers, of {sum(found)}",
            remedy="Let the collator number every sample of a row anew, and keep all of its tokens.",
        )  # fmt: skip


def _is_flat(batch: Batch, features: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all samples are in one row; of a lone sample its positions say so, if the collator made them.

    A lone one must not count as a padded row: rows of several micro-batches are put together.
    """
    if len(batch["labels"]) != len(features):
        return True
    made = POSITION in batch and "attention_mask" not in batch and len(features) == 1
    return made and (LENGTHS in features[0] or POSITION not in features[0])


def _one_row(batch: Batch, lengths: list[int]) -> Tensor:
    """[1, T] the segments of a flat row."""
    labels, position = batch["labels"], batch.get(POSITION)
    if len(labels) != 1 or sum(lengths) > labels.shape[1]:
        raise SamplewiseError(
            "data_collator", expected=f"a row for each of {len(lengths)} samples, or all in one row",
            got=f"labels of shape {tuple(labels.shape)}",
            remedy="Let the collator pad the rows, or flatten them with position_ids.",
        )  # fmt: skip
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    if position is None or bool((position[0, starts] != 0).any()) or "attention_mask" in batch:
        raise SamplewiseError(
            "data_collator", expected="a flat row with position_ids that restart at each sample, and no attention_mask",
            got=f"the keys {sorted(batch)}",
            remedy="Pad the rows, or add position_ids: samples must not see one another.",
        )  # fmt: skip
    return segments_of(lengths, labels.shape[1])


def _number_or_none(name: str, value: Any) -> int | float:
    try:
        return checked(name, value) if name == GROUP else float(value)
    except (SamplewiseError, TypeError, ValueError, OverflowError):
        return -1 if name == GROUP else math.nan


def _field(name: str, features: Sequence[Mapping[str, Any]], counts: Tensor, number: Read) -> Tensor:
    """[n] the values of a column; a packed row has a list of them, or one for all of its segments."""
    parts = [
        _values(name, feature[name], count, number) for feature, count in zip(features, counts.tolist(), strict=True)
    ]
    return torch.cat(parts)


def _values(name: str, given: Any, count: int, number: Read) -> Tensor:
    dtype = DTYPES.get(name, torch.float64)
    if isinstance(given, str) or np.ndim(given) != 1:
        whole = torch.full((count,), number(name, given), dtype=dtype)
        return nested_ids(whole, torch.arange(count)) if name == ID else whole
    if len(given) != count:
        raise SamplewiseError(
            name, expected=f"one value, or one for each of the row's {count} segments", got=len(given),
            remedy="Pack this column with the tokens.",
        )  # fmt: skip
    return torch.tensor([number(name, value) for value in given], dtype=dtype)


def _by_position(features: Sequence[Mapping[str, Any]], batch: Batch) -> Tensor:
    """[B, T] token weights where the rows' tokens are; labels' own shape."""
    rows = [torch.as_tensor(feature[TOKEN_WEIGHTS], dtype=torch.float32) for feature in features]
    for row, feature in zip(rows, features, strict=True):
        if len(row) != len(feature["input_ids"]):
            raise SamplewiseError(
                TOKEN_WEIGHTS, expected=f"a number for each of the row's {len(feature['input_ids'])} tokens",
                got=len(row),
                remedy="Give one number a token; the first is ignored: nothing predicts a row's first token.",
            )  # fmt: skip
    out = torch.zeros(batch["labels"].shape)
    if SEGMENTS in batch:
        out[batch[SEGMENTS] >= 0] = torch.cat(rows)
        return out
    left = "attention_mask" in batch and bool((batch["attention_mask"][:, 0] == 0).any())
    for row, own in zip(rows, out, strict=True):
        start = len(own) - len(row) if left else 0
        own[start : start + len(row)] = row
    return out


def split_into_turns(batch: Mapping[str, Any]) -> Batch:
    """The collated batch with every unbroken run of predicted labels as a sample of its own."""
    segments, parent = split_turns(batch["labels"], batch.get(SEGMENTS))
    fields = {name: batch[name][parent] for name in COLUMNS if name in batch}
    return {**batch, **fields, ID: nested_ids(fields[ID], part_numbers(parent)), SEGMENTS: segments}
