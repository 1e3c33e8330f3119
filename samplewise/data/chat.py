"""Conversations to rows of tokens: only what the assistant says is predicted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.data.conversation import Conversation, check_columns, group_numbers
from samplewise.data.read import OnError, ReadReport
from samplewise.data.records import Problem, place_of
from samplewise.data.spans import Span
from samplewise.data.template import ChatTemplate
from samplewise.losses.token_losses import IGNORED

BATCH = 64


@dataclass(frozen=True)
class Example:
    """A conversation as token ids, with labels and weights of its tokens.

    input_ids, labels: [T] int64, a label of −100 outside the assistant's part and at the first position, which nothing
        predicts. token_weights: [T] float32, 0 outside; None where every message's weight is 0 or 1.
    size: UTF-8 bytes of the predicted text, for bits per byte. conversation: without its messages.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    token_weights: np.ndarray | None
    size: int
    conversation: Conversation

    @property
    def id(self) -> int:
        """The id of the conversation."""
        return self.conversation.id

    @property
    def doc_id(self) -> int:
        """The id of the conversation, since held-out losses are compared by conversation."""
        return self.conversation.id

    @property
    def source(self) -> str:
        """The file that the conversation comes from."""
        return self.conversation.source

    @property
    def row(self) -> int:
        """The record of the conversation in its file, from 0."""
        return self.conversation.row

    @property
    def tokens(self) -> int:
        """The number of predicted tokens."""
        return int((self.labels != IGNORED).sum())


@dataclass
class ChatReport(ReadReport):
    """What was encoded: read counts the examples, skipped what the template refused, rearranged or did not show.

    tokens: all of them; predicted: the assistant's.
    cut: longer than max_length, with an answer left. no_target: left out since none of the answer was left of them,
    masked: since all their messages have the weight 0. open_ended: examples whose answer ends with no special token,
    so that the model is not taught to stop.
    """

    tokens: int = 0
    predicted: int = 0
    cut: int = 0
    no_target: int = 0
    masked: int = 0
    open_ended: int = 0

    def __str__(self) -> str:
        some = [
            (self.cut, "cut to max_length"),
            (self.no_target, "left out since no answer is left within max_length"),
            (self.masked, "left out since all their weights are 0"),
            *((count, f"left out ({reason})") for reason, count in sorted(self.skipped.items())),
            (self.open_ended, "without an end-of-turn token after the answer"),
        ]
        what = [f"{self.read:,} conversations", f"{self.tokens:,} tokens", f"{self.predicted:,} of them predicted"]
        return ", ".join(what) + "".join(f"; {count:,} {words}" for count, words in some if count)


def encode_conversations(
    conversations: Iterable[Conversation],
    template: ChatTemplate,
    *,
    max_length: int | None = None,
    on_error: OnError = "raise",
    report: ChatReport | None = None,
) -> Iterator[Example]:
    """The examples of conversations, in order; those of which nothing is left to predict are left out and counted.

    What the template writes from the start of an answer to the end of its turn is predicted, the end included, since
    it is what stops the model. A token that reaches into the assistant's part belongs to it. A plain prompt and
    completion are one text, with EOS after it and the tokenizer's own special tokens around it, and no template.

    max_length: tokens at most; what is longer loses its end. on_error: "raise" or "skip" rows that the template
    refuses.
    """
    if max_length is not None and max_length < 2:
        raise SamplewiseError("max_length", expected="at least 2", got=max_length, remedy="Raise it; 1024 is usual.")
    return _examples(iter(conversations), template, max_length, on_error, ChatReport() if report is None else report)


def _examples(
    conversations: Iterator[Conversation], template: ChatTemplate, longest: int | None, on_error: OnError,
    report: ChatReport,
) -> Iterator[Example]:  # fmt: skip
    stops = set(template.tokenizer.get_added_vocab().values())
    while batch := list(islice(conversations, BATCH)):
        rendered = [(each, found) for each in batch if (found := _rendered(each, template, on_error, report))]
        encoded = _tokenised([(each.plain, text) for each, (text, _) in rendered], template.tokenizer)
        for (conversation, (text, spans)), tokens in zip(rendered, encoded, strict=True):
            example = _example(conversation, text, spans, tokens, longest)
            if not example.tokens:
                report.no_target += 1
                continue
            whole = len(example.input_ids) == len(tokens[0])
            report.cut += not whole
            report.open_ended += whole and not _ends(example, template.tokenizer, stops)
            report.read += 1
            report.tokens += len(example.input_ids)
            report.predicted += example.tokens
            yield example


