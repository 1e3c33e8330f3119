"""One message of a conversation, in any of the words that tools have for its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samplewise.data.calls import with_calls
from samplewise.data.conversation import Message
from samplewise.data.marks import MARKS, weight_of
from samplewise.data.records import skip
from samplewise.data.unfit import Unfit, checked_text, parsed, say_once

ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "function_response"), "tool"),
    "system": "system",
    "developer": "developer",
}
"""What a role may be called, and what it is. A function_call is the model's: it is predicted."""

KNOWN = ("role", "content", "from", "value", *MARKS)


def messages_of(value: Any, name: str) -> list[Message]:
    """The messages of a field, which may be a text of JSON: tables have no column for uneven rows. Errors: Unfit."""
    found = _objects(value, f"a list of messages, or its JSON, in {name}")
    if not isinstance(found, list):
        raise Unfit("no known form", f"a list of messages in {name}", type(found).__name__)
    return [_message(each, f"{name}[{i}]") for i, each in enumerate(found)]


def _objects(value: Any, expected: str) -> Any:
    if not isinstance(value, str):
        return value
    say_once("messages come as JSON text: they are read as what it stands for")
    return parsed(value, "no known form", expected)


def _message(value: Any, place: str) -> Message:
    value = _objects(value, f"a mapping with role and content in {place}, or its JSON")
    if not isinstance(value, Mapping):
        raise Unfit("no known form", f"a mapping with role and content in {place}", type(value).__name__)
    called = value.get("role", value.get("from"))
    role = ROLES.get(called) if isinstance(called, str) else None
    if role is None:
        known = ", ".join(ROLES)
        raise Unfit("unknown role", f"one of {known} in {place}", repr(called), "Rename the role, " + skip())
    rest = {key: each for key, each in value.items() if key not in KNOWN and each is not None}
    content = checked_text(_joined(value.get("content", value.get("value")), place), place)
    return Message(role, content, weight_of(value, role, place), with_calls(rest, place))


def _joined(content: Any, place: str) -> Any:
    """Text, given in parts or not at all (beside tool calls) too."""
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        raise Unfit(
            "no text", f"parts of type text in {place}", "others", "Remove the parts that are not text, " + skip()
        )
    return "".join(checked_text(part.get("text"), place) for part in content)
