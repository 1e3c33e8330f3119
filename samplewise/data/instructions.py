"""The reader of instruction data: Alpaca, ShareGPT, messages, prompt and completion, to conversations."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from samplewise.core.errors import SamplewiseError
from samplewise.data.arrow import unpadded_rows
from samplewise.data.conversation import Conversation
from samplewise.data.read import OnError, ReadReport, file_records
from samplewise.data.records import Problem, Record, no_object, place_of
from samplewise.data.remote import list_files
from samplewise.data.row_shapes import FIELDS, conversation_of
from samplewise.data.sources import is_local, load_rows

Format = Literal["auto", "alpaca", "sharegpt", "messages", "prompt_completion"]

SUFFIXES = (".jsonl", ".json", ".parquet", ".arrow")

logger = logging.getLogger("samplewise")


@dataclass
class InstructionReport(ReadReport):
    """What a reader of instruction data met: as `ReadReport`, and forms: conversations by the form they came in."""

    forms: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        forms = ", ".join(f"{count:,} {form}" for form, count in sorted(self.forms.items()))
        reasons = [f"{count:,} skipped ({reason})" for reason, count in sorted(self.skipped.items())]
        return ", ".join([f"{self.read:,} conversations read" + (f" ({forms})" if forms else ""), *reasons])


def read_instructions(
    path: str | Path | Iterable[Mapping[str, Any]],
    *,
    format: Format = "auto",
    on_error: OnError = "raise",
    report: InstructionReport | None = None,
    config: str | None = None,
    split: str = "train",
    streaming: bool = False,
    source: str = "rows",
    negative: bool = False,
) -> Iterator[Conversation]:
    """The conversations of instruction data, one by one, in an order that depends on names and content alone.

    path: a file, folder or glob of .jsonl and .json (each an object a line, a list, or one object) and .parquet, the
        first two also as .gz or .zst; a `datasets` name; or rows, such as a `datasets.Dataset`.
    format: "auto" takes each row for the form whose fields it has: alpaca (instruction, output; input and system where
        given), sharegpt (conversations of from and value; system), messages (role and content), prompt_completion
        (texts, continued without a template, or messages). Else the form of all rows.
    on_error: "raise" stops at the first row that does not fit; "skip" leaves them out, counted in `report`.
    report: is filled while the conversations are taken.
    config, split, streaming: for a `datasets` name, as in `datasets.load_dataset`.
    negative: whether `sample_weight` may be below 0.
    source: names the rows where they come from no file: ids are hashed from it and the row's number.

    Messages may have a `weight`: 0 leaves an assistant's turn unpredicted, fractions weigh its tokens. The columns
    `sample_id` (whole numbers), `sample_weight` (at least 0, unless `negative`), `group` (text or whole numbers) and
    `reference_loss` (nats/token) are kept; other columns are not read.

    Raises SamplewiseError as `read_documents` does: for rows that fit no form, unknown roles, conversations without
    an assistant's turn, empty answers, and weights that are negative or not finite.

    >>> rows = [{"prompt": "2 + 2 =", "completion": " 4"}, {"messages": [{"role": "user", "content": "Hi"}]}]
    >>> report = InstructionReport()
    >>> [conversation.text for conversation in read_instructions(rows, on_error="skip", report=report)]
    ['2 + 2 =\\n 4']
    >>> print(report, report.places, sep="\\n")
    1 conversations read (1 prompt_completion), 1 skipped (no assistant turn)
    ['rows, record 1: no assistant turn, user']
    """
    for name, value, known in (("on_error", on_error, ("raise", "skip")), ("format", format, ("auto", *FIELDS))):
        if value not in known:
            raise SamplewiseError(name, expected=" or ".join(known), got=repr(value), remedy="Name one of them.")
    report = InstructionReport() if report is None else report
    records: Iterable[tuple[str, int, int | None, Record]]
    if not isinstance(path, str | Path):
        records = ((source, row, None, _mapping(record)) for row, record in enumerate(unpadded_rows(path)))
        path = source
    elif is_local(path):
        files, report.left_out = list_files(path, SUFFIXES)
        records = file_records(files, None)
    else:
        records = load_rows(str(path), config, split, streaming)
    return _conversations(records, str(path), partial(conversation_of, negative=negative), format, on_error, report)


def _conversations(
    records: Iterable[tuple[str, int, int | None, Record]],
    path: str,
    read: Callable[..., Conversation | Problem],
    form: str,
    on_error: OnError,
    report: InstructionReport,
) -> Iterator[Conversation]:
    for source, row, line, record in records:
        found = record if isinstance(record, Problem) else read(_known(record), form, source, row, line)
        if isinstance(found, Conversation):
            report.read += 1
            report.forms[found.form] += 1
            yield found
        elif on_error == "skip":
            report.skip(source, row, line, found)
        else:
            place = place_of(source, row, line)
            raise SamplewiseError(place, expected=found.expected, got=found.got, remedy=found.remedy)
    logger.info("%s: %s", path, report)
    if not report.read:
        places = "".join(f" First: {place}." for place in report.places[:1])
        raise SamplewiseError(
            path, expected="at least one conversation", got=str(report), remedy=f"Check the path.{places}"
        )


def _mapping(record: object) -> Record:
    return record if isinstance(record, Mapping) else no_object(record)


def _known(record: Record) -> Mapping[str, Any]:
    assert isinstance(record, Mapping)  # only .txt files are texts, and they are not read here
    return record