def _rendered(
    conversation: Conversation, template: ChatTemplate, on_error: OnError, report: ChatReport
) -> tuple[str, list[Span]] | None:
    if not any(message.weight for message in conversation.messages):
        report.masked += 1
        return None
    found = _continued(conversation, template.tokenizer) if conversation.plain else template.render(conversation)
    if not isinstance(found, Problem):
        return found
    if on_error == "raise":
        place = place_of(conversation.source, conversation.row, conversation.line)
        raise SamplewiseError(place, expected=found.expected, got=found.got, remedy=found.remedy)
    report.skip(conversation.source, conversation.row, conversation.line, found)
    return None


def _continued(conversation: Conversation, tokenizer: Any) -> tuple[str, list[Span]]:
    prompt, completion = (message.content for message in conversation.messages)
    end = "" if tokenizer.eos_token is None or completion.endswith(tokenizer.eos_token) else tokenizer.eos_token
    text = prompt + completion + end
    return text, [(len(prompt), len(text), conversation.messages[1].weight)]


Tokens = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Ids [T], and the characters where each token starts and ends."""


def _tokenised(texts: Sequence[tuple[bool, str]], tokenizer: Any) -> list[Tokens]:
    """The tokens of (plain, text) pairs: a template writes its special tokens itself, a plain text gets them here."""
    found: dict[int, Tokens] = {}
    for plain in {plain for plain, _ in texts}:
        own = [i for i, (kind, _) in enumerate(texts) if kind == plain]
        encoded = tokenizer(
            [texts[i][1] for i in own], add_special_tokens=plain, truncation=False, padding=False,
            return_attention_mask=False, return_offsets_mapping=True, verbose=False,
        )  # fmt: skip
        for i, ids, offsets in zip(own, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
            before = np.maximum.accumulate(np.concatenate([[0], ends]))[:-1]  # some tokenizers trim spaces off a token
            found[i] = np.array(ids, np.int64), np.minimum(starts, before), ends
    return [found[i] for i in range(len(texts))]


def _example(
    conversation: Conversation, text: str, spans: Sequence[Span], tokens: Tokens, longest: int | None
) -> Example:
    ids, starts, ends = (each[:longest] for each in tokens)
    weights, size = np.zeros(len(ids), np.float32), 0
    for start, end, weight in spans:
        (own,) = np.nonzero((ends > start) & (starts < end))
        own = own[own > 0]  # nothing predicts the first position
        weights[own] = weight
        size += len(text[starts[own[0]] : ends[own[-1]]].encode()) if len(own) else 0
    labels = np.where(weights > 0, ids, IGNORED)
    fractions = any(weight != 1 for *_, weight in spans)
    bare = replace(conversation, messages=(), tools=None)
    return Example(ids, labels, weights if fractions else None, size, bare)


def _ends(example: Example, tokenizer: Any, stops: set[int]) -> bool:
    """Whether the last predicted token that is not white space is a special one."""
    for token in example.labels[example.labels != IGNORED][::-1].tolist():
        if token in stops or tokenizer.decode([token]).strip():
            return token in stops
    return False


def to_dataset(examples: Sequence[Example], groups: Mapping[int | str, int] | None = None) -> Any:
    """A `datasets.Dataset` of examples, ready for a trainer: input_ids, labels, sample_id, and of token_weights,
    sample_weight, group and reference_loss those that the data have.

    groups: the number of each group; by default `group_numbers` of these examples.
    Errors: SamplewiseError for none, and where a column is in some rows only or an id is given twice.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise missing_extra("datasets", "hf", "instruction data") from None
    if not examples:
        raise SamplewiseError("examples", expected="at least one", got="none", remedy="Give more conversations.")
    rows = [example.conversation for example in examples]
    check_columns(rows)
    numbers = group_numbers(rows) if groups is None else groups
    columns: dict[str, list[Any]] = {
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
        "sample_id": [row.id for row in rows],
    }
    if any(example.token_weights is not None for example in examples):
        columns["token_weights"] = [_weights(example) for example in examples]
    if rows[0].group is not None:
        columns["group"] = [numbers[row.group] for row in rows if row.group is not None]
    for name in ("sample_weight", "reference_loss"):
        if getattr(rows[0], name) is not None:
            columns[name] = [getattr(row, name) for row in rows]
    return datasets.Dataset.from_dict(columns)


def _weights(example: Example) -> np.ndarray:
    given = example.token_weights
    return (example.labels != IGNORED).astype(np.float32) if given is None else given
