"""The shapes of instruction rows, recognised by their fields or named, and how each becomes messages."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from samplewise.data.calls import tools_of
from samplewise.data.conversation import Conversation, Message
from samplewise.data.message import messages_of
from samplewise.data.records import Problem, skip
from samplewise.data.unfit import Unfit, checked_number, checked_text

FIELDS = {
    "alpaca": ("instruction", "output"),
    "sharegpt": ("conversations",),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
}
"""The fields that a row of each form must have."""
PARTS = {
    "alpaca": ("instruction", "input", "output", "history", "system"),
    "sharegpt": ("conversations", "system"),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
}
"""The fields of each form that its messages are made of."""


def conversation_of(
    record: Mapping[str, Any], form: str, source: str, row: int, line: int | None, *, negative: bool = False
) -> Conversation | Problem:
    """A record as a conversation.

    form: one of `FIELDS`, or "auto": that whose fields the record has. negative: whether its sample_weight may be
        below 0.

    >>> found = conversation_of({"instruction": "Add.", "input": "1, 2", "output": "3"}, "auto", "a.jsonl", 0, 1)
    >>> found.form, [(m.role, m.content, m.weight) for m in found.messages]
    ('alpaca', [('user', 'Add.\\n\\n1, 2', 0.0), ('assistant', '3', 1.0)])
    """
    try:
        name = _form(record, form)
        messages, plain = _READ[name](record)
        _check(messages)
        return Conversation(
            messages=tuple(messages), source=source, row=row, form=name, line=line, plain=plain, tools=tools_of(record),
            sample_id=_whole(record, "sample_id"),
            sample_weight=checked_number(record, "sample_weight", least=-math.inf if negative else 0.0),
            group=_group(record), reference_loss=checked_number(record, "reference_loss"),
        )  # fmt: skip
    except Unfit as unfit:
        return unfit.problem


def _form(record: Mapping[str, Any], form: str) -> str:
    there = [name for name, fields in FIELDS.items() if all(record.get(field) is not None for field in fields)]
    there = there or [name for name, fields in FIELDS.items() if all(field in record for field in fields)]
    got = f"the fields {', '.join(map(str, record)) or '(none)'}"
    if form != "auto":
        if form not in there:
            raise Unfit("missing field", f"the fields {' and '.join(FIELDS[form])} of {form}", got)
        return form
    if len(there) > 1:
        remedy = f"Name the right one, for example format={there[0]!r}."
        raise Unfit("more than one form", f"one form, not {' and '.join(there)}", got, remedy)
    if not there:
        forms = "; ".join(f"{name}: {' and '.join(fields)}" for name, fields in FIELDS.items())
        raise Unfit("no known form", f"the fields of a known form ({forms})", got, "Rename the fields, " + skip())
    return there[0]


def _alpaca(record: Mapping[str, Any]) -> tuple[list[Message], bool]:
    """The input, if there is one, follows the instruction after a blank line."""
    if record.get("history"):
        raise Unfit("no known form", "an instruction and its answer", "a history", "Write the row as messages.")
    parts = [checked_text(record["instruction"], "instruction"), checked_text(record.get("input") or "", "input")]
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise Unfit("empty prompt", "an instruction", "none")
    answer = Message("assistant", checked_text(record["output"], "output"), 1.0)
    return [*_system(record), Message("user", prompt), answer], False


def _sharegpt(record: Mapping[str, Any]) -> tuple[list[Message], bool]:
    return [*_system(record), *messages_of(record["conversations"], "conversations")], False


def _chat(record: Mapping[str, Any]) -> tuple[list[Message], bool]:
    return messages_of(record["messages"], "messages"), False


def _prompt_completion(record: Mapping[str, Any]) -> tuple[list[Message], bool]:
    """Texts are continued as they are, without a template; in messages only the completion's are predicted."""
    prompt, completion = (_from_json(record[name]) for name in ("prompt", "completion"))
    if not (isinstance(prompt, list) and isinstance(completion, list)):  # JSON on one side only is a text
        prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        answer = Message("assistant", checked_text(completion, "completion"), 1.0)
        return [Message("user", checked_text(prompt, "prompt")), answer], True
    if isinstance(prompt, str) or isinstance(completion, str):
        raise Unfit("no known form", "prompt and completion both as texts, or both as messages", "one of each")
    before = [Message(m.role, m.content, 0.0, m.fields) for m in messages_of(prompt, "prompt")]
    after = messages_of(completion, "completion")
    if not any(message.role == "assistant" for message in after):
        raise Unfit("no assistant turn", "an assistant turn in the completion", "none")
    return before + after, False


def _from_json(value: Any) -> Any:
    """The messages that a text of JSON stands for; the text itself where it stands for anything else."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if found and all(isinstance(each, dict) and "role" in each for each in found) else value


_READ: dict[str, Callable[[Mapping[str, Any]], tuple[list[Message], bool]]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _chat,
    "prompt_completion": _prompt_completion,
}


def _system(record: Mapping[str, Any]) -> list[Message]:
    text = checked_text(record.get("system") or "", "system")
    return [Message("system", text)] if text.strip() else []


def _check(messages: list[Message]) -> None:
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise Unfit("no assistant turn", "an assistant turn", ", ".join(m.role for m in messages) or "no message")
    if not all(answer.content.strip() or answer.fields.get("tool_calls") for answer in answers):
        raise Unfit("empty response", "an answer", "none")


def _whole(record: Mapping[str, Any], name: str) -> int | None:
    value = record.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise Unfit(f"bad {name}", f"a whole number from 0 to 2^63 − 1 in {name}", repr(value))
    return value


def _group(record: Mapping[str, Any]) -> int | str | None:
    value = record.get("group")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise Unfit("bad group", "text or a whole number in group", repr(value))
    return value
