"""Programs of the tests, run as forks of a process that has imported torch and the trainers: no seconds of imports."""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
}  # fmt: skip
_servers: list[subprocess.Popen[str]] = []


def run(
    program: Path, *arguments: object, timeout: float = 300, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python program arguments…` with its exit code and output; killed with all of its children after `timeout` s.

    environment: added to ENVIRONMENT. What is read once, when torch is imported, cannot be changed by it.
    """
    asked = {
        "program": str(program), "arguments": [str(each) for each in arguments], "environment": environment or {},
        "timeout": timeout,
    }  # fmt: skip
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    answer = json.loads(server.stdout.readline())
    return subprocess.CompletedProcess([str(program)], answer["code"], answer["stdout"], answer["stderr"])


def _server() -> subprocess.Popen[str]:
    """One for each process of the tests, started by the first that asks."""
    if not _servers:
        pipe: Any = subprocess.PIPE
        _servers.append(
            subprocess.Popen([sys.executable, __file__], env=ENVIRONMENT, stdin=pipe, stdout=pipe, text=True)
        )
        atexit.register(_servers[0].kill)
    return _servers[0]


def serve() -> None:
    """Read a line of JSON for each program, write one with its end."""
    import gc
    import tempfile

    import torch  # noqa: F401
    import trl  # noqa: F401

    import samplewise.trainers.trl  # noqa: F401

    gc.freeze()  # a collection, which accelerate asks for at each `train()`, does not look at what was imported
    for line in sys.stdin:
        asked = json.loads(line)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if not child:
                os.setsid()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                _become(asked)
            code = _wait(child, asked["timeout"])
            said = [_text(file) for file in (out, err)]
        print(json.dumps({"code": code, "stdout": said[0], "stderr": said[1]}), flush=True)


def _become(asked: dict) -> None:
    """Run the program as `python program` would, then end without the handlers of this process."""
    import runpy
    import traceback

    os.environ.update(asked["environment"])
    sys.argv = [asked["program"], *asked["arguments"]]
    sys.path[0] = str(Path(asked["program"]).parent)
    code: Any = 0
    try:
        runpy.run_path(asked["program"], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(child: int, timeout: float) -> int:
    until = time.monotonic() + timeout
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            until = float("inf")
        time.sleep(0.01)


def _text(file: Any) -> str:
    file.seek(0)
    return file.read()


if __name__ == "__main__":
    serve()
