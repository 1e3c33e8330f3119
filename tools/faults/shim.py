"""The preloaded library: built with the system's C compiler, armed from Python in the process that is to suffer."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

KILL, TORN, TERM, INT, SLOW = -1, -2, -3, -4, -5
SOURCE = Path(__file__).with_name("shim.c")
VARIABLE = "SAMPLEWISE_FAULT_SHIM"


@dataclass(frozen=True)
class Strike:
    """What happens at which call that changes a file. action: an errno, or one of the names above; 0 only counts.

    number: of the call, from 1; 0 never. lasting: later calls fail too. jump: seconds that the wall clock moves.
    """

    action: int = 0
    number: int = 0
    lasting: bool = False
    jump: int = 0


def reason_not_to() -> str:
    """Why calls cannot be struck here; empty if they can."""
    if not sys.platform.startswith("linux"):
        return f"needs Linux, got {sys.platform}"
    return "" if shutil.which(os.environ.get("CC", "cc")) else "needs a C compiler (cc), found none"


def start_again_with_shim() -> None:
    """Replace this process by itself with the library preloaded; nothing where it is already."""
    if VARIABLE in os.environ:
        return
    library = Path(tempfile.mkdtemp(prefix="samplewise-faults-")) / "shim.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O1", "-w", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    more = {VARIABLE: str(library), "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **more})


def arm(folder: Path, strike: Strike) -> None:
    """From here on calls that change files below the folder are counted, and struck; nothing without the library."""
    if VARIABLE not in os.environ:
        return
    library = ctypes.CDLL(os.environ[VARIABLE])
    library.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_long]
    library.fault_arm(str(folder).encode(), strike.action, strike.number, int(strike.lasting), strike.jump)


def calls() -> int:
    """How many there were."""
    if VARIABLE not in os.environ:
        return 0
    library = ctypes.CDLL(os.environ[VARIABLE])
    library.fault_seen.restype = ctypes.c_long
    return int(library.fault_seen())
