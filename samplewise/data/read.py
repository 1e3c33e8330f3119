"""The one reader of text corpora, the same for training and scoring: paths, globs and `datasets` names to documents."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from samplewise.core.errors import SamplewiseError
from samplewise.data.beside import in_words
from samplewise.data.fields import field_of
from samplewise.data.formats import Wanted, read_records
from samplewise.data.records import Problem, Record, place_of, unfit_text
from samplewise.data.remote import list_files
from samplewise.data.sources import is_local, load_rows

OnError = Literal["raise", "skip"]


@dataclass(frozen=True)
class Document:
    """One text. source: its file, relative to the data root, or the dataset's name; row: its record there, from 0.

    (source, row) names the document for good: it depends neither on where the corpus lies nor on the other files,
    only on the root, which is the folder given, the folder of the file given, or the part of a glob before its
    first wildcard. record: all fields as they were read, or the wanted ones, where the reader was asked to keep them.
    """

    text: str
    source: str
    row: int
    record: Mapping[str, object] | None = field(default=None, repr=False, compare=False)


@dataclass
class ReadReport:
    """What a reader met: records = read + empty + the skipped of all reasons.

    left_out: files of the folder that are no data, by kind: metadata, notes, archives, other suffixes. places: the
    first 20 skipped, in words.
    """

    read: int = 0
    empty: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)

    @property
    def records(self) -> int:
        """The number of all records, read and skipped."""
        return self.read + self.empty + self.skipped.total()

    @property
    def ignored(self) -> int:
        """How many files were left out."""
        return self.left_out.total()

    @property
    def others(self) -> str:
        """What was left out, for the end of a line; nothing where nothing was."""
        return f"; left out, as no data: {in_words(self.left_out)}" if self.left_out else ""

    def skip(self, source: str, row: int, line: int | None, problem: Problem) -> None:
        """Counts a record that is left out. Override it to keep more than the first 20."""
        self.skipped[problem.reason] += 1
        if len(self.places) < 20:
            self.places.append(f"{place_of(source, row, line)}: {problem.reason}, {problem.got}")

    def __str__(self) -> str:
        reasons = [f"{count} skipped ({reason})" for reason, count in sorted(self.skipped.items())]
        return ", ".join([f"{self.read} documents read", f"{self.empty} empty", *reasons])


def read_documents(
    path: str | Path,
    *,
    text_field: str = "text",
    on_error: OnError = "raise",
    report: ReadReport | None = None,
    keep: Sequence[str] = (),
    config: str | None = None,
    split: str = "train",
    streaming: bool = False,
) -> Iterator[Document]:
    """The documents of a corpus, one by one, in an order that depends on its names and content alone.

    path: a file (.txt is one document; .jsonl, .json, .csv, .parquet hold one a record; each but .parquet also as
        .gz or .zst), a folder (all such files below it, but for metadata and notes such as README.txt), a glob
        (`docs/**/*.txt`), a URL of either that fsspec knows (`s3://bucket/folder`), or, where nothing of that name
        exists here, a `datasets` name (`allenai/c4`). JSON is read by what it holds, under either name: an object a
        line, a list, or one object. Text is UTF-8, or UTF-16 with a byte-order mark. A .tar is read as a WebDataset
        shard.
    text_field: the field of the text, where records have fields.
    on_error: "raise" stops at the first bad record; "skip" leaves bad records out, counted in `report`.
    keep: further fields, by name or path (meta.domain), that documents bring along in `record`; None where they have
        none.
    report: is filled while the documents are taken. Empty documents are always left out and counted.
    config, split, streaming: for a `datasets` name, as in `datasets.load_dataset`.

    Raises SamplewiseError for a path that is not there, at once, and while reading for bad records (with file and
    line) and for a corpus without a single document.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> _ = (root / "b.jsonl").write_text('{"text": "two"}\\n{"text": ""}\\n')
    >>> _ = (root / "a.txt").write_text("one")
    >>> report = ReadReport()
    >>> list(read_documents(root, report=report))
    [Document(text='one', source='a.txt', row=0), Document(text='two', source='b.jsonl', row=0)]
    >>> print(report)
    2 documents read, 1 empty
    """
    if on_error not in ("raise", "skip"):
        raise SamplewiseError("on_error", expected='"raise" or "skip"', got=repr(on_error), remedy="Name one of them.")
    report = ReadReport() if report is None else report
    if is_local(path):
        files, report.left_out = list_files(path)
        records = file_records(files, (text_field, *keep))
    else:
        records = load_rows(str(path), config, split, streaming)
    return _documents(records, str(path), (text_field, *keep), on_error, report)


def file_records(
    files: list[tuple[str, Path | Problem]], field: Wanted
) -> Iterator[tuple[str, int, int | None, Record]]:
    """(source, row, line where there are lines, record) of every record of these files; field as in `read_records`."""
    for source, file in files:
        if isinstance(file, Problem):
            yield source, 0, None, file
            continue
        for row, (line, record) in enumerate(read_records(file, field)):
            yield source, row, line, record


def _documents(
    records: Iterator[tuple[str, int, int | None, Record]],
    path: str,
    fields: tuple[str, ...],
    on_error: OnError,
    report: ReadReport,
) -> Iterator[Document]:
    field, *keep = fields
    for source, row, line, record in records:
        text = text_of(record, field)
        if isinstance(text, Problem):
            if on_error == "raise":
                raise SamplewiseError(
                    place_of(source, row, line), expected=text.expected, got=text.got, remedy=text.remedy
                )
            report.skip(source, row, line, text)
        elif not text.strip():
            report.empty += 1
        else:
            report.read += 1
            own = record if isinstance(record, Mapping) else {}
            yield Document(text, source, row, {name: field_of(own, name) for name in keep} if keep else None)
    if not report.read:
        places = "".join(f" First: {place}." for place in report.places[:1])
        raise SamplewiseError(
            str(path), expected="at least one document", got=str(report),
            remedy=f"Check the path and text_field={field!r}.{places}",
        )  # fmt: skip


def text_of(record: Record, field: str) -> str | Problem:
    """The text of a record, or what keeps it from being one."""
    if isinstance(record, Problem):
        return record
    text = record
    if isinstance(record, Mapping):
        if field not in record:
            return _missing_field(field, [str(name) for name in record])
        text = record[field]
    if not isinstance(text, str):
        got = "null" if text is None else type(text).__name__
        return Problem("no text", f"text in the field {field!r}", got, 'Fix the record, or pass on_error="skip".')
    return unfit_text(text) or text


def _missing_field(field: str, names: list[str]) -> Problem:
    near = difflib.get_close_matches(field, names, n=1, cutoff=0.0)
    remedy = f"Name the field of the text: text_field={near[0]!r}?" if near else "Give the record fields."
    return Problem("missing field", f"a field {field!r}", f"the fields {', '.join(names) or '(none)'}", remedy)
