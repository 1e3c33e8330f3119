"""manifest.json: what a folder of scores holds and what made it. Its presence says that the scoring has ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.place import Place

MANIFEST = "manifest.json"
SCHEMA = 1


@dataclass(frozen=True)
class Shard:
    """A finished Parquet file: its name in the folder, rows, bytes and SHA-256."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What the folder says of itself.

    rows_in: records met in the input = rows_scored + rows_quarantined. windows: rows of the table; a record has one or
    more. tokens: predicted ones. reasons: why records were quarantined, counted. fingerprints: of the model, tokenizer,
    template, dtype, corpus and each setting that changes a score. made: for people, the model's and the data's names.
    columns: name -> Arrow type, in the table's order.
    """

    rows_in: int
    rows_scored: int
    rows_quarantined: int
    windows: int
    tokens: int
    shards: list[Shard]
    columns: dict[str, str]
    fingerprints: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def check(self) -> None:
        """Raises SamplewiseError where the counts do not add up."""
        rows = sum(shard.rows for shard in self.shards)
        lost = self.rows_in - self.rows_scored - self.rows_quarantined
        if lost or rows != self.windows or sum(self.reasons.values()) != self.rows_quarantined:
            raise SamplewiseError(
                MANIFEST, expected="rows in = scored + quarantined, and as many windows as the shards have rows",
                got=f"{self.rows_in} in, {self.rows_scored} scored, {self.rows_quarantined} quarantined; "
                f"{self.windows} windows, {rows} rows",
                remedy="The folder is damaged: score again into another.",
            )  # fmt: skip


def write_manifest(place: Place, manifest: Manifest, folder: str = "") -> None:
    """Check the counts and write it. folder: of a column's own manifest, inside the place."""
    manifest.check()
    data = json.dumps(asdict(manifest), indent=1, ensure_ascii=False, sort_keys=False).encode()
    place.write(_name(folder), data + b"\n")


def read_manifest(place: Place, folder: str = "") -> Manifest:
    """What `write_manifest` wrote. Raises SamplewiseError where there is none, or one of another schema."""
    name = _name(folder)
    try:
        values = json.loads(place.read(name))
    except FileNotFoundError:
        raise _unfinished(place, folder) from None
    except ValueError as error:
        got = f"a damaged {place.inside(name)} ({error})"
        raise SamplewiseError("scores", expected="a whole manifest", got=got, remedy="Score again.") from None
    if not isinstance(values, Mapping) or values.get("schema") != SCHEMA:
        got = values.get("schema") if isinstance(values, Mapping) else type(values).__name__
        raise SamplewiseError(
            place.inside(name), expected=f"schema {SCHEMA}", got=got, remedy="It was written by another version."
        )
    return Manifest(**{**values, "shards": [Shard(**shard) for shard in values["shards"]]})


def check_files(place: Place, manifest: Manifest, folder: str = "") -> None:
    """Raises SamplewiseError where a shard is gone, or (here, where that costs nothing) has another size."""
    there = set(place.names(folder))
    for shard in manifest.shards:
        name = f"{folder}/{shard.name}" if folder else shard.name
        fault = "gone" if shard.name not in there else ""
        if not fault and not place.remote and place.size(name) != shard.bytes:
            fault = "changed"
        if fault:
            raise SamplewiseError(
                "scores", expected="files as they were written", got=f"{place.inside(name)} {fault}",
                remedy="Restore it, or score again into another folder.",
            )  # fmt: skip


def shard_of(name: str, rows: int, data: bytes) -> Shard:
    """The entry of a shard."""
    return Shard(name, rows, len(data), hashlib.sha256(data).hexdigest())


def _name(folder: str) -> str:
    return f"{folder}/{MANIFEST}" if folder else MANIFEST


def _unfinished(place: Place, folder: str) -> SamplewiseError:
    begun = place.exists(f"{folder}/.parts/run.json" if folder else ".parts/run.json")
    return SamplewiseError(
        "scores", expected="a folder that samplewise score has finished",
        got=f"{place.inside(folder) if folder else place}, which is unfinished" if begun else f"{place}, which is none",
        remedy="Give the same samplewise score command again: it goes on." if begun else "Check the path.",
    )  # fmt: skip
