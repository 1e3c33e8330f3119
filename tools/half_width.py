"""How wide the interval of a plan's primary comparison is expected to be with more seeds: what a pilot is run for.

    python tools/half_width.py build/results/s5-tilt/pilot --seeds 5

Prints the half-width of the 95% interval, in the metric's unit, from the variances of the seeds that are finished.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from samplewise.core.errors import SamplewiseError
from samplewise.core.json_file import read_json
from samplewise.evidence.outcome import RESULTS, VALUES
from samplewise.evidence.primary import Primary, half_widths_at

REMEDY = "Name the folder of a comparison whose plan has a primary comparison."


def main() -> int:
    """0, or 1 with what is wrong on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, required=True)
    given = parser.parse_args()
    try:
        results, values = (read_json(given.folder / name, "a comparison", REMEDY) for name in (RESULTS, VALUES))
        if "primary" not in results.get("asked", {}):
            raise SamplewiseError("folder", expected="a plan with a primary comparison", got="none", remedy=REMEDY)
        primary = Primary.from_json(results["asked"]["primary"])
        for control, width in half_widths_at(primary, results["documents"], values, given.seeds).items():
            print(
                f"{primary.arm} − {control}, {primary.metric} on {primary.domain}: ±{width:.4f} at {given.seeds} seeds"
            )
    except SamplewiseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
