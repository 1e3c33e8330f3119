"""Labels of documents, as `samplewise corrupt` writes them beside a corpus: measured with, never seen by a rule."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from samplewise.config import DataConfig, InstructionsConfig
from samplewise.core.errors import SamplewiseError
from samplewise.core.paths import expanded
from samplewise.data import WindowDataset, document_id, read_documents, read_instructions
from samplewise.data.formats import FORMATS
from samplewise.data.instructions import SUFFIXES
from samplewise.data.near_duplicates import fingerprint
from samplewise.data.read import file_records, text_of
from samplewise.data.remote import list_files
from samplewise.data.sources import is_local

CLEAN, UNKNOWN, LABELLED = "clean", "unknown", "labelled"
"""What has no label, what an arm's own text has that the labelled corpus does not, and all labels together."""


@dataclass(frozen=True)
class Labels:
    """kinds: by sample id the label of its document, for every sample of a training text. documents: by label."""

    kinds: Mapping[int, str]
    documents: Mapping[str, int]

    def tally(self, ids: Tensor, weights: Tensor, tokens: Tensor, per: str) -> dict[str, list[float]]:
        """A step's [weight, samples seen, predicted tokens trained on] by label.

        weights: [N] as in the plan, which count by their tokens [N] where per is "token".
        """
        found: dict[str, list[float]] = {}
        for name, weight, count in zip(ids.tolist(), weights.tolist(), tokens.tolist(), strict=True):
            own = found.setdefault(self.kinds[name], [0.0, 0, 0])
            own[0] += weight * (count if per == "token" else 1)
            own[1] += 1
            own[2] += count if weight > 0 else 0
        return found

    def clean(self, train: Any) -> Any:
        """A training text without the samples that have a label. Errors: SamplewiseError if none is left."""
        of_text = isinstance(train, WindowDataset)
        names = [window.id for window in train.windows] if of_text else train["sample_id"]
        kept = [i for i, name in enumerate(names) if self.kinds[name] == CLEAN]
        if not kept:
            raise SamplewiseError(
                "controls.oracle", expected="documents without a label", got="none", remedy="Leave the oracle out."
            )
        return WindowDataset([train.windows[i] for i in kept], train.columns) if of_text else train.select(kept)

    def __str__(self) -> str:
        clean = sum(self.documents.get(name, 0) for name in (CLEAN, UNKNOWN))
        total = sum(self.documents.values())
        if self.documents.keys() <= {UNKNOWN}:
            return f"none of {total:,} documents trained on is of the labelled corpus"
        named = ", ".join(f"{kind} {count:,}" for kind, count in self.documents.items() if kind != CLEAN)
        return f"{total - clean:,} of {total:,} documents trained on: {named}"


class LabelledCorpus:
    """A corpus of one file and the labels of its records.

    file: {"rows": {record number: label}} in JSON; with "sha256" the corpus must have it.
    Errors: SamplewiseError on other files, labels of other corpora, streams, and turns as samples of their own.
    """

    def __init__(self, file: str, data: DataConfig | InstructionsConfig) -> None:
        self.data = data
        _check_kind(data)
        corpus = _only_file(data)
        rows = _rows(expanded(file), corpus)
        self.by_name: dict[int, str] = {}
        self.by_text: dict[bytes, str] = {}
        met = set()
        for name, row, text in _entries(data):
            kind = rows.get(row, CLEAN)
            met.add(row)
            self.by_name[name] = kind
            self.by_text.setdefault(fingerprint(text), kind)  # of duplicates the first is what is trained on
        if lost := sorted(rows.keys() - met):
            raise SamplewiseError(
                "labels", expected=f"labels of records of {corpus}", got=f"{len(lost)} of others, the first {lost[0]}",
                remedy="Give the labels that were written beside this corpus.",
            )  # fmt: skip

    def of(self, train: Any, path: str | None = None) -> Labels:
        """The labels of a training text.

        train: as in `Prepared`. path: of an arm's own; None for the labelled corpus itself. A record of an arm's own
        has the label of the document that its field `doc_id` names, as in what `samplewise select` writes, else of the
        document of the same text; what is neither is `unknown`, be it all of it.
        """
        kinds = self.by_name if path is None else self._own(path)
        samples = [(each.id, each.doc_id) for each in train.windows] if self.data.kind == "text" else [
            (name, name) for name in train["sample_id"]
        ]  # fmt: skip
        found = {name: kinds[document] for name, document in samples}
        counts = Counter(kinds[document] for document in {document for _, document in samples})
        return Labels(found, dict(sorted(counts.items())))

    def _own(self, path: str) -> dict[int, str]:
        if isinstance(self.data, InstructionsConfig):
            return {
                each.id: self.by_text.get(fingerprint(each.text), UNKNOWN)
                for each in read_instructions(path, format=self.data.format, on_error="skip")
            }
        files, _ = list_files(path, tuple(FORMATS))
        found = {}
        for source, row, _, record in file_records(files, None):
            text = text_of(record, self.data.text_field)
            if isinstance(text, str):
                origin = record.get("doc_id") if isinstance(record, Mapping) else None
                kind = self.by_name.get(origin) if isinstance(origin, int) else None
                found[document_id(source, row)] = kind or self.by_text.get(fingerprint(text), UNKNOWN)
        return found


