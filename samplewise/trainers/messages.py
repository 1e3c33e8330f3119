"""A weight inside each message: such conversations are encoded here, since TRL's preparation knows no such thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samplewise.data.chat import encode_conversations
from samplewise.data.forms import conversation_of
from samplewise.data.records import Problem
from samplewise.data.template import ChatTemplate, chat_template
from samplewise.fields import TOKEN_WEIGHTS
from samplewise.types import SamplewiseError

KEYS = ("messages", "conversations", "completion")


def has_message_weights(row: Mapping[str, Any]) -> bool:
    """Whether a row's messages have a place for a weight."""
    said = [message for key in KEYS if isinstance(row.get(key), list) for message in row[key]]
    return any(isinstance(message, Mapping) and "weight" in message for message in said)


def encoded_messages(dataset: Any, tokenizer: Any) -> Any:
    """The dataset in tokens: only the assistant's messages are predicted, each token with its message's weight.

    A message without a weight has 1, one of 0 is masked. Conversations of which nothing is left to predict are left
    out. The dataset's other columns stay. Errors: SamplewiseError on rows that are no conversation, on weights that are
    negative or not finite, and on a template that does not show the assistant's part.
    """
    template = chat_template(tokenizer)

    def encode(row: dict[str, Any], number: int) -> dict[str, Any]:
        return _encoded(row, number, template)

    old = [key for key in (*KEYS, "prompt", "tools") if key in next(iter(dataset))]
    dataset = dataset.map(encode, with_indices=True, remove_columns=old)
    return dataset.filter(lambda row: len(row["input_ids"]) > 0)


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
    return {"input_ids": [], "labels": [], TOKEN_WEIGHTS: []}
