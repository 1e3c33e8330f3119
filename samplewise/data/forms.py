"""The forms that instruction data come in, each turned into messages: recognised by its fields, or named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from samplewise.data.conversation import Conversation, Message
from samplewise.data.records import Problem, mend, skip, unfit_text

ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "function_response"), "tool"),
    "system": "system",
    "developer": "developer",
}
"""What a role may be called, and what it is. A function_call is the model's: it is predicted."""

FIELDS = {
    "alpaca": ("instruction", "output"),
    "sharegpt": ("conversations",),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
}
"""Each form and the fields that a row of it has at least."""

MESSAGE = ("role", "content", "from", "value", "weight")


class _Unfit(Exception):  # noqa: N818  no error by itself: caught within this module
    """Ends the reading of one record, however deep in it the fault lies."""

    def __init__(self, reason: str, expected: str, got: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.problem = Problem(reason, expected, got, remedy or mend("row"))


def conversation_of(
    record: Mapping[str, Any], form: str, source: str, row: int, line: int | None
) -> Conversation | Problem:
    """A record as a conversation. form: one of `FIELDS`, or "auto": that whose fields the record has.

    >>> found = conversation_of({"instruction": "Add.", "input": "1, 2", "output": "3"}, "auto", "a.jsonl", 0, 1)
    >>> found.form, [(m.role, m.content, m.weight) for m in found.messages]
    ('alpaca', [('user', 'Add.\\n\\n1, 2', 0.0), ('assistant', '3', 1.0)])
    """
    try:
        name = _form(record, form)
        messages, plain = _READ[name](record)
        _check(messages)
        return Conversation(
            tuple(messages), source, row, name, line, plain, _tools(record),
            _whole(record, "sample_id"), _number(record, "sample_weight", least=0.0), _group(record),
            _number(record, "reference_loss"),
        )  # fmt: skip
    except _Unfit as unfit:
        return unfit.problem


def _tools(record: Mapping[str, Any]) -> Any:
    """What a template is told of tools; often a text of JSON, since tables have no column for any other shape."""
    tools = record.get("tools")
    if not isinstance(tools, str):
        return tools
    try:
        return json.loads(tools) if tools.strip() else None
    except json.JSONDecodeError as error:
        raise _Unfit("tools that are no JSON", "a list of tools, or its JSON", f"{tools[:40]!r} ({error})") from None


def _form(record: Mapping[str, Any], form: str) -> str:
    there = [name for name, fields in FIELDS.items() if all(record.get(field) is not None for field in fields)]
    there = there or [name for name, fields in FIELDS.items() if all(field in record for field in fields)]
    got = f"the fields {', '.join(map(str, record)) or '(none)'}"
    if form != "auto":
        if form not in there:
            raise _Unfit("missing field", f"the fields {' and '.join(FIELDS[form])} of {form}", got)
        return form
    if len(there) > 1:
        remedy = f"Name the one that is meant: format={there[0]!r}?"
        raise _Unfit("more than one form", f"one form, not {' and '.join(there)}", got, remedy)
    if not there:
        forms = "; ".join(f"{name}: {' and '.join(fields)}" for name, fields in FIELDS.items())
        raise _Unfit("no known form", f"the fields of a known form ({forms})", got, "Rename the fields, " + skip())
    return there[0]


def _alpaca(record: Mapping[str, Any]) -> tuple[list[Message], bool]:
    """The input, where there is one, stands below the instruction, with a blank line between."""
    if record.get("history"):
        raise _Unfit("no known form", "an instruction and its answer", "a history", "Write it as messages.")
    parts = [_text(record["instruction"], "instruction"), _text(record.get("input") or "", "input")]
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise _Unfit("empty prompt", "an instruction", "none")
    answer = Message("assistant", _text(record["output"], "output"), 1.0)
    return [*_system(record), Message("user", prompt), answer], False


def _sharegpt(record: Mapping[str, Any]) -> tuple[list[Message], bool]:
    return [*_system(record), *_messages(record["conversations"], "conversations")], False


def _chat(record: Mapping[str, Any]) -> tuple[list[Message], bool]:
    return _messages(record["messages"], "messages"), False


def _prompt_completion(record: Mapping[str, Any]) -> tuple[list[Message], bool]:
    """Texts are continued as they are, without a template; in messages only the completion's are predicted."""
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        said = [Message("user", _text(prompt, "prompt")), Message("assistant", _text(completion, "completion"), 1.0)]
        return said, True
    if isinstance(prompt, str) or isinstance(completion, str):
        raise _Unfit("no known form", "prompt and completion both as texts, or both as messages", "one of each")
    before = [Message(m.role, m.content, 0.0, m.fields) for m in _messages(prompt, "prompt")]
    after = _messages(completion, "completion")
    if not any(message.role == "assistant" for message in after):
        raise _Unfit("no assistant turn", "an assistant turn in the completion", "none")
    return before + after, False


_READ: dict[str, Callable[[Mapping[str, Any]], tuple[list[Message], bool]]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _chat,
    "prompt_completion": _prompt_completion,
}


def _system(record: Mapping[str, Any]) -> list[Message]:
    text = _text(record.get("system") or "", "system")
    return [Message("system", text)] if text.strip() else []


def _messages(value: Any, name: str) -> list[Message]:
    if not isinstance(value, list):
        raise _Unfit("no known form", f"a list of messages in {name}", type(value).__name__)
    return [_message(each, f"{name}[{i}]") for i, each in enumerate(value)]


def _message(value: Any, place: str) -> Message:
    if not isinstance(value, Mapping):
        raise _Unfit("no known form", f"a mapping with role and content in {place}", type(value).__name__)
    called = value.get("role", value.get("from"))
    role = ROLES.get(called) if isinstance(called, str) else None
    if role is None:
        known = ", ".join(ROLES)
        raise _Unfit("unknown role", f"one of {known} in {place}", repr(called), "Rename the role, " + skip())
    rest = {key: each for key, each in value.items() if key not in MESSAGE and each is not None}
    content = _text(_joined(value.get("content", value.get("value")), place), place)
    weight = _number(value, "weight", least=0.0, reason="bad weight", place=f"{place}.")
    if role != "assistant" and weight:
        raise _Unfit("bad weight", f"weights of the assistant's messages only, in {place}", f"{weight} for {role}")
    return Message(role, content, (1.0 if weight is None else weight) if role == "assistant" else 0.0, rest)


def _joined(content: Any, place: str) -> Any:
    """Text, given in parts or not at all (beside tool calls) too."""
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        raise _Unfit(
            "no text", f"parts of type text in {place}", "others", "Only text is read: images are not, " + skip()
        )
    return "".join(_text(part.get("text"), place) for part in content)


def _check(messages: list[Message]) -> None:
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise _Unfit("no assistant turn", "an assistant turn", ", ".join(m.role for m in messages) or "no message")
    if not all(answer.content.strip() or answer.fields.get("tool_calls") for answer in answers):
        raise _Unfit("empty response", "an answer", "none")


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise _Unfit("no text", f"text in {place}", "null" if value is None else type(value).__name__)
    if problem := unfit_text(value):
        raise _Unfit(problem.reason, problem.expected, problem.got, problem.remedy)
    return value


def _number(
    record: Mapping[str, Any], name: str, *, least: float = -math.inf, reason: str = "", place: str = ""
) -> float | None:
    value = record.get(name)
    if value is None:
        return None
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= least
    if not ok:
        expected = f"a finite number{' of at least 0' if least == 0 else ''} in {place}{name}"
        raise _Unfit(reason or f"bad {name}", expected, repr(value))
    return float(value)


def _whole(record: Mapping[str, Any], name: str) -> int | None:
    value = record.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise _Unfit(f"bad {name}", f"a whole number from 0 to 2^63 − 1 in {name}", repr(value))
    return value


def _group(record: Mapping[str, Any]) -> int | str | None:
    value = record.get("group")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise _Unfit("bad group", "text or a whole number in group", repr(value))
    return value
