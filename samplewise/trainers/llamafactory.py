"""Weights in LLaMA-Factory: its own YAML files with a section `samplewise`, and its classic trainer.

python -m samplewise.trainers.llamafactory run.yaml   # in place of llamafactory-cli train; USE_V1=1 is read as there
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

from llamafactory.extras.misc import is_env_enabled  # pyright: ignore[reportMissingImports]
from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer  # pyright: ignore[reportMissingImports]

from samplewise.core.errors import SamplewiseError
from samplewise.trainers.hf import WeightedMixin

SECTION = "samplewise"
LOSSES = ("use_dft_loss", "use_eaft_loss", "use_asft_loss")
IN_BACKWARD = ("galore_layerwise", "apollo_layerwise", "use_badam")


class WeightedLlamaFactoryTrainer(WeightedMixin, CustomSeq2SeqTrainer):
    """LLaMA-Factory's classic SFT trainer on weighted samples: its arguments, and those of `WeightedMixin`.

    A sample is a row of the data. Errors: SamplewiseError on its losses (`use_dft_loss` and the like), optimizers that
    step in backward, and what `WeightedMixin` refuses.
    """

    _allowed_hosts = ("transformers.", "llamafactory.")

    def __init__(self, finetuning_args: Any, *args: Any, **kwargs: Any) -> None:
        _refuse_flags(finetuning_args, LOSSES, "the model's own loss, which rules read")
        _refuse_flags(finetuning_args, IN_BACKWARD, "an optimizer that steps once all gradients are there")
        super().__init__(finetuning_args, *args, **kwargs)


def run(args: dict[str, Any]) -> None:
    """Train as LLaMA-Factory does from these arguments, on samples weighted by the options under `samplewise`.

    args: what its YAML file holds; `USE_V1=1` in the environment means its v1. Errors: SamplewiseError without the
    section, and on what cannot be weighted.
    """
    args = dict(args)
    options = args.pop(SECTION, None)
    if not isinstance(options, dict) or "rule" not in options:
        raise SamplewiseError(
            SECTION, expected="a section with a rule", got=repr(options),
            remedy="Add 'samplewise: {rule: ir_dro(r=3.0)}' to the file, or run llamafactory-cli to train unweighted.",
        )  # fmt: skip
    (_run_v1 if is_env_enabled("USE_V1") else _run_classic)(args, options)


def _run_v1(args: dict[str, Any], options: dict[str, Any]) -> None:
    from llamafactory.v1.trainers.sft_trainer import run_sft  # pyright: ignore[reportMissingImports]

    from samplewise.trainers.llamafactory_v1 import WeightedV1Trainer

    _with_names(run_sft, SFTTrainer=partial(WeightedV1Trainer, **options))(args)


def _run_classic(args: dict[str, Any], options: dict[str, Any]) -> None:
    from llamafactory.train import tuner  # pyright: ignore[reportMissingImports]
    from llamafactory.train.sft.workflow import run_sft  # pyright: ignore[reportMissingImports]

    def read(given: Any) -> Any:
        found = tuner.get_train_args(given)
        _refuse(found[0], found[1], found[3])
        return found

    weighted = _with_names(run_sft, CustomSeq2SeqTrainer=partial(WeightedLlamaFactoryTrainer, **options))
    train = _with_names(tuner._training_function, run_sft=weighted, get_train_args=read)
    train({"args": args, "callbacks": []})


def _with_names(function: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """The same function, reading these names in place of its module's. The module itself stays as it is.

    LLaMA-Factory fixes its trainers' classes in such functions; this neither copies nor patches what they do.
    """
    assert isinstance(function, FunctionType)
    if missing := names.keys() - set(function.__code__.co_names):
        raise SamplewiseError(
            "llamafactory", expected=f"a {function.__name__} that names {', '.join(sorted(missing))}",
            got="another version", remedy="Install llamafactory 0.9.5, which this was tested with.",
        )  # fmt: skip
    known = {**function.__globals__, **names}
    return FunctionType(function.__code__, known, function.__name__, function.__defaults__, function.__closure__)


def _refuse(model: Any, data: Any, finetuning: Any) -> None:
    if finetuning.stage != "sft":
        raise SamplewiseError("stage", expected="sft", got=finetuning.stage, remedy="Train other stages unweighted.")
    _refuse_flags(finetuning, ("use_mca", "use_hyper_parallel"), "LLaMA-Factory's own classic loop")
    _refuse_flags(data, ("packing",), "one sample a row: those of a packed row are not weighed one by one here")
    _refuse_flags(
        model, ("enable_liger_kernel", "use_unsloth"), "the model's own forward; no logits are built here either"
    )


def _refuse_flags(arguments: Any, names: tuple[str, ...], expected: str) -> None:
    for name in names:
        if getattr(arguments, name, False):
            raise SamplewiseError(name, expected=expected, got="true", remedy=f"Leave {name} out.")


def main() -> None:
    """Read the YAML or JSON file named first, then `key=value` pairs, as llamafactory-cli does."""
    from llamafactory.hparams.parser import read_args  # pyright: ignore[reportMissingImports]

    args = read_args()
    if not isinstance(args, dict):
        sys.exit("usage: python -m samplewise.trainers.llamafactory run.yaml [key=value ...]")
    run(args)


if __name__ == "__main__":
    main()
