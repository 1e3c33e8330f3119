"""Tools and tool calls in one shape, whatever they come as: JSON text or objects, OpenAI's old form or its new one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from samplewise.data.unfit import Unfit, parsed, say_once

TOOLS, CALLS = "tools that are no list of objects", "tool calls that are no list of objects"


def tools_of(record: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The objects that describe a row's tools, with every text of JSON parsed; None for no tool at all.

    Errors: Unfit.
    """
    expected = "a list of tools, or its JSON"
    tools = _parsed(record.get("tools"), TOOLS, expected)
    if tools is None:
        return None
    if not isinstance(tools, list):
        raise Unfit(TOOLS, expected, _named(tools))
    return [_tool(each, f"tools[{i}]") for i, each in enumerate(tools)] or None


def _tool(value: Any, place: str) -> dict[str, Any]:
    tool = dict(_object(value, TOOLS, f"an object, or its JSON, in {place}"))
    if "function" in tool:
        tool["function"] = _with_parameters(_object(tool["function"], TOOLS, f"an object in {place}.function"), place)
    elif tool.get("type") == "function" and not isinstance(tool.get("name"), str):
        raise Unfit(TOOLS, f"a function in {place}", f"the fields {', '.join(map(str, tool))}")
    return _with_parameters(tool, place)


def _with_parameters(function: Mapping[str, Any], place: str) -> dict[str, Any]:
    """With the schema as an object: tables hold it as text, since each tool's is another."""
    out = dict(function)
    if isinstance(out.get("parameters"), str):
        expected = f"an object, or its JSON, in {place}.parameters"
        schema = _parsed(out["parameters"], TOOLS, expected)
        out["parameters"] = {} if schema is None else _object(schema, TOOLS, expected)
    return out


def with_calls(fields: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A message's fields with `tool_calls` as a list of objects whose arguments are objects; without it for no call.

    OpenAI's old `function_call` becomes a call. Errors: Unfit.
    """
    out = {name: value for name, value in fields.items() if name not in ("tool_calls", "function_call")}
    expected = f"a list of calls, or its JSON, in {place}.tool_calls"
    calls = _parsed(fields.get("tool_calls"), CALLS, expected) or []
    if not isinstance(calls, list):
        raise Unfit(CALLS, expected, _named(calls))
    old = _parsed(fields.get("function_call"), CALLS, f"an object in {place}.function_call")
    if old:
        say_once("messages have a function_call, OpenAI's old form: it is read as one of tool_calls")
        calls = [*calls, {"type": "function", "function": old}]
    found = [_call(each, f"{place}.tool_calls[{i}]") for i, each in enumerate(calls)]
    return out | ({"tool_calls": found} if found else {})


def _call(value: Any, place: str) -> dict[str, Any]:
    call = dict(_object(value, CALLS, f"an object, or its JSON, in {place}"))
    if "function" in call:
        call["function"] = _with_arguments(_object(call["function"], CALLS, f"an object in {place}.function"), place)
        return call
    return _with_arguments(call, place)


def _with_arguments(function: Mapping[str, Any], place: str) -> dict[str, Any]:
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise Unfit(CALLS, f"the name of a function in {place}", _named(function.get("name")))
    given, expected = function.get("arguments"), f"an object, or its JSON, in {place}.arguments"
    arguments = _parsed(given, CALLS, expected)
    if isinstance(given, str):
        say_once("tool calls have their arguments as JSON text: they are read as the objects that they stand for")
    return {**function, "arguments": {} if arguments is None else _object(arguments, CALLS, expected)}


def in_form(message: Mapping[str, Any], text: bool, null: bool) -> dict[str, Any]:
    """A message as a template takes calls: with arguments as JSON text; with null in the place of empty content."""
    out = dict(message)
    if "tool_calls" in out and text:
        out["tool_calls"] = [_as_text(call) for call in out["tool_calls"]]
    if "tool_calls" in out and null:
        out["content"] = out["content"] or None
    return out


def _as_text(call: Mapping[str, Any]) -> dict[str, Any]:
    if "function" in call:
        return {**call, "function": _as_text(call["function"])}
    return {**call, "arguments": json.dumps(call["arguments"], ensure_ascii=False)}


def _object(value: Any, reason: str, expected: str) -> Mapping[str, Any]:
    found = _parsed(value, reason, expected)
    if not isinstance(found, Mapping):
        raise Unfit(reason, expected, _named(found))
    return found


def _parsed(value: Any, reason: str, expected: str) -> Any:
    return parsed(value, reason, expected) if isinstance(value, str) else value


def _named(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__}: {repr(value)[:60]}"
