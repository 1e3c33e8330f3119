"""Inject faults into every command, and see what is left: python tools/inject_faults.py --minutes 30."""

from __future__ import annotations

import sys

from faults.main import main

if __name__ == "__main__":
    sys.exit(main())
