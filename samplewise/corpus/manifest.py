"""manifest.json: what a folder of scores holds and what made it. Its presence says that the scoring has ended."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import build, shown
from samplewise.corpus.place import Place

MANIFEST = "manifest.json"
SCHEMA = 1
KINDS = ("int32", "int64", "float", "string")
"""Arrow types of columns."""
_SHARD = re.compile(r"shard-\d{5,}\.parquet")


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
    made: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def has_losses(self) -> bool:
        """Whether a model has read the windows; a tokenizer alone can cut them."""
        return self.fingerprints.get("model", "") is not None

    def check(self) -> None:
        """Raises SamplewiseError where the counts do not add up, or shards are not as `write_shard` names them."""
        rows = sum(shard.rows for shard in self.shards)
        lost = self.rows_in - self.rows_scored - self.rows_quarantined
        counts = (self.rows_in, self.rows_scored, self.rows_quarantined, self.windows, self.tokens)
        least = min([*counts, *self.reasons.values(), *(min(shard.rows, shard.bytes) for shard in self.shards)])
        if lost or rows != self.windows or sum(self.reasons.values()) != self.rows_quarantined or least < 0:
            raise _damaged(
                MANIFEST, "rows in = scored + quarantined, and as many windows as the shards have rows",
                f"{self.rows_in} in, {self.rows_scored} scored, {self.rows_quarantined} quarantined; "
                f"{self.windows} windows, {rows} rows; the least count is {least}",
            )  # fmt: skip
        names = [shard.name for shard in self.shards]
        for name in names:
            if not _SHARD.fullmatch(name) or names.count(name) > 1:
                raise _damaged(MANIFEST, "shards of different names, such as shard-00000.parquet", shown(name))
        for name, kind in self.columns.items():
            if not name.strip() or not name.isprintable() or '"' in name or kind not in KINDS:
                raise _damaged(f"{MANIFEST}: columns", f"names with one of {', '.join(KINDS)}", shown({name: kind}))


def write_manifest(place: Place, manifest: Manifest, folder: str = "") -> None:
    """Check the counts and write it. folder: of a column's own manifest, inside the place."""
    manifest.check()
    text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False, sort_keys=False)
    data = text.encode("utf-8", "backslashreplace")  # the path of a corpus need not be UTF-8: JSON has \udce9 for that
    place.write(_name(folder), data + b"\n")


def read_manifest(place: Place, folder: str = "") -> Manifest:
    """What `write_manifest` wrote. Raises SamplewiseError where there is none, or one of another schema."""
    name = _name(folder)
    try:
        values = json.loads(place.read(name))
    except FileNotFoundError:
        raise _unfinished(place, folder) from None
    except (ValueError, RecursionError) as error:
        raise _damaged(place.inside(name), "a whole manifest", f"a damaged one ({str(error)[:200]})") from None
    if not isinstance(values, Mapping) or values.get("schema") != SCHEMA:
        got = shown(values.get("schema")) if isinstance(values, Mapping) else type(values).__name__
        raise SamplewiseError(
            place.inside(name),
            expected=f"schema {SCHEMA}",
            got=got,
            remedy="Use the version of samplewise that wrote it, or score again.",
        )
    try:
        manifest = build(Manifest, values)
        manifest.check()
    except SamplewiseError as error:
        raise _damaged(f"{place.inside(name)}: {error.argument}", error.expected, error.got) from None
    return manifest


def _damaged(place: str, expected: str, got: object) -> SamplewiseError:
    remedy = "The folder is damaged: restore the file, or score again into another."
    return SamplewiseError(place, expected=expected, got=got, remedy=remedy)


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
        got=f"{place.inside(folder) if folder else place}, unfinished" if begun else f"{place}, with no scores",
        remedy="Run the same samplewise score command again to resume it." if begun else "Check the path.",
    )  # fmt: skip
