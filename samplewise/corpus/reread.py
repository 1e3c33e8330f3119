"""The records of a corpus that was scored, read again as they were read then."""

from __future__ import annotations

from collections.abc import Iterator

from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import build
from samplewise.corpus.files import fingerprint, list_corpus
from samplewise.corpus.manifest import Manifest
from samplewise.corpus.reader import Quarantined, Reader, Reading, rows_of
from samplewise.corpus.settings import ScoreSettings
from samplewise.data.conversation import Conversation
from samplewise.data.formats import FORMATS
from samplewise.data.instructions import SUFFIXES
from samplewise.data.read import Document
from samplewise.data.sources import is_local
from samplewise.data.urls import is_url

BYTES = 2**20
"""Of text held at a time."""


def read_again(manifest: Manifest, data: str | None = None) -> Iterator[Document | Conversation]:
    """Documents or conversations with their whole records, in the order of the scores; the quarantined are passed over.

    data: where the corpus is now; None for where it was. Errors: SamplewiseError where it is not there, or where its
        files are others than those that were scored (told by their fingerprint, as in scoring).
    """
    path = data or manifest.made.get("data")
    if not path:
        raise SamplewiseError(
            "--data",
            expected="the place of the corpus",
            got="scores that do not record it",
            remedy="Name it with --data, or write ids only with --ids.",
        )
    settings = scored_settings(manifest)
    if is_url(path) or is_local(path) or str(path).startswith("file://"):
        files, _ = list_corpus(path, SUFFIXES if settings.kind == "instructions" else tuple(FORMATS))
        # places alone would give a sample its neighbour's text after one line was put in
        if manifest.fingerprints.get("corpus", found := fingerprint(files)) != found:
            raise SamplewiseError(
                path, expected="the corpus as it was scored", got="files of other names or contents",
                remedy="Name the scored corpus with --data, or score again.",
            )  # fmt: skip
    else:
        files = rows_of(path, settings.config, settings.split, settings.streaming)
    reading = Reading(settings.kind, settings.text_field, settings.format, settings.limit, keep=True)
    return _entries(Reader(files, reading))


def scored_settings(manifest: Manifest) -> ScoreSettings:
    """The settings that a corpus was scored with."""
    return build(ScoreSettings, manifest.fingerprints.get("settings", {}), "manifest.json: settings.")


def _entries(reader: Reader) -> Iterator[Document | Conversation]:
    last = False
    while not last:
        block = reader.block(BYTES)
        yield from (entry for entry in block.entries if not isinstance(entry, Quarantined))
        last = block.last
