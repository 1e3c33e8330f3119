"""Rows of a step's micro-batches: cut apart, and put together again.

A gradient is a sum over rows with known coefficients, so which micro-batch a row stands in is free. A row here is what
depends on nothing else in its micro-batch: a row of a padded one, or a segment of a packed one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import positions
from samplewise.core.micro_batch import MicroBatch, attended_of
from samplewise.engine.padding import unpredicted_first
from samplewise.losses.segments import DERIVED, POSITION, boundaries
from samplewise.losses.token_losses import IGNORED

PADDING_VALUES = {"labels": IGNORED, "shift_labels": IGNORED, "segments": -1}
"""What a padded position holds; 0 for every other key: the attention mask decides, not the id of the token."""


@dataclass(frozen=True)
class Row:
    """A row of a padded micro-batch without its padding, or a segment of a packed one.

    inputs: the model's tensors [length, …] by position. targets: this library's fields by position, [length] each; the
        map of segments counts this row's samples from 0. constant: the row's inputs that are not by position.
    samples: [k] each, the fields of its k samples (one, unless it is cut in turns).
    left: padded on the left. packed: which boundaries its micro-batch gave the model; None for a padded one.
    padding: as in `MicroBatch`.
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    constant: dict[str, Tensor]
    samples: dict[str, Tensor]
    length: int
    left: bool = False
    packed: frozenset[str] | None = None
    padding: Mapping[str, float] | None = None

    @property
    def size(self) -> int:
        """What it takes of a micro-batch's capacity: one row, or its tokens."""
        return 1 if self.packed is None else self.length

    @property
    def parts(self) -> tuple[dict[str, Tensor], ...]:
        """All its tensors, in a fixed order of dicts: by position twice, then constant, then by sample."""
        return self.inputs, self.targets, self.constant, self.samples


def is_packed(micro: MicroBatch) -> bool:
    """Whether it is one row of segments that see only themselves, by their positions."""
    flat = micro.segments is not None and POSITION in micro.inputs and "attention_mask" not in micro.inputs
    return flat and len(micro.targets) == 1


def capacity_of(micro: MicroBatch) -> int:
    """What a micro-batch holds, in the unit of `Row.size`: rows, or the tokens of a packed one."""
    if micro.labels is None:
        return len(micro)
    return micro.labels.numel() if is_packed(micro) else len(micro.labels)


def rows_of(micro: MicroBatch) -> list[Row]:
    """The rows of a micro-batch: each cut to the span that is attended to or predicted, or to its segment.

    Errors: SamplewiseError naming the key whose first dimension is not the number of rows.
    """
    if micro.labels is None:
        return _plain_rows(micro)
    return _segments(micro) if is_packed(micro) else _padded_rows(micro)


def _plain_rows(micro: MicroBatch) -> list[Row]:
    """Rows without token labels: only what `padding` says is padding is cut."""
    _check_rows(micro.inputs, len(micro))
    padding, lengths = micro.padding or {}, _lengths(micro)
    return [
        Row(
            inputs={k: micro.inputs[k][i, : lengths[i]] for k in padding},
            targets={},
            constant={k: v[i] for k, v in micro.inputs.items() if k not in padding},
            samples=own,
            length=lengths[i],
            padding=micro.padding,
        )
        for i, own in enumerate(_samples_by_row(micro, len(micro)))
    ]


def _lengths(micro: MicroBatch) -> list[int]:
    """How long each row is without the padding on its right, at least 1; 1 each where nothing is padded."""
    if not micro.padding:
        return [1] * len(micro)
    inputs = [micro.inputs.get(key) for key in micro.padding]
    by_position = [value for value in inputs if isinstance(value, Tensor) and value.dim() > 1]
    if len(by_position) < len(inputs) or len({value.shape[1] for value in by_position}) > 1:
        raise SamplewiseError(
            "padding", expected="names of inputs [n, T, …] of one length T", got=sorted(micro.padding),
            remedy="Name the inputs by position alone, all of them.",
        )  # fmt: skip
    held = [value != fill for value, fill in zip(by_position, micro.padding.values(), strict=True)]
    held = [each.reshape(*each.shape[:2], -1).any(2) for each in held]
    used = torch.stack(held).any(0)
    position = torch.arange(used.shape[1], device=used.device)
    return (torch.where(used, position, 0).amax(1) + 1).tolist()


