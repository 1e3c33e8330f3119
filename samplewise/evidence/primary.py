"""The primary comparison of a plan: one question, fixed before the first arm runs, and answered alone at 5%."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from samplewise.core.errors import SamplewiseError, nearest
from samplewise.evidence.crossed import SEEDS, crossed, expected_half_width
from samplewise.evidence.differences import margin_of
from samplewise.evidence.fronts import at_equal
from samplewise.evidence.metrics import METRICS
from samplewise.evidence.plan import HELD_OUT, PlanConfig
from samplewise.evidence.sentences import LEVEL, within
from samplewise.evidence.sentences import verdict as verdict_of
from samplewise.evidence.tasks import HIGHER

FRONT = "front"
"""The metric of a loss on old text at equal loss on new text."""


@dataclass(frozen=True)
class Primary:
    """arm − control in a metric on a domain.

    controls: of several the best is taken, which favours the controls. domains: of several the mean over them. new: the
    set at whose equal loss a metric "front" compares the domains.
    """

    arm: str
    controls: tuple[str, ...]
    metric: str
    domains: tuple[str, ...]
    new: str | None = None

    @property
    def domain(self) -> str:
        """The domain, or the mean of several, in words."""
        return self.domains[0] if len(self.domains) == 1 else f"the mean of {', '.join(self.domains)}"

    def to_json(self) -> dict[str, Any]:
        """The values that results.json states."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Primary:
        """The comparison from what `to_json` gave."""
        return Primary(
            values["arm"], tuple(values["controls"]), values["metric"], tuple(values["domains"]), values.get("new")
        )


def primary_of(plan: PlanConfig) -> Primary | None:
    """The primary comparison that the plan names. Errors: SamplewiseError on other than four parts."""
    given = plan.primary
    if given is None:
        return None
    parts = [[each] if isinstance(each, str) else each for each in given]
    if len(parts) != 4 or not all(parts) or any(len(parts[i]) != 1 for i in (0, 2) if len(parts) == 4):
        raise SamplewiseError(
            "primary", expected="[arm, control, metric, domain]", got=given,
            remedy="Write it as primary: [tilt, uniform, loss, held_out]; several controls or domains as a list.",
        )  # fmt: skip
    new = plan.fronts.new if plan.fronts is not None and parts[2][0] == FRONT else None
    return Primary(parts[0][0], tuple(parts[1]), parts[2][0], tuple(parts[3]), new)


def check_primary(plan: PlanConfig, arms: Sequence[str]) -> None:
    """Errors: SamplewiseError unless the plan has the primary comparison's arms, metric and domains."""
    primary = primary_of(plan)
    if primary is None:
        return
    for name in (primary.arm, *primary.controls):
        if name not in arms:
            raise SamplewiseError("primary", expected="arms of this plan", got=name, remedy=nearest(name, arms))
    if primary.arm in primary.controls:
        raise SamplewiseError("primary", expected="two arms", got=primary.arm, remedy="Name another control.")
    known = {HELD_OUT: None, **dict.fromkeys(plan.domains)}
    tasks = {task.name for task in plan.tasks} | ({"answers"} if plan.answers is not None else set())
    for domain in primary.domains:
        if domain not in known and domain not in tasks:
            raise SamplewiseError(
                "primary", expected="held_out, a domain or a task of this plan", got=domain,
                remedy=nearest(domain, [*known, *sorted(tasks)]),
            )  # fmt: skip
    of_text = [domain for domain in primary.domains if domain in known]
    metrics = [*METRICS, *plan.measures, *([FRONT] if plan.fronts is not None else [])]
    if of_text and primary.metric not in metrics:
        raise SamplewiseError(
            "primary", expected="a metric that this plan measures", got=primary.metric,
            remedy=nearest(primary.metric, metrics),
        )  # fmt: skip


