"""A weight inside each message: such conversations are encoded here, since TRL does not know such weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from samplewise.core.columns import TOKEN_WEIGHTS
from samplewise.core.errors import SamplewiseError
from samplewise.data.arrow import kinds_of, unpadded, unpadded_row
from samplewise.data.chat import encode_conversations
from samplewise.data.marks import MARKS
from samplewise.data.records import Problem
from samplewise.data.row_shapes import conversation_of
from samplewise.data.template import ChatTemplate, chat_template

logger = logging.getLogger("samplewise")

KEYS = ("messages", "conversations", "completion")


def has_message_weights(row: Mapping[str, Any]) -> bool:
    """Whether a row's messages have a place for a weight, by any of its names."""
    said = [message for key in KEYS if isinstance(row.get(key), list) for message in row[key]]
    return any(isinstance(message, Mapping) and not message.keys().isdisjoint(MARKS) for message in said)


def has_weights(dataset: Any) -> bool:
    """Whether any row has a place for weights in its messages; of a stream, whether the first has.

    A column of structs has one set of fields for all rows; JSON columns, which uneven rows come in, are searched.
    """
    if has_message_weights(next(iter(dataset))):
        return True
    features = getattr(dataset, "features", None) or {}
    uneven = [key for key in KEYS if key in features and "Json" in str(features[key])]
    return (
        bool(uneven) and hasattr(dataset, "__len__") and any(map(has_message_weights, dataset.select_columns(uneven)))
    )


def warn_of_padding(dataset: Any) -> None:
    """Warn if tools and calls of a table have null parameters that TRL would write into the text."""
    kinds = kinds_of(dataset)
    if not kinds or not hasattr(dataset, "__len__"):
        return
    for row in dataset.select(range(min(len(dataset), 100))):
        if any(given != unpadded(given, kind) for given, kind in _tools_and_calls(row, kinds)):
            logger.warning(
                "some tools or tool calls of the data have null parameters, since a table gives each the parameters of "
                "all: TRL writes them into the text. To drop them, encode the rows with samplewise.data: "
                "read_instructions, encode_conversations, to_dataset."
            )
            return


def _tools_and_calls(row: Mapping[str, Any], kinds: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    yield row.get("tools"), kinds.get("tools")
    for key in KEYS:
        said = None if "json" in str(kinds.get(key)) else row.get(key)  # there nulls are what they say
        for message in said if isinstance(said, list) else []:
            yield (message.get("tool_calls") if isinstance(message, Mapping) else None), None


def encoded_messages(dataset: Any, tokenizer: Any) -> Any:
    """The dataset in tokens: only the assistant's messages are predicted, each token with its message's weight.

    A message without a weight has 1, one of 0 is masked. Conversations of which nothing is left to predict are left
    out; of a dataset with a length the log says how many. The dataset's other columns stay. Errors: SamplewiseError on
    rows that are no conversation, on weights that are negative or not finite, on a template that does not show the
    assistant's part, on arguments for the template in the rows, and where nothing at all is left to predict.
    """
    if "chat_template_kwargs" in next(iter(dataset)):
        raise SamplewiseError(
            "train_dataset", expected="no column chat_template_kwargs beside weights inside messages", got="one",
            remedy="Remove that column, and give the tokenizer a chat template that does not need it.",
        )  # fmt: skip
    template, kinds = chat_template(tokenizer), kinds_of(dataset)

    def encode(row: dict[str, Any], number: int) -> dict[str, Any]:
        return _encoded(unpadded_row(row, kinds), number, template)

    old = [key for key in (*KEYS, "prompt", "tools") if key in next(iter(dataset))]
    dataset = dataset.map(encode, with_indices=True, remove_columns=old)
    kept = dataset.filter(lambda row: len(row["input_ids"]) > 0)
    if hasattr(dataset, "__len__"):
        _say_left_out(len(dataset) - len(kept), len(dataset))
    return kept


def _say_left_out(count: int, of: int) -> None:
    if count == of:
        raise SamplewiseError(
            "train_dataset", expected="an assistant's message with a weight above 0", got=f"none in {of} rows",
            remedy="Give a message that is to be learned a weight above 0: a weight of 0 masks it.",
        )  # fmt: skip
    if count:
        logger.warning("%d of %d conversations were left out: they have nothing to predict", count, of)


def refuse_late_weights(row: Mapping[str, Any]) -> dict[str, Any]:
    """Errors: SamplewiseError for a weight inside a message of a stream whose first row has none. Adds nothing."""
    if has_message_weights(row):
        raise SamplewiseError(
            "train_dataset", expected="weights in the messages of a stream's first row, as in later ones",
            got="none there", remedy="Give the first row's messages a weight, 1 for example.",
        )  # fmt: skip
    return {}


def _encoded(row: dict[str, Any], number: int, template: ChatTemplate) -> dict[str, Any]:
    said = {key: value for key, value in row.items() if key in (*KEYS, "prompt", "tools") and value is not None}
    found = conversation_of(said, "auto", "train_dataset", number, None)
    if isinstance(found, Problem):
        raise SamplewiseError(
            f"train_dataset, row {number}", expected=found.expected, got=found.got, remedy=found.remedy
        )
    for example in encode_conversations([found], template):
        weights = example.token_weights
        predicted = (example.labels != -100).astype("float32") if weights is None else weights
        return {"input_ids": example.input_ids, "labels": example.labels, TOKEN_WEIGHTS: predicted}
    nothing = np.zeros(0, np.int64)  # of the type that the other rows have: lists would make another column
    return {"input_ids": nothing, "labels": nothing, TOKEN_WEIGHTS: nothing.astype(np.float32)}