def _padded_rows(micro: MicroBatch) -> list[Row]:
    count, width = micro.targets.shape
    _check_rows(micro.inputs, count)
    start, stop = _spans(micro)
    left = any(0 < begin < end for begin, end in zip(start, stop, strict=True))
    by_position = {k for k, v in micro.inputs.items() if v.dim() >= 2 and v.shape[1] == width}
    samples, targets = _samples_by_row(micro, count), micro.position_fields()
    return [
        Row(
            inputs={k: micro.inputs[k][i, start[i] : stop[i]] for k in micro.inputs if k in by_position},
            targets=_own_segments({k: v[i, start[i] : stop[i]] for k, v in targets.items()}),
            constant={k: v[i] for k, v in micro.inputs.items() if k not in by_position},
            samples=samples[i],
            length=max(0, stop[i] - start[i]),
            left=left,
        )
        for i in range(count)
    ]


def _spans(micro: MicroBatch) -> tuple[list[int], list[int]]:
    """For each row where what is attended to or predicted begins, and where it ends."""
    count, width = micro.targets.shape
    attended, used = attended_of(micro), micro.targets.ne(IGNORED)
    used = used | (torch.ones_like(used) if attended is None else attended)
    position = torch.arange(width, device=used.device)
    if not width:
        return [0] * count, [0] * count
    start, stop = torch.where(used, position, width).amin(1), torch.where(used, position, -1).amax(1) + 1
    return start.tolist(), stop.tolist()


def _check_rows(inputs: Mapping[str, Any], count: int) -> None:
    for key, value in inputs.items():
        if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[0] != count:
            raise SamplewiseError(
                key, expected=f"a tensor of {count} rows, so that dropped rows can be left out",
                got=f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__,
                remedy="Let the data collator return row-wise tensors only.",
            )  # fmt: skip


def _samples_by_row(micro: MicroBatch, count: int) -> list[dict[str, Tensor]]:
    """The fields of each row's samples, which are numbered row after row."""
    fields = micro.sample_fields()
    if micro.segments is None:
        return [{key: value[i : i + 1] for key, value in fields.items()} for i in range(count)]
    stop = [0, *(micro.segments.amax(1) + 1).tolist()]
    return [{key: value[a:b] for key, value in fields.items()} for a, b in pairwise(stop)]


def _segments(micro: MicroBatch) -> list[Row]:
    """The segments of a packed row, from one start of the positions to the next; padding is left behind."""
    derived = frozenset(DERIVED) & micro.inputs.keys()
    rest = {key: value for key, value in micro.inputs.items() if key not in derived}
    width = micro.targets.shape[1]
    _check_rows(rest, 1)
    by_position = {key: value[0] for key, value in rest.items() if value.dim() >= 2 and value.shape[1] == width}
    constant = {key: value[0] for key, value in rest.items() if key not in by_position}
    fields, targets = micro.sample_fields(), {key: value[0] for key, value in micro.position_fields().items()}
    owner = targets["segments"].tolist()
    position = by_position[POSITION].cpu() if micro.position is None else micro.position[0]
    starts = [*positions(position == 0).tolist(), width]
    found = []
    for begin, end in pairwise(starts):
        if owner[begin] >= 0:
            while owner[end - 1] < 0:  # padding whose positions go on from the last segment's
                end -= 1
            samples = slice(owner[begin], owner[end - 1] + 1)
            inputs = {key: value[begin:end] for key, value in by_position.items()}
            own = _own_segments({key: value[begin:end] for key, value in targets.items()})
            mine = {key: value[samples] for key, value in fields.items()}
            found.append(Row(inputs, own, constant, mine, end - begin, packed=derived))
    return found


