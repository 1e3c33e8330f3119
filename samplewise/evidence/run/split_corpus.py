"""Which documents of a corpus in memory are trained on, and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from samplewise.config import DataConfig
from samplewise.data import Document, deduplicate, split_documents
from samplewise.data.near_duplicates import without_copies


@dataclass(frozen=True)
class Split:
    """Documents to train on and held-out ones. line: the duplicates in words; duplicates: the same in numbers."""

    train: list[Document]
    held: list[Document]
    line: str
    duplicates: dict[str, int]


def split_corpus(data: DataConfig, documents: Sequence[Document], elsewhere: Sequence[Document] | None) -> Split:
    """Split a corpus, with no copy of a held-out document in the training text.

    elsewhere: held-out documents of another file, in place of a share of the documents. Either way data.duplicates
    makes no difference to what is held out; without_copies takes as much time as a second search for duplicates.
    Errors: SamplewiseError where a side of a share would stay empty.
    """
    everything: list[Document] = [*(elsewhere or []), *documents]  # of two the held-out copy comes first, and stays
    unique = deduplicate(everything)
    train, held = _parted(unique.kept, data, elsewhere)
    if data.duplicates == "remove":
        line = f"{unique.exact} exact and {unique.near} near left out"
        return Split(train, held, line, {"exact": unique.exact, "near": unique.near})
    own = documents if elsewhere is not None else split_documents(documents, data.held_out)[0]
    every = without_copies(own, held).kept  # all of `train` is among them
    repeated = len(every) - len(train)
    left = unique.exact + unique.near - repeated
    line = f"{repeated:,} within the training text kept, {left:,} of the held-out side left out"
    return Split(every, held, line, {"kept": repeated, "left_out": left})


def _parted(
    documents: list[Document], data: DataConfig, elsewhere: Sequence[Document] | None
) -> tuple[list[Document], list[Document]]:
    if elsewhere is None:
        return split_documents(documents, data.held_out)
    named = {id(document) for document in elsewhere}
    return (
        [document for document in documents if id(document) not in named],
        [document for document in documents if id(document) in named],
    )
