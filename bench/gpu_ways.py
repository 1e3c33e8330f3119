"""What `bench/gpu.py` trains with: real trainers, and the losses of other projects where they are installed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DataCollatorWithFlattening, PrinterCallback, Trainer, TrainingArguments
from variants import Body, Weighted

from samplewise import ir_dro, top_k
from samplewise.trainers import WeightedTrainer

CHECKPOINTING = (  # as transformers calls it since 5.23
    "activation_checkpointing" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient_checkpointing"
)
FusedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(hidden [P, D], head [V, D], target [P], -100 where nothing is predicted) -> [] mean loss."""


class NotThereError(Exception):
    """A way that is not installed here."""


@dataclass(frozen=True)
class Form:
    """rows × length tokens of a step; packed: in one row, whose documents are kept apart by their positions."""

    rows: int
    length: int
    packed: bool

    def __str__(self) -> str:
        return f"packed 1×{self.rows * self.length}" if self.packed else f"{self.rows}×{self.length}"


class Fused(Trainer):
    """The plain Trainer with a loss that takes hidden states and head, and builds no logits of the whole batch."""

    fused: FusedLoss

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        labels = inputs.pop("labels")
        hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
        target = F.pad(labels[:, 1:], (0, 1), value=-100)
        return self.fused(hidden.flatten(0, 1), model.get_output_embeddings().weight, target.flatten())


def liger() -> FusedLoss:
    try:
        from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss
    except ImportError as error:
        raise NotThereError(f"liger-kernel: {error}") from None
    loss = LigerFusedLinearCrossEntropyLoss()
    return lambda hidden, head, target: loss(head, hidden, target)


def cut_cross_entropy() -> FusedLoss:
    try:
        from cut_cross_entropy import linear_cross_entropy
    except ImportError as error:
        raise NotThereError(f"cut-cross-entropy: {error}") from None
    return linear_cross_entropy


def torch_core() -> FusedLoss:
    found = getattr(F, "linear_cross_entropy", None)
    if found is None:
        raise NotThereError(f"linear_cross_entropy in torch {torch.__version__}")
    return found


def fused(make: Callable[[], FusedLoss]) -> Callable[..., Trainer]:
    def trainer(*args: Any, **kwargs: Any) -> Trainer:
        loss = make()
        made = Fused(*args, **kwargs)
        made.fused = loss
        return made

    return trainer


def chunked(*args: Any, **kwargs: Any) -> Trainer:
    return Weighted(*args, rule=ir_dro(1.0), backend="chunked", chunk_bytes=None, **kwargs)


WAYS: dict[str, Callable[..., Trainer]] = {
    "body": Body,
    "plain": Trainer,
    "ours, one pass": lambda *args, **kwargs: WeightedTrainer(*args, rule=ir_dro(1.0), **kwargs),
    "ours, two passes, half kept": lambda *args, **kwargs: WeightedTrainer(*args, rule=top_k(0.5), **kwargs),
    "Liger": fused(liger),
    "ours, one pass, without Triton": chunked,
    "CCE": fused(cut_cross_entropy),
    "torch core": fused(torch_core),
}
"""In the order they are run in; "body" is the model without its head, which memory is counted from."""


def make_trainer(way: str, model: Any, form: Form, steps: int, *, sgd: bool, checkpointing: bool) -> Trainer:
    """A real trainer on random tokens; the model's weights are in the dtype that they train in."""
    rows = form.rows * steps
    ids = torch.randint(3, model.config.vocab_size, (rows, form.length), generator=torch.Generator().manual_seed(0))
    data: Any = [{"input_ids": row, "labels": row} for row in ids]
    args = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=form.rows, max_steps=steps, learning_rate=1e-6,
        lr_scheduler_type="constant", report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        optim="sgd" if sgd else "adamw_torch", use_cpu=next(model.parameters()).device.type == "cpu",
        dataloader_pin_memory=next(model.parameters()).device.type == "cuda", **{CHECKPOINTING: checkpointing},
    )  # fmt: skip
    collator = DataCollatorWithFlattening() if form.packed else None
    made = WAYS[way](model, args, train_dataset=data, data_collator=collator)
    made.remove_callback(PrinterCallback)
    return made
