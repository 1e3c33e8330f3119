"""How wide the interval of a plan's primary comparison is expected to be with more seeds: what a pilot is run for.

    python tools/half_width.py build/results/s5-tilt/pilot --seeds 5
    python tools/half_width.py results/r6-long/science --seeds 5 --of "ir_dro r=3" uniform loss networks,web

Prints the half-width of the 95% interval, in the metric's unit, from the variances of the seeds that are finished; and
the difference as it is now, also of two arms of which neither is the control, which no table has. With several --of,
their p-values are corrected together (Holm).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.core.json_file import read_json
from samplewise.evidence.holm import holm
from samplewise.evidence.outcome import RESULTS, VALUES
from samplewise.evidence.primary import FRONT, Primary, half_widths_at, primary_outcome

REMEDY = "Name the folder of a comparison whose plan has a primary comparison, or one with --of."


def asked(results: dict[str, Any], values: dict[str, Any], given: list[list[str]] | None) -> list[Primary]:
    """The comparisons that are meant, each with one control.

    Errors: SamplewiseError where the plan has no primary one, and none is given, and for names that are not there.
    """
    if given is not None:
        new = results.get("asked", {}).get("fronts", {}).get("new")
        for arm, control, metric, _ in given:
            unknown = [name for name in (arm, control) if name not in values["after"]]
            if unknown or (metric == FRONT and new is None):
                raise SamplewiseError(
                    "--of", expected=f"arms among {', '.join(values['after'])}" if unknown else "a plan with fronts",
                    got=unknown[0] if unknown else "one without", remedy="Correct the name." if unknown else REMEDY,
                )  # fmt: skip
        return [
            Primary(of[0], (of[1],), of[2], tuple(of[3].split(",")), new if of[2] == FRONT else None) for of in given
        ]
    if "primary" not in results.get("asked", {}):
        raise SamplewiseError("folder", expected="a plan with a primary comparison", got="none", remedy=REMEDY)
    primary = Primary.from_json(results["asked"]["primary"])
    return [replace(primary, controls=(control,)) for control in primary.controls]


def shown(p: float) -> str:
    """The p-value as in the tables."""
    return f"p = {p:.2g}" if p >= 0.0001 else "p < 0.0001"


def main() -> int:
    """0, or 1 with what is wrong on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--documents", type=int, help="with so many held out, instead of those of the pilot")
    names = ("ARM", "CONTROL", "METRIC", "DOMAINS")
    parser.add_argument("--of", nargs=4, action="append", metavar=names, help="another comparison; may be repeated")
    given = parser.parse_args()
    try:
        results, values = (read_json(given.folder / name, "a comparison", REMEDY) for name in (RESULTS, VALUES))
        comparisons = asked(results, values, given.of)
        widths = [
            half_widths_at(each, results["documents"], values, given.seeds, given.documents) for each in comparisons
        ]
        every = [primary_outcome(each, results["documents"], values) for each in comparisons]
        corrected = holm([now["p"] for now in every])
        for each, width, now, p in zip(comparisons, widths, every, corrected, strict=True):
            control = each.controls[0]
            at = f"±{width[control]:.4f} at {given.seeds} seeds"
            print(f"{each.arm} − {control}, {each.metric} on {each.domain}: {at}")
            print(
                f"now {now['mean']:+.4f} [{now['low']:+.4f}, {now['high']:+.4f}], {shown(now['p'])}, "
                f"after Holm over {len(every)} {shown(p)}"
            )
    except SamplewiseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
