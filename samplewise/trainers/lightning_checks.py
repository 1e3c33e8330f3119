"""What Lightning must not be set to do together with sample weighting."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy  # pyright: ignore[reportMissingImports]
from torch import Tensor

from samplewise.core.errors import SamplewiseError

PRECISIONS = ("32-true", "64-true", "bf16-mixed")


def check_trainer(trainer: Any, pl_module: Any) -> None:
    """Errors: SamplewiseError for manual optimization, and for strategies and precisions that are not tested."""
    if not pl_module.automatic_optimization:
        raise SamplewiseError(
            "automatic_optimization", expected="True", got="False",
            remedy="A loop of your own takes samplewise.trainers.WeightedStep, with Fabric too.",
        )  # fmt: skip
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise SamplewiseError(
            "strategy", expected="one device, or 'ddp'", got=type(trainer.strategy).__name__,
            remedy="Parameters that are split (FSDP2): use samplewise.trainers.WeightedStep or WeightedTrainer.",
        )  # fmt: skip
    if trainer.precision not in PRECISIONS:
        raise SamplewiseError(
            "precision", expected=" or ".join(map(repr, PRECISIONS)), got=repr(trainer.precision),
            remedy="Use 'bf16-mixed', which needs no scaled loss.",
        )  # fmt: skip


def check_optimizers(optimizers: list[Any]) -> None:
    """Errors: SamplewiseError for an optimizer that evaluates the loss more than once a step."""
    for optimizer in optimizers:
        if isinstance(optimizer, torch.optim.LBFGS):
            raise SamplewiseError(
                "optimizer", expected="one that takes a step from one gradient", got=type(optimizer).__name__,
                remedy="Use AdamW or SGD, for example.",
            )  # fmt: skip


def check_returned(loss: Tensor, expected: Tensor | None) -> None:
    """Errors: SamplewiseError unless the loss that is backpropagated is the one that the callback gave."""
    if expected is None:
        raise not_called("training_step")
    if not torch.equal(loss, expected):
        raise SamplewiseError(
            "training_step", expected="the value of weighting.loss(model, batch), as it is", got="another loss",
            remedy="Return it alone: the whole gradient is divided by what the weights sum to. A loss of your own for "
            "each sample goes into losses=….",
        )  # fmt: skip


def not_called(argument: str) -> SamplewiseError:
    """The error of a run in which the callback and `training_step` do not meet."""
    return SamplewiseError(
        argument, expected="a WeightingCallback whose loss training_step returns", got="one of the two alone",
        remedy="Return [self.weighting] from configure_callbacks, and self.weighting.loss(self.model, batch) from "
        "training_step.",
    )  # fmt: skip
