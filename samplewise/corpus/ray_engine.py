"""Shards on a Ray cluster: Ray Data hands them to actors, each with its own copy of the model.

Actors write to the output folder themselves, which must be one that all machines see: a shared disk, or a URL. What a
lost actor had in hand, Ray gives to another.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from importlib import import_module
from itertools import count
from typing import Any

import numpy as np

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.corpus.job import Job, mark_of, measure, prepare, work
from samplewise.corpus.progress import Progress
from samplewise.corpus.reader import Position
from samplewise.corpus.settings import Target

_OURS = "SamplewiseError: "
TRIES = 3
"""How often in a row a cluster may not start, or end with nothing done: an actor that was only beginning ends it."""


def score_with_ray(job: Job, workers: int) -> int:
    """Score every shard that is not done by `workers` actors, a GPU to each where the cluster has them; the tokens.

    Errors: SamplewiseError of an actor, such as a refused record, and where the cluster has ended `TRIES` times.
    """
    try:
        ray: Any = import_module("ray")
        data: Any = import_module("ray.data")
    except ModuleNotFoundError:
        raise missing_extra("ray", "ray", "--engine ray") from None
    asked = left = _planned(job)
    tries, ended = TRIES, _not_lasting("one that left shards unfinished")
    while left and tries:
        try:
            _start(ray)
            _score(ray, data, job, left, workers)
        except ray.exceptions.RayTaskError as error:
            raise _ours(error) or error from None
        except ray.exceptions.RayError as error:
            if _OURS in str(error):  # of a constructor, of whose error Ray hands on a text alone
                raise SamplewiseError(str(error)) from None
            ended = _not_lasting(error)
        except SamplewiseError as error:
            ended = error
        finally:
            ray.shutdown()
        before, left = left, [index for index in left if job.parts.done(index) is None]
        tries = tries - 1 if left == before else TRIES
    if left:
        raise ended
    return sum(done.tokens for done in map(job.parts.done, asked) if done is not None)


def _score(ray: Any, data: Any, job: Job, indices: list[int], workers: int) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= workers else 0
    options: dict[str, Any] = {
        "batch_size": 1,
        "compute": data.ActorPoolStrategy(size=workers),
        "num_gpus": gpus,
        "num_cpus": 1,
    }
    constructor = (asdict(job.target), asdict(job.settings))
    shards = data.from_items([{"index": index} for index in indices], override_num_blocks=len(indices))
    shards.map_batches(_Worker, fn_constructor_args=constructor, **options).take_all()


def _ours(error: BaseException | None) -> SamplewiseError | None:
    """The error of this library that an actor ended with, within Ray's own, whose text is a traceback."""
    while error is not None:
        if type(error) is SamplewiseError:
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None


def _not_lasting(error: object) -> SamplewiseError:
    return SamplewiseError(
        "--engine ray", expected="a Ray cluster that lasts", got=" ".join(str(error).split())[:300],
        remedy="Run the same command again: it resumes.",
    )  # fmt: skip


def _start(ray: Any) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one here. Errors: SamplewiseError where that fails."""
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has none of its own for a start that takes too long
        raise SamplewiseError(
            "--engine ray", expected="a Ray cluster that starts or can be joined",
            got=" ".join(str(error).split())[:300], remedy="Run the same command again, or without --engine ray.",
        ) from error  # fmt: skip


def _planned(job: Job) -> list[int]:
    """Read through the corpus, mark where shards end, and return those to do."""
    reader, indices = job.reader(), []
    for index in count():
        mark = job.parts.mark(index)
        if mark is None:
            mark = mark_of(reader.block(job.settings.shard_bytes))
            job.parts.set_mark(index, mark)
        else:
            reader.skip_to(mark.end)
        if job.parts.done(index) is None:
            indices.append(index)
        if mark.last:
            return indices
    return indices


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
