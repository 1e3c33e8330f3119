"""Trains, is killed with SIGKILL at a given moment, and resumes; again and again, in forks of one process.

    python tests/ranks/killed.py FOLDER CASE RANKS MOMENT…

MOMENT: `file:N`, the N-th time a file or folder of the run is opened, renamed or removed; `forward:N`, the N-th forward
of a training micro-batch; `step:N`, before the N-th optimizer step; or `never`. With several ranks RANK@ in front says
whose moment it is (0 otherwise), and the others are killed when it is dead, as a launcher does.
Writes a line of JSON for each moment to FOLDER/ends.jsonl: whether the kill came, the step that the run was resumed
from, what it ended with, and how many moments of each kind there were.
"""

import hashlib
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import ClassVar

import tiny
import torch
import world
from forks import forked
from torch.utils.data import IterableDataset
from transformers import TrainerCallback

from samplewise import Rule
from samplewise.config import load_config
from samplewise.evidence.run.execute import run
from samplewise.trainers import WeightedTrainer

STEPS = 7


class Stream(IterableDataset):
    """Sixteen rows a pass: four steps of one process, two of two; each rank reads it all and takes its share."""

    options: ClassVar = {"accelerator_config": {"dispatch_batches": False}}
    min_length = 3

    def __iter__(self):
        yield from tiny.Rows(16, min_length=self.min_length)


class Dispatched(Stream):
    """Rows of one length, which the host's first rank reads for all."""

    options: ClassVar = {}
    min_length = 12


def above_the_window() -> Rule:
    """Weight 1 above the mean of the last 24 losses, else a half: a rule that remembers a tensor."""

    def factor(samples, state):
        return 0.5 + 0.5 * (samples.loss > state["window"].mean()).to(samples.loss)

    def update(samples, weights, state):
        return {"window": torch.cat([state["window"], samples.loss.double().cpu()])[-24:]}

    return Rule(
        "above_the_window()", lambda: {"window": torch.zeros(0, dtype=torch.float64)},
        lambda weights, samples, state: weights * (factor(samples, state) if len(state["window"]) == 24 else 1), update,
        factor=factor, factor_ready=lambda state: len(state["window"]) == 24,
    )  # fmt: skip


CASES = {
    "dropout": {"rule": "warmup(1, chain(random_keep(0.75, seed=5), ir_dro(r=0.5)))", "model": {"dropout": 0.1}},
    "stream": {"rule": "ir_dro(r=0.5)", "data": Stream},
    "dispatched": {"rule": "top_k(0.5)", "data": Dispatched},
    "pool": {"rule": "chain(top_k(0.5), chi2_dro(rho=0.5))", "pool": 2},
    "command": {"more": []},
    "command, from a stream": {"more": ["data.streaming=true", "data.held_out_documents=4", "rule=ir_dro(r=0.5)"]},
    "window": {"rule": above_the_window(), "limit": 1},
}


class Moments(TrainerCallback):
    """Counts what happens, and dies at the moment asked for."""

    def __init__(self, folder: Path, moment: str) -> None:
        self.folder, self.seen = str(folder), Counter()
        self.kind, _, number = moment.partition(":")
        self.number = int(number or 0)
        sys.addaudithook(self.on_event)

    def on_event(self, event, args):
        kinds = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime")
        path = os.fspath(args[0]) if event in kinds and isinstance(args[0], str | os.PathLike) else None
        if isinstance(path, str) and path.startswith(self.folder):
            self.count("file")

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.count("step")

    def count(self, kind):
        self.seen[kind] += 1
        if kind == self.kind and self.seen[kind] == self.number:
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, report: Path, case: dict, ranks: int, moment: str) -> None:
    """One process's run, from the newest complete checkpoint if there is one."""
    moments = Moments(folder, moment)
    model = tiny.model("opt", **case.get("model", {}))
    model.get_input_embeddings().register_forward_hook(
        lambda *_: moments.count("forward") if torch.is_grad_enabled() else None
    )
    data = case["data"]() if "data" in case else tiny.Rows(37)
    args = tiny.arguments(
        folder, max_steps=STEPS, save_strategy="steps", save_steps=2, save_total_limit=case.get("limit"),
        per_device_train_batch_size=2, ddp_timeout=60, max_grad_norm=0.5,
        **getattr(data, "options", {}),
    )  # fmt: skip
    trainer = WeightedTrainer(
        model, args, train_dataset=data, data_collator=tiny.collate, rule=case["rule"], pool=case.get("pool", 1),
        callbacks=[moments],
    )  # fmt: skip
    marked = sorted(int(p.parts[-3].split("-")[1]) for p in folder.glob("checkpoint-*/samplewise/complete.json"))
    trainer.train(resume_from_checkpoint=bool(marked))
    if args.should_save:
        logged = [e for e in trainer.state.log_history if "loss" in e]
        history = [{k: v for k, v in e.items() if "seconds" not in k} for e in logged]
        digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters()))
        end = {"weights": digest.hexdigest(), "history": history, "state": repr(trainer.rule_state)}
        report.write_text(json.dumps({"resumed": marked[-1:], "end": end, "seen": moments.seen}))
    if ranks > 1:
        torch.distributed.barrier()


def command(folder: Path, report: Path, case: dict, ranks: int, moment: str) -> None:
    """`samplewise train`, with --resume where it was begun before."""
    base = folder.parents[1] / "world"
    if not base.exists():
        base.mkdir()
        world.save_model(base / "model")
        world.save_corpus(base / "corpus.jsonl", 24)
    path = world.write_run(folder.with_suffix(".yaml"), base / "model", base / "corpus.jsonl", folder)
    more = [f"training.max_steps={STEPS}", "training.save_steps=2", *case["more"]]
    moments = Moments(folder, moment)
    if not (folder / "results.json").exists():
        run(load_config(path, more), resume=folder.exists(), say=str)
    results = json.loads((folder / "results.json").read_text())
    weights = hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()
    left = sorted(path.name for path in folder.iterdir() if not path.name.startswith(("checkpoint", ".before")))
    end = {"weights": weights, "documents": results["documents"], "training": results["training"], "left": left}
    checkpoints = sorted(path.name for path in folder.glob("checkpoint-*"))
    report.write_text(json.dumps({"resumed": checkpoints, "end": end, "seen": moments.seen}))


def ended(ranks: int, moment: str, *arguments) -> bool:
    """Train in so many processes; False if one was killed."""
    at, _, moment = moment.rpartition("@")
    work = command if "more" in arguments[2] else train
    codes = forked(ranks, lambda rank: work(*arguments, ranks, moment if rank == int(at or 0) else "never"))
    assert not any(codes) or -signal.SIGKILL in codes, codes
    return not any(codes)


if __name__ == "__main__":
    base, name, ranks, *moments = sys.argv[1:]
    for moment in moments:
        folder = Path(tempfile.mkdtemp(dir=base))
        arguments = folder / "run", folder / "report.json", CASES[name]
        killed = not ended(int(ranks), moment, *arguments)
        if killed:
            assert not arguments[1].exists(), "it had ended before"
            assert ended(int(ranks), "never", *arguments)
        with open(Path(base) / "ends.jsonl", "a") as file:
            file.write(json.dumps({"moment": moment, "killed": killed, **json.loads(arguments[1].read_text())}) + "\n")
