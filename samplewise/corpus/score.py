"""The losses of a corpus, shard by shard, by one process or many; what was finished is never done again."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Literal

from samplewise import __version__
from samplewise.corpus.claims import alone_in, folder_claimed, take_away
from samplewise.corpus.finish import QUARANTINE, finish, refuse_changed, summary
from samplewise.corpus.guard import inputs, refuse_inputs
from samplewise.corpus.job import Job, measure, prepare, work
from samplewise.corpus.manifest import MANIFEST, Manifest, read_manifest
from samplewise.corpus.parts import FOLDER, RUN, Parts
from samplewise.corpus.place import Place, writable
from samplewise.corpus.progress import Progress
from samplewise.corpus.reader import Quarantined
from samplewise.corpus.settings import Target
from samplewise.corpus.shard import columns_of
from samplewise.corpus.store import ADDED
from samplewise.corpus.take import claim_of, each_taken
from samplewise.data.beside import in_words
from samplewise.data.fields import field_of, names_of

_LEFT = re.compile(r"\.(shard-\d+\.parquet|manifest\.json|quarantine\.jsonl|parts)\.\d+")
"""What a process that is killed while it writes, or tidies up, leaves behind."""

FIRST = 2**16
"""Bytes of text in which kept fields are looked for before the scoring begins."""

Say = Callable[[str], object]
Engine = Literal["local", "ray"]


def score_corpus(
    target: Target, *, engine: Engine = "local", workers: int = 1, say: Say = print, **given: Any
) -> Manifest | None:
    """Score a corpus into a folder, or resume a scoring there, and return its manifest.

    given: fields of `ScoreSettings`; left out, they are those of the folder, else the defaults.
    engine: "local": this process, or, under torchrun or accelerate launch, one of several that share the shards.
        "ray": `workers` actors of a Ray cluster. None is returned by a process that ends before others have.
    Raises SamplewiseError on bad input, on a folder in use or of another run, and with `strict` on the first record
    that would be quarantined.
    """
    place = Place(target.out)
    refuse_inputs("--out", place.url if place.remote else place.local, inputs(None, target.data))
    rank, ranks = place_of_process(os.environ)
    parts = Parts(place, "" if target.column is None else f"{ADDED}/{target.column}")
    with _held(parts, rank, ranks):
        job = prepare(target, given)
        if place.exists(parts.inside(MANIFEST)):
            manifest = read_manifest(place, parts.folder)
            refuse_changed(parts, manifest)
            say(f"finished before; nothing is left to do in {target.out}")
            for line in summary(manifest, place.inside(parts.inside(QUARANTINE))):
                say(line)
        else:
            manifest = _score(job, rank, ranks, engine, workers, say)
    if manifest is not None:
        _clean(parts)
    return manifest


def place_of_process(environment: Mapping[str, str]) -> tuple[int, int]:
    """(rank, ranks) of this process: by torchrun or accelerate launch, else as a task of a SLURM array; else (0, 1).

    >>> place_of_process({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "8"})
    (4, 8)
    """
    if "RANK" in environment or "SLURM_ARRAY_TASK_ID" not in environment:
        return int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))
    first, task = (int(environment.get(f"SLURM_ARRAY_TASK_{name}", "0")) for name in ("MIN", "ID"))
    step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1") or 1)
    return (task - first) // step, int(environment.get("SLURM_ARRAY_TASK_COUNT", "1"))


def _score(job: Job, rank: int, ranks: int, engine: Engine, workers: int, say: Say) -> Manifest | None:
    if rank == 0:
        _introduce(job, say)
    progress = Progress(ranks, show=rank == 0, doing="scoring" if job.model is not None else "cutting")
    try:
        if engine == "ray":
            from samplewise.corpus.ray_engine import score_with_ray

            progress.tokens = score_with_ray(job, workers)
        else:
            line = measure(job)
            if line is not None and rank == 0:
                say(line)
            while _pass(job, rank, ranks, progress) and ranks > 1:
                pass  # shards that a process lost after it had claimed them
    finally:
        tokens, seconds = progress.close()
    losses = job.model is not None
    columns = {"id": "int64", job.target.column: "float"} if job.target.column else columns_of(job.settings, losses)
    by = {"tokenizer": job.target.model} if job.description is None else {"model": job.description.name}
    made = {**by, "data": job.target.data, "samplewise": __version__}
    with claim_of(job.parts, "finish", wait=True):
        manifest = finish(job.parts, job.facts, columns, made, say)
    _conclude(manifest, job, tokens, seconds, rank, ranks, say)
    return manifest


def _pass(job: Job, rank: int, ranks: int, progress: Progress) -> bool:
    """Go through the corpus once, scoring every shard that no process has taken; returns whether there was one."""
    worked = False
    with closing(each_taken(job, rank, ranks)) as blocks:
        for taken in blocks:
            work(job, taken.index, taken.block, taken.found, taken.before, progress)
            worked = True
    progress.show(1.0)
    return worked


@contextmanager
def _held(parts: Parts, rank: int, ranks: int) -> Iterator[None]:
    """The folder, for this run alone; object stores have no locks. What came to nothing leaves nothing."""
    if parts.place.remote:
        yield
        return
    folder = parts.place.local / parts.inside(FOLDER)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        with writable(str(parts.place)), folder_claimed(folder, rank, ranks):
            yield
    finally:
        with alone_in(folder) as ours:
            if ours and not (folder / RUN).exists():
                take_away(folder)
                for each in made[1:]:
                    if not any(each.iterdir()):
                        each.rmdir()


def _clean(parts: Parts) -> None:
    """Remove what a finished scoring no longer needs, unless other processes still use it."""
    if parts.place.remote:
        for name in parts.place.names(parts.inside(FOLDER)):
            parts.place.remove(parts.inside(f"{FOLDER}/{name}"))
        return
    folder = parts.place.local / parts.inside(FOLDER)
    with alone_in(folder) as ours:
        if ours:
            for each in folder.parent.iterdir():
                if _LEFT.fullmatch(each.name):
                    shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink()
            take_away(folder)


def _introduce(job: Job, say: Say) -> None:
    if job.description is None:
        longest = job.settings.max_length
        said = f"{job.target.model}: windows of up to {longest:,} tokens without losses, no model is loaded"
        said = f"tokenizer  {said}"
    else:
        said = f"model      {job.description}"
    say(f"{said}; {job.note}" if job.note else said)
    if isinstance(job.files, list):
        size = sum(getattr(file, "size", 0) for _, file in job.files)
        number = f"{len(job.files):,} files" if len(job.files) != 1 else "1 file"
        say(f"data       {job.target.data}: {number}, {size / 1e6:,.1f} MB")
        if job.left_out:
            say(f"left out   as no data: {in_words(job.left_out)}")
    if job.template is not None:
        say(f"template   {job.template.name}")
    for line in _fields_not_met(job):
        say(line)


def _fields_not_met(job: Job) -> Iterator[str]:
    """A line for each kept field that none of the first records has; hours later the column would be found empty."""
    if job.settings.keep_fields:
        entries = job.reader().block(FIRST).entries
        records = [each.record or {} for each in entries if not isinstance(each, Quarantined)]
        there = dict.fromkeys(name for record in records for name in names_of(record))
        for name in job.settings.keep_fields:
            if records and all(field_of(record, name) is None for record in records):
                fields = ", ".join(there) or "none"
                yield f"fields     none of the first {len(records):,} records has {name}; their fields: {fields}"


def _conclude(
    manifest: Manifest | None, job: Job, tokens: int, seconds: float, rank: int, ranks: int, say: Say
) -> None:
    if manifest is None:
        if ranks > 1:
            say(f"rank {rank} has nothing left to do; shards of other ranks are not finished yet")
        return
    who = f" by rank {rank} of {ranks}" if ranks > 1 else ""
    did = "scored" if job.model is not None else "cut"
    say(f"{did:<10} {tokens:,} tokens now{who}, in {seconds:,.0f} s ({tokens / max(seconds, 1e-9):,.0f} tokens/s)")
    if job.budget.halved:
        times = "once" if job.budget.halved == 1 else f"{job.budget.halved} times"
        say(f"memory     ran out {times}; batches were halved, in the end to {job.budget.tokens:,} tokens")
    shards = f"{len(manifest.shards):,} shards" if len(manifest.shards) != 1 else "1 shard"
    say(f"table      {manifest.windows:,} rows in {shards}: {job.target.out}")
    for line in summary(manifest, job.parts.place.inside(job.parts.inside(QUARANTINE))):
        say(line)
