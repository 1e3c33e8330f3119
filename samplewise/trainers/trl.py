"""Weights in TRL's `SFTTrainer`: chat templates, packing and LoRA as there. Needs the extra `trl`."""

from __future__ import annotations

from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportPrivateImportUsage]

from samplewise.core.distributed import totals
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.modes import RetryInTwoPasses
from samplewise.engine.result import StepResult
from samplewise.losses.body import unwrapped
from samplewise.losses.kernels import Tally
from samplewise.losses.own_terms import COEFFICIENTS, text_config
from samplewise.trainers.hf import MICRO_BATCH_KEY, WeightedMixin
from samplewise.trainers.model_card import PAPER, TAG, methods
from samplewise.trainers.packing import prepare_training
from samplewise.trainers.prompts import check_prompt_weight, with_prompts
from samplewise.trainers.trl_checks import (
    no_training_template,
    refuse_all_left_out,
    refuse_config,
    refuse_empty,
    refuse_images,
)
from samplewise.trainers.values import check_values


class WeightedSFTTrainer(WeightedMixin, SFTTrainer):
    """TRL's `SFTTrainer` on weighted samples: its arguments and all of `SFTConfig`, and those of `WeightedMixin`.

    A sample is a conversation (or prompt and completion): a row where rows are padded, a segment where they are packed
    (`bfd`, `bfd_split`: there a fragment is one) or padding-free. `wrapped` packing keeps no boundaries: there a row is
    one. Its loss is over the tokens that TRL predicts (completion_only_loss, assistant_only_loss).
    The columns sample_id, sample_weight, group, reference_loss and token_weights survive preparation and packing.
    Evaluation, metrics and logs are TRL's own.
    prompt_weight: in [0, 1]: tokens that TRL would mask, those of a prompt or of a user, are predicted too, each
        counting so much in its sample's loss. 0, like None, leaves them out; 1 is completion_only_loss=False.
    Errors: SamplewiseError on `loss_type="dft"`, image data, and what `WeightedMixin` refuses.

    ```python
    from samplewise.trainers.trl import WeightedSFTTrainer

    args = SFTConfig(output_dir="runs/sft", packing=True, assistant_only_loss=True)
    trainer = WeightedSFTTrainer(model, args, train_dataset=data, rule="chain(band(drop_top=0.1), ir_dro(r=1.0))")
    trainer.train()
    ```
    """

    _allowed_hosts = ("transformers.", "trl.")
    _tag_names: ClassVar = [*SFTTrainer._tag_names, TAG]
    _prepared = False  # the training set, which comes first

    def __init__(self, *args: Any, prompt_weight: float | None = None, **kwargs: Any) -> None:
        self.prompt_weight, self._tallies = check_prompt_weight(prompt_weight), []
        config = kwargs.get("args", args[1] if len(args) > 1 else None)
        if isinstance(config, SFTConfig):
            refuse_config(config)
        refuse_empty(kwargs.get("train_dataset", args[3] if len(args) > 3 else None))
        try:
            super().__init__(*args, **kwargs)
        except ValueError as error:
            if "not training-compatible" not in str(error):
                raise
            raise no_training_template(error) from error
        refuse_images(self._is_vision_dataset)
        self._share_coefficient()
        if found := methods(self.rule):  # TRL's template names them as what the model was trained with
            self._name, self._paper = f"{self._name} with {' and '.join(found)}", PAPER

    def _share_coefficient(self) -> None:
        """TRL's switch and coefficient for a router's term, which it keeps in itself, where the model reads its own."""
        model: Any = self.model
        config = text_config(model)
        if hasattr(config, "output_router_logits"):
            config.output_router_logits = self.aux_loss_enabled
        if self.aux_loss_enabled:
            for owner, name in product((unwrapped(model), config), COEFFICIENTS):
                if hasattr(owner, name):
                    setattr(owner, name, self.router_aux_loss_coef)

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, packing: bool, formatting_func: Any, dataset_name: str
    ) -> Any:
        def host(dataset: Any, args: Any, packing: bool) -> Any:
            return super(WeightedSFTTrainer, self)._prepare_dataset(
                dataset, processing_class, args, packing, formatting_func, dataset_name
            )

        if dataset_name != "train" or self._prepared:  # an evaluation set may have that name too
            return host(dataset, args, packing)
        self._prepared = True
        negative = self.options.allow_negative
        check_values(dataset, self._columns(), negative=negative)  # while rows are still those that were given
        tokenizer = getattr(processing_class, "tokenizer", processing_class)
        if self.prompt_weight is not None:
            masked = bool(self.completion_only_loss or args.assistant_only_loss)
            dataset = with_prompts(dataset, args, host, self.prompt_weight, masked)
        prepared = prepare_training(dataset, args, packing, host, tokenizer)
        refuse_all_left_out(dataset, prepared, args.max_length)
        return prepared

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As in `WeightedMixin`; what is counted of each micro-batch is kept apart, as TRL averages over them."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if inputs.get(MICRO_BATCH_KEY) is not None:
            self._tallies.append(self._new_tally())
        return loss

    def _new_tally(self) -> Tally:
        """What was counted since the last: in two passes all of the scoring pass, in the first micro-batch."""
        assert self.engine.attached is not None
        forward = self.engine.attached.forward
        tally, forward.tally = forward.tally or Tally(), Tally()
        return tally

    def _retried(self, model: nn.Module, reason: RetryInTwoPasses) -> list[MicroBatch]:
        self._tallies = []
        self._new_tally()  # of the pass that is discarded
        return super()._retried(model, reason)

    def _finished(self, result: StepResult) -> None:
        """TRL's own metrics of the step: tokens read, those of dropped samples too; entropy, accuracy."""
        super()._finished(result)
        seen = [float(sum(map(_tokens, self.engine.given)))]
        for tally in self._tallies:
            seen += [tally.entropy, tally.correct, tally.tokens]
        self._tallies = []
        read, *sums = totals(seen, self.args.device)
        metrics = self._metrics["train"]
        self._total_train_tokens += int(read) // (self._tp_size or 1)
        metrics["num_tokens"] = [self._total_train_tokens]
        for entropy, correct, predicted in zip(sums[::3], sums[1::3], sums[2::3], strict=True):
            if predicted:
                metrics["entropy"].append(entropy / predicted)
                metrics["mean_token_accuracy"].append(correct / predicted)
        if self.aux_loss_enabled:
            metrics["aux_loss"] += _mean_over_ranks(result.router, self.args.device)

    def _attach(self) -> None:
        super()._attach()
        self._tallies = []
        self._new_tally()


def _tokens(micro: MicroBatch) -> int:
    return micro.targets.numel() if micro.attended is None else int(micro.attended.sum())


def _mean_over_ranks(values: list[Tensor], device: torch.device) -> list[float]:
    """The mean over ranks of one value per micro-batch with a row to train on; empty where no rank has one."""
    total, count = totals([float(sum(map(float, values))), float(len(values))], device)
    return [total / count] if count else []
