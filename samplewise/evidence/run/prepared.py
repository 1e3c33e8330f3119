"""The prepared data of a run, whatever its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from samplewise.data import Document
from samplewise.evidence.evaluate import HeldOut


@dataclass(frozen=True)
class Prepared:
    """What a run trains on and is evaluated on. lines: what was counted, in words; counts: the same, for a file.

    held_out_documents: the held-out documents, also those that are not evaluated; of text in memory alone.
    train: `WindowDataset` or `StreamedWindows` for text, a `datasets.Dataset` for instructions.
    """

    train: Any
    held_out: Sequence[HeldOut]
    lines: list[str]
    counts: dict[str, Any]
    held_out_documents: Sequence[Document] = ()
