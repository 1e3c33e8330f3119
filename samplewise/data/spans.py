"""Which characters of a rendered conversation are the assistant's: by a template's marks, or by what a turn adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from samplewise.data.conversation import Conversation, Message
from samplewise.data.records import Problem

Span = tuple[int, int, float]
"""The characters from start to end, and the weight of their tokens."""

Text = Callable[[Conversation, int, bool], str]
"""(conversation, messages, prompt) -> the first so many messages as text; prompt: and the start of an answer."""

REMEDY = (
    'Give a template with {% generation %} around the assistant\'s part ("training" takes the one that TRL ships for '
    'many models), or leave such rows out and count them with on_error="skip".'
)


def by_marks(conversation: Conversation, marked: Sequence[tuple[int, int]], name: str) -> list[Span] | Problem:
    """The spans of what the template marks, each with its turn's weight."""
    found = [(start, end) for start, end in marked if end > start]
    weights = [message.weight for message in conversation.messages if message.role == "assistant"]
    if not found:
        return _shows_nothing(name)
    if len(set(weights)) == 1:
        weights = weights[:1] * len(found)
    elif len(weights) != len(found):
        return Problem(
            "other blocks than turns", f"one {{% generation %}} block for each of the {len(weights)} assistant turns",
            f"{len(found)} blocks ({name})", "Give a template with one block a turn, or all messages the same weight.",
        )  # fmt: skip
    return [(*span, weight) for span, weight in zip(found, weights, strict=True) if weight]


def by_prefix(conversation: Conversation, text: Text, name: str) -> tuple[str, list[Span]] | Problem:
    """The assistant's part is what its turn adds to the prompt for it; two more renderings for each such turn."""
    messages, spans = conversation.messages, list[Span]()
    whole = text(conversation, len(messages), False)
    for i, message in enumerate(messages):
        if message.role != "assistant" or not message.weight:
            continue
        before = text(conversation, i, True) if i else _opening(conversation, text)
        after = text(conversation, i + 1, False)
        if not (whole.startswith(after) and after.startswith(before)):
            return Problem(
                "rearranged by the template", "a template that writes the start of a conversation as in the whole",
                f"other text before or in message {i} ({name}), so the assistant's part cannot be told", REMEDY,
            )  # fmt: skip
        if len(after) == len(before):
            return _shows_nothing(name)
        spans.append((len(before), len(after), message.weight))
    return whole, spans


def _opening(conversation: Conversation, text: Text) -> str:
    """What stands before an answer that no message comes before: found by what a prompt ends with elsewhere."""
    probe = Conversation((Message("user", "x"),), "", 0, "")
    prompt = text(probe, 1, True).removeprefix(text(probe, 1, False))
    whole = text(conversation, 1, False)
    return whole[: whole.find(prompt) + len(prompt)] if prompt in whole else ""


def _shows_nothing(name: str) -> Problem:
    expected = "a template that shows the assistant's turns"
    return Problem("not shown by the template", expected, f"nothing of them ({name})", REMEDY)


def hidden_call(
    conversation: Conversation, whole: Callable[[Conversation], str | Problem], name: str
) -> Problem | None:
    """A message to be learned whose calls change nothing in the text: templates without tool support drop them.

    whole: the text of a conversation. Cost: one more rendering for each such message.
    """
    text = None
    for i, message in enumerate(conversation.messages):
        if not message.weight or "tool_calls" not in message.fields:
            continue
        text = whole(conversation) if text is None else text
        silent = replace(message, fields={key: own for key, own in message.fields.items() if key != "tool_calls"})
        others = conversation.messages
        if whole(replace(conversation, messages=(*others[:i], silent, *others[i + 1 :]))) == text:
            remedy = 'Give a template for tools, or leave such rows out and count them with on_error="skip".'
            got = f"nothing of the calls in message {i} ({name})"
            return Problem("not shown by the template", "a template that shows tool calls", got, remedy)
    return None
