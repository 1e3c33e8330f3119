"""Held-out documents, chosen by their text alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from samplewise.core.errors import SamplewiseError
from samplewise.data.near_duplicates import T, fingerprint


def split_documents(
    documents: Sequence[T], held_out: float, text: Callable[[T], str] = lambda document: document.text
) -> tuple[list[T], list[T]]:
    """(to train on, held out): a document is held out where the hash of its normalized text is below the share.

    So the side of a document never changes, whatever is added, removed or reordered, and `held_out` is met on
    average only. Remove duplicates first (`deduplicate`), or near-copies land on both sides.

    held_out: share of the documents, between 0 and 1. text: what is hashed; documents that share it stay together.
    Raises SamplewiseError where a side would stay empty.

    >>> from samplewise.data import Document
    >>> documents = [Document(f"text {i}", "a.jsonl", i) for i in range(1000)]
    >>> [len(side) for side in split_documents(documents, 0.05)]
    [940, 60]
    """
    if not 0 < held_out < 1:
        raise SamplewiseError(
            "held_out",
            expected="a share between 0 and 1",
            got=held_out,
            remedy="Use 0.05, for example, to hold out one document in 20.",
        )
    sides: tuple[list[T], list[T]] = ([], [])
    for document in documents:
        sides[int.from_bytes(fingerprint(text(document))[:8]) < held_out * 2**64].append(document)
    if not all(sides):
        raise SamplewiseError(
            "held_out", expected="a corpus with documents on both sides of the split",
            got=f"{len(sides[0])} to train on and {len(sides[1])} held out at a share of {held_out}",
            remedy="Give more documents (one record or one .txt file each), or change held_out.",
        )  # fmt: skip
    return sides
