"""The tables of what rules cost: a step's time and memory against plain training, and the planning alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from result_pages.markdown import NONE, code, percent, table

Found = Mapping[str, Any]

MEANING = (
    "One pass weighs while it trains; two first score every row without gradient, and train on those that are kept. "
    "Ratios of whole optimizer steps, data to AdamW. Memory: the highest resident memory of a step, less that of a "
    "step of the model's body alone. Plan: the weights of a step from its losses, CPU time on one thread. `rho1` "
    "compares with a reference model of the same size, whose forward and weights are in the figures."
)


def facts_line(found: Found) -> str:
    """The sentence above the tables."""
    step, memory = found["step"], found.get("memory")
    above = f"; its peak memory above the body's {memory['plain']:.0f} MB" if memory else ""
    return (
        f"Model: {step['model']}; {step['accumulation']} × {step['rows']} rows of {step['length']} tokens a step, "
        f"{step['dtype']}, {step['threads']} thread{'s' * (step['threads'] != 1)}; medians of {step['rounds']} rounds "
        f"in which all take turns in one process. A plain step: {step['plain']['elapsed']:.2f} s elapsed, "
        f"{step['plain']['cpu']:.2f} s CPU{above}. Load when it began: {step['load']:.1f} on {step['cores']} cores. "
        f"{found['versions']}."
    )


def tables(found: Found) -> str:
    """A row for each rule."""
    planned = found.get("planning", {"sizes": [], "milliseconds": {}})
    head = ["rule", "passes", "kept", "CPU time / plain", "elapsed / plain", "CPU, largest / smallest",
            "memory / plain", *(f"plan of {size:,} samples, ms" for size in planned["sizes"])]  # fmt: skip
    blank = [NONE] * len(planned["sizes"])
    rows = [
        [code(rule), "one" if own["mode"] == "one_pass" else "two", percent(own["kept"]), f"{own['cpu_ratio']:.3f}",
         f"{own['elapsed_ratio']:.3f}", f"{own['spread']:.2f}", _memory(found, rule),
         *([f"{each:.3g}" for each in planned["milliseconds"].get(rule, [])] or blank)]
        for rule, own in found["step"]["rules"].items()
    ]  # fmt: skip
    return f"{MEANING}\n\n{table(head, rows)}"


def _memory(found: Found, rule: str) -> str:
    """Of what a step adds to that of the body alone."""
    return f"{found['memory']['rules'][rule] / found['memory']['plain']:.2f}" if "memory" in found else NONE
