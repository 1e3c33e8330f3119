"""The tables of what rules cost: a step's time and memory against plain training, and the planning alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from result_pages.markdown import NONE, code, table

Found = Mapping[str, Any]


def facts_line(found: Found) -> str:
    """The sentence above the tables."""
    step = found["step"]
    return (
        f"Model: {step['model']}; {step['accumulation']} × {step['rows']} rows of {step['length']} tokens a step, "
        f"{step['dtype']}, {step['threads']} thread{'s' * (step['threads'] != 1)}; medians of {step['rounds']} rounds "
        f"in which all take turns in one process. Plain: {step['plain']['elapsed']:.2f} s elapsed, "
        f"{step['plain']['cpu']:.2f} s CPU a step; its memory above the body's: {_memory(step['plain'])} MB. "
        f"Load when it began: {step['load']:.1f} on {step['cores']} cores. Versions: {found['versions']}."
    )


def tables(found: Found) -> str:
    """A row for each rule."""
    sizes = found["planning"]["sizes"]
    head = ["rule", "passes", "CPU time / plain", "elapsed / plain", "CPU, largest / smallest", "memory / plain",
            *(f"plan of {size:,} samples, ms" for size in sizes)]  # fmt: skip
    planned = found["planning"]["milliseconds"]
    rows = [
        [code(rule), own["mode"], f"{own['cpu_ratio']:.3f}", f"{own['elapsed_ratio']:.3f}", f"{own['spread']:.2f}",
         NONE if own.get("memory_ratio") is None else f"{own['memory_ratio']:.2f}",
         *(f"{each:.3g}" for each in planned.get(rule, [])), *[NONE] * (len(sizes) - len(planned.get(rule, [])))]
        for rule, own in found["step"]["rules"].items()
    ]  # fmt: skip
    return table(head, rows)


def _memory(plain: Found) -> str:
    return NONE if plain.get("memory") is None else f"{plain['memory']:.0f}"
