"""A failing case, made as simple as it can be while it still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fuzz.gradients.attempt import Verdict, attempt
from fuzz.gradients.case import SIMPLEST, Case


def shrink(verdict: Verdict, tries: int = 40, run: Callable[[Case], Verdict] = attempt) -> Verdict:
    """Field by field back to what is usual, then fewer rows. tries: runs at most."""
    for field, usual in SIMPLEST.items():
        if getattr(verdict.case, field) != usual and tries > 0 and field not in ("rows", "size", "longest"):
            tries -= 1
            verdict = _if_it_fails(verdict, replace(verdict.case, **{field: usual}), run)
    while verdict.case.rows > 2 and tries > 0:
        tries -= 1
        fewer = replace(verdict.case, rows=verdict.case.rows - 1, size=min(verdict.case.size, verdict.case.rows - 1))
        smaller = _if_it_fails(verdict, fewer, run)
        if smaller is verdict:
            break
        verdict = smaller
    return verdict


def _if_it_fails(verdict: Verdict, case: Case, run: Callable[[Case], Verdict]) -> Verdict:
    found = run(case)
    return found if found.kind == verdict.kind else verdict
