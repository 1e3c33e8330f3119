"""What two or three ranks meet with: other arguments, bad numbers, empty ranks, a rank that dies or hangs.

    python tests/ranks/met.py FOLDER SCENE:RANKS…

Each scene is played in forks; what every rank says is written to FOLDER/SCENE.RANKS.RANK, with the seconds it took and
the exit codes in FOLDER/SCENE.RANKS.end.
"""

import json
import logging
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import tiny
import torch
from forks import forked
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from samplewise.core.distributed import check_same
from samplewise.core.errors import SamplewiseError
from samplewise.trainers import WeightedMixin, WeightedTrainer


def said(action) -> dict:
    """The error that `action` ends with."""
    try:
        action()
    except SamplewiseError as error:
        return {"error": str(error)}
    return {"error": None}


@contextmanager
def heard():
    """What the library says inside."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("samplewise").addHandler(handler)
    yield messages


class Gradient(TrainerCallback):
    """The gradient before each optimizer step."""

    def __init__(self):
        self.seen: list[list[float]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.seen.append(torch.cat([p.grad.flatten() for p in model.parameters()]).tolist())


class OwnRows(Trainer):
    """Each rank's own rows, in micro-batches of two."""

    rows: list[int]

    def get_train_dataloader(self):
        batches = [self.rows[i : i + 2] for i in range(0, len(self.rows), 2)]
        return DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)


class OwnWeighted(WeightedMixin, OwnRows):
    pass


class Rows(tiny.Rows):
    """Sixteen rows; those of `masked` predict nothing, those of `bad` hold the token whose embedding is not finite."""

    def __init__(self, masked=(), bad=()):
        super().__init__(16)
        self.masked = masked
        for row in bad:
            self.rows[row] = torch.cat([torch.tensor([2]), self.rows[row]])

    def __getitem__(self, index):
        row = super().__getitem__(index)
        return {**row, "labels": torch.full_like(row["labels"], -100)} if index in self.masked else row


def trained(folder, rows, *, then=(), data=None, bad=None, sharp=1.0, rule="ir_dro(r=0.3)", callbacks=(), **options):
    """Gradients, log and messages of two steps over a rank's own rows, and over those of `then` in the second.

    bad: the embedding of token 2. sharp: a factor on the logits.
    """
    gradient = Gradient()
    model = tiny.model("opt", dtype=torch.float64, tie_word_embeddings=False)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(sharp)
        if bad is not None:
            model.get_input_embeddings().weight[2] = bad
    args = tiny.arguments(
        folder, max_steps=2, learning_rate=0.0, per_device_train_batch_size=2, num_train_epochs=100,
        gradient_accumulation_steps=len(rows) // 2, max_grad_norm=0.0, ddp_find_unused_parameters=False, **options,
    )  # fmt: skip
    trainer = OwnWeighted(
        model, args, train_dataset=data or Rows(), data_collator=tiny.collate, rule=rule,
        callbacks=[gradient, *callbacks], max_nonfinite=0.2,
    )  # fmt: skip
    trainer.rows = [*rows, *then]
    with heard() as messages:
        trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {"gradients": gradient.seen, "log": log, "messages": messages}


class At(TrainerCallback):
    """Do something before the second optimizer step."""

    def __init__(self, action):
        self.action = action

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.action()


