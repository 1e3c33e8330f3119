"""The columns that a rule reads, in data whose rows can be asked for: looked through before the first step."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplewise.core.columns import FIELDS, ID, STORED
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.trainers.dataset_kinds import is_table
from samplewise.trainers.identify import checked, expected_values

MAX_SHOWN = 5


def columns_read(rule: Rule, *, stored: bool) -> frozenset[str]:
    """The columns of the data that a run with this rule reads. stored: whether it reads stored losses."""
    read = rule.required_fields | rule.welcome_fields
    own = {column for column, field in FIELDS.items() if field in read}
    return frozenset({ID, *own, *((STORED,) if stored else ())})


def check_values(dataset: Any, columns: frozenset[str], *, negative: bool = False) -> None:
    """Errors: SamplewiseError naming the rows of map-style data whose value of one of `columns` cannot be used.

    Cost: those columns of a dataset of the `datasets` library; one of another kind is read through where its first row
    has such a column, beside its id (without a draw from torch's global generator). negative: whether a weight may be
    below 0.
    """
    names = sorted(columns - {ID})
    if not names or not hasattr(dataset, "__len__") or not len(dataset):
        return
    for name, values in _given(dataset, names):
        bad = ((row, value) for row, value in enumerate(values) if not usable(name, value, negative=negative))
        found = list(itertools.islice(bad, MAX_SHOWN + 1))
        if found:
            shown = ", ".join(f"{value!r:.50} in row {row}" for row, value in found[:MAX_SHOWN])
            raise SamplewiseError(
                name, expected=expected_values(name, negative=negative),
                got=shown + (", …" if len(found) > MAX_SHOWN else ""),
                remedy="Fix those rows, leave them out, or rename the column.",
            )  # fmt: skip


def stored_losses(dataset: Any) -> Tensor | None:
    """[n] fp64 the column stored_loss of map-style data, NaN where there is none; None without the column, or a stream.

    Cost: that of `check_values`.
    """
    if not hasattr(dataset, "__len__") or not len(dataset):
        return None
    for _, values in _given(dataset, [STORED]):
        rows = (value if np.ndim(value) == 1 else [value] for value in values)
        return torch.tensor([checked(STORED, each) for row in rows for each in row], dtype=torch.float64)
    return None


def usable(name: str, value: Any, *, negative: bool = False) -> bool:
    """Whether a row's value, or each of a packed row's, is the number it must be."""
    try:
        for each in value if not isinstance(value, str) and np.ndim(value) == 1 else (value,):
            checked(name, each, negative=negative)
    except SamplewiseError:
        return False
    return True


def _given(dataset: Any, names: list[str]) -> Iterator[tuple[str, Iterable[Any]]]:
    if is_table(dataset) and dataset.format["type"] != "custom":
        plain = dataset.with_format(None)
        yield from ((name, plain[name]) for name in names if name in plain.column_names)
        return
    with torch.random.fork_rng():
        first = dataset[0]
        there = [name for name in names if isinstance(first, Mapping) and name in first]
        if there:
            rows = [[dataset[row].get(name) for name in there] for row in range(len(dataset))]
            yield from zip(there, zip(*rows, strict=True), strict=True)
