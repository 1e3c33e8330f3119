"""Random bad inputs against the command line: python tools/fuzz_inputs.py --count 500."""

from __future__ import annotations

import sys

from fuzz.inputs.main import main

if __name__ == "__main__":
    sys.exit(main())
