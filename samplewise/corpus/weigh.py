"""Rules that need all losses at once, over the whole corpus as one step: in memory, as N numbers of a few columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.core.samples import Samples
from samplewise.corpus.candidates import FIELDS
from samplewise.corpus.within import quoted
from samplewise.engine.plan import plan_step
from samplewise.rules.epochs import refuse_epochs

EACH = 200
"""Bytes of memory that a sample takes at most while a rule weighs it: columns, sorted orders, weights in fp64."""


def weigh(connection: Any, view: str, rule: Rule, memory: int) -> str:
    """A new view: of what `view` keeps, what the rule gives a weight above 0, with that weight (mean 1 over a part).

    memory: bytes. Errors: SamplewiseError where the samples do not fit, and whatever the rule raises.
    """
    refuse_epochs(rule, "over a corpus")
    count = connection.sql(f"SELECT count(*) FROM {view} WHERE kept").fetchall()[0][0]
    if count * EACH > memory:
        raise SamplewiseError(
            "rule", expected=f"at most {memory // EACH:,} samples for a rule that must see all of them in memory",
            got=f"{count:,} for {rule}",
            remedy="Use band, top_k, mid_ranking or random_keep, which need no memory, or raise --memory.",
        )  # fmt: skip
    extra = "".join(f", {quoted(FIELDS[name])}" for name in sorted(rule.required_fields))
    found = connection.sql(
        f"SELECT id, key, n_tokens, part{extra} FROM {view} WHERE kept ORDER BY part, id"
    ).fetchnumpy()
    weights = np.concatenate([_weights(rule, found, *ends) for ends in _parts(found["part"])])
    _keep_table(connection, "weighed", found["id"], weights)
    name = f"{view}_weighed"
    connection.execute(f"""
        CREATE OR REPLACE TEMP VIEW {name} AS
        SELECT s.* REPLACE (coalesce(weighed.weight, 0) > 0 AS kept, coalesce(weighed.weight, 0) AS weight)
        FROM {view} AS s LEFT JOIN weighed USING (id)
    """)
    return name


def _parts(parts: np.ndarray) -> list[tuple[int, int]]:
    starts = np.flatnonzero(np.r_[True, parts[1:] != parts[:-1]]).tolist()
    return list(zip(starts, [*starts[1:], len(parts)], strict=True))


def _weights(rule: Rule, found: dict[str, np.ndarray], start: int, end: int) -> np.ndarray:
    here = {name: torch.from_numpy(np.ascontiguousarray(found[column][start:end]))
            for name, column in (("loss", "key"), ("tokens", "n_tokens"), ("id", "id"))}  # fmt: skip
    fields = {name: _field(name, found[FIELDS[name]][start:end]) for name in rule.required_fields}
    samples = Samples(here["loss"], here["tokens"].long(), here["id"], **fields)
    try:
        plan = plan_step(rule, samples, rule.init())
        if plan.shortfall is not None:  # no step of a corpus is larger
            raise plan.shortfall
    except SamplewiseError as error:
        part = f" in the part {found['part'][start]!r}" if start or end < len(found["part"]) else ""
        raise SamplewiseError(
            error.argument, expected=error.expected, got=f"{error.got}{part}", remedy=error.remedy
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


def _keep_table(connection: Any, name: str, ids: np.ndarray, weights: np.ndarray) -> None:
    import pyarrow as pa

    held = weights > 0
    connection.register(name, pa.table({"id": ids[held], "weight": weights[held]}))
