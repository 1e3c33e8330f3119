"""`training:` of a run file to `transformers.TrainingArguments`, names unchanged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import torch
from transformers import TrainingArguments

from samplewise.config import described, fits
from samplewise.rules.parse import nearest
from samplewise.types import SamplewiseError

OURS = {
    "output_dir": "The key output of the run file says where results go.",
    "resume_from_checkpoint": "samplewise train … --resume takes the newest complete checkpoint.",
    "disable_tqdm": "Progress is shown by samplewise.",
    "remove_unused_columns": "Rows have no unused columns.",
}
"""Fields that a run sets itself, and what to do instead."""


def check_training(training: dict[str, Any]) -> None:
    """Errors: SamplewiseError on a key that TrainingArguments does not have, or a value of another type."""
    known = {each.name for each in dataclasses.fields(TrainingArguments) if each.init} - set(OURS)
    hints = get_type_hints(TrainingArguments)
    for key, value in training.items():
        if key in OURS:
            raise SamplewiseError(f"training.{key}", expected="it not to be given", got=repr(value), remedy=OURS[key])
        if key not in known:
            raise SamplewiseError(
                f"training.{key}", expected="a field of TrainingArguments", got="an unknown one",
                remedy=nearest(str(key), sorted(known)),
            )  # fmt: skip
        if not fits(value, hints[key]):
            expected = described(hints[key])
            raise SamplewiseError(f"training.{key}", expected=expected, got=repr(value), remedy="Check the value.")


def training_arguments(training: dict[str, Any], output: Path) -> TrainingArguments:
    """The arguments of a run, with the defaults of transformers but for what shows progress.

    Errors: SamplewiseError for what TrainingArguments itself refuses.
    """
    check_training(training)
    gpu = torch.accelerator.is_available()
    given = {"dataloader_pin_memory": gpu, "use_cpu": not gpu, **training}  # bf16 on a CPU must be told so
    try:
        return TrainingArguments(output_dir=str(output), disable_tqdm=True, remove_unused_columns=False, **given)
    except Exception as error:  # it raises ValueError, ImportError and others, each with a sentence
        got = " ".join(str(error).split())
        raise SamplewiseError(
            "training", expected="what TrainingArguments takes", got=got, remedy="Check the values under training."
        ) from error


def with_precision(training: dict[str, Any], autocast: str | None) -> dict[str, Any]:
    """`training` with bf16 on where the machine computes in bfloat16 by itself and no precision is asked for."""
    if autocast != "bfloat16" or {"bf16", "fp16"} & training.keys():
        return training
    return {**training, "bf16": True}
