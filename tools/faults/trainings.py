"""Training as victims do it: `samplewise train`, and a script with a Trainer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from fuzz.inputs.world import World, run_file

from faults.server import Work, command

STEPS, SAVED = 6, 2
"""Optimizer steps of a training run, and after how many a checkpoint is written."""
PARTS = ("data", "training")


def training(world: World, **changes: Any) -> Work:
    """`samplewise train`, with --resume where it was begun before. changes: of the run file."""

    def work(folder: Path) -> None:
        config: dict[str, Any] = (
            run_file(world) | {"output": str(folder / "out")} | {k: v for k, v in changes.items() if k not in PARTS}
        )
        own = {"save_steps": SAVED, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
        config["data"] = {**config["data"], **changes.get("data", {})}
        config["training"] |= {"max_steps": STEPS, **own, **changes.get("training", {})}
        (folder / "run.yaml").write_text(yaml.safe_dump(config))
        again = ["--resume"] if (folder / "out").exists() else []
        if (folder / "out" / "results.json").exists():
            return
        command("train", "run.yaml", *again)(folder)

    return work


class Rows:
    """24 rows of fixed random tokens, each with other columns if there are any."""

    def __init__(self, **columns: float) -> None:
        import torch

        draw = torch.Generator().manual_seed(1)
        self.rows = [torch.randint(4, 64, (8,), generator=draw) for _ in range(24)]
        self.columns = columns

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        more = {name: value + index for name, value in self.columns.items()}
        return {"input_ids": self.rows[index], "labels": self.rows[index], **more}


def in_python(world: World, options: dict[str, Any] | None, folder: Path) -> None:
    """Training in Python with a Trainer, resumed as its users do; without options of weighting with the plain one."""
    import torch
    import transformers

    from samplewise.trainers import WeightedTrainer

    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(world.model)
    given = dict(options or {})
    length: dict[str, Any] = {"num_train_epochs": given.pop("epochs")} if "epochs" in given else {"max_steps": STEPS}
    args = transformers.TrainingArguments(
        output_dir=str(folder / "out"), **length, save_steps=SAVED, use_cpu=True, report_to="none", seed=3,
        per_device_train_batch_size=2, learning_rate=1e-2, disable_tqdm=True, save_total_limit=2, logging_steps=1,
        dataloader_pin_memory=False, ddp_timeout=60,
    )  # fmt: skip
    rows = Rows(stored_loss=1.0) if "loss_from" in given else Rows()
    kind = transformers.Trainer if options is None else WeightedTrainer
    trainer = kind(model, args, train_dataset=rows, **given)  # pyright: ignore[reportArgumentType]
    trainer.train(resume_from_checkpoint=_something_to_resume(folder / "out", options is None))
    if trainer.args.should_save:
        digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        (folder / "end.json").write_text(json.dumps({"weights": digest, "losses": losses}))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _something_to_resume(out: Path, plain: bool) -> bool:
    """Whether a user would say `resume_from_checkpoint=True`: with this library where a checkpoint is whole."""
    marker = "" if plain else "/samplewise/complete.json"
    return any(out.glob(f"checkpoint-*{marker}"))
