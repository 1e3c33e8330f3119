"""`training:` of a run file to `transformers.TrainingArguments`, or `trl.SFTConfig`, names unchanged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import torch
from transformers import TrainingArguments

from samplewise.core.errors import SamplewiseError, nearest
from samplewise.core.typed import described, fits, shown

SET_BY_THE_RUN = {
    "output_dir": "Set the key output of the run file instead.",
    "resume_from_checkpoint": "Use samplewise train … --resume, which takes the newest complete checkpoint.",
    "disable_tqdm": "Remove this key: samplewise shows the progress.",
    "remove_unused_columns": "Remove this key: rows have no unused columns.",
}
"""Fields of the arguments that a run sets itself, with what to do instead."""


_ASSISTANT = "Remove this key: only the assistant's tokens are predicted. Weights of messages leave turns out."
_READ = "Use the keys under data instead."

SET_BY_THE_RUN_FOR_SFT = {
    "max_length": "Set data.max_length: the length of a conversation, or of a packed row.",
    "truncation_mode": "Remove this key: a conversation that is too long loses its end.",
    "chat_template_path": "Name the file in data.chat_template.",
    "assistant_only_loss": _ASSISTANT,
    "completion_only_loss": _ASSISTANT,
    "eos_token": "Set data.chat_template: the template writes the end of a turn.",
    "dataset_text_field": _READ,
    "dataset_kwargs": _READ,
    "dataset_num_proc": _READ,
    "eval_packing": "Remove this key: each held-out conversation is evaluated as one row.",
    "model_init_kwargs": "Set the key model instead.",
    "trust_remote_code": "Remove this key: samplewise does not run code from a model's folder.",
}
"""Fields that a run on instructions sets as well."""

PRECISIONS = {"bf16", "fp16"}
"""Fields that name a precision: the machine chooses where none of them is given."""


def arguments_class(kind: str) -> type[TrainingArguments]:
    """The class that `training:` describes: `trl.SFTConfig` for instructions, else `TrainingArguments`."""
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
        if key in _BOUNDS and value is not None and not _BOUNDS[key][0](value):
            raise SamplewiseError(
                f"training.{key}", expected=_BOUNDS[key][1], got=shown(value), remedy="Check the value."
            )  # fmt: skip


def _positive(value: Any) -> bool:
    return value >= 1


def _share(value: Any) -> bool:
    return 0 <= value < 1


_BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
        (_positive, "a whole number of at least 1"),
    ),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), (_share, "a number in [0, 1)")),
}
"""Values that the Trainer takes and fails on later, without a sentence."""


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
    """`training` with the machine's precision, said either way, where none is asked for.

    autocast: as in `samplewise.models.ModelDescription`.
    """
    return training if PRECISIONS & training.keys() else {**training, "bf16": autocast == "bfloat16"}


def over(own: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """`own` over `common`; where `own` names a precision, nothing of the common one is left.

    >>> over({"fp16": True}, {"bf16": True, "max_steps": 9})
    {'max_steps': 9, 'fp16': True}
    """
    left = PRECISIONS if PRECISIONS & own.keys() else set()
    return {name: value for name, value in common.items() if name not in left} | own


def as_begun(training: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """`training` with the precision that the machine chose when the run began, where none is asked for."""
    if "bf16" in saved and not PRECISIONS & training.keys():
        return {**training, "bf16": saved["bf16"]}
    return training
