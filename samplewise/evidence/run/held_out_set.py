"""The held-out documents of one corpus, and how to keep them out of another text, such as a selection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from samplewise.config import DataConfig
from samplewise.data import Document, document_id, read_documents
from samplewise.data.near_duplicates import without_copies
from samplewise.data.read import file_records
from samplewise.data.remote import list_files
from samplewise.data.sources import is_local


@dataclass(frozen=True)
class HeldOutSet:
    """documents: the held-out ones. names: the ids of all documents of their corpus that are held out, or copies."""

    documents: Sequence[Document]
    names: frozenset[int]

    def without_parts(self, documents: Sequence[Document], path: str) -> list[Document]:
        """The documents of a path without those whose record has one of `names` in its field `doc_id`.

        `samplewise select` writes windows of documents, which a comparison of whole texts would not recognize.
        """
        parts = set(_parts(path, self.names)) if is_local(path) else set()
        return [document for document in documents if (document.source, document.row) not in parts]


def held_out_set_of(data: DataConfig, held: Sequence[Document]) -> HeldOutSet:
    """The held-out documents of `data`, with their names; its corpus is read again."""
    every = list(
        read_documents(
            data.path, text_field=data.text_field, on_error=data.on_error, config=data.name, split=data.split
        )
    )
    others = {id(document) for document in without_copies(every, held).kept}
    names = (document_id(each.source, each.row) for each in every if id(each) not in others)
    return HeldOutSet(held, frozenset(names))


def _parts(path: str, names: frozenset[int]) -> Iterator[tuple[str, int]]:
    files, _ = list_files(path)
    for source, row, _, record in file_records(files, None):
        if isinstance(record, Mapping) and record.get("samplewise_doc_id", record.get("doc_id")) in names:
            yield source, row
