"""Weights in LLaMA-Factory's rewritten trainer (`llamafactory.v1`): its batches, loop, clipping and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from llamafactory.v1.trainers.sft_trainer import SFTTrainer  # pyright: ignore[reportMissingImports]
from llamafactory.v1.utils.callbacks import TrainerCallback  # pyright: ignore[reportMissingImports]
from torch import Tensor

from samplewise.core.columns import COLUMNS, TOKEN_WEIGHTS
from samplewise.core.errors import SamplewiseError
from samplewise.losses.token_losses import IGNORED
from samplewise.trainers.identify import IdentifiedRows, checked
from samplewise.trainers.loop import WeightedStep

WEIGHTS = "loss_weights"  # one a token, from the `loss_weight` of its message
NOT_INPUTS = frozenset({*COLUMNS, WEIGHTS, "labels"})


class WeightedV1Trainer(SFTTrainer):
    """LLaMA-Factory v1's `SFTTrainer` on weighted samples: its arguments, and those of `WeightedStep` by name.

    A sample is a conversation; its loss is Σ mₜℓₜ / Σ mₜ with m the `loss_weight` of each token's message. Rows without
    a `converter` keep the columns sample_id, sample_weight, group, reference_loss and stored_loss.
    The loop hands over its micro-batches one by one; the step runs when its last has come, so that weights are exact
    over all of them and over ranks. Logs hold the unweighted loss, and this library's figures.
    Errors: SamplewiseError on DeepSpeed, context parallelism, padding-free batches, and on resuming a rule with memory.

    ```python
    trainer = WeightedV1Trainer(args, model, renderer, dataset, rule="ir_dro(r=3.0)")
    trainer.fit()
    ```
    """

    def __init__(
        self, args: Any, model: Any, renderer: Any, train_dataset: Any, callbacks: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        _refuse(args)
        super().__init__(args, model, FieldsRenderer(renderer), IdentifiedRows(train_dataset), callbacks)
        self.step = WeightedStep(self.model, options.pop("rule", None), **options)
        _refuse_memory(self.step, self.global_step)
        self.step.engine.skip_to(self.global_step)
        self.step.engine.set_total_steps(self.num_training_steps)
        self.given: list[dict[str, Tensor]] = []
        self.callback_handler.callbacks.insert(0, _Figures(self.step))  # before what prints and writes the log

    def compute_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Keeps the micro-batch; with the step's last, leaves its whole gradient in the parameters.

        Returns a zero of its own for the loop to scale and call backward on, which reaches no parameter.
        """
        self.given.append(_micro_batch(batch))
        if len(self.given) == self.train_batch_generator.num_micro_batch:
            given, self.given = self.given, []
            for micro in self.step.plan(given):
                self.step.backward(micro)
            self.step.finish()
        return torch.zeros((), device=self.device, requires_grad=True)


class FieldsRenderer:
    """LLaMA-Factory's renderer, whose rows keep the columns of samples.

    A value stands at every position of its row: what pads or truncates rows then does not lose it.
    """

    def __init__(self, renderer: Any) -> None:
        self.renderer, self.processor = renderer, renderer.processor

    def process_samples(self, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows of `renderer`, with the columns that the samples have."""
        rows = self.renderer.process_samples(samples)
        for row, sample in zip(rows, samples, strict=True):
            given = {name: checked(name, sample[name]) for name in COLUMNS if name in sample}
            row |= {name: np.full(len(row["input_ids"]), value) for name, value in given.items()}
        return rows


class _Figures(TrainerCallback):
    """The step's own loss and figures, in place of what the loop makes of `compute_loss`."""

    def __init__(self, step: WeightedStep) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, **_: Any) -> None:
        last = self.step.engine.figures.last
        assert last is not None
        state.loss = last.loss

    def on_log(self, args: Any, state: Any, logs: dict[str, Any], **_: Any) -> None:
        logs |= {"loss": state.loss, **self.step.engine.figures.take()}

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.step.detach()


def _micro_batch(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    inputs = {key: each for key, each in batch.items() if isinstance(each, Tensor) and key not in NOT_INPUTS}
    columns = {name: batch[name][:, 0] for name in COLUMNS if name in batch}
    labels = batch["labels"].masked_fill(batch[WEIGHTS] == 0, IGNORED)
    return {**inputs, **columns, "labels": labels, TOKEN_WEIGHTS: batch[WEIGHTS].float()}


def _refuse(args: Any) -> None:
    spread: Mapping[str, Any] = args.dist_config or {}
    if spread.get("name") == "deepspeed":
        raise _refusal("dist_config", "fsdp2 or none: DeepSpeed clips inside backward", "deepspeed", "Use name: fsdp2.")
    if spread.get("cp_size", 1) > 1:
        raise _refusal("cp_size", "1: a sample's tokens on one rank", spread["cp_size"], "Leave cp_size out.")
    if "padding_free" in str(args.batching_strategy):
        raise _refusal(
            "batching_strategy", "padded rows: its packed rows keep an attention mask over all samples",
            str(args.batching_strategy), "Use normal or dynamic_batching.",
        )  # fmt: skip


def _refuse_memory(step: WeightedStep, done: int) -> None:
    engine = step.engine
    if done and (engine.state or engine.options.loss_from == "stored"):
        raise _refusal(
            "resume_from_checkpoint", "a rule without memory: v1's checkpoints do not hold what a rule remembers",
            engine.options.rule.expression, "Start again, or use LLaMA-Factory's classic trainer.",
        )  # fmt: skip


def _refusal(argument: str, expected: str, got: Any, remedy: str) -> SamplewiseError:
    return SamplewiseError(argument, expected=expected, got=got, remedy=remedy)
