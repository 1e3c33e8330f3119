"""A case through the library and through the oracle, and what to think of the two."""

from __future__ import annotations

import copy
import math
import traceback
from dataclasses import dataclass

import torch
from torch import Tensor

from fuzz.gradients.adapters import adapt
from fuzz.gradients.case import Case
from fuzz.gradients.data import IGNORED, Row, features, make_rows
from fuzz.gradients.hosts import STEPS, Seen, run
from fuzz.gradients.models import build, in_double
from fuzz.gradients.oracle import Answer, Host, answer

TOLERANCE = {"float32": 1e-5, "float64": 5e-6, "bfloat16": 0.1, "autocast": 0.1}
"""Of the whole gradient's length. Norms and rotations compute in fp32 whatever the model's precision."""
ROUNDINGS = 10.0
"""What is allowed beyond it: so many times what the oracle itself is off when it runs in the case's precision."""
CLOSE_CALL = 1e-5
"""Nats: two losses nearer than this may change places by rounding."""


@dataclass(frozen=True)
class Verdict:
    """kind: agrees, differs, refused (by the library's own error), crashed or skipped. message: why.

    off: how far the gradient is from the oracle's, as a share of its length, in the worst step.
    rounding: how far the oracle's own is in the precision of the case, where that was needed to judge.
    """

    case: Case
    kind: str
    message: str = ""
    off: float = 0.0
    rounding: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether somebody must look at it."""
        return self.kind in ("differs", "crashed")


def attempt(case: Case) -> Verdict:
    """Run it. Never raises on account of the library."""
    from samplewise import SamplewiseError

    try:
        model, reference = _models(case)
    except Exception as error:
        return Verdict(case, "skipped", f"no such model: {error}"[:200])
    rows, untouched = make_rows(case), copy.deepcopy(model)
    try:
        seen = run(case, model, reference, features(case, rows))
    except SamplewiseError as error:
        return Verdict(case, "refused", str(error))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Verdict(case, "crashed", f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"[:400])
    try:
        return _judged(case, seen, untouched, reference, rows)
    except (RuntimeError, IndexError) as error:
        return Verdict(case, "skipped", f"the oracle cannot: {error}"[:200])


def _models(case: Case) -> tuple[torch.nn.Module, torch.nn.Module | None]:
    def made(seed: int) -> torch.nn.Module:
        model = build(case.architecture, seed=seed, tied=case.tied, attention=case.attention, router=case.router)
        if case.precision == "float64":
            return in_double(model)
        return model.bfloat16() if case.precision == "bfloat16" else model

    reference = made(case.seed + 7) if case.keep_tokens < 1 else None
    return adapt(made(case.seed), case.adapter, case.seed), reference


def _judged(
    case: Case, seen: Seen, model: torch.nn.Module, reference: torch.nn.Module | None, rows: list[Row]
) -> Verdict:
    if len(seen.gradients) != STEPS:
        return Verdict(case, "differs", f"{len(seen.gradients)} optimizer steps of {STEPS}")
    if seen.averages and case.per == "token" and case.host == "sft" and case.size < case.rows:
        return Verdict(case, "skipped", "TRL does not say which rows its micro-batches held")
    host = Host(seen.averages, _scale(case, rows, seen.averages))
    off, own = 0.0, 0.0
    for step in range(STEPS):
        facts = (rows, seen.of_step(step))
        expected = answer(case, model, *facts, step=step, host=host, reference=reference)
        if expected.gap < CLOSE_CALL and case.precision == "float32":
            return Verdict(case, "skipped", "two losses too close to call")
        off = max(off, distance(expected.gradients, seen.gradients[step]))
        wrong = _difference(case, expected, seen.gradients[step], seen.losses[step], TOLERANCE[case.precision])
        if wrong and case.precision != "float64":  # is it more than the rounding of this model?
            rounded = answer(case, model, *facts, step=step, host=host, reference=reference, exact=False)
            here = distance(expected.gradients, rounded.gradients)
            own = max(own, here)
            wrong = _difference(case, expected, seen.gradients[step], seen.losses[step], max(ROUNDINGS * here, 1e-5))
        if wrong:
            return Verdict(case, "differs", f"step {step}: {wrong}", off, own)
    return Verdict(case, "agrees", off=off, rounding=own)


def _scale(case: Case, rows: list[Row], averages: bool) -> float:
    """Trainers do not know that GPT-2 shifts its labels, and divide by those of first tokens too."""
    if case.architecture != "gpt2" or case.per != "token" or case.host in ("loop", "ddp") or averages:
        return 1.0
    if case.form == "packed":  # its collator has masked them
        return 1.0
    predicted = sum(int((row.labels[1:] != IGNORED).sum()) for row in rows)
    return predicted / sum(int((row.labels != IGNORED).sum()) for row in rows)


def distance(expected: dict[str, Tensor], found: dict[str, Tensor]) -> float:
    """How far apart two gradients are, as a share of the expected one's length."""
    whole = _length(expected)
    return math.sqrt(sum(each**2 for each in _apart(expected, found).values())) / (whole or 1.0)


def _apart(expected: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, float]:
    zero = torch.zeros(1, dtype=torch.float64)
    names = expected.keys() | found.keys()
    return {name: float((found.get(name, zero) - expected.get(name, zero)).norm()) for name in names}


def _length(gradients: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(gradient.norm()) ** 2 for gradient in gradients.values()))


def _difference(case: Case, expected: Answer, found: dict[str, Tensor], loss: float, tolerance: float) -> str:
    """Empty where the two agree."""
    relative = distance(expected.gradients, found)
    if not relative <= tolerance:  # NaN too
        apart = _apart(expected.gradients, found)
        worst, times = max(apart, key=lambda name: apart[name]), _length(found) / (_length(expected.gradients) or 1.0)
        return f"gradient {relative:.2g} off ({times:.4f} times as long), most in {worst}"
    if not abs(loss - expected.loss) <= max(tolerance, 2e-4) * max(1.0, abs(expected.loss)) and not case.router:
        return f"logged loss {loss:.6f} for {expected.loss:.6f}"
    return ""
