"""What the model is given: the windows of documents with the context before them, conversations as one piece each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from samplewise.corpus.reader import Quarantined
from samplewise.data.chat import ChatReport, Example, encode_conversations
from samplewise.data.conversation import Conversation
from samplewise.data.read import Document
from samplewise.data.records import Problem
from samplewise.data.template import ChatTemplate
from samplewise.data.windows import Window, cut_windows
from samplewise.losses.token_losses import IGNORED


@dataclass(frozen=True)
class Piece:
    """One row of the table, before its loss.

    ids: [T] token ids, context and window. start: the first position that is predicted, at least 1. completion: [T]
    whether a position belongs to the completion; None for text. The rest: columns.
    """

    ids: np.ndarray
    start: int
    id: int
    doc_id: int
    source: str
    row: int
    window: int
    n_bytes: int
    text: str
    completion: np.ndarray | None = None
    group: str | None = None

    @property
    def n_tokens(self) -> int:
        """The number of predicted tokens."""
        return len(self.ids) - self.start

    @property
    def completion_tokens(self) -> int:
        """Of them, those of the completion."""
        return 0 if self.completion is None else int(self.completion.sum())


@dataclass(frozen=True)
class Cutting:
    """How texts are cut, as in `cut_windows`, and what context a window has.

    stride: every window but a document's first sees at least so many tokens before its first predicted one, where the
        document has them; which tokens a window predicts, and its id, stay those of training.
    rolling: as lm-eval's rolling log-likelihood: ends are not evened out, and a short last window is given context up
        to max_length. characters: of the text's start that are kept.
    """

    max_length: int = 512
    min_tokens: int = 16
    stride: int = 0
    rolling: bool = False
    characters: int = 200


def text_pieces(documents: Sequence[Document], tokenizer: Any, cutting: Cutting) -> Iterator[Piece | Quarantined]:
    """The pieces of documents, in order; a document without a token to predict is quarantined in its place."""
    windows = cut_windows(
        documents, tokenizer, max_length=cutting.max_length, min_tokens=1 if cutting.rolling else cutting.min_tokens,
        keep_short=True,
    )  # fmt: skip
    window = next(windows, None)
    for document in documents:
        if window is None or (window.source, window.row) != (document.source, document.row):
            yield Quarantined(document.source, document.row, None, "no token", repr(document.text[:80]))
            continue
        before = np.empty(0, np.int32)
        while window is not None and (window.source, window.row) == (document.source, document.row):
            yield _piece(window, before, document.text, cutting)
            keep = cutting.max_length if cutting.rolling else cutting.stride
            before = np.concatenate([before, window.input_ids[:-1]])[-keep:] if keep else before
            window = next(windows, None)


def _piece(window: Window, before: np.ndarray, text: str, cutting: Cutting) -> Piece:
    least = cutting.max_length - len(window.input_ids) if cutting.rolling else cutting.stride - 1
    more = min(max(least, 0), len(before))
    ids = np.concatenate([before[len(before) - more :], window.input_ids])
    first, last = window.span
    return Piece(
        ids=ids, start=more + 1, id=window.id, doc_id=window.doc_id, source=window.source,
        row=window.row, window=window.index, n_bytes=window.size,
        text=text[first : min(last, first + cutting.characters)],
    )  # fmt: skip


class _Left(ChatReport):
    """Keeps what the template refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[tuple[str, int], Quarantined] = {}

    def skip(self, source: str, row: int, line: int | None, problem: Problem) -> None:
        self.refused[source, row] = Quarantined(source, row, line, problem.reason, problem.got[:500])


def chat_pieces(
    conversations: Sequence[Conversation], template: ChatTemplate, max_length: int, characters: int
) -> Iterator[Piece | Quarantined]:
    """The pieces of conversations, in order; those with nothing to predict are quarantined in their place."""
    left = _Left()
    examples = encode_conversations(conversations, template, max_length=max_length, on_error="skip", report=left)
    found = {(each.source, each.row): each for each in examples}
    for each in conversations:
        example = found.get((each.source, each.row))
        if example is not None:
            yield _chat_piece(example, each.text[:characters])
        else:
            nothing = Quarantined(
                each.source, each.row, each.line, "nothing to predict",
                "no answer, within max_length, of a weight above 0",
            )  # fmt: skip
            yield left.refused.get((each.source, each.row), nothing)


def _chat_piece(example: Example, text: str) -> Piece:
    group = example.conversation.group
    return Piece(
        ids=example.input_ids, start=1, id=example.id, doc_id=example.doc_id, source=example.source,
        row=example.row, window=0, n_bytes=example.size, text=text,
        completion=example.labels != IGNORED, group=None if group is None else str(group),
    )  # fmt: skip


def answers_alone(piece: Piece, prefix: int | None) -> Piece:
    """The completion of a conversation after `prefix`, BOS or EOS, without what is said before and between.

    Its loss is the denominator of instruction-following difficulty, s(A) in IFD = s(A|Q) / s(A) (arXiv 2308.12032).
    Without a prefix the first token of the answer is context alone.
    """
    assert piece.completion is not None
    answer = piece.ids[piece.completion]
    ids = answer if prefix is None else np.concatenate([np.array([prefix], answer.dtype), answer])
    return replace(piece, ids=ids, start=1, completion=None)
