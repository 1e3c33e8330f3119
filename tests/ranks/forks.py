"""Several ranks as forks of one process that has imported everything: a second for a group, not ten."""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def forked(ranks: int, work: Callable[[int], None], *, patience: float = 120, together: bool = True) -> list[int]:
    """Call `work(rank)` in as many processes, with the variables that torchrun sets; their exit codes by rank.

    An exception is printed and makes exit code 1; −9 is death by SIGKILL. Those alive after `patience` seconds are
    killed and have exit code −9. together: as a launcher does, kill all as soon as one has failed.
    """
    port, codes, until = free_port(), [0] * ranks, time.monotonic() + patience
    alive = {_child(work, rank, ranks, port): rank for rank in range(ranks)}
    while alive:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            codes[alive.pop(child)] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > until or (together and any(codes)):
            for other in alive:
                os.kill(other, signal.SIGKILL)
            until = float("inf")
        if not child:
            time.sleep(0.02)
    return codes


def _child(work: Callable[[int], None], rank: int, ranks: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    if ranks > 1:
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        )  # fmt: skip
    code = 1
    try:
        work(rank)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # torch's threads now and then abort a process that is torn down
