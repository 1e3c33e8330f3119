"""What is compared: named shapes with random weights, and the trainers that train them, all real ones."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

from samplewise import chain, clip_weights, ir_dro, top_k
from samplewise.core.rule import Rule
from samplewise.losses.forward import WithoutLogits
from samplewise.losses.kernels import Backend
from samplewise.trainers import WeightedTrainer


@dataclass(frozen=True)
class Shape:
    """A model of `layers` layers, and micro-batches of `rows` × `length` tokens, `accumulation` of them a step."""

    layers: int
    rows: int
    length: int
    accumulation: int = 1
    gemma: bool = False
    small: bool = False

    def model(self) -> Any:
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"num_hidden_layers": self.layers, "max_position_embeddings": 8192}
        if self.small:  # 6.8 M parameters with 6 layers
            sizes |= {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 688}
            return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4))
        if self.gemma:  # the dimensions of Gemma 3 270M
            sizes |= {"vocab_size": 262144, "hidden_size": 640, "intermediate_size": 2048, "head_dim": 256}
            return Gemma3ForCausalLM(Gemma3TextConfig(**sizes, num_attention_heads=4, num_key_value_heads=1))
        sizes |= {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "tie_word_embeddings": True}
        return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=9, num_key_value_heads=3))


SHAPES = {
    "llama6": Shape(6, 8, 128),
    "smollm2": Shape(30, 8, 128),
    "long": Shape(6, 1, 4096, accumulation=2),  # the weight of a lone sample is the constant 1: a step has two
    "gemma": Shape(4, 8, 256, gemma=True),
    "small": Shape(6, 8, 128, accumulation=4, small=True),
}


class Body(Trainer):
    """The model without its head, and no loss: the floor that memory is measured from."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        with self.accelerator.autocast():
            hidden = model.base_model(input_ids=inputs["input_ids"], use_cache=False).last_hidden_state
        return hidden.float().mean()


class Published(Trainer):
    """What published code does: the model's loss, then a second cross-entropy, weights by softmax per micro-batch."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return weighted(model(**inputs).logits, inputs["labels"])


class LogitsOnce(Trainer):
    """The same weights from one cross-entropy."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return weighted(model(input_ids=inputs["input_ids"]).logits, inputs["labels"])


def weighted(logits: Any, labels: Any) -> Any:
    token = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="none")
    loss = token.view(len(labels), -1).mean(1)
    return (torch.softmax(loss.detach(), 0) * loss).sum()


class Weighted(WeightedTrainer):
    """Ours, with the kernel's backend and chunk budget chosen; one_pass's very first step is a two_pass one."""

    def __init__(self, *args: Any, backend: Backend, chunk_bytes: int | None, **kwargs: Any) -> None:
        self.kernel = WithoutLogits(backend, chunk_bytes)
        super().__init__(*args, **kwargs)

    def _attach(self) -> Any:
        detach = super()._attach()
        self._forward = self.kernel
        return detach


Maker = Callable[..., Trainer]


def ours(rule: Rule | str, backend: Backend = "chunked") -> Maker:
    def make(*args: Any, chunk_bytes: int | None, **kwargs: Any) -> Trainer:
        return Weighted(*args, rule=rule, backend=backend, chunk_bytes=chunk_bytes, **kwargs)

    return make


def theirs(kind: type[Trainer]) -> Maker:
    return lambda *args, chunk_bytes, **kwargs: kind(*args, **kwargs)


VARIANTS: dict[str, Maker] = {
    "plain": theirs(Trainer),
    "published": theirs(Published),
    "logits once": theirs(LogitsOnce),
    "torch core": ours(ir_dro(1.0), "torch"),
    "one_pass": ours(ir_dro(1.0)),
    "two_pass, all kept": ours(chain(ir_dro(1.0), clip_weights(10.0))),
    "two_pass, 1/2 kept": ours(top_k(0.5)),
    "two_pass, 1/4 kept": ours(top_k(0.25)),
    "body": theirs(Body),
}


def make_trainers(
    shape: Shape,
    names: list[str],
    *,
    bf16: bool,
    steps: int,
    chunk_bytes: int | None = None,
    frozen_head: bool = False,
    variants: Mapping[str, Maker] = VARIANTS,
) -> dict[str, Trainer]:
    """One trainer a name. All share parameters and optimizer, which saves memory and changes no step's cost."""
    model, rows = shape.model(), shape.rows * shape.accumulation
    model.get_output_embeddings().weight.requires_grad_(not frozen_head)
    vocabulary = min(49152, model.config.vocab_size)
    ids = torch.randint(vocabulary, (4 * rows, shape.length), generator=torch.Generator().manual_seed(0))
    data: Any = [{"input_ids": row, "labels": row} for row in ids]
    args = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=shape.rows, gradient_accumulation_steps=shape.accumulation,
        max_steps=steps, bf16=bf16, use_cpu=True, learning_rate=1e-5, lr_scheduler_type="constant", report_to=[],
        save_strategy="no", logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    made: dict[str, Trainer] = {}
    optimizer = None
    for name in names:
        twin = copy.deepcopy(model, {id(p): p for p in model.parameters()})
        made[name] = variants[name](
            twin, args, train_dataset=data, chunk_bytes=chunk_bytes, optimizers=(optimizer, None)
        )
        optimizer = optimizer or made[name].create_optimizer()
    return made
