"""Answers that a model writes itself, held against the given ones: exact match and ROUGE-L."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from samplewise.core.errors import SamplewiseError
from samplewise.data import read_instructions
from samplewise.data.conversation import Conversation
from samplewise.data.near_duplicates import fingerprint
from samplewise.data.records import Problem, place_of
from samplewise.data.template import ChatTemplate, chat_template
from samplewise.losses.evaluation import evaluating


@dataclass(frozen=True)
class AnswersConfig:
    """Held-out instruction rows that a model answers.

    path: as in `read_instructions`. held_out: the share of them that is held out, by a hash of the prompt, as in
    training; None: all. rows: at most so many. template: None for the model's own, "plain", or a file.
    max_new_tokens: of an answer, written greedily.
    """

    path: str
    held_out: float | None = None
    rows: int = 100
    template: str | None = None
    max_new_tokens: int = 64


def answer_rows(
    model: Any, tokenizer: Any, config: AnswersConfig, *, batch_size: int = 8, autocast: torch.dtype | None = None
) -> dict[str, Any]:
    """{"figures", "values": {"exact_match", "rouge_l"} by row, "items": ids, "answers": texts}."""
    chosen = held_out_rows(config)
    template = chat_template(tokenizer, config.template)
    prompts = [_prompt(each, template) for each in chosen]
    written = generate(
        model, tokenizer, prompts, max_new_tokens=config.max_new_tokens, batch_size=batch_size, autocast=autocast
    )
    given = [next(m.content for m in each.messages if m.role == "assistant") for each in chosen]
    values = {
        "exact_match": [exact_match(a, b) for a, b in zip(written, given, strict=True)],
        "rouge_l": [rouge_l(a, b) for a, b in zip(written, given, strict=True)],
    }
    figures = {name: sum(own) / len(own) for name, own in values.items()}
    return {"figures": figures, "values": values, "items": [each.id for each in chosen], "answers": written}


def held_out_rows(config: AnswersConfig) -> list[Conversation]:
    """The rows to answer, those of the smallest hashes of their prompts first."""
    hashed = [(fingerprint(each.prompt), each) for each in read_instructions(config.path, on_error="skip")]
    if config.held_out is not None:
        hashed = [(h, each) for h, each in hashed if int.from_bytes(h[:8]) < config.held_out * 2**64]
    if not hashed:
        raise SamplewiseError(
            "instructions",
            expected="at least one held-out row",
            got=f"none in {config.path}",
            remedy="Add held-out rows to that file.",
        )
    return [each for _, each in sorted(hashed, key=lambda pair: pair[0])][: config.rows]


def _prompt(conversation: Conversation, template: ChatTemplate) -> str:
    first = next(i for i, message in enumerate(conversation.messages) if message.role == "assistant")
    if conversation.plain:
        return conversation.messages[0].content
    found = template.prompt(conversation, first)
    if isinstance(found, Problem):
        place = place_of(conversation.source, conversation.row, conversation.line)
        raise SamplewiseError(place, expected=found.expected, got=found.got, remedy=found.remedy)
    return found


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, max_new_tokens: int, batch_size: int = 8,
    autocast: torch.dtype | None = None,
) -> list[str]:  # fmt: skip
    """What the model writes after each prompt, greedily, up to its end-of-text token.

    Longest prompts first, padded on the left; the prompts' special tokens are the template's.
    """
    rows = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    device, written = next(model.parameters()).device, [""] * len(rows)
    with evaluating(model), torch.autocast(device.type, autocast, enabled=autocast is not None):
        for start in range(0, len(order), batch_size):
            own = order[start : start + batch_size]
            ids, mask = _left_padded([rows[i] for i in own], tokenizer.pad_token_id)
            out = model.generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), do_sample=False, num_beams=1,
                max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
            for i, row in zip(own, out[:, ids.shape[1] :], strict=True):
                written[i] = tokenizer.decode(row, skip_special_tokens=True)
    return written


def _left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def exact_match(answer: str, given: str) -> float:
    """1 where the words are the same in the same order, without case and punctuation.

    >>> exact_match("The answer: 42.", "the answer 42"), exact_match("41", "42")
    (1.0, 0.0)
    """
    return float(_words(answer) == _words(given))


def rouge_l(answer: str, given: str) -> float:
    """The F-measure of the longest common subsequence of words (Lin, 2004).

    >>> rouge_l("police kill the gunman", "police killed the gunman")
    0.75
    """
    a, b = _words(answer), _words(given)
    common = _longest_common(a, b)
    return 2 * common / (len(a) + len(b)) if common else 0.0


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence: |a|·|b| steps."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]
