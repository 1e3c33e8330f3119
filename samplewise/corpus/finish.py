"""The end of a scoring: one record to an id, the quarantine file, the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count

import torch

from samplewise.core.errors import SamplewiseError
from samplewise.core.replaced import temporary_folder
from samplewise.corpus.manifest import MANIFEST, Manifest, Shard, check_files, read_manifest, write_manifest
from samplewise.corpus.nothing import nothing_scored
from samplewise.corpus.parts import Done, Parts, reasons_of, shard_name
from samplewise.corpus.reader import Quarantined
from samplewise.corpus.store import duckdb_for, readable
from samplewise.corpus.table import arrow, write_table
from samplewise.corpus.verify import changed_files

QUARANTINE = "quarantine.jsonl"
MEMORY = "1GB"
"""That ids are counted in; beyond it, in the folder for temporary files."""


def finish(
    parts: Parts, facts: dict, columns: dict[str, str], made: dict[str, str], say: Callable[[str], object]
) -> Manifest | None:
    """The manifest, written if all shards are there; None while some are not.

    Errors: SamplewiseError where no record could be scored. What was begun is then removed, so that the same folder
    can be given again with other options.
    """
    if parts.place.exists(parts.inside(MANIFEST)):
        manifest = read_manifest(parts.place, parts.folder)
        check_files(parts.place, manifest, parts.folder)
        return manifest
    done = all_done(parts)
    if done is None:
        return None
    _refuse_damaged(parts, done)
    if not parts.folder:
        done = _one_record_to_an_id(parts, done)
    reasons: Counter[str] = Counter()
    for each in done:
        reasons.update(each.reasons)
    if reasons and any(each.scored for each in done):
        lines = b"".join(parts.quarantined(index) for index in range(len(done)))
        parts.place.write(parts.inside(QUARANTINE), lines)
    manifest = Manifest(
        rows_in=sum(each.records for each in done), rows_scored=sum(each.scored for each in done),
        rows_quarantined=reasons.total(), windows=sum(each.shard.rows for each in done),
        tokens=sum(each.tokens for each in done), shards=[each.shard for each in done], columns=columns,
        fingerprints=facts, reasons=dict(sorted(reasons.items())), made={**made, "torch": torch.__version__},
    )  # fmt: skip
    if not manifest.rows_scored:
        lines = parts.quarantined(0)
        parts.discard(done)
        say(summary(manifest, "")[-1])
        raise nothing_scored(manifest, lines)
    write_manifest(parts.place, manifest, parts.folder)
    return manifest


def _refuse_damaged(parts: Parts, done: list[Done]) -> None:
    """A shard that changed after it was written must not get into the manifest; object stores check their own."""
    if parts.place.remote:
        return
    names = {parts.inside(each.shard.name): index for index, each in enumerate(done)}
    changed = changed_files(parts.place, {name: done[index].shard for name, index in names.items()})
    for name in changed:
        parts.forget(names[name])
    if changed:
        raise SamplewiseError(
            changed[0], expected="the shard as it was written, by its SHA-256",
            got=f"other bytes{f', and {len(changed) - 1:,} more shards like it' if len(changed) > 1 else ''}",
            remedy="Run the same command again: it scores what is damaged anew. Check the disk.",
        )  # fmt: skip


def refuse_changed(parts: Parts, manifest: Manifest) -> None:
    """Raise SamplewiseError where a shard of a finished scoring has changed; object stores check their own."""
    shards = {} if parts.place.remote else {parts.inside(each.name): each for each in manifest.shards}
    if changed := changed_files(parts.place, shards):
        raise SamplewiseError(
            changed[0], expected="the shard as it was written, by its SHA-256", got="other bytes",
            remedy="Restore it, or score again into another folder.",
        )  # fmt: skip


def summary(manifest: Manifest, quarantine: str) -> list[str]:
    """The last lines of output: what was quarantined, where it is listed, and the count of everything."""
    did = f"{manifest.rows_scored:,} {'scored' if manifest.has_losses else 'cut'}"
    counts = f"{manifest.rows_in:,} records in = {did} + {manifest.rows_quarantined:,} quarantined"
    if not manifest.rows_quarantined:
        return [f"records    {counts}"]
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in manifest.reasons.items())
    return [f"quarantine {quarantine}", f"records    {counts} ({reasons})"]


def all_done(parts: Parts) -> list[Done] | None:
    """Every shard's entry, or None if one is missing."""
    found = []
    for index in count():
        mark, done = parts.mark(index), parts.done(index)
        if mark is None or done is None:
            return None
        found.append(done)
        if mark.last:
            return found
    return None


def _one_record_to_an_id(parts: Parts, done: list[Done]) -> list[Done]:
    """Where records share an id, the first keeps it and the others are quarantined, with all their windows.

    A run that is killed in between comes here again, and ends with the same files: the first is never touched.
    """
    files = [parts.place.inside(parts.inside(each.shard.name)) for each in done if each.shard.rows]
    if not files:
        return done
    with (
        temporary_folder() as temporary,
        readable(parts.place),
        duckdb_for(parts.place, MEMORY, temporary) as connection,
    ):
        connection.read_parquet(files).create_view("found")
        rows = connection.execute("SELECT id FROM found GROUP BY id HAVING count(*) > 1").fetchall()
    repeated = {row[0] for row in rows}
    if not repeated:
        return done
    seen: dict[int, tuple[str, int]] = {}
    return [_without_repeated(parts, index, each, repeated, seen) for index, each in enumerate(done)]


def _without_repeated(
    parts: Parts, index: int, done: Done, repeated: set[int], seen: dict[int, tuple[str, int]]
) -> Done:
    pa = arrow()
    with readable(parts.place), parts.place.open(parts.inside(done.shard.name)) as file:
        table = pa.parquet.read_table(file)
    places = list(zip(table["source"].to_pylist(), table["row"].to_pylist(), strict=True))
    dropped: dict[tuple[str, int], int] = {}
    for name, place in zip(table["id"].to_pylist(), places, strict=True):
        if name in repeated and seen.setdefault(name, place) != place:
            dropped.setdefault(place, name)
    if not dropped:
        return done
    kept = table.filter(pa.array([place not in dropped for place in places]))
    shard = write_table(parts.place, parts.inside(shard_name(index)), kept)
    quarantined = [
        Quarantined(*place, None, "duplicate id", f"{name}, which {seen[name][0]}, record {seen[name][1]} has")
        for place, name in dropped.items()
    ]
    reasons = dict(sorted((Counter(done.reasons) + Counter(reasons_of(quarantined))).items()))
    tokens = int(sum(kept["n_tokens"].to_pylist()))
    own = Shard(shard_name(index), shard.rows, shard.bytes, shard.sha256)
    entry = Done(own, done.records, done.scored - len(dropped), tokens, reasons)
    parts.set_done(index, entry, quarantined, before=parts.quarantined(index))
    return entry
