"""Write the fixtures of file formats anew: python tools/write_format_fixtures.py FOLDER.

Only where a format changes on purpose: the fixtures in tests/fixtures/formats are there to be read, not to be renewed.
Needs tests/ beside it; every path in the files is relative to FOLDER.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import kept_formats as kept
import tiny
import torch
import transformers.trainer
import world
from plans import write_plan
from safetensors.torch import save_file
from transformers import TrainerCallback

from samplewise.core.checkpoint import mark_complete

DATA = {"path": "corpus.jsonl", "max_length": 32, "min_tokens": 4, "held_out": 0.15}


def write_checkpoints(folder: Path) -> None:
    """Checkpoints in the middle of a run, and the parameters of later steps of the same run, not interrupted."""
    folder.mkdir()
    rows = [row.tolist() for row in tiny.Rows(kept.ROWS).rows]
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "arithmetic.txt").write_text(kept.arithmetic(folder / "plain"))
    for name, ours in kept.TRAINERS.items():
        later = kept.trained(folder / name, ours)
        shutil.copytree(folder / name / f"checkpoint-{kept.STEPS}" / "samplewise", folder / name / "later")
        (folder / name / "later" / "complete.json").unlink()
        for path in (folder / name).glob("checkpoint-*"):
            if path.name != f"checkpoint-{kept.SAVED}":
                shutil.rmtree(path)
        save_file(later, folder / name / "later" / "model.safetensors")
    loop = folder / "loop"
    kept.looped(loop, first=1, last=kept.SAVED)
    mark_complete(loop)
    save_file({"8": kept.looped(loop, first=1, last=8)}, folder / "loop.safetensors")
    shutil.rmtree(folder / "plain", ignore_errors=True)


def write_scores(folder: Path) -> None:
    """Two shards, a column of another model, a record that cannot be scored, and what selections keep."""
    folder.mkdir()
    with open(world.save_corpus(folder / "corpus.jsonl", 60), "a") as file:
        file.write(json.dumps({"text": "w1 w2"}) + "\n" + json.dumps({"title": "without text"}) + "\n")
    place = ["--data", folder / "corpus.jsonl", "--out", folder / "finished", "--dtype", "float32"]
    cut = ["--max-length", "32", "--min-tokens", "4", "--shard-bytes", "6000"]
    done("score", "--model", "model", *place, *cut)
    torch.manual_seed(1)
    other = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained("model"))
    shutil.copytree("model", "other")
    other.save_pretrained("other")
    done("score", "--model", "other", *place, "--as", "reference")
    shutil.rmtree("other")
    ids = {}
    for name, arguments in kept.SELECTIONS.items():
        done("select", folder / "finished", *arguments, "--ids", "--out", "ids.txt")
        ids[name] = sorted(int(line) for line in Path("ids.txt").read_text().split())
    for left in Path().glob("ids.*"):
        left.unlink()
    (folder / "selected.json").write_text(json.dumps(ids))


def write_comparison(folder: Path) -> None:
    """The same plan stopped within its second arm, and finished."""
    folder.mkdir()
    plan = write_plan(
        Path(), model="model", data=DATA, seeds=[0], evaluations=2, output=str(folder / "finished"),
        arms={"window": {"rule": "chain(band(drop_top=0.25, window=2), ir_dro(r=1.0))"}},
    )  # fmt: skip
    done("compare", plan)
    with interrupted(run=2, step=3):
        assert world.samplewise("compare", plan, f"output={folder / 'stopped'}").returncode == 130
    plan.unlink()
    for page in [*folder.glob("*/*.png"), *folder.glob("*/*.svg"), *folder.glob("*/*.html")]:
        page.unlink()


def write_runs(folder: Path) -> None:
    """The same run stopped half-way, and finished; each with its sample log."""
    folder.mkdir()
    changes: dict[str, Any] = {"rule": "chain(band(drop_top=0.25, window=2), ir_dro(r=1.0, ema=0.9))", "data": DATA}
    for name in ("stopped", "finished"):
        file = world.write_run(
            Path("run.yaml"), Path("model"), Path("corpus.jsonl"), folder / name,
            log_samples=str(folder / f"samples-{name}"), **changes,
        )  # fmt: skip
        if name == "finished":
            done("train", file, "training.max_steps=10", "training.save_strategy='no'")
            continue
        with interrupted(run=1, step=5):
            assert world.samplewise("train", file, "training.max_steps=10").returncode == 130
    Path("run.yaml").unlink()
    for path in (folder / "finished").glob("*.png"):
        path.unlink()


def done(*arguments: object) -> None:
    """The command. Raises AssertionError with its stderr where it fails."""
    found = world.samplewise(*arguments)
    assert found.returncode == 0, found.stderr


@contextmanager
def interrupted(run: int, step: int) -> Iterator[None]:
    """Inside, Ctrl-C is pressed after a step of the nth training."""
    begun: list[int] = []

    class Press(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            begun.append(1)

        def on_step_end(self, args, state, control, **kwargs):
            if len(begun) == run and state.global_step == step:
                signal.raise_signal(signal.SIGINT)

    transformers.trainer.DEFAULT_CALLBACKS.append(Press)
    try:
        yield
    finally:
        transformers.trainer.DEFAULT_CALLBACKS.remove(Press)


def main(target: Path) -> None:
    """All of them into a folder, which may hold a README.md and nothing else."""
    target.mkdir(parents=True, exist_ok=True)
    os.chdir(target)
    world.save_model(Path("model"))
    world.save_corpus(Path("corpus.jsonl"))
    write_checkpoints(Path("checkpoint"))
    write_scores(Path("scores"))
    write_comparison(Path("compare"))
    write_runs(Path("run"))
    for left in [*Path().rglob(".lock"), *Path().rglob(".verified.json")]:
        left.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