def share(rank: int, ranks: int) -> list[int]:
    return list(range(8))[rank * 8 // ranks : (rank + 1) * 8 // ranks]


# ---- scenes: (folder, rank, ranks) -> what to write down ----


def same(folder, rank, ranks):
    torch.distributed.init_process_group("gloo")
    different = {"rule": f"top_k({'0.25' if rank == 1 else '0.5'})", "seed": str(max(rank, 1)), "version": "0.1.0 é"}
    return {"alike": said(lambda: check_same({"rule": "uniform()"})), "other": said(lambda: check_same(different))}


def other_rule(folder, rank, ranks):
    args = tiny.arguments(folder, seed=3 + rank)
    rule = ["ir_dro(r=1.0)", "ir_dro(r=0.5)"][rank]
    trainer = WeightedTrainer(tiny.model(), args, train_dataset=Rows(), data_collator=tiny.collate, rule=rule)
    return said(trainer.train)


def too_many_bad(folder, rank, ranks):
    return said(lambda: trained(folder, share(rank, ranks), data=Rows(bad=(5, 6)), bad=float("nan")))


def inf(folder, rank, ranks):
    return trained(folder, share(rank, ranks), data=Rows(bad=(5,)), bad=float("inf"))


def nan(folder, rank, ranks):
    return trained(folder, share(rank, ranks), data=Rows(bad=(5,)), bad=float("nan"))


def overflow(folder, rank, ranks):
    """The second step's highest loss, which one rank has, is far from the first's."""
    rows = share(rank, ranks)
    return trained(folder, rows, then=[8 + row for row in rows], sharp=30.0, rule="ir_dro(r=0.01)")


def no_sample(folder, rank, ranks):
    return trained(folder, share(rank, ranks), data=Rows(masked=(4, 5, 6, 7)))


def no_sample_scored(folder, rank, ranks):
    return trained(folder, share(rank, ranks), data=Rows(masked=(4, 5, 6, 7)), rule="chain(top_k(0.5), ir_dro(r=0.3))")


def dies(folder, rank, ranks):
    die = At(lambda: os.kill(os.getpid(), signal.SIGKILL))
    return trained(folder, share(rank, ranks), callbacks=[die] if rank else [])


def hangs(folder, rank, ranks):
    """The host hands ddp_timeout on to the process group, though not with use_cpu=True."""
    stop = [At(lambda: time.sleep(60))] if rank else []
    return trained(folder, share(rank, ranks), callbacks=stop, ddp_timeout=4, use_cpu=False)


def saving(folder, accumulate, checkpoint=None) -> dict:
    """Four steps of the host's own loader, and a checkpoint after two."""
    args = tiny.arguments(
        folder.with_name("saved"), max_steps=4, save_strategy="steps", save_steps=2, per_device_train_batch_size=2,
        gradient_accumulation_steps=accumulate,
    )  # fmt: skip
    options = {"train_dataset": tiny.Rows(40), "data_collator": tiny.collate, "rule": "ir_dro(r=0.5)"}
    trainer = WeightedTrainer(tiny.model(), args, **options)
    with heard() as messages:
        trainer.train(resume_from_checkpoint=checkpoint and str(folder.with_name("saved") / checkpoint))
    return {"log": [entry for entry in trainer.state.log_history if "loss" in entry], "messages": messages}


def saves(folder, rank, ranks):
    return saving(folder, 2)


def goes_on(folder, rank, ranks):
    """Half the ranks, twice the micro-batches."""
    return saving(folder, 4, "checkpoint-2")


def goes_on_with_less(folder, rank, ranks):
    return saving(folder, 2, "checkpoint-2")


def repeats(folder, rank, ranks):
    """Seven rows on two ranks: the host's sampler takes the first row twice, and a step is short."""
    ends = {}
    for name, kind, more in (
        ("host", Trainer, {}),
        ("ours", WeightedTrainer, {"rule": "uniform()", "per": "token", "log_samples": folder.with_name("samples")}),
    ):
        args = tiny.arguments(folder, max_steps=-1, num_train_epochs=2, per_device_train_batch_size=2,
                              gradient_accumulation_steps=1)  # fmt: skip
        model = tiny.model("opt", dtype=torch.float64)
        trainer = kind(model, args, train_dataset=tiny.Rows(7), data_collator=tiny.collate, **more)
        trainer.train()
        ends[name] = {
            "parameters": torch.cat([p.detach().flatten() for p in model.parameters()]).tolist(),
            "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        }  # fmt: skip
    return ends


SCENES = {each.__name__: each for each in (
    same, other_rule, too_many_bad, inf, nan, overflow, no_sample, no_sample_scored, dies, hangs,
    saves, goes_on, goes_on_with_less, repeats,
)}  # fmt: skip


def play(base: Path, name: str, ranks: int) -> None:
    def work(rank):
        Path(base, f"{name}.{ranks}.{rank}").write_text(json.dumps(SCENES[name](base / "run", rank, ranks)))
        if ranks > 1:
            torch.distributed.barrier()

    start = time.monotonic()
    codes = forked(ranks, work, patience=60, together=name == "hangs")
    Path(base, f"{name}.{ranks}.end").write_text(json.dumps({"codes": codes, "seconds": time.monotonic() - start}))


if __name__ == "__main__":
    for scene in sys.argv[2:]:
        name, _, ranks = scene.partition(":")
        play(Path(sys.argv[1]), name, int(ranks))
