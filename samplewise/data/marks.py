"""Marks on a message that say how much of it is learned: `weight`, and what other tools call it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from samplewise.data.unfit import Unfit, checked_number, say_once

FLAGS = {"train": False, "training": False, "trainable": False, "loss": False, "masked": True}
"""True or false, and which of the two leaves the message out: axolotl, ms-swift and XTuner, torchtune (masked)."""

NUMBERS = ("weight", "loss_mask", "loss_scale", "loss_weight")
"""At least 0, and 0 leaves the message out: OpenAI and Mistral, verl, ms-swift, LLaMA-Factory."""

PARTS = ("train_detail", "training_detail")
"""axolotl's marks on characters within a message, which have no equal here."""

MARKS = (*FLAGS, *NUMBERS, *PARTS)

_ALIKE = re.compile(r"(^|_)(train|loss|mask|learn|weight)", re.IGNORECASE)


def weight_of(message: Mapping[str, Any], role: str, place: str) -> float:
    """The weight of a message's tokens by all of its marks; 1 for an assistant's without any, 0 for the others'.

    A flag says whether a message is learned and a number how much, so that `loss: true, loss_scale: 0.5` is 0.5.
    Errors: Unfit on a mark that is neither, on marks that contradict one another, and on another role's message that
    is to be learned.
    """
    numbers = {name: each for name in NUMBERS if (each := _number(message, name, place)) is not None}
    flags = {name: each for name in FLAGS if (each := _flag(message, name, place)) is not None}
    for name in PARTS:
        if message.get(name):
            raise Unfit("bad weight", f"marks on whole messages in {place}", f"{name}, on parts of one")
    _say_what_is_read(message, role, {**flags, **numbers})
    learned = {*flags.values(), *(number > 0 for number in numbers.values())}
    if len(learned) > 1 or len(set(numbers.values())) > 1:
        raise _contradiction(message, [*flags, *numbers], place)
    weight = next(iter(numbers.values()), float(learned != {False}))
    if role == "assistant":
        return weight
    if learned == {True}:
        marks = ", ".join(f"{name} {message[name]!r}" for name in (*numbers, *flags))
        raise Unfit("bad weight", f"weights of the assistant's messages only, in {place}", f"{marks} for {role}")
    return 0.0


def _number(message: Mapping[str, Any], name: str, place: str) -> float | None:
    if name != "weight" and isinstance(message.get(name), bool):
        return float(message[name])
    return checked_number(message, name, least=0.0, reason="bad weight", place=f"{place}.")


def _flag(message: Mapping[str, Any], name: str, place: str) -> bool | None:
    """Whether the message is learned by this mark; None without it."""
    value = message.get(name)
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise Unfit("bad weight", f"true or false in {place}.{name}", repr(value), "Give numbers in the field weight.")
    return bool(value) != FLAGS[name]


def _contradiction(message: Mapping[str, Any], names: list[str], place: str) -> Unfit:
    got = ", ".join(f"{name} {message[name]!r}" for name in names)
    return Unfit("bad weight", f"marks that agree in {place}", got, "Keep the one that is right.")


def _say_what_is_read(message: Mapping[str, Any], role: str, marks: Mapping[str, float]) -> None:
    for name in marks:
        if name != "weight":
            means = f"{str(FLAGS[name]).lower()} leaves it unlearned" if name in FLAGS else "as weight"
            say_once(f"messages have a mark {name!r}: it is read ({means})")
    for name in message if role == "assistant" else ():
        if name not in MARKS and message[name] is not None and _ALIKE.search(str(name)):
            say_once(f"messages have a field {name!r}, which is not read: what is not to be learned has the weight 0")
