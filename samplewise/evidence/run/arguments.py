"""`training:` of a run file to `transformers.TrainingArguments`, or `trl.SFTConfig`, names unchanged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import torch
from transformers import TrainingArguments

from samplewise.core.errors import SamplewiseError, nearest
from samplewise.core.typed import described, fits, shown

SET_BY_THE_RUN = {
    "output_dir": "The key output of the run file says where results go.",
    "resume_from_checkpoint": "samplewise train … --resume takes the newest complete checkpoint.",
    "disable_tqdm": "Progress is shown by samplewise.",
    "remove_unused_columns": "Rows have no unused columns.",
}
"""Fields that a run sets itself, and what to do instead."""


_ASSISTANT = "Only the assistant's tokens are predicted; weights of messages leave turns out."
_READ = "The keys under data say what is read."

SET_BY_THE_RUN_FOR_SFT = {
    "max_length": "The key data.max_length says how long a conversation, or a packed row, may be.",
    "truncation_mode": "A conversation that is too long loses its end.",
    "chat_template_path": "The key data.chat_template takes a file.",
    "assistant_only_loss": _ASSISTANT,
    "completion_only_loss": _ASSISTANT,
    "eos_token": "The chat template writes what ends a turn: data.chat_template takes another.",
    "dataset_text_field": _READ,
    "dataset_kwargs": _READ,
    "dataset_num_proc": _READ,
    "eval_packing": "Held-out conversations are evaluated one a row.",
    "model_init_kwargs": "The key model says what is loaded.",
    "trust_remote_code": "The key model says what is loaded, and no code with it.",
}
"""The same for instructions."""


def arguments_class(kind: str) -> type[TrainingArguments]:
    """What `training:` is for data of a kind: `trl.SFTConfig` for instructions."""
    if kind != "instructions":
        return TrainingArguments
    from trl import SFTConfig  # pyright: ignore[reportPrivateImportUsage]

    return SFTConfig


def check_training(training: dict[str, Any], kind: str = "text") -> None:
    """Errors: SamplewiseError on a key that the arguments of this kind do not have, or a value of another type."""
    cls, reserved = arguments_class(kind), SET_BY_THE_RUN | (SET_BY_THE_RUN_FOR_SFT if kind == "instructions" else {})
    known = {each.name for each in dataclasses.fields(cls) if each.init} - set(reserved)
    hints = get_type_hints(cls)
    for key, value in training.items():
        if key in reserved:
            raise SamplewiseError(f"training.{key}", expected="no value here", got=shown(value), remedy=reserved[key])
        if key not in known:
            raise SamplewiseError(
                f"training.{key}", expected=f"a field of {cls.__name__}", got="an unknown one",
                remedy=nearest(str(key), sorted(known)),
            )  # fmt: skip
        if not fits(value, hints[key]):
            expected = described(hints[key])
            raise SamplewiseError(f"training.{key}", expected=expected, got=shown(value), remedy="Check the value.")


def training_arguments(training: dict[str, Any], output: Path, max_length: int | None = None) -> TrainingArguments:
    """The arguments of a run, with the defaults of transformers, or TRL, but for what shows progress and precision.

    max_length: of conversations; None for text. Errors: SamplewiseError for what the arguments themselves refuse.
    """
    kind = "text" if max_length is None else "instructions"
    check_training(training, kind)
    gpu = torch.accelerator.is_available()
    given = {"dataloader_pin_memory": gpu, "use_cpu": not gpu, **training}  # bf16 on a CPU must be told so
    if kind == "instructions":
        flat = given.get("padding_free") and not given.get("packing")  # TRL cuts no rows then; they are cut already
        given = {"bf16": False, "max_length": None if flat else max_length, **given}
    else:
        given["remove_unused_columns"] = False
    try:
        return arguments_class(kind)(output_dir=str(output), disable_tqdm=True, **given)
    except Exception as error:  # it raises ValueError, ImportError and others, each with a sentence
        name = arguments_class(kind).__name__
        got = " ".join(str(error).split())
        raise SamplewiseError(
            "training", expected=f"what {name} takes", got=got, remedy="Check the values under training."
        ) from error


def with_precision(training: dict[str, Any], autocast: str | None) -> dict[str, Any]:
    """`training` with bf16 on where the machine computes in bfloat16 by itself and no precision is asked for."""
    if autocast != "bfloat16" or {"bf16", "fp16"} & training.keys():
        return training
    return {**training, "bf16": True}
