"""What a deduplication left out: for every record the kept one that it repeats, and how alike they are."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any

import numpy as np

from samplewise.corpus.dedup_read import Found
from samplewise.corpus.writers.output import Output

ROWS = 2**16
SHOWN = 20
"""Clusters, near-duplicates and damaged records that a statement shows."""


class Places:
    """Where the texts of a corpus are, by number: 20 bytes each."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sources, self.rows, self.ids = array("I"), array("q"), array("q")

    def add(self, found: Found) -> None:
        """Remember where the next text stands."""
        if not self.names or self.names[-1] != found.source:
            self.names.append(found.source)
        self.sources.append(len(self.names) - 1)
        self.rows.append(found.row)
        self.ids.append(found.id)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[str, int]:
        return self.names[self.sources[number]], self.rows[number]


class Removed:
    """Numbers of texts that are left out, of the kept ones that they repeat, and similarities; exact ones have 1."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.texts, self.kept, self.similarity = array("q"), array("q"), array("f")
        self.exact = 0
        self.nearest: list[tuple[float, int, str]] = []
        self._place: dict[int, int] = {}

    def add(self, number: int, kept: int, similarity: float, text: str, exact: bool) -> None:
        """A text that repeats a kept one."""
        self._place[number] = len(self.texts)
        self.texts.append(number)
        self.kept.append(kept)
        self.similarity.append(similarity)
        self.exact += exact
        if not exact and (len(self.nearest) < SHOWN or similarity < self.nearest[-1][0]):
            self.nearest = sorted([*self.nearest, (similarity, number, text[:200])])[:SHOWN]

    def twin(self, number: int) -> tuple[int, float]:
        """What is kept of a text: itself, or what it repeats and how alike they are."""
        at = self._place.get(number)
        return (number, 1.0) if at is None else (self.kept[at], self.similarity[at])

    def examples(self) -> dict[str, list[dict[str, Any]]]:
        """The largest clusters, and the near-duplicates least alike."""
        sizes = Counter(self.kept).most_common(SHOWN)
        pairs = [(number, self.twin(number)[0], alike, text) for alike, number, text in self.nearest]
        return {
            "largest": [{**self._named(kept, ""), "removed": count} for kept, count in sizes],
            "lowest_similarity": [
                {"similarity": round(alike, 4), **self._named(number, ""), **self._named(kept, "kept_"), "text": text}
                for number, kept, alike, text in pairs
            ],
        }

    def write(self, output: Output) -> None:
        """All of them as Parquet: id, source, row, kept_id, kept_source, kept_row, similarity."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        place = {"id": pa.int64(), "source": pa.string(), "row": pa.int64()}
        kinds = {**place, **{f"kept_{name}": kind for name, kind in place.items()}, "similarity": pa.float32()}
        schema = pa.schema(list(kinds.items()))
        with output.whole() as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for at in range(0, len(self.texts), ROWS):
                part = slice(at, at + ROWS)
                columns = self._columns(self.texts[part], "") | self._columns(self.kept[part], "kept_")
                columns["similarity"] = np.asarray(self.similarity[part], np.float32)
                writer.write_table(pa.table(columns, schema=schema))

    def _named(self, number: int, prefix: str) -> dict[str, Any]:
        source, row = self.places[number]
        return {f"{prefix}id": self.places.ids[number], f"{prefix}source": source, f"{prefix}row": row}

    def _columns(self, numbers: Any, prefix: str) -> dict[str, Any]:
        places = self.places
        return {
            f"{prefix}id": [places.ids[n] for n in numbers],
            f"{prefix}source": [places.names[places.sources[n]] for n in numbers],
            f"{prefix}row": [places.rows[n] for n in numbers],
        }
