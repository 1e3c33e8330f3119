"""The few lines that a user of Lightning writes, and the same steps by hand. As a program: one run on two processes.

python tests/frameworks/lightning_runs.py FOLDER RULE PRECISION  # writes FOLDER/seen.pt on the first rank
"""

import sys
from pathlib import Path
from typing import Any

import lightning as pl
import same_rows
import torch
from torch.utils.data import DataLoader

from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.base_weights import TokenMean
from samplewise.engine.modes import RetryInTwoPasses
from samplewise.engine.observers import StatelessObserver
from samplewise.engine.options import WeightingOptions
from samplewise.engine.result import StepResult
from samplewise.engine.step import Step
from samplewise.trainers.lightning import WeightingCallback

ROWS, MICRO = same_rows.rows(), same_rows.MICRO


def pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows padded to the longest on the right; other columns as they are."""
    width = max(len(row["input_ids"]) for row in rows)
    fills = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    padded = {
        key: torch.tensor([list(row[key]) + [fill] * (width - len(row[key])) for row in rows])
        for key, fill in fills.items()
    }
    return padded | {key: torch.tensor([row[key] for row in rows]) for key in rows[0] if key not in fills}


def loader(rows: Any = ROWS, **kwargs: Any) -> DataLoader:
    return DataLoader(rows, batch_size=MICRO, collate_fn=pad, **kwargs)


def inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: batch[key] for key in ("input_ids", "attention_mask", "labels")}


class Watched(torch.optim.AdamW):
    """Keeps the gradient of every step: Lightning computes it inside `step`, in a closure."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gradients: list[list[torch.Tensor]] = []

    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        self.gradients.append([torch.zeros(()) if each is None else each.clone() for each in gradients])
        super().step()
        return loss


class Kept(StatelessObserver):
    """Every finished step."""

    def __init__(self) -> None:
        self.results: list[StepResult] = []

    def on_step(self, result: StepResult) -> None:
        self.results.append(result)


class Weighted(pl.LightningModule):
    def __init__(self, rule: Any = same_rows.RULE, lr: float = 0.0, **options: Any) -> None:
        super().__init__()
        self.model, self.lr = same_rows.tiny_model().train(), lr
        self.weighting = WeightingCallback(rule, **options)

    def configure_callbacks(self) -> Any:
        return [self.weighting]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weighting.loss(self.model, batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.model(**inputs(batch)).loss, batch_size=MICRO)

    def configure_optimizers(self) -> Any:
        self.watched = Watched(self.parameters(), lr=self.lr)
        return self.watched

    def gradient(self, step: int = 0) -> dict[str, torch.Tensor]:
        """The gradient that the optimizer saw, by the model's names."""
        names = [name for name, _ in self.model.named_parameters()]
        return dict(zip(names, self.watched.gradients[step], strict=True))


class Plain(Weighted):
    """Without the library."""

    def configure_callbacks(self) -> Any:
        return []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.model(**inputs(batch)).loss


def trainer(folder: Any, **kwargs: Any) -> pl.Trainer:
    given = {
        "accumulate_grad_batches": same_rows.ACCUMULATION, "max_epochs": 1, "accelerator": "cpu", "devices": 1,
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
        "default_root_dir": str(folder), "num_sanity_val_steps": 0, "limit_val_batches": 0,
    }  # fmt: skip
    return pl.Trainer(**{**given, **kwargs})


def backward(step: Step, model: Any, micro_batches: list[MicroBatch], bf16: bool) -> None:
    for micro in micro_batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
            objective = step.loss(model, micro)
        objective.backward()


def by_hand(
    steps: list[list[dict[str, torch.Tensor]]], rule: str, *, lr: float = 0.0, clip: float = 0.0, bf16: bool = False,
    model: Any = None, **options: Any,
) -> Watched:  # fmt: skip
    """The steps in a bare loop on the engine."""
    model = same_rows.tiny_model().train() if model is None else model
    optimizer = Watched(model.parameters(), lr=lr)
    step = Step(WeightingOptions(rule=rule, **options), torch.device("cpu"))
    step.attach(model)
    step.set_total_steps(len(steps))
    step.start()
    for batches in steps:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
            planned = step.prepare(model, batches, mean=TokenMean("micro_batch"))
        try:
            backward(step, model, planned, bf16)
        except RetryInTwoPasses as reason:
            model.zero_grad()
            backward(step, model, step.retry(model, reason), bf16)
        step.finish(model.parameters)
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
    step.detach()
    return optimizer


def main() -> None:
    folder, rule, precision = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    kept = Kept()
    module = Weighted(rule, lr=1e-3, observers=[kept])
    made = trainer(
        folder, devices=2, strategy="ddp", accumulate_grad_batches=3, precision=precision, gradient_clip_val=0.5,
        max_epochs=2,
    )  # fmt: skip
    made.fit(module, loader())
    if made.global_rank == 0:
        gradients = [torch.cat([each.flatten() for each in step]) for step in module.watched.gradients]
        ids = [result.samples.id.tolist() for result in kept.results]
        torch.save({"ids": ids, "gradients": gradients}, folder / "seen.pt")


if __name__ == "__main__":
    main()
