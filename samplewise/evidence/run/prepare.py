"""Text to windows for one run: read, deduplicate, split, cut, with a count of everything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from samplewise.config import DataConfig
from samplewise.core.columns import GROUP, WEIGHT
from samplewise.core.errors import SamplewiseError
from samplewise.data import (
    Document,
    ReadReport,
    StreamedWindows,
    Window,
    WindowDataset,
    WindowReport,
    cut_windows,
    deduplicate,
    read_documents,
)
from samplewise.data.near_duplicates import fingerprint
from samplewise.data.sources import is_local
from samplewise.evidence.run.groups import Folders, folders_of
from samplewise.evidence.run.held_out_set import HeldOutSet
from samplewise.evidence.run.kept import FOLDER, FieldGroups, groups_by, has_weights, kept_fields, weight_of
from samplewise.evidence.run.prepared import Prepared
from samplewise.evidence.run.scored import Scored, scored_columns
from samplewise.evidence.run.split_corpus import split_corpus

Groups = Folders | FieldGroups
Cut = Callable[[Iterable[Document], WindowReport], Iterator[Window]]


def prepare(
    data: DataConfig, tokenizer: Any, context: int | None = None, held_out_set: HeldOutSet | None = None
) -> Prepared:
    """Read, deduplicate, split and cut a corpus.

    context: positions of the model, which bound data.max_length. Held-out documents are disjoint from the training
    text by document, exact and near-duplicates removed; from a stream only exact duplicates of them are.
    held_out_set: documents to hold out in place of those that `data` says; not of a stream.
    Errors: SamplewiseError on bad input, on a corpus too small for the split, and where a side has no window.
    """

    def cut(documents: Iterable[Document], report: WindowReport) -> Iterator[Window]:
        return cut_windows(
            documents, tokenizer, max_length=data.max_length, min_tokens=data.min_tokens, context=context, report=report
        )

    cut([], WindowReport())  # max_length and min_tokens are checked before anything is read
    groups = folders_of(data) if data.groups == FOLDER else None
    scored = scored_columns(data.scores, tokenizer)
    return _stream(data, cut, groups, scored) if data.streaming else _in_memory(data, cut, groups, scored, held_out_set)


def _in_memory(
    data: DataConfig, cut: Cut, groups: Groups | None, scored: dict[str, Scored], held_out_set: HeldOutSet | None
) -> Prepared:
    read = ReadReport()
    documents = list(_documents(data, read))
    if held_out_set is None:
        found = split_corpus(data, documents, None if data.held_out_from is None else list(_held_out_source(data)))
    else:
        found = split_corpus(data, held_out_set.without_parts(documents, data.path), held_out_set.documents)
    train, held = found.train, found.held
    if data.groups not in (None, FOLDER):
        groups = groups_by(str(data.groups), train)
    weighted = has_weights(train)
    if data.held_out_documents is not None:
        held = sorted(held, key=lambda document: fingerprint(document.text))[: data.held_out_documents]
    cut_report = WindowReport()
    windows = WindowDataset(cut(train, cut_report), _columns(groups, scored, weighted))
    for each in scored.values():
        each.of(windows.windows)  # refuses those without a loss
    held_windows, held_report = _held_out_windows(held, data, cut)
    _check_windows("data", len(windows), cut_report)
    lines = [
        f"read       {read}{read.others}",
        f"duplicates {found.line}",
        f"training   {len(train):,} documents, {cut_report.windows:,} windows, {cut_report.tokens:,} tokens"
        f" (before each document: {_prefix(cut_report)}){_short(cut_report)}",
        _held_out_line(held_windows, held_report),
        *([] if groups is None else [groups.line(windows.windows)]),
        *(["weights    sample_weight of every document, which column_weights() reads"] if weighted else []),
        *[each.line(name) for name, each in scored.items()],
    ]
    counts = {
        "read": {"documents": read.read, "empty": read.empty, "ignored": read.ignored, "skipped": dict(read.skipped)},
        "duplicates": found.duplicates,
        "training": _counted(cut_report),
        "held_out": _counted(held_report),
        "groups": {} if groups is None else groups.numbers,
    }
    lines += [f"skipped    {place}" for place in read.places]
    return Prepared(windows, held_windows, lines, counts, found.held)


def _stream(data: DataConfig, cut: Cut, groups: Folders | None, scored: dict[str, Scored]) -> Prepared:
    if data.groups not in (None, FOLDER):
        raise SamplewiseError(
            "data.groups", expected="folder or null, since data.streaming is on", got=repr(data.groups),
            remedy="Groups by a field are known only when all records are read: set data.streaming to false.",
        )  # fmt: skip
    if data.held_out_documents is None:
        raise SamplewiseError(
            "data.held_out_documents", expected="a number of documents, since data.streaming is on", got="none",
            remedy="Set it to 256, for example: the length of a stream, and so a share of it, is unknown.",
        )  # fmt: skip
    if data.held_out_from is None:
        _check_share(data.held_out)
        source = (d for d in _documents(data, ReadReport()) if _is_held_out(d, data.held_out))
    else:
        source = _held_out_source(data)
    held = list(islice(source, data.held_out_documents))
    held = deduplicate(held).kept
    windows, report = _held_out_windows(held, data, cut)
    held_texts = {fingerprint(document.text) for document in held}

    def training() -> Iterator[Document]:
        for document in _documents(data, ReadReport()):
            own = data.held_out_from is None and _is_held_out(document, data.held_out)
            if not own and fingerprint(document.text) not in held_texts:
                yield document

    weighted = has_weights(list(islice(training(), 1)))
    train = StreamedWindows(lambda: cut(training(), WindowReport()), _columns(groups, scored, weighted))
    if next(iter(train), None) is None:
        _check_windows("data", 0, WindowReport())
    lines = [
        f"training   streamed from {data.path}; near-duplicates are not looked for in a stream",
        _held_out_line(windows, report),
        *([] if groups is None else [groups.line()]),
        *[each.line(name) for name, each in scored.items()],
    ]
    numbers = {} if groups is None else groups.numbers
    return Prepared(train, windows, lines, {"training": "streamed", "held_out": _counted(report), "groups": numbers})


def _columns(groups: Groups | None, scored: dict[str, Scored], weighted: bool) -> dict[str, Callable[[Window], float]]:
    own = {} if groups is None else {GROUP: groups}
    return {**own, **({WEIGHT: weight_of} if weighted else {}), **scored}


def _documents(data: DataConfig, report: ReadReport) -> Iterator[Document]:
    return read_documents(
        data.path, text_field=data.text_field, on_error=data.on_error, report=report, config=data.name,
        split=data.split, streaming=data.streaming, keep=kept_fields(data),
    )  # fmt: skip


def _held_out_source(data: DataConfig) -> Iterator[Document]:
    local = is_local(data.path)
    return read_documents(
        str(data.held_out_from) if local else data.path, text_field=data.text_field, on_error=data.on_error,
        config=data.name, split="train" if local else str(data.held_out_from), streaming=data.streaming,
        keep=kept_fields(data),
    )  # fmt: skip


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise SamplewiseError(
            "data.held_out",
            expected="a share between 0 and 1",
            got=share,
            remedy="Use 0.05, for example, to hold out one in 20.",
        )


def _is_held_out(document: Document, share: float) -> bool:
    """The same side as `split_documents` gives it."""
    return int.from_bytes(fingerprint(document.text)[:8]) < share * 2**64


def _held_out_windows(held: list[Document], data: DataConfig, cut: Cut) -> tuple[list[Window], WindowReport]:
    report = WindowReport()
    most = data.held_out_windows
    windows = [window for window in cut(held, report) if most is None or window.index < most]
    _check_windows("data.held_out", len(windows), report)
    return windows, report


def _check_windows(place: str, count: int, report: WindowReport) -> None:
    if count == 0:
        raise SamplewiseError(
            place, expected="at least one window of text",
            got=f"none: {report.short} of {report.documents} documents are shorter than data.min_tokens",
            remedy="Give more text, or lower data.min_tokens.",
        )  # fmt: skip


def _held_out_line(windows: list[Window], report: WindowReport) -> str:
    documents = len({window.doc_id for window in windows})
    tokens = sum(window.tokens for window in windows)
    part = "" if len(windows) == report.windows else f" (of {report.windows:,} windows)"
    return f"held out   {documents:,} documents, {len(windows):,} windows, {tokens:,} tokens{part}{_short(report)}"


def _short(report: WindowReport) -> str:
    return f"; {report.short} ends below min_tokens left out ({report.short_tokens} tokens)" if report.short else ""


def _prefix(report: WindowReport) -> str:
    return {"bos": "the BOS token", "eos": "the EOS token", "none": "nothing"}[report.prefix.kind]


def _counted(report: WindowReport) -> dict[str, Any]:
    return {
        "documents": report.documents, "windows": report.windows, "tokens": report.tokens, "short": report.short,
        "short_tokens": report.short_tokens, "rebalanced": report.rebalanced, "prefix": report.prefix.kind,
    }  # fmt: skip
