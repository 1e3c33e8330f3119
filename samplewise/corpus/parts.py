"""What a run keeps in `.parts` until it has finished: where each shard ends and, once it is finished, what it holds.

Everything is written whole or not at all, and the shard before its entry here; so at whatever moment a run is killed,
an entry speaks of a finished shard.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import build
from samplewise.corpus.manifest import Shard
from samplewise.corpus.place import Place
from samplewise.corpus.reader import Position, Quarantined

Entry = TypeVar("Entry")

FOLDER = ".parts"
RUN = "run.json"


@dataclass(frozen=True)
class Mark:
    """Where a shard's block ends, known before it is scored. share: of the corpus, up to there."""

    end: Position
    last: bool
    share: float


@dataclass(frozen=True)
class Done:
    """A finished shard: records met, of them scored, tokens predicted, and the reasons of the quarantined."""

    shard: Shard
    records: int
    scored: int
    tokens: int
    reasons: dict[str, int] = field(default_factory=dict)


class Parts:
    """The entries of a run. folder: of the shards within the place, "" or columns/NAME."""

    def __init__(self, place: Place, folder: str) -> None:
        self.place, self.folder = place, folder

    def inside(self, name: str) -> str:
        """The name of a file in the shards' folder."""
        return f"{self.folder}/{name}" if self.folder else name

    def run(self) -> dict[str, Any] | None:
        """The settings of the run that has begun here, or None."""
        return self._read(RUN)

    def begin(self, facts: dict[str, Any]) -> None:
        """Record that a run has begun in this folder, with its settings."""
        self._write(RUN, facts)

    def mark(self, index: int) -> Mark | None:
        """Where shard `index` ends, if that is known."""
        found = self._read(f"{index:05d}.mark.json")
        return None if found is None else self._built(Mark, found, f"{index:05d}.mark.json")

    def set_mark(self, index: int, mark: Mark) -> None:
        """Every process that reads the block writes the same."""
        self._write(f"{index:05d}.mark.json", asdict(mark))

    def done(self, index: int) -> Done | None:
        """Shard `index`, if it is finished, and its file of the size it had."""
        found = self._read(f"{index:05d}.done.json")
        if found is None:
            return None
        done = self._built(Done, found, f"{index:05d}.done.json")
        try:
            whole = self.place.size(self.inside(done.shard.name)) == done.shard.bytes
        except FileNotFoundError:
            return None
        return done if whole else None

    def set_done(self, index: int, done: Done, quarantined: list[Quarantined], before: bytes = b"") -> None:
        """To be called when the shard itself is there. before: lines of the quarantine that come first."""
        lines = "".join(json.dumps(line_of(each), ensure_ascii=False) + "\n" for each in quarantined)
        if lines:
            data = before + lines.encode("utf-8", "backslashreplace")
            self.place.write(self.inside(f"{FOLDER}/{index:05d}.jsonl"), data)
        self._write(f"{index:05d}.done.json", asdict(done))

    def forget(self, index: int) -> None:
        """Remove the entry of a shard, so that it is scored again."""
        self.place.remove(self.inside(f"{FOLDER}/{index:05d}.done.json"))

    def quarantined(self, index: int) -> bytes:
        """The lines of shard `index` for the quarantine file."""
        try:
            return self.place.read(self.inside(f"{FOLDER}/{index:05d}.jsonl"))
        except FileNotFoundError:
            return b""

    def discard(self, done: list[Done]) -> None:
        """Remove the shards and all entries. Locks stay, since other processes may hold them."""
        for each in done:
            self.place.remove(self.inside(each.shard.name))
        for name in self.place.names(self.inside(FOLDER)):
            if name.endswith((".json", ".jsonl")):
                self.place.remove(self.inside(f"{FOLDER}/{name}"))

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found = json.loads(self.place.read(self.inside(f"{FOLDER}/{name}")))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise self._damaged(name, "JSON", str(error)[:200]) from None
        if not isinstance(found, dict):
            raise self._damaged(name, "a JSON object", type(found).__name__)
        return found

    def _built(self, kind: type[Entry], values: dict[str, Any], name: str) -> Entry:
        try:
            return build(kind, values)
        except SamplewiseError as error:
            raise self._damaged(f"{name}: {error.argument}", error.expected, error.got) from None

    def _damaged(self, name: str, expected: str, got: object) -> SamplewiseError:
        return SamplewiseError(
            self.place.inside(self.inside(f"{FOLDER}/{name}")), expected=expected, got=got,
            remedy="The folder is damaged: remove it, or score into another one.",
        )  # fmt: skip

    def _write(self, name: str, values: dict[str, Any]) -> None:
        self.place.write(self.inside(f"{FOLDER}/{name}"), json.dumps(values, indent=1).encode())


def shard_name(index: int) -> str:
    """The file of shard `index`.

    >>> shard_name(3)
    'shard-00003.parquet'
    """
    return f"shard-{index:05d}.parquet"


def line_of(each: Quarantined) -> dict[str, Any]:
    """A line of the quarantine file; the line number only where the file has lines."""
    values = asdict(each)
    return values if each.line is not None else {key: value for key, value in values.items() if key != "line"}


def reasons_of(quarantined: list[Quarantined]) -> dict[str, int]:
    """How many there are of each reason, sorted by reason."""
    return dict(sorted(Counter(each.reason for each in quarantined).items()))
