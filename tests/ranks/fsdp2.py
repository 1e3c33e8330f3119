"""Runs of the Trainer on two gloo processes, under FSDP2 or DDP, in forks: one start of Python for many runs.

    python tests/ranks/fsdp2.py FOLDER RUNS.json

RUNS.json: a dict of runs by name; a run is what `Run` takes. FOLDER/<name>.pt holds what rank 0 ends with.
accelerate knows FSDP on devices only: its list is widened here, and nowhere else.
"""

import inspect
import json
import os
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import accelerate.state
import peft
import tiny
import torch
from forks import forked
from torch.distributed.tensor import DTensor
from transformers import MixtralConfig, MixtralForCausalLM, Trainer, TrainerCallback

from samplewise.engine.observers import StatelessObserver
from samplewise.trainers import WeightedTrainer


@dataclass
class Run:
    """fsdp: its settings, None for DDP. rule: None for the plain Trainer. resume: a checkpoint below FOLDER."""

    rule: str | None
    fsdp: dict | None = None
    model: dict = field(default_factory=dict)
    kind: str = "llama"
    lora: dict | None = None
    options: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)
    rows: int = 48
    bad: bool = False  # one row has a loss that is not finite
    reference: bool = False
    resume: str | None = None
    again: bool = False  # a second `train()` of the same trainer


def allow_cpu() -> None:
    """FSDP on CPUs for accelerate."""
    source = textwrap.dedent(inspect.getsource(accelerate.state.AcceleratorState.__init__))
    wide = source.replace("DistributedType.MULTI_GPU,", "DistributedType.MULTI_GPU, DistributedType.MULTI_CPU,", 1)
    assert wide != source
    names = vars(accelerate.state)
    exec(textwrap.dedent(wide), names)  # accelerate's own text
    accelerate.state.AcceleratorState.__init__ = names["__init__"]


class Seen(StatelessObserver):
    """Losses and weights of every step."""

    def __init__(self):
        self.losses, self.weights, self.modes = [], [], []

    def on_step(self, result):
        self.losses.append(result.samples.loss.clone())
        self.weights.append(result.weights.clone())
        self.modes.append(result.mode)


class Gradients(TrainerCallback):
    """What the optimizer is given, whole."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        grads = {n: whole(p.grad) for n, p in model.named_parameters() if p.grad is not None}
        self.steps.append({plain(n): g for n, g in grads.items()})


class OneBadRow(tiny.Rows):
    """A token whose embedding is infinite, in a row of the second rank."""

    def __init__(self, n):
        super().__init__(n)
        self.rows[5] = torch.cat([torch.tensor([2]), self.rows[5]])


def plain(name: str) -> str:
    return name.removeprefix("module.").replace("_checkpoint_wrapped_module.", "")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def built(run: Run):
    if run.kind == "mixtral":
        torch.manual_seed(0)
        model = MixtralForCausalLM(MixtralConfig(
            vocab_size=tiny.VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, num_local_experts=4, pad_token_id=0, **run.model,
        ))  # fmt: skip
    else:
        model = tiny.model(run.kind, initializer_range=0.2, **run.model)
    if run.bad:
        with torch.no_grad():
            model.get_input_embeddings().weight[2] = torch.inf
    if run.lora is not None:
        torch.manual_seed(1)
        model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **run.lora))
    return model


def train(name: str, run: Run, folder: Path, rank: int) -> None:
    model, seen, gradients = built(run), Seen(), Gradients()
    more = {} if run.fsdp is None else {"fsdp": True, "fsdp_config": {"version": 2, **run.fsdp}}
    args = tiny.arguments(
        folder / name,
        **{"per_device_train_batch_size": 2, "max_steps": 3, "ddp_find_unused_parameters": False, **more}
        | run.arguments,
    )  # fmt: skip
    common = {
        "train_dataset": (OneBadRow if run.bad else tiny.Rows)(run.rows), "data_collator": tiny.collate,
        "callbacks": [gradients], "eval_dataset": tiny.Rows(8, seed=7),
    }  # fmt: skip
    if run.rule is None:
        trainer = Trainer(model, args, **common)
    else:
        ours = dict(run.options)
        if run.reference:
            ours["reference_model"] = tiny.model("llama", seed=5)
        trainer = WeightedTrainer(model, args, rule=run.rule, observers=[seen], **common, **ours)
    for _ in range(1 + run.again):
        trainer.train(resume_from_checkpoint=None if run.resume is None else str(folder / run.resume))
    trained = dict(trainer.model.named_parameters())
    assert all(isinstance(p, DTensor) for p in trained.values()) == (run.fsdp is not None)
    end = {
        "parameters": {plain(n): whole(p) for n, p in trained.items()}, "gradients": gradients.steps,
        "losses": seen.losses, "weights": seen.weights, "modes": seen.modes,
        "history": json.dumps([entry for entry in trainer.state.log_history if "loss" in entry]),
        "eval_loss": trainer.evaluate()["eval_loss"],
    }  # fmt: skip
    if rank == 0:
        torch.save(end, folder / f"{name}.pt")
    torch.distributed.barrier()


if __name__ == "__main__":
    os.environ["ACCELERATE_USE_CPU"] = "true"
    allow_cpu()
    for name, run in json.loads(Path(sys.argv[2]).read_text()).items():
        codes = forked(2, lambda rank, n=name, r=run: train(n, Run(**r), Path(sys.argv[1]), rank), patience=100)
        assert not any(codes), (name, codes)
