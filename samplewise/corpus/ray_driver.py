"""The driver of a Ray cluster, alone in a process: Ray ends that process, without a word, where its node ends.

`score_with_ray` starts it and hands it its work as one line of JSON. It ends with its parent, whose pipe then closes.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import traceback
from _thread import interrupt_main
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.corpus.job import measure, prepare, work
from samplewise.corpus.progress import Progress
from samplewise.corpus.reader import Position
from samplewise.corpus.settings import Target

_OURS = "SamplewiseError: "
PATIENCE = 10.0
"""Seconds in which a driver whose parent has gone shuts its cluster down."""


class ClusterError(Exception):
    """A cluster did not start, or ended with shards left, which another may score. Its text: a sentence."""


def main() -> None:
    """Drive, and write what became of it to the file that is asked for: no file, no end that anybody saw."""
    asked = json.loads(sys.stdin.readline())
    signal.signal(signal.SIGTERM, _exit)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer: dict[str, Any] = {}
    try:
        drive(**asked["work"])
    except ClusterError as error:
        answer = {"ended": str(error)}
    except SamplewiseError as error:
        answer = {"refused": str(error)}
    except KeyboardInterrupt:  # of the terminal, which asks the parent too
        raise SystemExit(130) from None
    except Exception:
        answer = {"failed": traceback.format_exc()}
    Path(asked["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def _exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):  # not by `sys.stdin`, whose lock a thread must not hold at the end
        pass
    interrupt_main(signal.SIGTERM)
    threading.Event().wait(PATIENCE)
    os._exit(1)


def drive(target: dict[str, Any], settings: dict[str, Any], indices: list[int], workers: int) -> None:
    """Score these shards by actors on the cluster, a GPU to each where it has them.

    Errors: SamplewiseError of an actor, such as a refused record; ClusterError.
    """
    try:
        ray: Any = import_module("ray")
        data: Any = import_module("ray.data")
    except ModuleNotFoundError:
        raise missing_extra("ray", "ray", "--engine ray") from None
    try:
        _start(ray)
        _score(ray, data, target, settings, indices, workers)
    except ray.exceptions.RayTaskError as error:
        raise _ours(error) or error from None
    except ray.exceptions.RayError as error:
        if _OURS in str(error):  # of a constructor, of whose error Ray hands on a text alone
            raise SamplewiseError(str(error)) from None
        raise ClusterError(str(not_lasting(error))) from None
    finally:
        ray.shutdown()


def _start(ray: Any) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one here. Errors: ClusterError where that fails."""
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has none of its own for a start that takes too long
        refused = SamplewiseError(
            "--engine ray", expected="a Ray cluster that starts or can be joined",
            got=" ".join(str(error).split())[:300], remedy="Run the same command again, or without --engine ray.",
        )  # fmt: skip
        raise ClusterError(str(refused)) from error


def _score(
    ray: Any, data: Any, target: dict[str, Any], settings: dict[str, Any], indices: list[int], workers: int
) -> None:  # fmt: skip
    logging.getLogger("ray").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= workers else 0
    options: dict[str, Any] = {
        "batch_size": 1,
        "compute": data.ActorPoolStrategy(size=workers),
        "num_gpus": gpus,
        "num_cpus": 1,
    }
    shards = data.from_items([{"index": index} for index in indices], override_num_blocks=len(indices))
    shards.map_batches(_Worker, fn_constructor_args=(target, settings), **options).take_all()


def _ours(error: BaseException | None) -> SamplewiseError | None:
    """The error of this library that an actor ended with, within Ray's own, whose text is a traceback."""
    while error is not None:
        if type(error) is SamplewiseError:
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None


def not_lasting(error: object) -> SamplewiseError:
    """The error for a cluster that ended."""
    return SamplewiseError(
        "--engine ray", expected="a Ray cluster that lasts", got=" ".join(str(error).split())[:300],
        remedy="Run the same command again: it resumes.",
    )  # fmt: skip


class _Worker:
    """An actor: the model loaded once, and a reader that continues from one of its shards to the next."""

    def __init__(self, target: dict[str, Any], settings: dict[str, Any]) -> None:
        self.job = prepare(Target(**target), settings)
        measure(self.job)
        self.reader, self.cut = self.job.reader(), self.job.cutter()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        tokens = []
        for index in batch["index"].tolist():
            before = self.job.parts.mark(index - 1) if index else None
            start = before.end if before is not None else Position()
            if start.records < self.reader.at.records:
                self.reader = self.job.reader()
            self.reader.skip_to(start)
            block = self.reader.block(self.job.settings.shard_bytes)
            found = self.cut(block.entries)
            tokens.append(work(self.job, index, block, found, 0.0, Progress(show=False)).tokens)
        return {"tokens": np.array(tokens)}
