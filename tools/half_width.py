"""How wide the interval of a plan's primary comparison is expected to be with more seeds: what a pilot is run for.

    python tools/half_width.py build/results/s5-tilt/pilot --seeds 5
    python tools/half_width.py results/r6-long/science --seeds 5 --of "ir_dro r=3" uniform loss networks,web

Prints the half-width of the 95% interval, in the metric's unit, from the variances of the seeds that are finished; and
the difference as it is now, also of two arms of which neither is the control, which no table has.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.core.json_file import read_json
from samplewise.evidence.outcome import RESULTS, VALUES
from samplewise.evidence.primary import Primary, half_widths_at, primary_outcome

REMEDY = "Name the folder of a comparison whose plan has a primary comparison, or one with --of."


def asked(results: dict[str, Any], of: list[str] | None) -> Primary:
    """The comparison that is meant. Errors: SamplewiseError where the plan has no primary one, and none is given."""
    if of is not None:
        new = results["asked"]["fronts"]["new"] if of[2] == "front" else None
        return Primary(of[0], (of[1],), of[2], tuple(of[3].split(",")), new)
    if "primary" not in results.get("asked", {}):
        raise SamplewiseError("folder", expected="a plan with a primary comparison", got="none", remedy=REMEDY)
    return Primary.from_json(results["asked"]["primary"])


def main() -> int:
    """0, or 1 with what is wrong on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--documents", type=int, help="with so many held out, instead of those of the pilot")
    parser.add_argument("--of", nargs=4, metavar=("ARM", "CONTROL", "METRIC", "DOMAINS"), help="another comparison")
    given = parser.parse_args()
    try:
        results, values = (read_json(given.folder / name, "a comparison", REMEDY) for name in (RESULTS, VALUES))
        primary = asked(results, given.of)
        widths = half_widths_at(primary, results["documents"], values, given.seeds, given.documents)
        for control, width in widths.items():
            alone = replace(primary, controls=(control,))
            now = primary_outcome(alone, results["documents"], values)
            print(
                f"{primary.arm} − {control}, {primary.metric} on {primary.domain}: ±{width:.4f} at {given.seeds} seeds"
            )
            print(f"now {now['mean']:+.4f} [{now['low']:+.4f}, {now['high']:+.4f}], not corrected")
    except SamplewiseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