def primary_outcome(
    primary: Primary, documents: Mapping[str, Any], values: Mapping[str, Any], margin: float | None = None
) -> dict[str, Any]:
    """The difference, its interval, p, verdict and sentence; with several controls, against the best of them.

    margin: of an arm that is asked whether it is at most so much worse; of losses only.
    Without a difference, and its sentence says why, until the arm and every control have a finished run.
    """
    found = {control: _differences(primary, control, documents, values) for control in primary.controls}
    stated = {"arm": primary.arm, "metric": primary.metric, "domain": primary.domain}
    ready = {control: each for control, each in found.items() if each is not None}
    if len(ready) < len(found):
        sentence = f"Primary comparison: {_asked(primary, ' or '.join(primary.controls))} is not finished yet."
        return {**stated, "control": primary.controls[0], "verdict": "unfinished", "sentence": sentence}
    sign = -1.0 if primary.metric in HIGHER else 1.0
    control = max(ready, key=lambda name: sign * float(ready[name][0].mean()))
    x, seeds = ready[control]
    row = crossed(x)
    numbers = {
        "mean": row.mean, "low": row.low, "high": row.high, "p": row.p, "degrees": row.degrees,
        "effect_size": row.effect, "seeds": seeds, "documents": row.documents,
        "covers": "documents and seeds" if row.over_seeds else "documents",
    }  # fmt: skip
    if margin is not None and sign > 0:
        numbers |= margin_of(x, margin)
    verdict = "none" if row.p >= LEVEL else "better" if sign * row.mean < 0 else "worse"
    if "margin" in numbers:
        verdict = verdict_of(numbers)
    tried = {name: float(each[0].mean()) for name, each in ready.items()} if len(ready) > 1 else None
    return {
        **stated, "control": control, **numbers, **({"tried": tried} if tried else {}), "verdict": verdict,
        "sentence": _sentence(primary, control, numbers, verdict),
    }  # fmt: skip


def half_widths_at(
    primary: Primary, documents: Mapping[str, Any], values: Mapping[str, Any], seeds: int, held_out: int | None = None
) -> dict[str, float]:
    """By control the half-width that the 95% interval is expected to have at so many seeds, from those that are there.

    held_out: documents, where there are to be others than now.

    Errors: SamplewiseError with fewer than 3 finished seeds, which do not show how seeds vary.
    """
    found = {}
    for control in primary.controls:
        known = _differences(primary, control, documents, values)
        count = 0 if known is None else len(known[1])
        if known is None or count < SEEDS:
            raise SamplewiseError(
                "primary", expected=f"{SEEDS} finished seeds of {primary.arm} and {control}", got=count,
                remedy="Let the plan finish.",
            )  # fmt: skip
        found[control] = expected_half_width(
            crossed(known[0]).components, seeds, known[0].shape[1] if held_out is None else held_out
        )
    return found


def _differences(
    primary: Primary, control: str, documents: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[np.ndarray, list[int]] | None:
    """([S, D] differences whose mean is that of the domains' means, seeds); None where a run is missing."""
    found = list(_by_domain(primary, control, documents, values))
    seeds = sorted(set.intersection(*(set(own) for own in found)), key=int)
    if not seeds:
        return None
    parts = [np.array([own[seed] for seed in seeds]) for own in found]
    every = sum(part.shape[1] for part in parts)
    scaled = [part * (every / (len(parts) * part.shape[1])) for part in parts]
    return np.concatenate(scaled, 1), [int(seed) for seed in seeds]


def _by_domain(
    primary: Primary, control: str, documents: Mapping[str, Any], values: Mapping[str, Any]
) -> Iterator[dict[str, np.ndarray]]:
    """For each domain by seed the differences [D]."""
    if primary.new is not None:
        for domain in primary.domains:
            found = at_equal(values, primary.arm, control, old=domain, new=primary.new)
            yield {} if found is None else dict(zip(found[1], found[0], strict=True))
        return
    after = values["after"]
    this, that = after.get(primary.arm, {}), after.get(control, {})
    for domain in primary.domains:
        name = domain if primary.metric in METRICS else f"{domain}/{primary.metric}"
        metric = METRICS.get(primary.metric, METRICS["loss"])
        yield {
            seed: _metric(metric, this[seed][name], documents[name])
            - _metric(metric, that[seed][name], documents[name])
            for seed in this
            if seed in that and name in this[seed] and name in that[seed]
        }


def _metric(metric: Any, losses: Sequence[float], documents: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return metric(np.array([losses], float), documents)[0]


def _asked(primary: Primary, control: str) -> str:
    return f"{primary.arm} − {control}, {primary.metric} on {primary.domain},"


def _sentence(primary: Primary, control: str, row: Mapping[str, Any], verdict: str) -> str:
    seeds = len(row["seeds"])
    covers = "" if row["covers"] != "documents" else "; fewer than 3 seeds: the interval covers documents only"
    best = f", the best of {len(primary.controls)} controls" if len(primary.controls) > 1 else ""
    said = {"better": "is better", "worse": "is worse", "none": "is not shown to differ"}
    words = within(verdict, control, row["margin"]) if "margin" in row else said[verdict]
    p = row["p_margin" if "margin" in row else "p"]
    return (
        f"Primary comparison: {_asked(primary, control + best)} is {row['mean']:+.4f}, 95% interval "
        f"{row['low']:+.4f} to {row['high']:+.4f} ({seeds} seed{'s' * (seeds != 1)} × {row['documents']} documents; "
        f"p = {p:.2g}, alone{covers}): {primary.arm} {words}."
    )
