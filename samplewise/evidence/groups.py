"""Which group a held-out document belongs to, by its place in the corpus."""

from __future__ import annotations


def group_of(source: str) -> str:
    """The first folder of a document's source below the data root; a file there is a group of its own.

    >>> group_of("python/asyncio/task.txt"), group_of("c4.jsonl")
    ('python', 'c4.jsonl')
    """
    return source.split("/", 1)[0]
