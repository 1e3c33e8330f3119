"""Chat templates: the text of a conversation, and which of its characters are the assistant's."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.data.conversation import Conversation
from samplewise.data.records import Problem

PLAIN = (
    "{{ bos_token }}{% for message in messages %}{{ '### ' + message['role'] | capitalize + ':\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)
"""A heading for each turn, and the EOS token at the end of the assistant's. For models that have no template."""

_MARK = re.compile(r"\{%[-+]?\s*(?:end)?generation\s*[-+]?%\}")

Span = tuple[int, int, float]
"""The characters from start to end, and the weight of their tokens."""


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with its tokenizer. given: its text, None for the tokenizer's own; name: for the log."""

    tokenizer: Any
    given: str | None
    name: str

    @property
    def marked(self) -> bool:
        """Whether the template says itself what the assistant's part is, by {% generation %}."""
        return _MARK.search(self.tokenizer.get_chat_template(self.given)) is not None

    def unmarked(self) -> str:
        """The template without its marks: the same text, for tools that do not know them."""
        return _MARK.sub("", self.tokenizer.get_chat_template(self.given))

    def render(self, conversation: Conversation) -> tuple[str, list[Span]] | Problem:
        """The text of a conversation, and the spans of the assistant's turns that are to be predicted.

        A template that refuses the conversation is a problem of the row. Errors: SamplewiseError for a template that
        does not show what the assistant's part is.
        """
        import jinja2

        try:
            return _marked_spans(self, conversation) if self.marked else _prefix_spans(self, conversation)
        except jinja2.TemplateError as error:
            remedy = 'Mend the row or the template, or leave the row out and count it with on_error="skip".'
            return Problem("refused by the template", "a conversation that the chat template takes", str(error), remedy)

    def text(self, conversation: Conversation, messages: int, prompt: bool = False) -> str:
        """The first so many messages as text; prompt: and the start of an answer."""
        said = [message.for_template() for message in conversation.messages[:messages]]
        if not said:
            return ""
        return self.tokenizer.apply_chat_template(
            said, tools=conversation.tools, chat_template=self.given, add_generation_prompt=prompt, tokenize=False
        )


def chat_template(tokenizer: Any, given: str | Path | None = None) -> ChatTemplate:
    """The template to use.

    given: None for the tokenizer's own; "training" for TRL's variant of it, which marks the assistant's part; "plain"
        for headings (`PLAIN`); else a file with a Jinja template, or its text.
    Errors: SamplewiseError where there is none, and for tokenizers that do not tell where a token stands in a text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise SamplewiseError(
            "tokenizer", expected="one that gives the characters of each token", got=type(tokenizer).__name__,
            remedy="Load it with AutoTokenizer, with a tokenizer.json beside the model.",
        )  # fmt: skip
    if given is None:
        if not tokenizer.chat_template:
            raise SamplewiseError(
                "chat_template", expected="a chat template", got="none in the tokenizer",
                remedy='Give a file or a text, or "plain": a heading for each turn, EOS after the assistant\'s.',
            )  # fmt: skip
        return ChatTemplate(tokenizer, None, "the model's own")
    if given == "plain":
        return ChatTemplate(tokenizer, PLAIN, "plain headings")
    if given == "training":
        return ChatTemplate(tokenizer, _trl_template(tokenizer), "TRL's training variant of the model's")
    return ChatTemplate(tokenizer, *_read(str(given)))


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
            "chat_template", expected="a model whose template TRL has a training variant of", got="another",
            remedy="Put {% generation %} and {% endgeneration %} around the assistant's part of it, and give that.",
        ) from error  # fmt: skip


def _marked_spans(template: ChatTemplate, conversation: Conversation) -> tuple[str, list[Span]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    tokenizer = template.tokenizer
    texts, spans = render_jinja_template(  # what apply_chat_template does, which keeps the spans to itself
        conversations=[[message.for_template() for message in conversation.messages]],
        tools=conversation.tools,
        chat_template=tokenizer.get_chat_template(template.given, conversation.tools),
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    found = [(int(start), int(end)) for start, end in spans[0] if end > start]
    weights = [message.weight for message in conversation.messages if message.role == "assistant"]
    if not found:
        raise _shows_nothing(template, conversation)
    if len(set(weights)) == 1:
        weights = weights[:1] * len(found)
    elif len(weights) != len(found):
        raise SamplewiseError(
            "chat_template", expected=f"one {{% generation %}} block for each of the {len(weights)} assistant turns",
            got=f"{len(found)} blocks for {conversation.source}, row {conversation.row}",
            remedy="Give a template with one block a turn, or all messages the same weight.",
        )  # fmt: skip
    return texts[0], [(*span, weight) for span, weight in zip(found, weights, strict=True) if weight]


def _prefix_spans(template: ChatTemplate, conversation: Conversation) -> tuple[str, list[Span]]:
    """The assistant's part is what its turn adds to the prompt for it; two more renderings for each such turn."""
    messages = conversation.messages
    whole, spans = template.text(conversation, len(messages)), []
    for i, message in enumerate(messages):
        if message.role != "assistant" or not message.weight:
            continue
        before = template.text(conversation, i, prompt=True) if i else _opening(template, conversation)
        after = template.text(conversation, i + 1)
        if not (whole.startswith(after) and after.startswith(before)):
            raise _not_by_prefix(template, conversation, i)
        if len(after) == len(before):
            raise _shows_nothing(template, conversation)
        spans.append((len(before), len(after), message.weight))
    return whole, spans


def _opening(template: ChatTemplate, conversation: Conversation) -> str:
    """What stands before an answer that no message comes before: found by what a prompt ends with elsewhere."""
    from samplewise.data.conversation import Message

    probe = Conversation((Message("user", "x"),), "", 0, "")
    prompt = template.text(probe, 1, prompt=True).removeprefix(template.text(probe, 1))
    text = template.text(conversation, 1)
    return text[: text.find(prompt) + len(prompt)] if prompt in text else ""


_REMEDY = (
    'Give a template with {% generation %} around the assistant\'s part; "training" takes the one that TRL ships for '
    "many models."
)


def _not_by_prefix(template: ChatTemplate, conversation: Conversation, turn: int) -> SamplewiseError:
    return SamplewiseError(
        "chat_template", expected="one that renders the start of a conversation as it renders the whole of it",
        got=f"other text before or in message {turn} of {conversation.source}, row {conversation.row} "
        f"({template.name}), so the assistant's part cannot be told",
        remedy=_REMEDY,
    )  # fmt: skip


def _shows_nothing(template: ChatTemplate, conversation: Conversation) -> SamplewiseError:
    return SamplewiseError(
        "chat_template", expected="one that shows the assistant's turns",
        got=f"nothing of them for {conversation.source}, row {conversation.row} ({template.name})", remedy=_REMEDY,
    )  # fmt: skip
