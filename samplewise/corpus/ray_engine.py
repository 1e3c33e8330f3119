"""Shards on a Ray cluster: Ray Data hands them to actors, each with its own copy of the model.

Actors write to the output folder themselves, which must be one that all machines see: a shared disk, or a URL. What a
lost actor had in hand, Ray gives to another; what a lost cluster had, the next one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.core.replaced import temporary_folder
from samplewise.corpus.job import Job, mark_of
from samplewise.corpus.ray_driver import PATIENCE, ClusterError, not_lasting

TRIES = 3
"""How often in a row a cluster may not start, or end with nothing done: an actor that was only beginning ends it."""
DRIVER = "from samplewise.corpus.ray_driver import main; main()"


def score_with_ray(job: Job, workers: int) -> int:
    """Score every shard that is not done by `workers` actors, a GPU to each where the cluster has them; the tokens.

    Errors: SamplewiseError of an actor, such as a refused record, and where the cluster has ended `TRIES` times.
    """
    asked = left = _planned(job)
    tries, ended = TRIES, str(not_lasting("one that left shards unfinished"))
    while left and tries:
        try:
            drive_apart(target=asdict(job.target), settings=asdict(job.settings), indices=left, workers=workers)
        except ClusterError as error:
            ended = str(error)
        before, left = left, [index for index in left if job.parts.done(index) is None]
        tries = tries - 1 if left == before else TRIES
    if left:
        raise SamplewiseError(ended)
    return sum(done.tokens for done in map(job.parts.done, asked) if done is not None)


def drive_apart(**work: Any) -> None:
    """`ray_driver.drive` in a process of its own.

    Errors: its own, and ClusterError where it ends without having said how, as with its node.
    """
    with temporary_folder() as folder:
        answer = Path(folder) / "answer.json"
        process = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=2, text=True)
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"work": work, "answer": str(answer)}) + "\n")
            process.stdin.flush()
            code = process.wait()
        finally:
            _end(process)
        if not answer.exists():
            raise ClusterError(str(not_lasting(f"one that ended with exit code {code}, as with its node")))
        said = json.loads(answer.read_text(encoding="utf-8"))
    if "refused" in said:
        raise SamplewiseError(said["refused"])
    if "ended" in said:
        raise ClusterError(said["ended"])
    if "failed" in said:
        raise RuntimeError(said["failed"])


def _end(process: subprocess.Popen[str]) -> None:
    """Where this process was interrupted: the driver shuts its cluster down."""
    assert process.stdin is not None
    try:
        process.stdin.close()
        process.wait(PATIENCE + 5)
    except (BrokenPipeError, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


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
