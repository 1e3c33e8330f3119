"""Write the tables on the pages of results/ and their summaries, from results.json. Run it from the repository's root.

    python tools/results.py                                   # every page, results/README.md and README.md
    python tools/results.py --check                           # exit 1 where a page is not what would be written
    python tools/results.py --take runs/r1 r1-own-data        # a finished run's files into results/, then the pages
    python tools/results.py --take runs/probe r0-losses/web   # a part of a page, in a folder below it

What stands outside the markers of a page is prose, and is left alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from result_pages.parts import RESULTS, ROOT
from result_pages.take import take
from result_pages.write import outdated, write

from samplewise.core.errors import SamplewiseError


def main() -> int:
    """0, or 1 with what is wrong on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--take", nargs=2, metavar=("RUN", "NAME"))
    given = parser.parse_args()
    try:
        if given.check:
            old = outdated(RESULTS)
            for path in old:
                print(f"{path.relative_to(ROOT)} is out of date: python tools/results.py", file=sys.stderr)
            return bool(old)
        if given.take:
            print(f"taken      {take(Path(given.take[0]), given.take[1], RESULTS).relative_to(ROOT)}")
        for path in write(RESULTS):
            print(f"written    {path.relative_to(ROOT)}")
    except SamplewiseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
