"""Weights in TRL's `DPOTrainer`: a sample is a pair of answers, its loss is TRL's own. Needs the extra `trl`."""

from __future__ import annotations

import copy
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from trl import DPOConfig, DPOTrainer  # pyright: ignore[reportPrivateImportUsage]

from samplewise.core.columns import ID, TOKEN_WEIGHTS
from samplewise.core.errors import SamplewiseError
from samplewise.core.micro_batch import MicroBatch, read_micro_batch
from samplewise.engine.result import StepResult
from samplewise.trainers.hf import WeightedMixin
from samplewise.trainers.packing import numbered
from samplewise.trainers.pairs import REFERENCE, PairMetrics, by_answer, by_pair, one_pair
from samplewise.trainers.trl_checks import refuse_empty
from samplewise.trainers.values import check_values

OF_BATCHES = {"aot", "aot_unpaired", "sft"}  # sort the pairs of a micro-batch, or average over all its tokens
NOT_OF_PAIRS = {"per": "sample", "turns": False, "token_rule": None, "reference_model": None, "losses": None}
ALONE: Any = SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)
"""What accelerate is to a pair: the loss of one is computed on the host, and no other rank is asked."""


class WeightedDPOTrainer(WeightedMixin, DPOTrainer):
    """TRL's `DPOTrainer` on weighted pairs: its arguments and all of `DPOConfig`, and those of `WeightedMixin`.

    A sample is a pair. Its loss is TRL's for that pair alone, in nats where that is a log-likelihood ("sigmoid"), and
    the step's mean is over pairs. `ir_dro(r=-b)` is Dr. DPO (arXiv 2407.07880) with β′ = b.
    The columns sample_id, sample_weight, group, reference_loss and stored_loss survive preparation.
    Evaluation and the reference are TRL's own; metrics are those of all pairs that the step ran.
    Errors: SamplewiseError on losses that no pair has alone, options that are about tokens, images, a router's term,
    and what `WeightedMixin` refuses.

    ```python
    from samplewise.trainers.dpo import WeightedDPOTrainer

    trainer = WeightedDPOTrainer(model, args=DPOConfig("runs/dpo"), train_dataset=pairs, rule="ir_dro(r=-1.0)")
    trainer.train()
    ```
    """

    _allowed_hosts = ("transformers.", "trl.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        data = kwargs.get("train_dataset", args[4] if len(args) > 4 else None)
        refuse_empty(data)
        _refuse(kwargs.get("args", args[2] if len(args) > 2 else None), next(iter(data or ()), {}), kwargs)
        self._pairs = PairMetrics()
        super().__init__(*args, **kwargs, losses=self._pair_losses)
        if self.aux_loss_enabled:
            remedy = "Train without the router's term, which is no pair's own."
            raise _refused("router_aux_loss_coef", "0.0", self.router_aux_loss_coef, remedy)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        if dataset_name == "train":
            check_values(dataset, self._columns(), negative=self.options.allow_negative)  # while rows are as given
            dataset = dataset if ID in next(iter(dataset)) else numbered(dataset, packing=False)
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    def _read(self, batches: list[Any]) -> list[MicroBatch]:
        """Pairs, with what the reference says of them: it is asked once a step, however often they run."""
        given = [read_micro_batch(self._prepare_inputs(batch)) for batch in batches]
        if not self.precompute_ref_logps:
            for inputs in (micro.inputs for micro in given):
                reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
                inputs.update(zip(REFERENCE, reference, strict=True))
        return [by_pair(micro) for micro in given]

    def _pair_losses(self, model: nn.Module, micro: MicroBatch) -> tuple[Tensor, Tensor]:
        """[n] losses and [n] predicted tokens: one forward of all, then TRL's loss of each pair, on the host."""
        assert micro.counts is not None, "counted in _read"
        inputs = by_answer(micro.inputs)
        given = {key: value for key, value in inputs.items() if key not in (*REFERENCE, "completion_mask")}
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        outputs = model(**given, labels=labels, use_cache=False, fused_lm_head=True)
        host = {key: value.cpu() for key, value in outputs.items() if value.dim() > 1}
        inputs = {key: value.cpu() for key, value in inputs.items()}
        losses = []
        for i in range(len(micro)):
            loss, metrics = self._one_loss(one_pair(host, i), own := one_pair(inputs, i))
            self._pairs.add(micro, i, metrics, own["completion_mask"])
            losses.append(loss)
        return torch.stack(losses).to(self.args.device), micro.counts.to(self.args.device)

    def _one_loss(self, outputs: dict[str, Tensor], inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """TRL's loss [] of one pair, and its metrics: by this trainer with the model's outputs in place of a model."""
        alone: Any = copy.copy(self)
        alone.model, alone.accelerator, alone.precompute_ref_logps = SimpleNamespace(training=True), ALONE, True
        alone._metrics, alone._total_train_tokens, alone._tp_size = {"train": defaultdict(list)}, 0, 1
        loss = alone._compute_loss(lambda **given: SimpleNamespace(**outputs), inputs, False)
        return loss, {name: float(values[0]) for name, values in alone._metrics["train"].items()}

    def _finished(self, result: StepResult) -> None:
        super()._finished(result)
        sums, metrics = self._pairs.take(self.args.device), self._metrics["train"]
        self._total_train_tokens += int(sums.pop("num_tokens")[0]) // (self._tp_size or 1)
        metrics["num_tokens"] = [self._total_train_tokens]
        for name, (total, count) in sums.items():
            metrics[name].append(total / count if count else 0.0)


def _refuse(config: DPOConfig | None, first: dict[str, Any], options: dict[str, Any]) -> None:
    """Errors: SamplewiseError naming what no pair has alone. options: this trainer's own are taken out of them."""
    for column in {TOKEN_WEIGHTS, "image", "images"} & first.keys():
        raise _refused("train_dataset", "pairs of texts", f"a column {column}", "Leave it out: it is not supported.")
    for name, only in NOT_OF_PAIRS.items():
        if (given := options.pop(name, only)) != only:
            raise _refused(name, f"{only!r} for preference pairs", repr(given), "Leave it out: a pair is one sample.")
    if mixed := OF_BATCHES & set([] if config is None else config.loss_type):
        raise _refused("loss_type", "losses that a pair has alone", ", ".join(sorted(mixed)), "Use 'sigmoid' or 'ipo'.")


def _refused(argument: str, expected: str, got: object, remedy: str) -> SamplewiseError:
    return SamplewiseError(argument, expected=expected, got=got, remedy=remedy)
