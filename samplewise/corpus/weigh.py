"""Rules that need all losses at once, over the whole corpus as one step: in memory, as N numbers of a few columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.core.samples import Samples
from samplewise.corpus.candidates import FIELDS
from samplewise.corpus.selection import Selection
from samplewise.engine.plan import plan_step
from samplewise.rules.epochs import refuse_epochs

EACH = 300
"""Bytes of memory that a sample takes at most while a rule weighs it: columns, sorted orders, weights in fp64."""


def weigh(chosen: Selection, rule: Rule, memory: int) -> None:
    """Of what is kept, keep what the rule gives a weight above 0, with that weight (mean 1 over a part).

    The view is one of a table in memory then.
    memory: bytes. Errors: SamplewiseError where the samples do not fit, and whatever the rule raises.
    """
    refuse_epochs(rule, "over a corpus")
    count = chosen.candidates.samples
    if count * EACH > memory:
        raise SamplewiseError(
            "rule", expected=f"at most {memory // EACH:,} samples for a rule that must see all of them in memory",
            got=f"{count:,} for {rule}",
            remedy="Use band, top_k, mid_ranking or random_keep, which need no memory, or raise --memory.",
        )  # fmt: skip
    found = chosen.connection.sql(f"SELECT * FROM {chosen.view}").to_arrow_table()
    numbers = {name: found.column(name).to_numpy() for name in ("id", "key", "n_tokens", *_columns(rule))}
    weights = np.zeros(len(found))
    for part, rows in _parts(found):
        weights[rows] = _weights(rule, {name: values[rows] for name, values in numbers.items()}, part)
    place, source = (found.column_names.index(name) for name in ("weight", "source"))
    found = found.set_column(place, "weight", [weights])
    found = found.set_column(source, "source", found.column(source).dictionary_encode())
    table, name = f"{chosen.view}_in_memory", f"{chosen.view}_weighed"
    chosen.connection.register(table, found)
    chosen.connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * REPLACE (weight > 0 AS kept) FROM {table}"
    )
    chosen.view, chosen.weighs = name, True


def _columns(rule: Rule) -> list[str]:
    return [FIELDS[name] for name in sorted(rule.required_fields)]


def _parts(found: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """Each part, and where its kept rows are, by id."""
    parts = found.column("part").combine_chunks().dictionary_encode()
    number, names = parts.indices.to_numpy(), parts.dictionary.to_pylist()
    rows = np.flatnonzero(found.column("kept").to_numpy())
    rows = rows[np.lexsort((found.column("id").to_numpy()[rows], number[rows]))]
    for own in np.split(rows, np.flatnonzero(np.diff(number[rows])) + 1) if len(rows) else ():
        yield (names[number[own[0]]] if len(names) > 1 else None), own


def _weights(rule: Rule, found: dict[str, np.ndarray], part: Any) -> np.ndarray:
    here = {name: torch.from_numpy(np.ascontiguousarray(found[column]))
            for name, column in (("loss", "key"), ("tokens", "n_tokens"), ("id", "id"))}  # fmt: skip
    fields = {name: _field(name, found[FIELDS[name]]) for name in rule.required_fields}
    samples = Samples(here["loss"], here["tokens"].long(), here["id"], **fields)
    try:
        plan = plan_step(rule, samples, rule.init())
        if plan.shortfall is not None:  # no step of a corpus is larger
            raise plan.shortfall
    except SamplewiseError as error:
        where = "" if part is None else f" in the part {part!r}"
        raise SamplewiseError(
            error.argument, expected=error.expected, got=f"{error.got}{where}", remedy=error.remedy
        ) from None
    weights = plan.weights.numpy()
    return weights / weights[weights > 0].mean()


def _field(name: str, values: np.ndarray) -> torch.Tensor:
    if name == "group":  # by any name: rules identify groups by number
        return torch.from_numpy(np.unique(np.asarray(values).astype(str), return_inverse=True)[1].reshape(-1)).long()
    if np.ma.is_masked(values) or not np.isfinite(values.astype(np.float64)).all():
        raise SamplewiseError(
            FIELDS[name], expected="a number for every sample", got="samples without one",
            remedy="Score that column again over the whole corpus.",
        )  # fmt: skip
    return torch.from_numpy(np.ascontiguousarray(values)).double()
