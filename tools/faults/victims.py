"""What suffers: the commands, trainers on one process and two, and the plain Trainer beside them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from fuzz.inputs.world import SMALL, World, run_file

from faults.server import Work, command

STEPS, SAVED = 6, 2
"""Optimizer steps of a training run, and after how many a checkpoint is written."""


@dataclass(frozen=True)
class Victim:
    """start: what makes or resumes it in its folder: the second time the same again, as the documents say.

    end: what it left behind, as text by name; two runs that ended alike have equal ends. ranks: its processes.
    trains: whether it has checkpoints, so that steps done again can be counted. shares: whether processes divide the
    work without a launcher. plain: without this library, for comparison. script: whether it is Python of a user's own,
    whose errors come with a traceback. into_folder: whether it writes into a folder that is there before.
    """

    name: str
    world: World
    start: Work
    end: Callable[[Path], dict[str, str]]
    ranks: int = 1
    trains: bool = False
    shares: bool = False
    plain: bool = False
    script: bool = False
    into_folder: bool = False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _without_times(text: str) -> str:
    return re.sub(
        r'"(seconds\w*|time\w*|started\w*|created\w*|host\w*|memory\w*|\w*_per_second|load)": [^,}\n]+', "", text
    )


def _results(folder: Path) -> dict[str, str]:
    out = folder / "out"
    results = json.loads((out / "results.json").read_text())
    return {
        "documents": json.dumps(results["documents"]), "training": json.dumps(results["training"]),
        "model": _digest(out / "model" / "model.safetensors"),
    }  # fmt: skip


def training(world: World, **changes: Any) -> Work:
    """`samplewise train`, with --resume where it was begun before. changes: of the run file."""

    def work(folder: Path) -> None:
        config: dict[str, Any] = (
            run_file(world) | {"output": str(folder / "out")} | {k: v for k, v in changes.items() if k != "data"}
        )
        config["data"] = {**config["data"], **changes.get("data", {})}
        config["training"] |= {
            "max_steps": STEPS,
            "save_steps": SAVED,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
        }
        (folder / "run.yaml").write_text(yaml.safe_dump(config))
        again = ["--resume"] if (folder / "out").exists() else []
        if (folder / "out" / "results.json").exists():
            return
        command("train", "run.yaml", *again)(folder)

    return work


def _files(folder: Path) -> dict[str, str]:
    """Every file of a folder of scores; times and machine facts left out."""
    out, found = folder / "out", {}
    for path in sorted(p for p in out.rglob("*") if p.is_file() and not p.name.startswith(".") and p.suffix != ".lock"):
        text = path.suffix in (".json", ".jsonl", ".html", ".md")
        found[str(path.relative_to(out))] = _without_times(path.read_text()) if text else _digest(path)
    return found


def _compared(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted((folder / "out").glob("*.json")):
        if path.name == "registered.json":  # when the plan was first run
            continue
        found[path.name] = _without_times(path.read_text())
    return found


def _compare(world: World) -> Work:
    def work(folder: Path) -> None:
        training = {k: v for k, v in run_file(world)["training"].items() if k not in ("max_steps", "seed")}
        plan = {
            "model": str(world.model), "seeds": [0], "arms": {"band": "band(drop_top=0.25)"}, "budget": {"steps": 3},
            "data": run_file(world)["data"], "controls": {"rates": [], "random": False}, "output": str(folder / "out"),
            "training": {**training, "save_steps": 2, "per_device_train_batch_size": 4},
        }  # fmt: skip
        (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
        command("compare", "plan.yaml")(folder)

    return work


class Rows:
    """24 rows of fixed random tokens."""

    def __init__(self) -> None:
        import torch

        draw = torch.Generator().manual_seed(1)
        self.rows = [torch.randint(4, 64, (8,), generator=draw) for _ in range(24)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def _in_python(world: World, rule: str | None, folder: Path) -> None:
    """Training in Python with a Trainer, resumed as its users do; without a rule with the plain one."""
    import torch
    import transformers

    from samplewise.trainers import WeightedTrainer

    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(world.model)
    args = transformers.TrainingArguments(
        output_dir=str(folder / "out"), max_steps=STEPS, save_steps=SAVED, use_cpu=True, report_to="none", seed=3,
        per_device_train_batch_size=2, learning_rate=1e-2, disable_tqdm=True, save_total_limit=2, logging_steps=1,
        dataloader_pin_memory=False, ddp_timeout=60,
    )  # fmt: skip
    options: dict[str, Any] = {} if rule is None else {"rule": rule}
    kind = transformers.Trainer if rule is None else WeightedTrainer
    trainer = kind(model, args, train_dataset=Rows(), **options)  # pyright: ignore[reportArgumentType]
    trainer.train(resume_from_checkpoint=_something_to_resume(folder / "out", rule))
    if trainer.args.should_save:
        digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        (folder / "end.json").write_text(json.dumps({"weights": digest, "losses": losses}))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _something_to_resume(out: Path, rule: str | None) -> bool:
    """Whether a user would say `resume_from_checkpoint=True`: with this library where a checkpoint is whole."""
    marker = "" if rule is None else "/samplewise/complete.json"
    return any(out.glob(f"checkpoint-*{marker}"))


def _end_of_python(folder: Path) -> dict[str, str]:
    return json.loads((folder / "end.json").read_text())


def victims(world: World) -> list[Victim]:
    """Every one that the suite knows."""
    scoring = ["--model", str(world.model), "--data", str(world.corpus), *SMALL, "--shard-bytes", "300"]
    score = command("score", *scoring, "--out", "{out}")
    scores = str(world.scores)
    select = command("select", scores, "--rule", "band(drop_top=0.25)", "--out", "{out}/kept.jsonl.zst")
    trained = {
        "train, two passes": {"rule": "chain(band(drop_top=0.25), ir_dro(r=1.0))"},
        "train, one pass": {"rule": "ir_dro(r=1.0)"},
        "train, a pool": {"rule": "top_k(0.5)", "pool": 2},
        "train, a stream": {"rule": "ir_dro(r=1.0)", "data": {"streaming": True, "held_out_documents": 2}},
    }
    python = {rule or "plain": partial(_in_python, world, rule) for rule in ("chi2_dro(rho=0.5)", None)}
    weighted = python["chi2_dro(rho=0.5)"]
    return [
        *(Victim(name, world, training(world, **more), _results, trains=True) for name, more in trained.items()),
        Victim("WeightedTrainer", world, weighted, _end_of_python, trains=True, script=True),
        Victim("WeightedTrainer, 2 processes", world, weighted, _end_of_python, ranks=2, trains=True, script=True),
        Victim("score", world, score, _files, shares=True),
        Victim("select", world, select, _files, into_folder=True),
        Victim("report", world, command("report", scores, "--out", "{out}/report.html"), _files, into_folder=True),
        Victim("compare", world, _compare(world), _compared, trains=True),
        Victim("plain Trainer", world, python["plain"], _end_of_python, trains=True, plain=True, script=True),
    ]  # fmt: skip
