"""Instruction data for one run: read, deduplicate, split, encode, with a count of everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samplewise.config import InstructionsConfig
from samplewise.core.errors import SamplewiseError
from samplewise.data import (
    ChatReport,
    ChatTemplate,
    Conversation,
    Example,
    InstructionReport,
    chat_template,
    deduplicate,
    encode_conversations,
    group_numbers,
    read_instructions,
    split_documents,
    to_dataset,
)
from samplewise.data.conversation import check_columns
from samplewise.data.near_duplicates import fingerprint
from samplewise.data.sources import is_local
from samplewise.evidence.run.prepared import Prepared
from samplewise.evidence.run.scored import Scored, scored_columns


def prepare_instructions(
    data: InstructionsConfig, tokenizer: Any, context: int | None = None, *, negative: bool = False
) -> Prepared:
    """Read, deduplicate, split and encode conversations.

    context: positions of the model, which bound data.max_length. negative: whether sample_weight may be below 0.
    Held-out conversations share no prompt with the others, exact and near-duplicates removed. A template that is given
    becomes the tokenizer's, so that it is saved with the model, without its marks.
    Errors: SamplewiseError on bad input, on data too small for the split, and where nothing is left to predict.
    """
    _check(data, context)
    template = chat_template(tokenizer, data.chat_template)
    scored = scored_columns(data.scores, tokenizer, template)
    read = InstructionReport()
    conversations = list(_conversations(data, read, negative))
    check_columns(conversations)
    train, held, duplicates = _split(data, conversations)
    if data.held_out_conversations is not None:
        held = sorted(held, key=lambda each: fingerprint(each.text))[: data.held_out_conversations]
    examples, trained = _encoded("data", train, template, data)
    held_examples, evaluated = _encoded("data.held_out", held, template, data)
    if data.chat_template not in (None, "training"):
        tokenizer.chat_template = template.unmarked()
    groups = group_numbers(conversations)  # of all, so that neither the split nor max_length changes them
    names = ", ".join(f"{name} {number}" for name, number in groups.items())
    lines = [
        f"read       {read}{read.others}",
        f"duplicates {duplicates['exact']} exact and {duplicates['near']} near left out"
        + (f", {duplicates['same_prompt']} with the prompt of a held-out one" if duplicates["same_prompt"] else ""),
        f"template   {template.name}; the assistant's part is {'marked' if template.marked else 'what its turns add'}",
        f"training   {trained}",
        f"held out   {evaluated}",
        *([f"groups     {names if len(groups) <= 20 else len(groups)}"] if groups else []),
        *[each.line(name) for name, each in scored.items()],
        *[f"skipped    {place}" for place in [*read.places, *trained.places, *evaluated.places]],
    ]
    counts = {
        "read": {"conversations": read.read, "forms": dict(read.forms), "skipped": dict(read.skipped)},
        "duplicates": duplicates, "template": template.name, "training": _counted(trained),
        "held_out": _counted(evaluated), "groups": {str(name): number for name, number in groups.items()},
    }  # fmt: skip
    return Prepared(_with_scores(to_dataset(examples, groups), scored, examples), held_examples, lines, counts)


def _check(data: InstructionsConfig, context: int | None) -> None:
    if context is not None and data.max_length > context:
        raise SamplewiseError(
            "data.max_length", expected=f"at most the model's context, {context}", got=data.max_length,
            remedy="Lower data.max_length.",
        )  # fmt: skip
    if data.scores is not None and data.turns:
        raise SamplewiseError(
            "data.scores", expected="data.turns: false", got="data.turns: true, whose samples have ids of their own",
            remedy="Leave out one of them.",
        )  # fmt: skip


def _with_scores(dataset: Any, scored: Mapping[str, Scored], examples: list[Example]) -> Any:
    for name, each in scored.items():
        if name in dataset.column_names:
            raise SamplewiseError(
                f"data.scores.{name}", expected=f"rows without a column {name}", got="rows that have one",
                remedy="Leave out one of them.",
            )  # fmt: skip
        dataset = dataset.add_column(name, each.of(examples))
    return dataset


def _conversations(data: InstructionsConfig, report: InstructionReport, negative: bool) -> list[Conversation]:
    found = read_instructions(
        data.path, format=data.format, on_error=data.on_error, report=report, config=data.name, split=data.split,
        negative=negative,
    )  # fmt: skip
    return list(found)


def _split(
    data: InstructionsConfig, conversations: list[Conversation]
) -> tuple[list[Conversation], list[Conversation], dict[str, int]]:
    """Training and held-out conversations, and the duplicates left out; of two copies, the held-out one stays."""
    elsewhere: list[Conversation] = []
    same_prompt = 0
    if data.held_out_from is not None:
        local = is_local(data.path)
        elsewhere = list(
            read_instructions(
                data.held_out_from if local else data.path, format=data.format, on_error=data.on_error,
                config=data.name, split="train" if local else data.held_out_from, negative=True,  # nothing weighs them
            )
        )  # fmt: skip
    named = {id(each) for each in elsewhere}
    unique = deduplicate([*elsewhere, *conversations])
    if data.held_out_from is None:
        train, held = split_documents(unique.kept, data.held_out, text=lambda each: each.prompt or each.text)
    else:
        held = [each for each in unique.kept if id(each) in named]
        asked = {each.prompt for each in held}
        others = [each for each in unique.kept if id(each) not in named]
        train = [each for each in others if not each.prompt or each.prompt not in asked]
        same_prompt = len(others) - len(train)
    return train, held, {"exact": unique.exact, "near": unique.near, "same_prompt": same_prompt}


def _encoded(
    place: str, conversations: list[Conversation], template: ChatTemplate, data: InstructionsConfig
) -> tuple[list[Example], ChatReport]:
    report = ChatReport()
    examples = list(
        encode_conversations(conversations, template, max_length=data.max_length, on_error=data.on_error, report=report)
    )
    if not examples:
        raise SamplewiseError(
            place, expected="at least one conversation with something to predict", got=str(report),
            remedy="Give more data, or raise data.max_length.",
        )  # fmt: skip
    return examples, report


def _counted(report: ChatReport) -> dict[str, Any]:
    return {
        "conversations": report.read, "tokens": report.tokens, "predicted": report.predicted, "cut": report.cut,
        "no_target": report.no_target, "masked": report.masked, "refused": dict(report.skipped),
        "open_ended": report.open_ended,
    }  # fmt: skip
