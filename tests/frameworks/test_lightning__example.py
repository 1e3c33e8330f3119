"""The example for Lightning runs, and learns, as it is."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "lightning_module.py"


def test_the_example_learns():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(EXAMPLE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    losses = [float(loss) for loss in re.findall(r"^step +\d+: loss ([\d.]+), ess", done.stdout, re.M)]
    assert len(losses) == 40
    assert losses[-1] < losses[0] - 1
    assert len(EXAMPLE.read_text().splitlines()) <= 70
