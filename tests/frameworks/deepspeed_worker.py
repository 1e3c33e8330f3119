"""One process of one or two that trains on the same rows under DeepSpeed, and writes what came out.

python deepspeed_worker.py FOLDER CASE…, with RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set. A case is
stage-host-rule: 3-trainer-band. FOLDER/CASE.safetensors holds its first gradient, before clipping, and its parameters
after three steps.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import deepspeed.ops
import same_rows
import tiny
import torch
from accelerate import Accelerator, DeepSpeedPlugin
from accelerate.state import AcceleratorState, GradientState
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_grad
from safetensors.torch import save_file
from transformers import TrainerCallback, TrainingArguments

from samplewise.trainers import WeightedStep, WeightedTrainer
from samplewise.trainers.collate import FieldsCollator

STEPS, LEARNING_RATE, NORM = 3, 0.1, 2.0  # the first steps of some rules are clipped, others not
RULES: dict[str, dict[str, Any]] = {
    "uniform": {"rule": "uniform()", "per": "token"},
    "ir_dro": {"rule": same_rows.RULE},
    "band": {"rule": "chain(band(drop_top=0.25, drop_bottom=0.4), ir_dro(r=0.5))"},
}


def config(stage: int) -> dict[str, Any]:
    """The smallest configuration; `auto` takes the Trainer's arguments. At stage 3 no parameter is kept whole."""
    auto = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0}
    return {**dict.fromkeys(auto, "auto"), "zero_optimization": zero, "zero_allow_untested_optimizer": True}


def arguments(folder: Path, world: int, **more: Any) -> TrainingArguments:
    return tiny.arguments(
        folder, per_device_train_batch_size=same_rows.MICRO, max_steps=STEPS, optim="sgd",
        gradient_accumulation_steps=same_rows.ACCUMULATION // world, learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant", max_grad_norm=NORM,
        **more,
    )  # fmt: skip


def collate(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return tiny.collate([{key: torch.tensor(f[key]) for key in ("input_ids", "labels")} for f in features])


def model_for(kind: str) -> Any:
    """The model of all frameworks, the same with a tied head, or with adapters."""
    model = same_rows.tiny_model()
    if kind == "tied":
        model.config.tie_word_embeddings = True
        model.lm_head.weight = model.model.embed_tokens.weight
    if kind == "lora":
        import peft

        torch.manual_seed(1)
        model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"], lora_alpha=64))
    return model


def plain(value: Any) -> torch.Tensor:
    return value.detach().clone().float().contiguous()


class Watched:
    """Looks at the gradient where the engine's `step` is called, before it clips; and at parameters at the end."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.step, self.found, self.calls = engine, engine.step, {}, 0
        engine.step = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if not self.found:
            for name, p in self.engine.module.named_parameters():
                if p.requires_grad:
                    self.found[f"gradient.{name}"] = plain(safe_get_full_grad(p))
        return self.step(*args, **kwargs)

    def write(self, path: Path) -> None:
        assert self.calls == STEPS, self.calls
        for name, p in self.engine.module.named_parameters():
            if p.requires_grad:
                self.found[f"parameter.{name}"] = plain(safe_get_full_fp32_param(p))
        if int(os.environ["RANK"]) == 0:
            save_file(self.found, path)


class Watch(TrainerCallback):
    def on_train_begin(self, args, state, control, **kwargs):
        self.watched = Watched(self.trainer.model_wrapped)


def trainer(folder: Path, stage: int, options: dict[str, Any], kind: str = "untied", **more: Any) -> Watched:
    args = arguments(folder / "run", int(os.environ["WORLD_SIZE"]), deepspeed=config(stage))
    watch = Watch()
    made = watch.trainer = WeightedTrainer(
        model_for(kind), args, train_dataset=same_rows.rows(), eval_dataset=same_rows.rows(), data_collator=collate,
        callbacks=[watch], **options,
    )  # fmt: skip
    made.train()
    found = made.evaluate()["eval_loss"]
    watch.watched.found["eval_loss"] = torch.tensor(found)
    return watch.watched


def loop(folder: Path, stage: int, options: dict[str, Any]) -> Watched:
    """A loop on accelerate; the update comes inside the last backward."""
    given = config(stage) | {"train_micro_batch_size_per_gpu": same_rows.MICRO, "gradient_accumulation_steps": 1}
    given |= {"gradient_clipping": NORM, "train_batch_size": same_rows.MICRO * int(os.environ["WORLD_SIZE"])}
    accelerator = Accelerator(deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=given))
    model = same_rows.tiny_model()
    engine, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=LEARNING_RATE))
    watched, step = Watched(engine), WeightedStep(engine, accelerator=accelerator, **options)
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()  # accelerate knows one, on a CPU
    rows, size, fields = same_rows.rows(), same_rows.MICRO, FieldsCollator(collate)
    batches = [fields(rows[k : k + size]) for k in range(0, len(rows), size)]
    engine.train()
    for _ in range(STEPS):
        for micro in step.plan(batches[rank::world]):
            step.backward(micro)
        step.finish()
        optimizer.step()  # as anywhere: accelerate makes it nothing under DeepSpeed
        optimizer.zero_grad()
    step.detach()
    return watched


def main(folder: Path, cases: list[str]) -> None:
    # An all-reduce in shared memory that DeepSpeed compiles when it starts, which takes minutes where processors are
    # busy. Without it gloo does the same.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    for case in cases:
        AcceleratorState._reset_state()
        GradientState._reset_state()
        stage, host, rule = case.split("-")
        if host == "loop":
            watched = loop(folder, int(stage), RULES[rule])
        else:
            watched = trainer(folder, int(stage), RULES[rule], "untied" if host == "trainer" else host)
        watched.write(folder / f"{case}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
