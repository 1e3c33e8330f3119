"""The chat template to use: the model's own, by name, from a file or as text; checked before a row is rendered."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.data.rendering import ChatTemplate, no_jinja
from samplewise.data.trial import check_size

PLAIN = (
    "{{ bos_token }}{% for message in messages %}{{ '### ' + message['role'] | capitalize + ':\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)
"""A heading for each turn, and the EOS token at the end of the assistant's. For models that have no template."""


def chat_template(tokenizer: Any, given: str | Path | None = None) -> ChatTemplate:
    """The chat template that an argument names.

    given: None for the tokenizer's own; the name of one where it has several; "training" for TRL's variant of it, which
        marks the assistant's part; "plain" for headings (`PLAIN`); else a file with a Jinja template, or its text.
    Errors: SamplewiseError where there is none, for one that is no Jinja or builds more than `trial` allows of a few
        words, and for tokenizers that do not map tokens to places in the text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise SamplewiseError(
            "tokenizer", expected="a fast tokenizer, which maps tokens to characters", got=type(tokenizer).__name__,
            remedy="Load it with AutoTokenizer, with a tokenizer.json beside the model.",
        )  # fmt: skip
    found = _template(tokenizer, given)
    for text in found.texts.values():
        check_size(text)  # first: Jinja works out constants while it reads
        _check_syntax(text)
    return found


def _template(tokenizer: Any, given: str | Path | None) -> ChatTemplate:
    own = tokenizer.chat_template
    if given is None:
        if not own or (isinstance(own, dict) and not {"default", "tool_use"} & own.keys()):
            got = f"those named {', '.join(map(repr, own))}, and no default" if own else "none in the tokenizer"
            raise SamplewiseError(
                "chat_template", expected="a chat template", got=got,
                remedy='Give a file or a text, or use "plain": a heading for each turn, EOS after the assistant\'s.',
            )  # fmt: skip
        return ChatTemplate(tokenizer, None, "the model's own")
    if isinstance(own, dict) and str(given) in own:
        return ChatTemplate(tokenizer, own[str(given)], f"the model's {given}")
    if given == "plain":
        return ChatTemplate(tokenizer, PLAIN, "plain headings")
    if given == "training":
        return ChatTemplate(tokenizer, _trl_template(tokenizer), "TRL's training variant of the model's")
    return ChatTemplate(tokenizer, *_read(str(given)))


def _check_syntax(text: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        render_jinja_template(conversations=[], chat_template=text)  # compiles it, and has nothing to render
    except ImportError as error:
        raise no_jinja(error) from error
    except Exception as error:
        line = getattr(error, "lineno", None)
        raise SamplewiseError(
            "chat_template", expected="a Jinja template", got=f"{error}" + (f" (line {line})" if line else ""),
            remedy="Fix the template.",
        ) from None  # fmt: skip


def _read(given: str) -> tuple[str, str]:
    if "{%" in given or "{{" in given:
        return given, "given as text"
    path = Path(os.path.expanduser(given))
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SamplewiseError(
            "chat_template", expected='a file with a Jinja template, its text, "training" or "plain"',
            got=f"{given!r}: {getattr(error, 'strerror', None) or error}", remedy="Check the path.",
        ) from None  # fmt: skip


def _trl_template(tokenizer: Any) -> str | None:
    try:
        from trl.chat_template_utils import get_training_chat_template
    except ImportError:
        raise missing_extra("trl", "trl", 'chat_template="training"') from None
    try:
        return get_training_chat_template(tokenizer)
    except (ValueError, TypeError, KeyError) as error:
        raise SamplewiseError(
            "chat_template", expected="a model for whose template TRL has a training variant", got="another template",
            remedy="Put {% generation %} and {% endgeneration %} around the assistant's part of the template.",
        ) from error  # fmt: skip
