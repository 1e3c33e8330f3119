"""Weights in TRL's `SFTTrainer`: chat templates, packing and LoRA as there. Needs the extra `trl`."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor
from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportPrivateImportUsage]

from samplewise.core.distributed import totals
from samplewise.core.errors import SamplewiseError
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.result import StepResult
from samplewise.losses.body import unwrapped
from samplewise.losses.kernels import Tally
from samplewise.losses.own_terms import COEFFICIENTS, text_config
from samplewise.trainers.hf import WeightedMixin
from samplewise.trainers.packing import prepare_training
from samplewise.trainers.values import check_values


class WeightedSFTTrainer(WeightedMixin, SFTTrainer):
    """TRL's `SFTTrainer` on weighted samples: its arguments and all of `SFTConfig`, and those of `WeightedMixin`.

    A sample is a conversation (or prompt and completion): a row where rows are padded, a segment where they are packed
    (`bfd`, `bfd_split`: there a fragment is one) or padding-free. `wrapped` packing keeps no boundaries: there a row is
    one. Its loss is over the tokens that TRL predicts (completion_only_loss, assistant_only_loss).
    The columns sample_id, sample_weight, group, reference_loss and token_weights survive preparation and packing.
    Evaluation, metrics and logs are TRL's own.
    Errors: SamplewiseError on `loss_type="dft"`, image data, and what `WeightedMixin` refuses.

    ```python
    from samplewise.trainers.trl import WeightedSFTTrainer

    args = SFTConfig(output_dir="runs/sft", packing=True, assistant_only_loss=True)
    trainer = WeightedSFTTrainer(model, args, train_dataset=data, rule="chain(band(drop_top=0.1), ir_dro(r=1.0))")
    trainer.train()
    ```
    """

    _allowed_hosts = ("transformers.", "trl.")
    _prepared = False  # the training set, which comes first

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        config = kwargs.get("args", args[1] if len(args) > 1 else None)
        if isinstance(config, SFTConfig):
            _refuse(config)
        refuse_empty(kwargs.get("train_dataset", args[3] if len(args) > 3 else None))
        try:
            super().__init__(*args, **kwargs)
        except ValueError as error:
            if "not training-compatible" not in str(error):
                raise
            raise _no_training_template(error) from error
        if self._is_vision_dataset:
            raise SamplewiseError(
                "train_dataset", expected="text", got="images",
                remedy="Remove the images: image datasets are not supported yet.",
            )  # fmt: skip
        self._share_coefficient()

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
        prepared = prepare_training(dataset, args, packing, host, tokenizer)
        if hasattr(prepared, "__len__") and len(prepared) == 0:
            raise SamplewiseError(
                "train_dataset", expected="rows with something to predict",
                got=f"none: all {len(dataset)} were left out while they were prepared",
                remedy=f"Raise max_length, now {args.max_length}: no predicted token was within it.",
            )  # fmt: skip
        return prepared

    def _finished(self, result: StepResult) -> None:
        """TRL's own metrics of the step: tokens read, those of dropped samples too; entropy, accuracy."""
        super()._finished(result)
        attached = self.engine.attached
        assert attached is not None
        tally, attached.forward.tally = attached.forward.tally or Tally(), Tally()
        seen = [float(sum(map(_tokens, self.engine.given))), tally.entropy, tally.correct, tally.tokens]
        read, entropy, correct, predicted = totals(seen, self.args.device)
        metrics = self._metrics["train"]
        self._total_train_tokens += int(read) // (self._tp_size or 1)
        metrics["num_tokens"] = [self._total_train_tokens]
        metrics["entropy"].append(entropy / max(predicted, 1))
        metrics["mean_token_accuracy"].append(correct / max(predicted, 1))
        if self.aux_loss_enabled:
            metrics["aux_loss"] += _mean_over_ranks(result.router, self.args.device)

    def _attach(self) -> None:
        super()._attach()
        assert self.engine.attached is not None
        self.engine.attached.forward.tally = Tally()


def _tokens(micro: MicroBatch) -> int:
    mask = micro.inputs.get("attention_mask")
    return micro.targets.numel() if mask is None else int(mask.sum())


def _no_training_template(error: ValueError) -> SamplewiseError:
    """The error of a template that TRL cannot mark the assistant's part in, and the remedies."""
    return SamplewiseError(
        "assistant_only_loss", expected="a chat template that marks the assistant's part", got=str(error),
        remedy="Put {% generation %} and {% endgeneration %} around the assistant's part of the tokenizer's template. "
        "Or leave assistant_only_loss out and encode the rows here, which needs no marks for most templates: "
        "samplewise.data.to_dataset(list(encode_conversations(read_instructions(rows), chat_template(tokenizer)))).",
    )  # fmt: skip


def _mean_over_ranks(values: list[Tensor], device: torch.device) -> list[float]:
    """The mean over ranks of one value per micro-batch with a row to train on; empty where no rank has one."""
    total, count = totals([float(sum(map(float, values))), float(len(values))], device)
    return [total / count] if count else []


def refuse_empty(dataset: Any) -> None:
    """Errors: SamplewiseError for data without any row."""
    if dataset is not None and next(iter(dataset), None) is None:  # the host looks at the first row in the same way
        raise SamplewiseError(
            "train_dataset", expected="at least 1 row", got="no rows", remedy="Look at what reads or filters the data."
        )


def _refuse(config: SFTConfig) -> None:
    if config.loss_type == "dft":
        raise SamplewiseError(
            "loss_type", expected='"nll" with sample weighting', got=repr(config.loss_type),
            remedy="Use 'nll': DFT weighs tokens by their own probability, so its losses are not what rules read.",
        )  # fmt: skip
