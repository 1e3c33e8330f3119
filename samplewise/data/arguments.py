"""How a chat template takes tool calls: arguments as objects or as JSON text, beside no content or empty content."""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

KEY = "samplewise"


class CallForm(NamedTuple):
    """text: arguments as JSON text. null: a message that only calls has null as its content, and not an empty text."""

    text: bool = False
    null: bool = False


def call_form(template: str, tokenizer: Any) -> CallForm:
    """The form in which a template writes calls, by trial.

    Objects are what most templates take (`| tojson`, `| items`), and an empty text; where both forms of a thing work
    or neither does, these are the answer. DeepSeek's adds the arguments to a text, as OpenAI's interface has them, and
    shows a call only where there is no content.
    """
    special = sorted((name, str(each)) for name, each in tokenizer.special_tokens_map.items())
    return _call_form(template, tuple(special))


@lru_cache(maxsize=256)
def _call_form(template: str, special: tuple[tuple[str, str], ...]) -> CallForm:
    arguments = {KEY: "x"}
    for content, with_result in product(("", None), (True, False)):
        as_object = _rendered(template, _said(arguments, content, with_result), special)
        if KEY in as_object and f"{{'{KEY}'" not in as_object:  # Python's own braces and quotes, from {{ arguments }}
            return CallForm(null=content is None)
        as_text = _rendered(template, _said(json.dumps(arguments), content, with_result), special)
        if json.dumps(arguments) in as_text:
            return CallForm(text=True, null=content is None)
    return CallForm()


def _said(arguments: Any, content: str | None, with_result: bool) -> list[Any]:
    """Some templates want the call's result after it, and some an id of nine letters (Mistral)."""
    call = {"id": "aaaaaaaaa", "type": "function", "function": {"name": "f", "arguments": arguments}}
    said = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "name": "f", "tool_call_id": "aaaaaaaaa", "content": "x"},
        {"role": "assistant", "content": "x"},
    ]
    return said if with_result else said[:2]


def _rendered(template: str, messages: list[Any], special: tuple[tuple[str, str], ...]) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    words: dict[str, Any] = dict(special)
    try:
        texts, _ = render_jinja_template(conversations=[messages], chat_template=template, **words)
    except Exception:  # a template that does not take it, whatever it says
        return ""
    return "" if "None" in texts[0] and messages[1]["content"] is None else texts[0]
