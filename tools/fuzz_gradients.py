"""Random training configurations against an independent fp64 oracle: python tools/fuzz_gradients.py --count 300."""

from __future__ import annotations

import sys

from fuzz.gradients.main import main

if __name__ == "__main__":
    sys.exit(main())
