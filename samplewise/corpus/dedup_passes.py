"""A corpus in two passes: one finds the texts that may be duplicates, the other decides and hands on what is kept.

The first text of its kind in the order of the corpus is kept, as by `deduplicate` in memory. 250 bytes a text are held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from samplewise.core.errors import SamplewiseError
from samplewise.core.progress import Progress
from samplewise.corpus.buckets import Buckets, Suspects
from samplewise.corpus.dedup_read import Corpus, Found
from samplewise.corpus.files import Listed
from samplewise.corpus.leaders import Leaders
from samplewise.corpus.reader import Rows
from samplewise.corpus.removed import SHOWN, Places, Removed
from samplewise.data.records import Problem, place_of
from samplewise.data.sketch import JACCARD, WordHashes, digest, normalize, sketch


@dataclass
class Deduplication:
    """One run. similarity: of near-duplicates at least; 1 finds only the same text."""

    corpus: Corpus
    similarity: float = JACCARD
    places: Places = field(default_factory=Places)
    unread: Counter[str] = field(default_factory=Counter)
    unread_places: list[str] = field(default_factory=list)
    words: WordHashes = field(default_factory=WordHashes)

    def first_pass(self, listed: Listed | Rows) -> Suspects:
        """Look at every text once."""
        buckets = Buckets()
        with Progress("comparing", None, unit="records") as progress:
            for found in self.corpus.records(listed, whole=False):
                progress.advance(1)
                if isinstance(found.text, Problem):
                    self._count(found, found.text)
                    continue
                text = normalize(found.text)
                buckets.add(digest(text), sketch(text, self.words, unique=False) if self.similarity < 1 else None)
                self.places.add(found)
        if not len(self.places):
            raise SamplewiseError(
                self.corpus.data, expected="at least one record with text", got=f"none{self._reasons()}",
                remedy="Check the path, --text-field and --kind.",
            )  # fmt: skip
        return buckets.suspects()

    def second_pass(self, listed: Listed | Rows, suspects: Suspects, removed: Removed) -> Iterator[Found]:
        """The records to keep, in order; the others are put into `removed`."""
        at, number = 0, -1
        with (
            Leaders(suspects, self.similarity) as leaders,
            Progress("writing", len(self.places), unit="records") as progress,
        ):
            for found in self.corpus.records(listed, whole=True):
                if isinstance(found.text, Problem):
                    continue
                number += 1
                progress.advance(1)
                if number >= len(self.places) or self.places[number] != (found.source, found.row):
                    raise _changed(found)
                same = int(suspects.first[number])
                if same != number:
                    kept, alike = removed.twin(same)
                    removed.add(number, kept, alike, found.text, exact=kept == same)
                    continue
                if at < len(suspects.texts) and suspects.texts[at] == number:
                    like = leaders.like_or_add(at, sketch(normalize(found.text), self.words))
                    at += 1
                    if like is not None:
                        removed.add(number, *like, found.text, exact=False)
                        continue
                yield found

    def _count(self, found: Found, problem: Problem) -> None:
        self.unread[problem.reason] += 1
        if len(self.unread_places) < SHOWN:
            place = place_of(found.source, found.row, found.line)
            self.unread_places.append(f"{place}: {problem.reason}, {problem.got}")

    def _reasons(self) -> str:
        return "".join(f", {count:,} {reason}" for reason, count in self.unread.most_common(3))


def _changed(found: Found) -> SamplewiseError:
    return SamplewiseError(
        place_of(found.source, found.row, found.line), expected="the corpus as it was read a moment ago",
        got="another record", remedy="Let nothing write into the corpus, and run the command again.",
    )  # fmt: skip
