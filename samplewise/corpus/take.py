"""The blocks of a corpus that fall to this process: claimed, read and cut into pieces, one ahead of the one in work."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event

from samplewise.corpus.claims import claimed
from samplewise.corpus.job import Job, mark_of
from samplewise.corpus.parts import FOLDER, Mark, Parts
from samplewise.corpus.pieces import Piece
from samplewise.corpus.reader import Block, Quarantined

AT_ONCE = 2**10
"""Records that are cut before the reader looks whether it is still wanted."""


@dataclass
class Taken:
    """A block of this process: shard `index`, from one share of the corpus to that of its mark.

    found: its pieces, and what is quarantined. claim: nobody else takes it until this is closed.
    """

    index: int
    block: Block
    before: float
    mark: Mark
    found: list[Piece | Quarantined]
    claim: ExitStack = field(repr=False)


class Taker:
    """Goes through the corpus once."""

    def __init__(self, job: Job, rank: int, ranks: int) -> None:
        self.job, self.rank, self.ranks = job, rank, ranks
        self.reader, self.cut = job.reader(), job.cutter()
        self.index, self.before, self.ended = 0, 0.0, False
        self.stopped = Event()

    def take(self) -> Taken | None:
        """The next block that no process has; None at the end of the corpus, or once it is stopped."""
        while not self.ended and not self.stopped.is_set():
            taken, mark = self._at(self.index)
            self.index, self.before, self.ended = self.index + 1, mark.share, mark.last
            if not mark.last:
                self.reader.skip_to(mark.end)
            if taken is not None:
                return taken
        return None

    def _at(self, index: int) -> tuple[Taken | None, Mark]:
        parts = self.job.parts
        mark = parts.mark(index)
        if mark is None or parts.done(index) is None:
            mine = not parts.place.remote or index % self.ranks == self.rank  # no locks in object stores: dealt out
            with ExitStack() as claim:
                free = claim.enter_context(claim_of(parts, f"{index:05d}"))
                if mine and free and (parts.mark(index) is None or parts.done(index) is None):
                    taken = self._read(index, claim)
                    return taken, taken.mark
        return None, mark or mark_of(self.reader.block(self.job.settings.shard_bytes))  # another's, who has only begun

    def _read(self, index: int, claim: ExitStack) -> Taken:
        block = self.reader.block(self.job.settings.shard_bytes)
        mark = mark_of(block)
        self.job.parts.set_mark(index, mark)
        found: list[Piece | Quarantined] = []
        for start in range(0, len(block.entries), AT_ONCE):
            if self.stopped.is_set():
                break
            found += self.cut(block.entries[start : start + AT_ONCE])
        return Taken(index, block, self.before, mark=mark, found=found, claim=claim.pop_all())


def each_taken(job: Job, rank: int, ranks: int) -> Generator[Taken]:
    """Every block of this process; while the caller works on one, a thread reads and tokenises the next.

    Near the end of the corpus, where the processes would run out of blocks, none is taken before the one in work is
    done. Whoever stops early closes the generator, which gives back what was taken ahead.
    """
    taker = Taker(job, rank, ranks)
    coming: Future[Taken | None] | None = None
    with ThreadPoolExecutor(1, "samplewise-ahead") as thread:
        try:
            taken = taker.take()
            while taken is not None:
                plenty = ranks == 1 or 1 - taken.mark.share >= ranks * (taken.mark.share - taken.before)
                coming = thread.submit(taker.take) if plenty else None
                with taken.claim:
                    yield taken
                taken = taker.take() if coming is None else coming.result()
        except BaseException:
            taker.stopped.set()
            _give_back(coming)
            raise


def _give_back(coming: Future[Taken | None] | None) -> None:
    """Wait for what the thread takes, and leave it to others."""
    taken = None if coming is None or coming.exception() is not None else coming.result()
    if taken is not None:
        taken.claim.close()


@contextmanager
def claim_of(parts: Parts, name: str, wait: bool = False) -> Iterator[bool]:
    """Whether a piece of the run's work is this process's; it is until the block ends. Object stores have no locks."""
    if parts.place.remote:
        yield True
        return
    with claimed(parts.place.local / parts.inside(f"{FOLDER}/{name}.claim"), wait=wait) as free:
        yield free
