"""`samplewise dedup` on generated documents with known clusters of near-duplicates: time, memory, precision, recall.

    python bench/dedup.py --documents 1000000 --folder /tmp/dedup-bench

Documents are 50 to 350 words (200 in the mean) drawn by Zipf's law from 50,000. Of them 10% are exact copies of an
earlier one but for case and white space, 15% copies in which words were replaced or cut off at the end so that the
Jaccard similarity of 5-word shingles is between 0.85 and 1, and 5% copies of a similarity between 0.5 and 0.75, which
are no duplicates; the rest stand alone, a fifth of them with a paragraph of boilerplate before them that others have.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

WORDS = 50_000
BOILERPLATE = 30
SHINGLE = 5
FILES = 10


class Corpus:
    """Documents one after the other; every copy is of one of the latest 100,000 originals."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        chances = 1 / np.arange(1, WORDS + 1)
        self.ends = np.cumsum(chances / chances.sum())
        self.names = np.array([f"w{i:x}" for i in range(WORDS)])
        self.boiler = [self.words(BOILERPLATE) for _ in range(20)]
        self.originals: list[tuple[int, np.ndarray]] = []

    def words(self, count: int) -> np.ndarray:
        return np.minimum(np.searchsorted(self.ends, self.draw.random(count)), WORDS - 1)

    def document(self, number: int) -> tuple[str, str, int | None]:
        """(text, kind, the number of the original)."""
        chance = self.draw.random() if self.originals else 1.0
        if chance >= 0.3:
            words = self.words(int(self.draw.integers(50, 351)))
            if self.draw.random() < 0.2:
                words = np.concatenate([self.boiler[int(self.draw.integers(len(self.boiler)))], words])
            self.originals.append((number, words))
            if len(self.originals) > 100_000:
                self.originals.pop(0)
            return self.text(words), "alone", None
        of, words = self.originals[int(self.draw.integers(len(self.originals)))]
        if chance < 0.1:
            return f"  {self.text(words).upper()}\n", "exact", of
        near = chance < 0.25
        low, high = (0.85, 0.995) if near else (0.5, 0.75)
        for _ in range(50):
            other = self.changed(words, self.draw.uniform(low, high))
            if low <= similarity(words, other) < high:
                return self.text(other), "near" if near else "far", of
        return f"  {self.text(words).upper()}\n", "exact", of

    def changed(self, words: np.ndarray, alike: float) -> np.ndarray:
        """Words replaced one by one, each of which breaks five shingles, or a piece cut off at the end."""
        if self.draw.random() < 0.5:
            return words[: max(SHINGLE + 1, int(len(words) * alike))]
        count = max(1, round(len(words) * (1 - alike) / (1 + alike) / SHINGLE))
        other = words.copy()
        other[self.draw.choice(len(words), count, replace=False)] = self.words(count)
        return other

    def text(self, words: np.ndarray) -> str:
        return " ".join(self.names[words])


def similarity(a: Sequence[Any] | np.ndarray, b: Sequence[Any] | np.ndarray) -> float:
    """The definition, on sets of runs of five words."""
    one, two = ({tuple(t[i : i + SHINGLE]) for i in range(len(t) - SHINGLE + 1)} for t in (list(a), list(b)))
    return len(one & two) / len(one | two)


def generate(folder: Path, documents: int) -> list[tuple[str, int | None]]:
    """Write files of JSON Lines; what each document is."""
    corpus, truth = Corpus(0), []
    for name, numbers in enumerate(np.array_split(np.arange(documents), FILES)):
        with (folder / f"part-{name:02d}.jsonl").open("w") as file:
            for number in numbers.tolist():
                text, kind, of = corpus.document(number)
                truth.append((kind, of))
                file.write(json.dumps({"text": text, "number": number}) + "\n")
    return truth


def texts(folder: Path, wanted: set[tuple[str, int]]) -> dict[tuple[str, int], list[str]]:
    """The words of some documents, by file and row."""
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open() as file:
            for row, line in enumerate(file):
                if (path.name, row) in wanted:
                    found[path.name, row] = json.loads(line)["text"].lower().split()
    return found


def measure(given: Path, truth: list[tuple[str, int | None]]) -> None:
    """Recall by what was generated; precision by the definition, on pairs of a removed document and its kept twin."""
    table = pq.read_table(given / "kept.removed.parquet").to_pydict()
    sizes = [len(part) for part in np.array_split(np.arange(len(truth)), FILES)]
    starts = dict(zip((f"part-{i:02d}.jsonl" for i in range(FILES)), np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    removed = {starts[source] + row for source, row in zip(table["source"], table["row"], strict=True)}
    for kind in ("exact", "near", "far", "alone"):
        own = [number for number, (each, _) in enumerate(truth) if each == kind]
        print(f"removed {sum(number in removed for number in own):,} of {len(own):,} {kind}")
    pairs = list(zip(*(table[name] for name in ("source", "row", "kept_source", "kept_row")), strict=True))
    pairs = [pairs[i] for i in np.random.default_rng(1).choice(len(pairs), min(20_000, len(pairs)), replace=False)]
    words = texts(given / "corpus", {(s, r) for a, b, c, d in pairs for s, r in ((a, b), (c, d))})
    alike = np.array([similarity(words[a, b], words[c, d]) for a, b, c, d in pairs])
    wanted = {number for number, (kind, _) in enumerate(truth) if kind in ("exact", "near")}
    precision = f"precision {(alike >= 0.8).mean():.5f} (lowest {alike.min():.4f})"
    print(f"recall {len(wanted & removed) / len(wanted):.5f}, {precision}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder, 2 GB for a million documents")
    given = parser.parse_args()
    (given.folder / "corpus").mkdir(parents=True)
    start = time.process_time()
    truth = generate(given.folder / "corpus", given.documents)
    size = sum(file.stat().st_size for file in (given.folder / "corpus").iterdir())
    took = time.process_time() - start
    print(f"{given.documents:,} documents, {size / 1e6:,.0f} MB, written in {took:.0f} s of CPU time", flush=True)
    command = [sys.executable, "-m", "samplewise", "dedup"]
    began = time.monotonic()
    subprocess.run([*command, str(given.folder / "corpus"), "--out", str(given.folder / "kept")], check=True)
    used, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    cpu = used.ru_utime + used.ru_stime
    print(f"wall {wall:.0f} s, CPU {cpu:.0f} s, peak memory {used.ru_maxrss / 1e6:.2f} GB", flush=True)
    measure(given.folder, truth)


if __name__ == "__main__":
    main()
