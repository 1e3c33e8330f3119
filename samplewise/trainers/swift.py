"""Weights in ms-swift's `swift sft`: a plugin of two lines makes its trainer of causal language models weighted."""

from __future__ import annotations

from typing import Any

from swift.trainers import Seq2SeqTrainer, TrainerFactory  # pyright: ignore[reportMissingImports]

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.engine.options import WeightingOptions
from samplewise.trainers.hf import MICRO_BATCH_KEY, WeightedMixin

NOT_OF_THE_MODEL = ("compute_loss_func", "channel", "text_position_ids")
"""What ms-swift puts among the inputs for its own loss."""


class WeightedSeq2SeqTrainer(WeightedMixin, Seq2SeqTrainer):
    """ms-swift's `Seq2SeqTrainer` on weighted samples; `weight_samples` says by which rule.

    A sample is a row of its template's batches. Errors: SamplewiseError on what `WeightedMixin` refuses, packing,
    padding_free, sequence parallelism, channel losses, DFT and a loss_scale that is not 0 or 1.
    """

    _allowed_hosts = ("transformers.", "swift.")
    weighting: dict[str, Any]
    _weighs = False  # whether the inputs in hand are a weighted step's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **self.weighting, **kwargs)
        refuse_swift_options(self)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The step's micro-batches, planned; the model may still be in evaluation mode then."""
        self._weighs = True
        try:
            return super().get_batch_samples(*args, **kwargs)
        finally:
            self._weighs = False

    def get_use_logits_to_keep(self, default_value: bool = True) -> bool:
        """Not in training: it would cut the labels, and no logits are built."""
        return False if self._weighs else super().get_use_logits_to_keep(default_value)

    def _prepare_inputs(self, inputs: Any) -> Any:
        before, self._weighs = self._weighs, self._weighs or MICRO_BATCH_KEY in inputs
        try:
            prepared = super()._prepare_inputs(inputs)
            return _for_the_model(prepared) if self._weighs else prepared
        finally:
            self._weighs = before


def _for_the_model(prepared: dict[str, Any]) -> dict[str, Any]:
    if "loss_scale" in prepared:
        raise SamplewiseError(
            "loss_scale", expected="one of 0 and 1, which the labels hold", got="a scale of tokens",
            remedy="Use a loss_scale of 0 and 1 only.",
        )  # fmt: skip
    return {key: value for key, value in prepared.items() if key not in NOT_OF_THE_MODEL}


def weight_samples(rule: Rule | str, **options: Any) -> None:
    """Make `swift sft` train causal language models weighted, when this is called in a file of `--external_plugins`.

    rule, and every other field of `samplewise.engine.options.WeightingOptions` by name.
    Errors: SamplewiseError for options that cannot be combined.

    ```python
    from samplewise.trainers.swift import weight_samples

    weight_samples("ir_dro(r=3.0)")
    ```
    """
    WeightingOptions(rule=rule, **options)  # refuses before a model is loaded
    WeightedSeq2SeqTrainer.weighting = {"rule": rule, **options}
    TrainerFactory.TRAINER_MAPPING["causal_lm"] = f"{__name__}.{WeightedSeq2SeqTrainer.__name__}"


def refuse_swift_options(trainer: Any) -> None:
    """Errors: SamplewiseError naming a setting of ms-swift that cannot be combined with sample weighting."""
    args, template = trainer.args, trainer.template
    refused = {
        "packing": template.packing and "Pad the rows: leave packing out.",
        "padding_free": template.padding_free and "Pad the rows: leave padding_free out.",
        "sequence_parallel_size": template.sequence_parallel_size > 1 and "Set it to 1: a sample stays on one rank.",
        "enable_dft_loss": args.enable_dft_loss and "Leave it out, and give token_rule='dft()'.",
        "enable_channel_loss": args.enable_channel_loss and "Leave it out: log_samples writes every sample's loss.",
        "streaming": not hasattr(trainer.train_dataset, "__len__") and "Leave it out: it has not been tested.",
    }
    for name, remedy in refused.items():
        if remedy:
            raise SamplewiseError(
                name, expected="a setting that can be combined with sample weighting", got="True", remedy=remedy
            )