def shares(tallies: Mapping[str, Iterable[float]]) -> dict[str, dict[str, float]]:
    """The shares of weight, samples seen and predicted tokens trained on, by label and for all labels together.

    >>> shares({"clean": [9.0, 6, 60], "base64": [1.0, 2, 20]})["labelled"]
    {'weight': 0.1, 'samples': 0.25, 'tokens': 0.25}
    """
    given = {kind: list(values) for kind, values in sorted(tallies.items())}
    totals = [sum(column) for column in zip(*given.values(), strict=True)]
    corrupted = [values for kind, values in given.items() if kind not in (CLEAN, UNKNOWN)]
    rest = [kind for kind in (CLEAN, UNKNOWN) if kind in given]
    ordered = {LABELLED: [sum(column) for column in zip(*corrupted, strict=True)] if corrupted else [0.0] * len(totals)}
    ordered |= {kind: given[kind] for kind in [*rest, *(kind for kind in given if kind not in rest)]}
    return {
        kind: {
            name: value / total if total else 0.0
            for name, value, total in zip(("weight", "samples", "tokens"), values, totals, strict=True)
        }
        for kind, values in ordered.items()
    }


def _check_kind(data: DataConfig | InstructionsConfig) -> None:
    refused = {"streaming": "it not to be a stream", "turns": "conversations as samples, not their turns"}
    for key, expected in refused.items():
        if getattr(data, key, False):
            raise SamplewiseError(
                f"data.{key}", expected=f"{expected}, as the plan names labels", got=True, remedy="Remove this key."
            )


def _only_file(data: DataConfig | InstructionsConfig) -> Path:
    files: list[Any] = []
    if is_local(data.path):
        files, _ = list_files(data.path, tuple(FORMATS) if isinstance(data, DataConfig) else SUFFIXES)
    if len(files) != 1 or not isinstance(files[0][1], Path):
        raise SamplewiseError(
            "labels", expected="one file at data.path, whose records they number", got=f"{data.path}, {len(files)}",
            remedy="Name the corpus that samplewise corrupt wrote.",
        )  # fmt: skip
    return files[0][1]


def _rows(file: Path, corpus: Path) -> dict[int, str]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        rows = {int(row): str(kind) for row, kind in found["rows"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SamplewiseError(
            "labels", expected='a JSON file with labels by record, {"rows": {"3": "base64"}}',
            got=f"{file}: {type(error).__name__}: {error}",
            remedy="Use the file that samplewise corrupt wrote beside the corpus.",
        ) from None  # fmt: skip
    if taken := sorted({CLEAN, UNKNOWN, LABELLED} & set(rows.values())):
        raise SamplewiseError(
            "labels", expected="names that are not reserved", got=taken[0], remedy="Rename that label."
        )
    digest = found.get("sha256")
    if digest is not None and digest != hashlib.sha256(corpus.read_bytes()).hexdigest():
        raise SamplewiseError(
            "labels", expected=f"the labels of {corpus}", got=f"{file}, the labels of a file with another sha256",
            remedy="Give the two files that were written together.",
        )  # fmt: skip
    return rows


def _entries(data: DataConfig | InstructionsConfig) -> Iterator[tuple[int, int, str]]:
    """(name, record number, text) of every document or conversation."""
    if isinstance(data, InstructionsConfig):
        for each in read_instructions(data.path, format=data.format, on_error=data.on_error):
            yield each.id, each.row, each.text
        return
    for each in read_documents(data.path, text_field=data.text_field, on_error=data.on_error):
        yield document_id(each.source, each.row), each.row, each.text
