"""Forgetting: the loss on old text when the loss on new text is the same, along the curves of an arm and its controls.

An arm that learns less forgets less; so arms are compared where they have learned as much. A point on a curve is an
evaluation: before, during and after training, or, for averaged weights, one share of the trained ones. Between two of
them lie straight lines. Going back along the control's own curve is early stopping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from samplewise.evidence.crossed import crossed
from samplewise.evidence.holm import holm

Values = Mapping[str, Any]


def fronts(
    arms: Sequence[Mapping[str, Any]], control: str, values: Values, *, old: Sequence[str], new: str
) -> list[dict[str, Any]]:
    """A row for every arm, control and old set, corrected by Holm's method over the arms of each set and role.

    Where one of the two learned nothing under any seed, the row names it under `unlearned`, and has no difference: at
    the only loss that both reach, that of the start, they are the same.
    """
    rows: list[dict[str, Any]] = []
    for arm, other, role in _pairs(arms, control):
        for name in old:
            found = at_equal(values, arm, other, old=name, new=new)
            if found is None or found[0].shape[1] < 2:
                continue
            x, seeds, level = found
            about: dict[str, Any] = {
                "arm": arm, "control": other, "role": role, "set": name, "new": new, "level": level,
                "seeds": [int(seed) for seed in seeds],
            }  # fmt: skip
            if nothing := [each for each in (arm, other) if not _learned(values, each, seeds, new)]:
                rows.append(about | {"unlearned": nothing})
                continue
            row = crossed(x)
            rows.append(about | {
                "mean": row.mean, "low": row.low, "high": row.high, "p": row.p, "documents": row.documents,
                "covers": "documents and seeds" if row.over_seeds else "documents",
            })  # fmt: skip
    compared = [row for row in rows if "unlearned" not in row]
    for key in {(row["set"], row["role"]) for row in compared}:
        family = [row for row in compared if (row["set"], row["role"]) == key]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row |= {"p_holm": p, "family": len(family)}
    return rows


def front_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each row."""
    return [_line(row) for row in rows]


def _line(row: Mapping[str, Any]) -> str:
    if "unlearned" in row:
        return (
            f"{row['arm']} − {row['control']}: not compared on {row['set']}: {' and '.join(row['unlearned'])} never "
            f"came below the start's loss on {row['new']}"
        )
    return (
        f"{row['arm']} − {row['control']}: loss on {row['set']} at equal loss on {row['new']} ({row['level']:.4f}) "
        f"{row['mean']:+.4f}  [{row['low']:+.4f}, {row['high']:+.4f}], p {row['p_holm']:.2g} after Holm over "
        f"{row['family']}"
    )


def at_equal(
    values: Values, arm: str, control: str, *, old: str, new: str
) -> tuple[np.ndarray, list[str], float] | None:
    """([S, D] differences on old documents, seeds, mean level); None where a run or a set is missing.

    The level is the lowest loss on new text that both curves reach, under each seed.
    """
    seeds = [seed for seed in values["after"].get(arm, {}) if seed in values["after"].get(control, {})]
    found, levels = [], []
    for seed in seeds:
        curves = [_curve(values, name, seed, old, new) for name in (arm, control)]
        if curves[0] is None or curves[1] is None:
            return None
        (this_new, this_old), (that_new, that_old) = curves[0], curves[1]
        level = max(min(this_new), min(that_new))
        levels.append(level)
        found.append(_at(this_new, this_old, level) - _at(that_new, that_old, level))
    return (np.array(found), seeds, float(np.mean(levels))) if found else None


def curve_of(values: Values, arm: str, old: str, new: str) -> list[tuple[float, float]]:
    """(loss on new, loss on old text) at every evaluation, means over seeds: what is drawn."""
    curves = [_curve(values, arm, seed, old, new) for seed in values["after"].get(arm, {})]
    known = [(news, [float(each.mean()) for each in olds]) for curve in curves if curve for news, olds in [curve]]
    if not known:
        return []
    means = np.mean([np.column_stack(each) for each in known], axis=0)
    return [(float(x), float(y)) for x, y in means]


def _pairs(arms: Sequence[Mapping[str, Any]], control: str) -> Iterator[tuple[str, str, str]]:
    beside = [(arm["name"], arm["role"]) for arm in arms if arm["role"] in ("rate", "average")]
    rates = [name for name, role in beside if role == "rate"]
    yield from ((name, control, "remedy") for name in rates)  # what the cheapest remedies do by themselves
    averages = (name for name, role in beside if role == "average")
    yield from ((name, rate, "remedy") for name in averages for rate in rates)  # at all shares it ends as the control
    for arm in arms:
        own = arm.get("control", control)
        if arm["role"] != "arm":
            continue
        yield arm["name"], own, "uniform"
        if own == control:
            yield from ((arm["name"], name, role) for name, role in beside)


def _learned(values: Values, arm: str, seeds: Sequence[str], new: str) -> bool:
    """Whether the loss on new text fell below that of the start at any evaluation, under any seed."""
    for seed in seeds:
        before, *later = (float(np.mean(stage[new])) for stage in _stages(values, arm, seed))
        if min(later) < before:
            return True
    return False


def _stages(values: Values, arm: str, seed: str) -> list[Mapping[str, Any]]:
    """What was measured before, during and after training."""
    during = [each.get(arm, {}).get(seed, {}) for each in values["during"]]
    return [values["before"].get(seed, values["before"].get("any", {})), *during, values["after"][arm][seed]]


def _curve(values: Values, arm: str, seed: str, old: str, new: str) -> tuple[list[float], list[np.ndarray]] | None:
    stages = _stages(values, arm, seed)
    if any(old not in stage or new not in stage for stage in stages):
        return None
    return [float(np.mean(stage[new])) for stage in stages], [np.array(stage[old], float) for stage in stages]


def _at(news: Sequence[float], olds: Sequence[np.ndarray], level: float) -> np.ndarray:
    """The losses of old documents where the loss on new text first falls to the level."""
    k = next(k for k, loss in enumerate(news) if loss <= level)
    if k == 0:
        return olds[0]
    part = (news[k - 1] - level) / (news[k - 1] - news[k])
    return (1 - part) * olds[k - 1] + part * olds[k]