def _own_segments(targets: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with the row's samples numbered from 0."""
    owner = targets.get("segments")
    if owner is None or not len(owner):
        return targets
    return {**targets, "segments": torch.where(owner >= 0, owner - owner.clamp(min=0).min(), -1)}


def collate(rows: Sequence[Row]) -> MicroBatch:
    """One micro-batch of these rows: padded to the longest on the side they came padded on, or packed into one row."""
    first = rows[0]
    _check_same_keys(rows)
    samples: dict[str, Any] = {key: torch.cat([row.samples[key] for row in rows]) for key in first.samples}
    targets = _numbered(rows)
    if first.packed is not None:
        inputs: dict[str, Any] = {key: value[None] for key, value in first.constant.items()}
        inputs |= {key: torch.cat([row.inputs[key] for row in rows])[None] for key in first.inputs}
        inputs |= _boundaries(rows, first.packed, inputs[POSITION].device)
        joined: dict[str, Any] = {key: torch.cat([own[key] for own in targets])[None] for key in targets[0]}
        return MicroBatch(inputs, **joined, **samples)
    width, left = max(row.length for row in rows), any(row.left for row in rows)
    inputs = {key: _stacked(key, [row.constant[key] for row in rows]) for key in first.constant}
    fill = {**PADDING_VALUES, **(first.padding or {})}
    inputs |= {key: _padded([row.inputs[key] for row in rows], width, fill.get(key, 0), left) for key in first.inputs}
    if not first.targets:
        return MicroBatch(inputs, labels=None, padding=first.padding, **samples)
    whole: dict[str, Any] = {
        key: _padded([own[key] for own in targets], width, fill.get(key, 0), left) for key in first.targets
    }
    return unpredicted_first(MicroBatch(inputs, **whole, **samples))


def _boundaries(rows: Sequence[Row], names: frozenset[str], device: torch.device) -> dict[str, Any]:
    """What the model takes beside the positions, from the rows' lengths, which the host knows."""
    position = torch.cat([torch.arange(row.length) for row in rows])[None]
    found = boundaries(position, names) if names else {}
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in found.items()}


def _check_same_keys(rows: Sequence[Row]) -> None:
    if odd := {key for row in rows for key in set(row.inputs) ^ set(rows[0].inputs)}:
        raise SamplewiseError(
            min(odd), expected="a value for each position in every micro-batch, or in none", got="some of each",
            remedy="Give it another shape, or drop it: its second dimension equals the width of a batch by chance.",
        )  # fmt: skip


def _numbered(rows: Sequence[Row]) -> list[dict[str, Tensor]]:
    """The rows' targets, with their samples numbered one row after the other."""
    if "segments" not in rows[0].targets:
        return [row.targets for row in rows]
    first, out = 0, []
    for row in rows:
        owner = row.targets["segments"]
        out.append({**row.targets, "segments": torch.where(owner >= 0, owner + first, -1)})
        first += len(row.samples["id"])
    return out


def blank(row: Row) -> Row:
    """Two positions that predict nothing, and coefficient 0: a forward and a backward that add no gradient.

    Of a loss of one's own it is the same row with coefficient 0.
    """
    samples = {key: torch.zeros_like(value[:1]) for key, value in row.samples.items()}
    if not row.targets:  # what a row of zeros would mean to a loss of one's own is not known: its inputs stay
        return replace(row, samples=samples)
    inputs, targets = ({key: _filled(key, value) for key, value in part.items()} for part in (row.inputs, row.targets))
    if "attention_mask" in inputs:
        inputs["attention_mask"].fill_(1)
    if "attended" in targets:
        targets["attended"].fill_(True)
    if "segments" in targets:
        targets["segments"].zero_()
    if row.packed is not None:
        inputs[POSITION].copy_(torch.arange(2))
    constant = {key: torch.zeros_like(value) for key, value in row.constant.items()}
    return Row(
        inputs=inputs, targets=targets, constant=constant, samples=samples, length=2, left=row.left, packed=row.packed
    )


def _filled(key: str, value: Tensor) -> Tensor:
    return torch.full((2, *value.shape[1:]), PADDING_VALUES.get(key, 0), dtype=value.dtype, device=value.device)


def _stacked(key: str, values: list[Tensor]) -> Tensor:
    if any(value.shape != values[0].shape for value in values):
        raise SamplewiseError(
            key, expected="rows of one shape in all micro-batches of a step, or one value for each position",
            got=" and ".join(sorted({str(tuple(value.shape)) for value in values})),
            remedy="Give it as [B, T], or pad to one length: rows of different micro-batches are put into one batch.",
        )  # fmt: skip
    return torch.stack(values)


def _padded(values: list[Tensor], width: int, fill: float, left: bool) -> Tensor:
    """[rows, width, …] the values padded to one width."""
    return torch.stack([_pad(value, width - len(value), fill, left) for value in values])


def _pad(value: Tensor, missing: int, fill: float, left: bool) -> Tensor:
    if missing == 0:
        return value
    trailing = [0, 0] * (value.dim() - 1)
    return F.pad(value, [*trailing, missing, 0] if left else [*trailing, 0, missing], value=fill)
