"""What suffers: the commands, trainers on one process and two, and the plain Trainer beside them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml
from fuzz.inputs.world import SMALL, World, run_file

from faults.server import PATIENCE, Group, Work, command
from faults.trainings import in_python, training


@dataclass(frozen=True)
class Victim:
    """start: what makes or resumes it in its folder: the second time the same again, as the documents say.

    end: what it left behind, as text by name; two runs that ended alike have equal ends. ranks: its processes.
    group: what they are to each other. trains: whether it has checkpoints, so that steps done again can be counted.
    shares: whether its files are parts of the work that a later run keeps. plain: without this library, for comparison.
    script: whether it is Python of a user's own, whose errors come with a traceback. into_folder: whether it writes
    into a folder that is there before. patience: seconds after which it counts as hung.
    """

    name: str
    world: World
    start: Work
    end: Callable[[Path], dict[str, str]]
    ranks: int = 1
    group: Group = "launched"
    trains: bool = False
    shares: bool = False
    plain: bool = False
    script: bool = False
    into_folder: bool = False
    patience: float = PATIENCE


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


def _end_of_python(folder: Path) -> dict[str, str]:
    return json.loads((folder / "end.json").read_text())


def scoring(world: World) -> list[str]:
    """The words of a scoring of some shards into {out}."""
    given = ["--model", str(world.model), "--data", str(world.corpus), *SMALL, "--shard-bytes", "300"]
    return ["score", *given, "--out", "{out}"]


def victims(world: World) -> list[Victim]:
    """Every one that the suite knows."""
    score = command(*scoring(world))
    scores = str(world.scores)
    select = command("select", scores, "--rule", "band(drop_top=0.25)", "--out", "{out}/kept.jsonl.zst")
    trained = {
        "train, two passes": {"rule": "chain(band(drop_top=0.25), ir_dro(r=1.0))"},
        "train, one pass": {"rule": "ir_dro(r=1.0)"},
        "train, a pool": {"rule": "top_k(0.5)", "pool": 2},
        "train, a stream": {"rule": "ir_dro(r=1.0)", "data": {"streaming": True, "held_out_documents": 2}},
        "train, stored losses": {
            "rule": "top_k(0.5)", "loss_from": "stored", "data": {"scores": {"stored_loss": scores}}
        },
        "train, epochs": {
            "rule": 'infobatch(share=0.5, scope="epoch")', "training": {"max_steps": -1, "num_train_epochs": 3}
        },
    }  # fmt: skip
    scripts = {
        "one pass": {"rule": "ir_dro(r=1.0)"}, "two passes": {"rule": "chi2_dro(rho=0.5)"},
        "a pool": {"rule": "top_k(0.5)", "pool": 2}, "micro-batches": {"rule": "ir_dro(r=1.0)", "normalize": "micro"},
        "stored losses": {"rule": "top_k(0.5)", "loss_from": "stored"},
        "epochs": {"rule": 'infobatch(share=0.5, scope="epoch")', "epochs": 2},
    }  # fmt: skip
    own = partial(Victim, end=_end_of_python, trains=True, script=True)
    return [
        *(Victim(name, world, training(world, **more), _results, trains=True) for name, more in trained.items()),
        own("WeightedTrainer", world, partial(in_python, world, scripts["two passes"])),
        *(
            own(f"WeightedTrainer, 2 processes, {name}", world, partial(in_python, world, options), ranks=2)
            for name, options in scripts.items()
        ),
        Victim("score", world, score, _files, shares=True),
        Victim("score, 3 processes", world, score, _files, ranks=3, shares=True),
        Victim("score, 3 tasks of an array", world, score, _files, ranks=3, group="array", shares=True),
        Victim("select", world, select, _files, into_folder=True),
        Victim("report", world, command("report", scores, "--out", "{out}/report.html"), _files, into_folder=True),
        Victim("compare", world, _compare(world), _compared, trains=True),
        own("plain Trainer", world, partial(in_python, world, None), plain=True),
    ]
