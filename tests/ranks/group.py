"""worker.py on several ranks that are forks of this process: `python group.py RANKS OUT RULE …`."""

import runpy
import sys
from pathlib import Path

import tiny  # noqa: F401
import torch  # noqa: F401
from forks import forked

import samplewise.trainers  # noqa: F401

ranks, *sys.argv[1:] = sys.argv[1:]
worker = str(Path(__file__).with_name("worker.py"))
codes = forked(int(ranks), lambda rank: runpy.run_path(worker, run_name="__main__") and None)
sys.exit(f"exit codes {codes}" if any(codes) else 0)
