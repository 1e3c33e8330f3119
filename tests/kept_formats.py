"""What the folders of `fixtures/formats` are of: the trainers and commands that wrote them and read them again."""

import hashlib
import json
from pathlib import Path
from typing import Any

import tiny
import torch
import transformers
from safetensors.torch import load_file
from torch.utils.data import Dataset
from transformers import TrainerCallback

from samplewise.trainers import WeightedStep, WeightedTrainer

FIXTURES = Path(__file__).parent / "fixtures" / "formats"
ROWS, STEPS, SAVED = 24, 8, 4  # three steps of eight rows are an epoch
KEPT_STEPS = (5, 8)
TRAINERS: dict[str, dict[str, Any]] = {  # the states that rules and the engine have
    "stored": {"rule": "warmup(2, chain(top_k(share=0.75), group_dro(step_size=0.5)))", "loss_from": "stored"},
    "window": {"rule": "chain(top_k(share=0.5, window=3), ir_dro(r=0.5, ema=0.9))"},
    "epochs": {"rule": 'infobatch(share=0.5, anneal=0.0, scope="epoch")'},
}
LOOP_RULE = "chain(ir_dro(r=0.5, ema=0.9), group_dro(step_size=0.5))"
SELECTIONS = {  # the arguments of `samplewise select`
    "a rule": ["--rule", "band(drop_top=0.2, drop_bottom=0.1)"],
    "a budget of tokens": ["--tokens", "800", "--take", "lowest"],
    "an added column": ["--rule", "top_k(share=0.3)", "--by", "excess"],
    "whole documents": ["--below", "4.2", "--unit", "document"],
}


class Rows(Dataset):
    """The rows of `checkpoint/rows.json`, in three groups."""

    def __init__(self, path: Path) -> None:
        self.rows = [torch.tensor(row) for row in json.loads(path.read_text())]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.rows[index], "labels": self.rows[index], "group": index % 3}


class Parameters(TrainerCallback):
    """[P] float64: all parameters after each of `KEPT_STEPS`."""

    def __init__(self) -> None:
        self.seen: dict[str, torch.Tensor] = {}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step in KEPT_STEPS:
            self.seen[str(state.global_step)] = flat(model)


def flat(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])


def model() -> transformers.PreTrainedModel:
    """Of 1,500 parameters in float64, so that another machine's rounding stays below 1e-9."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).double()


def trained(folder: Path, ours: dict[str, Any] | None, *, checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
    """The parameters of `KEPT_STEPS`. ours: arguments of a WeightedTrainer; None for the plain Trainer."""
    parameters = Parameters()
    epochs = ours is not None and "epoch" in ours["rule"]
    saving = {"save_strategy": "no" if ours is None else "steps", "save_steps": SAVED}
    length = {"max_steps": -1, "num_train_epochs": 5} if epochs else {"max_steps": STEPS}
    host = transformers.Trainer if ours is None else WeightedTrainer
    host(
        model(), tiny.arguments(folder, **saving, **length), train_dataset=Rows(folder.parent / "rows.json"),
        data_collator=tiny.collate, callbacks=[parameters], **(ours or {}),
    ).train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))  # fmt: skip
    return parameters.seen


def looped(folder: Path, *, first: int, last: int) -> torch.Tensor:
    """The parameters after step `last` of a loop of one's own; from step 2 on it resumes from `folder`."""
    rows, own = Rows(folder.parent / "rows.json"), model()
    step = WeightedStep(own, LOOP_RULE)
    if first > 1:
        own.load_state_dict(load_file(folder / "model.safetensors"))
        step.load(folder)
    for number in range(first, last + 1):
        own.zero_grad()
        for micro in step.plan(_micro_batches(rows, number)):
            step.backward(micro)
        step.finish()
        torch.optim.SGD(own.parameters(), lr=0.1).step()
    if last == SAVED:
        own.save_pretrained(folder)
        step.save(folder)
    step.detach()
    return flat(own)


def _micro_batches(rows: Rows, step: int) -> list[dict[str, torch.Tensor]]:
    made = []
    for k in range(2):
        ids = [(8 * (step - 1) + 4 * k + i) % len(rows) for i in range(4)]
        columns = {"sample_id": torch.tensor(ids), "group": torch.tensor([i % 3 for i in ids])}
        made.append({**tiny.collate([rows[i] for i in ids]), **columns})
    return made


def arithmetic(folder: Path) -> str:
    """A digest of the plain Trainer's steps: the same wherever torch and the processor round alike."""
    found = trained(folder, None)["8"]
    return hashlib.sha256(torch.__version__.encode() + found.numpy().tobytes()).hexdigest()
