"""Documents to windows of tokens, such that every token of a document is predicted exactly once.

A document's tokens t1 … tn get one prefix token p before them (`prefix_of`): p t1 … tn. Windows overlap by one token:
the last of a window is the first of the next, where it is context only, since nothing before it predicts it there.
A window of L ids thus has L - 1 predicted tokens, and the loss of a document is the sum over its windows, as in a
rolling log-likelihood. Without the overlap the first token of every window would go unpredicted, and bits per byte
would come out too low.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise
from typing import Any, Literal

import numpy as np

from samplewise.core.errors import SamplewiseError
from samplewise.data.ids import document_id, window_id
from samplewise.data.read import Document
from samplewise.data.tokens import tokenise

Edges = Callable[[int], list[int]]
"""Predicted tokens of a document -> where it is cut, see `_edges`."""


@dataclass(frozen=True)
class Prefix:
    """The token before a document's first, and which of the tokenizer's it is."""

    kind: Literal["bos", "eos", "none"]
    id: int | None


@dataclass(frozen=True)
class Window:
    """A piece of a document.

    input_ids: [T] int32; the first is context (prefix or last token of the window before), T - 1 are predicted.
    id, doc_id: 63-bit names, hashed from (source, row, index) and (source, row).
    span: (start, end) characters of the document that the predicted tokens cover; spans join without gap or overlap.
    size: their UTF-8 bytes, for bits per byte. A character split over two windows counts in the later one.
    record: of the document, where its reader kept it.
    """

    input_ids: np.ndarray
    id: int
    doc_id: int
    source: str
    row: int
    index: int
    span: tuple[int, int]
    size: int
    record: Mapping[str, object] | None = field(default=None, repr=False, compare=False)

    @property
    def labels(self) -> np.ndarray:
        """What is predicted: all but the first, which the shift leaves out."""
        return self.input_ids

    @property
    def tokens(self) -> int:
        """The number of predicted tokens."""
        return len(self.input_ids) - 1


@dataclass
class WindowReport:
    """What was cut: tokens are predicted ones. short: documents and document ends left out for want of min_tokens.

    rebalanced: documents whose too short last window was evened out with the one before.
    """

    prefix: Prefix = Prefix("none", None)
    documents: int = 0
    windows: int = 0
    tokens: int = 0
    rebalanced: int = 0
    short: int = 0
    short_tokens: int = 0


def prefix_of(tokenizer: Any) -> Prefix:
    """BOS where the tokenizer defines one, else EOS, which separates documents where there is no BOS; else none.

    Whether the tokenizer would add it by itself makes no difference: without a prefix the first token of a document
    is not predicted. It is also what lm-eval's rolling log-likelihood does, so that scores can be compared.
    """
    if tokenizer.bos_token_id is not None:
        return Prefix("bos", tokenizer.bos_token_id)
    if tokenizer.eos_token_id is not None:
        return Prefix("eos", tokenizer.eos_token_id)
    return Prefix("none", None)


def cut_windows(
    documents: Iterable[Document],
    tokenizer: Any,
    *,
    max_length: int,
    min_tokens: int = 16,
    context: int | None = None,
    keep_short: bool = False,
    report: WindowReport | None = None,
) -> Iterator[Window]:
    """The windows of documents, in order, tokenised 32 documents at a time.

    A special token that a text spells out (</s>) becomes that token, as everywhere in transformers.

    max_length: ids of a window at most, the context token included. context: the model's length, which bounds it.
    min_tokens: predicted tokens of a window at least. Where a document's last window has fewer, it and the one before
        are evened out; where that would make both too short, or it is the only one, it is left out and counted.
    keep_short: what would be left out becomes a window of its own, under the next number: no other window changes.
    report: is filled while the windows are taken.

    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<s>", *"abcdefg"])}, unk_token="a"))
    >>> words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")
    >>> report = WindowReport()
    >>> documents = [Document("a b c d e f g", "x.txt", 0), Document("a", "y.txt", 0)]
    >>> [
    ...     tokenizer.decode(w.input_ids)
    ...     for w in cut_windows(documents, tokenizer, max_length=4, min_tokens=2, report=report)
    ... ]
    ['<s> a b c', 'c d e', 'e f g']
    >>> report.tokens, report.rebalanced, report.short
    (7, 1, 1)
    """
    if max_length < 2:
        raise SamplewiseError(
            "max_length",
            expected="at least 2 (a token and its context)",
            got=max_length,
            remedy="Raise it; 512 is usual.",
        )
    if context is not None and max_length > context:
        raise SamplewiseError(
            "max_length", expected=f"at most the model's context, {context}", got=max_length, remedy="Lower max_length."
        )
    if not 1 <= min_tokens < max_length:
        raise SamplewiseError(
            "min_tokens",
            expected=f"1 to {max_length - 1}, below max_length",
            got=min_tokens,
            remedy="Lower min_tokens.",
        )
    report = WindowReport() if report is None else report
    report.prefix = prefix_of(tokenizer)
    edges = partial(_edges, most=max_length - 1, least=min_tokens, keep=keep_short)
    return _windows(iter(documents), tokenizer, edges, max_length - 1, report)


def _windows(
    documents: Iterator[Document], tokenizer: Any, edges: Edges, most: int, report: WindowReport
) -> Iterator[Window]:
    first = np.array([] if report.prefix.id is None else [report.prefix.id], np.int32)
    while batch := list(islice(documents, 32)):
        for document, (ids, start) in zip(batch, tokenise([d.text for d in batch], tokenizer), strict=True):
            start = start if len(first) else start[1:]
            yield from _cut(document, np.concatenate([first, ids]), start, edges, most, report)


def _cut(
    document: Document, ids: np.ndarray, start: np.ndarray, find: Edges, most: int, report: WindowReport
) -> Iterator[Window]:
    count = max(len(ids) - 1, 0)  # predicted tokens
    edges = find(count)
    report.documents += 1
    report.windows += len(edges) - 1
    report.tokens += edges[-1]
    report.short += edges[-1] < count or not count
    report.short_tokens += count - edges[-1]
    report.rebalanced += len(edges) > 2 and edges[-1] == count and edges[-2] % most > 0
    source, row, text = document.source, document.row, document.text
    for index, (a, b) in enumerate(pairwise(edges)):
        span = int(start[a]), int(start[b])
        size = len(text[slice(*span)].encode())
        name = window_id(source, row, index)
        yield Window(
            input_ids=ids[a : b + 1],
            id=name,
            doc_id=document_id(source, row),
            source=source,
            row=row,
            index=index,
            span=span,
            size=size,
            record=document.record,
        )


def _edges(count: int, most: int, least: int, keep: bool = False) -> list[int]:
    """The positions at which `count` predicted tokens are cut, from 0 on; less than `count` at the end if some are out.

    keep: none are out.

    >>> _edges(10, 4, 2), _edges(9, 4, 2), _edges(9, 4, 3), _edges(1, 4, 2)
    ([0, 4, 8, 10], [0, 4, 7, 9], [0, 4, 8], [0])
    """
    edges = [*range(0, count, most), count] if count else [0]
    if len(edges) == 1 or edges[-1] - edges[-2] >= least:
        return edges
    both = count - edges[-3] if len(edges) > 2 else 0
    if both // 2 < least:
        return edges if keep else edges[:-1]
    edges[-2] = count - both // 2
    return edges
