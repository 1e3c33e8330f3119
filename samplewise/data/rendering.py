"""The text of a conversation by a chat template, and which of its characters are the assistant's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from samplewise.core.errors import SamplewiseError
from samplewise.data.arguments import call_form
from samplewise.data.calls import in_form
from samplewise.data.conversation import Conversation
from samplewise.data.records import LONGEST, Problem, fix_or_skip, too_long, unfit_text
from samplewise.data.spans import Span, by_marks, by_prefix, hidden_call
from samplewise.data.unfit import say_once

_MARK = re.compile(r"\{%[-+]?\s*(?:end)?generation\s*[-+]?%\}")

T = TypeVar("T")


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with its tokenizer. given: its text, None for the tokenizer's own; name: for the log.

    A tokenizer may have several by name; then a row with tools takes `tool_use` where there is one, others `default`.
    """

    tokenizer: Any
    given: str | None
    name: str

    @property
    def texts(self) -> dict[str, str]:
        """The text of the template, or those for rows with and without tools, by name."""
        own = self.tokenizer.chat_template if self.given is None else self.given
        return {n: t for n, t in own.items() if n in ("default", "tool_use")} if isinstance(own, dict) else {"": own}

    @property
    def source(self) -> str:
        """All texts of the template as one, for fingerprints."""
        texts = self.texts
        return texts[""] if list(texts) == [""] else json.dumps(texts, sort_keys=True)

    @property
    def marked(self) -> bool:
        """Whether the template says itself what the assistant's part is, by {% generation %}, for all rows."""
        return all(map(_MARK.search, self.texts.values()))

    def unmarked(self) -> str | dict[str, str]:
        """The template without its marks: the same text, for tools that do not know them."""
        texts = {name: _MARK.sub("", text) for name, text in self.texts.items()}
        return texts.get("", texts)

    def render(self, conversation: Conversation) -> tuple[str, list[Span]] | Problem:
        """The text of a conversation, and the spans of the assistant's turns that are to be predicted.

        What the template raises, whatever it is, is a problem of the row, and so is a row of which the template does
        not show what the assistant's part is.
        """
        found = self._guarded(self._spans, conversation)
        if isinstance(found, Problem):
            return found
        return self._problem_of(conversation, found[0]) or found

    def prompt(self, conversation: Conversation, messages: int) -> str | Problem:
        """The first so many messages as text, and the start of an answer."""
        return self._guarded(self._text, conversation, messages, True)

    def _guarded(self, make: Callable[..., T], *given: Any) -> T | Problem:
        try:
            return make(*given)
        except ImportError as error:
            raise no_jinja(error) from error
        except Exception as error:  # a template is a program: what a row makes it do can fail in any way
            expected, remedy = "a conversation that the chat template takes", fix_or_skip("row or the template")
            return Problem("refused by the template", expected, _said(error), remedy)

    def _spans(self, conversation: Conversation) -> tuple[str, list[Span]] | Problem:
        if not _MARK.search(self._variant(conversation)):
            return by_prefix(conversation, self._text, self.name)
        text, marked = self._marked(conversation)
        spans = by_marks(conversation, marked, self.name)
        return spans if isinstance(spans, Problem) else (text, spans)

    def _problem_of(self, conversation: Conversation, text: str) -> Problem | None:
        if len(text) > LONGEST:
            return too_long(fix_or_skip("template"))
        if conversation.tools and not any(name in text for name in _names(conversation.tools)):
            say_once(f"the chat template ({self.name}) does not show the tools that rows have")
        return unfit_text(text) or hidden_call(conversation, self._whole, self.name)

    def _whole(self, conversation: Conversation) -> str | Problem:
        return self._guarded(self._text, conversation, len(conversation.messages), False)

    def _variant(self, conversation: Conversation) -> str:
        """The template's text for this row, which may depend on its having tools."""
        return self.tokenizer.get_chat_template(self.given, conversation.tools)

    def _text(self, conversation: Conversation, messages: int, prompt: bool) -> str:
        said = self._messages(conversation)[:messages]
        if not said:
            return ""
        return self.tokenizer.apply_chat_template(
            said, tools=conversation.tools, chat_template=self.given, add_generation_prompt=prompt, tokenize=False
        )

    def _marked(self, conversation: Conversation) -> tuple[str, list[tuple[int, int]]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        texts, spans = render_jinja_template(  # what apply_chat_template does, which keeps the spans to itself
            conversations=[self._messages(conversation)], tools=conversation.tools,
            chat_template=self._variant(conversation), return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )  # fmt: skip
        return texts[0], [(int(start), int(end)) for start, end in spans[0]]

    def _messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        said = [message.for_template() for message in conversation.messages]
        if not any("tool_calls" in message for message in said):
            return said
        form = call_form(self._variant(conversation), self.tokenizer)
        if form.text:
            say_once(f"the chat template ({self.name}) takes the arguments of tool calls as JSON text: so it gets them")
        return [in_form(message, form.text, form.null) for message in said]


def _names(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [tool.get("function", tool).get("name") for tool in tools]
    return [name for name in found if isinstance(name, str)] or [""]


def _said(error: Exception) -> str:
    """The first line of what an error says, with its kind unless the template itself raised it."""
    text = (str(error).strip().splitlines() or [""])[0][:300]
    return text if type(error).__name__ == "TemplateError" else f"{type(error).__name__}: {text}"


def no_jinja(error: ImportError) -> SamplewiseError:
    """The error for a jinja2 that is missing, or too old for transformers."""
    return SamplewiseError(
        "chat_template", expected="the package jinja2 in a version that transformers takes", got=str(error),
        remedy="Install it: pip install --upgrade jinja2.",
    )  # fmt: skip
