"""The case as a user would run it: two steps at a learning rate of 0 in a trainer, or in a loop of their own."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from fuzz.gradients.case import Case
from fuzz.gradients.collators import COLLATORS
from fuzz.gradients.models import ROUTER_COEFFICIENT

STEPS = 2
CHECKPOINTING = (
    "activation_checkpointing" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient_checkpointing"
)


@dataclass
class Seen:
    """What came of each step: gradients by name, logged loss, and which rows its micro-batches held.

    averages: whether the host averages the means of micro-batches.
    """

    gradients: list[dict[str, Tensor]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    averages: bool = False

    def keep(self, model: nn.Module) -> None:
        """The gradients that an optimizer would see now."""
        grads = {name: p.grad.double().clone() for name, p in model.named_parameters() if p.grad is not None}
        self.gradients.append(grads)

    def of_step(self, step: int) -> list[list[int]]:
        """The micro-batches of a step."""
        each = len(self.batches) // STEPS
        return self.batches[step * each : (step + 1) * each]


def run(case: Case, model: nn.Module, reference: nn.Module | None, features: list[dict[str, Any]]) -> Seen:
    """Through the host of the case."""
    seen = Seen()
    HOSTS[case.host](case, model, reference, features, seen)
    return seen


def _loop(
    case: Case, model: nn.Module, reference: nn.Module | None, features: list[dict[str, Any]], seen: Seen
) -> None:
    _checkpointed(case, model)
    _steps(case, model, model, features, _parts(case), seen)
    seen.batches = _parts(case) * STEPS


def _checkpointed(case: Case, model: nn.Module) -> None:
    if case.checkpointing:
        model.gradient_checkpointing_enable()  # pyright: ignore[reportCallIssue]
        if case.adapter != "none":
            model.enable_input_require_grads()  # pyright: ignore[reportCallIssue]


def _parts(case: Case) -> list[list[int]]:
    """The rows of each micro-batch of a step."""
    return [list(range(case.rows))[i : i + case.size] for i in range(0, case.rows, case.size)]


def _steps(
    case: Case, model: nn.Module, wrapped: nn.Module, features: list[dict[str, Any]], parts: list[list[int]], seen: Seen
) -> None:
    """Two steps of `WeightedStep` over these micro-batches. wrapped: the model, or DDP around it."""
    from samplewise.trainers.collate import FieldsCollator
    from samplewise.trainers.loop import WeightedStep

    collate = FieldsCollator(COLLATORS[case.form], turns=case.turns)
    token_rule = f"talr(tau={case.talr})" if case.talr else None
    step = WeightedStep(wrapped, case.rule, per=case.per, logits=case.logits, token_rule=token_rule)
    model.train()
    mixed = torch.autocast("cpu", torch.bfloat16) if case.precision == "autocast" else nullcontext()
    for _ in range(STEPS):
        model.zero_grad()
        with mixed:
            for micro in step.plan([collate([features[i] for i in part]) for part in parts]):
                step.backward(micro)
        seen.losses.append(step.finish()["loss"])
        seen.keep(model)


def _ddp(case: Case, model: nn.Module, reference: nn.Module | None, features: list[dict[str, Any]], seen: Seen) -> None:
    """Two forks of this process, each with every other micro-batch."""
    from faults.server import run as processes

    from samplewise import SamplewiseError

    with tempfile.TemporaryDirectory() as folder:
        ended = processes(lambda path: _rank(case, model, features, path), Path(folder), ranks=2)
        if refused := re.search(r"^samplewise\S*SamplewiseError: (.+)", ended.said, flags=re.MULTILINE):
            raise SamplewiseError(refused[1])
        if ended.code or ended.hung:
            raise RuntimeError(f"{ended.codes}, {'hung' if ended.hung else ended.said[-500:]}")
        found = torch.load(Path(folder) / "seen", weights_only=True)
    seen.gradients, seen.losses, seen.batches = found["gradients"], found["losses"], _parts(case) * STEPS


def _rank(case: Case, model: nn.Module, features: list[dict[str, Any]], folder: Path) -> None:
    from torch.nn.parallel import DistributedDataParallel

    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    _checkpointed(case, model)
    own = Seen()
    wrapped = DistributedDataParallel(model, find_unused_parameters=True)  # experts that no token reached
    _steps(case, model, wrapped, features, _parts(case)[rank::2], own)
    if rank == 0:
        torch.save({"gradients": own.gradients, "losses": own.losses}, folder / "seen")
    torch.distributed.barrier()


class _Rows(Dataset[Any]):
    def __init__(self, features: Sequence[Mapping[str, Any]]) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.features[index]


class _Watch(TrainerCallback):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.seen.keep(model)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.seen.losses.append(float(logs["loss"]))


def _recorded(
    collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]], features: list[dict[str, Any]], seen: Seen
) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
    known = [feature["input_ids"] for feature in features]

    def recorded(given: list[dict[str, Any]]) -> dict[str, Tensor]:
        seen.batches.append([known.index(row["input_ids"]) for row in given])
        return collate(given)

    return recorded


def _arguments(case: Case, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder, "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1,
        "per_device_train_batch_size": case.size, "gradient_accumulation_steps": -(-case.rows // case.size),
        "max_steps": STEPS, "learning_rate": 0.0, "disable_tqdm": True, "seed": case.seed % 2**31,
        "dataloader_pin_memory": False, "max_grad_norm": 0.0, "bf16": case.precision == "autocast",
        CHECKPOINTING: case.checkpointing,
    }  # fmt: skip


def _ours(case: Case, reference: nn.Module | None) -> dict[str, Any]:
    given: dict[str, Any] = {"rule": case.rule, "per": case.per, "turns": case.turns, "logits": case.logits}
    if case.talr:
        given["token_rule"] = f"talr(tau={case.talr})"
    if reference is not None:
        given |= {"token_rule": f"rho1(keep={case.keep_tokens})", "reference_model": reference}
    return given


def _train(trainer: Any, seen: Seen) -> None:
    trainer.remove_callback(PrinterCallback)
    seen.averages = not trainer.model_accepts_loss_kwargs
    trainer.train()


def _trainer(
    case: Case, model: nn.Module, reference: nn.Module | None, features: list[dict[str, Any]], seen: Seen
) -> None:
    from samplewise.trainers import WeightedTrainer

    with tempfile.TemporaryDirectory() as folder:
        trainer = WeightedTrainer(
            model, TrainingArguments(**_arguments(case, folder)), train_dataset=_Rows(features),
            data_collator=_recorded(COLLATORS[case.form], features, seen), callbacks=[_Watch(seen)],
            **_ours(case, reference),
        )  # fmt: skip
        _train(trainer, seen)


def _sft(case: Case, model: nn.Module, reference: nn.Module | None, features: list[dict[str, Any]], seen: Seen) -> None:
    from trl import SFTConfig  # pyright: ignore[reportPrivateImportUsage]

    from samplewise.trainers.trl import WeightedSFTTrainer

    with tempfile.TemporaryDirectory() as folder:
        form: dict[str, Any] = (
            {"padding_free": True, "max_length": None} if case.form == "packed" else {"max_length": 64}
        )
        form["router_aux_loss_coef"] = ROUTER_COEFFICIENT if case.router else 0.0  # TRL's default is neither
        trainer = WeightedSFTTrainer(
            model, SFTConfig(**{**_arguments(case, folder), **form}),  # pyright: ignore[reportArgumentType]
            train_dataset=datasets.Dataset.from_list(features), processing_class=tokenizer(),
            callbacks=[_Watch(seen)], **_ours(case, reference),
        )  # fmt: skip
        _train(trainer, seen)
    seen.batches = [list(range(case.rows))] * STEPS


def tokenizer() -> Any:
    """One word for each id."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    from fuzz.gradients.models import VOCABULARY

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w3"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="w1", eos_token="w2", pad_token="w0", unk_token="w3"
    )


HOSTS: dict[str, Callable[..., None]] = {"loop": _loop, "ddp": _ddp, "trainer": _trainer, "sft": _sft}
