"""Whether a high loss is learnable: the fall of losses after a short training on peers, and on other quantiles."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samplewise.config import DataConfig, RunConfig
from samplewise.data import Window, WindowDataset
from samplewise.evidence.initial_model import InitialModel
from samplewise.evidence.probes.quantiles import mean_with_interval
from samplewise.evidence.run.arguments import with_precision
from samplewise.evidence.run.callbacks import TrainingProgress
from samplewise.evidence.run.execute import evaluate_in, make_trainer
from samplewise.evidence.run.prepared import Prepared


@dataclass(frozen=True)
class Short:
    """The short training: steps of batch windows at a learning rate, uniform weights."""

    steps: int
    batch: int
    learning_rate: float
    seed: int


def learnability(
    initial: InitialModel, windows: Sequence[Window], held_out: Sequence[Window], quantile: np.ndarray, short: Short,
    say: Callable[[str], object] = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Half of each quantile's windows is trained on, the other half measured.

    For each quantile q: "peers", the fall of its measured half after training on its own trained half; "others", the
    same after as many windows of the other quantiles; "excess" their paired difference (what only its peers teach);
    "held_out", the fall of the held-out loss after training on its peers. Falls in nats/token, 95% over windows.
    Each is one training of one seed.
    """
    count = int(quantile.max()) + 1
    halves = [np.flatnonzero(quantile == q) for q in range(count)]
    draw = np.random.default_rng(short.seed)
    halves = [draw.permutation(own) for own in halves]
    trained, measured = [own[::2] for own in halves], [own[1::2] for own in halves]
    model = initial.fresh(short.seed)
    everything = [*(windows[i] for own in measured for i in own), *held_out]
    before = _losses(_trainer(initial, model, [windows[0]], short), everything)
    found = []
    for q in range(count):
        others = draw.permutation(np.concatenate([own for p, own in enumerate(trained) if p != q]))[: len(trained[q])]
        say(f"learnability: quantile {q + 1} of {count}")
        fall = {
            name: before - _after(initial, [windows[i] for i in chosen], everything, short)
            for name, chosen in (("peers", trained[q]), ("others", others))
        }
        first = sum(len(own) for own in measured[:q])
        own = slice(first, first + len(measured[q]))
        found.append({
            "peers": mean_with_interval(fall["peers"][own]), "others": mean_with_interval(fall["others"][own]),
            "excess": mean_with_interval(fall["peers"][own] - fall["others"][own]),
            "held_out": mean_with_interval(fall["peers"][len(everything) - len(held_out) :]),
        })  # fmt: skip
    return {"steps": short.steps, "windows_trained": [len(own) for own in trained], "quantiles": found}


def _after(initial: InitialModel, chosen: Sequence[Window], measured: Sequence[Window], short: Short) -> np.ndarray:
    trainer = _trainer(initial, initial.fresh(short.seed), chosen, short)
    trainer.train()
    return _losses(trainer, measured)


def _trainer(initial: InitialModel, model: Any, chosen: Sequence[Window], short: Short) -> Any:
    training = {
        "per_device_train_batch_size": min(short.batch, len(chosen)), "max_steps": short.steps, "seed": short.seed,
        "learning_rate": short.learning_rate, "lr_scheduler_type": "constant", "save_strategy": "no",
        "report_to": "none",
    }  # fmt: skip
    folder = Path(tempfile.gettempdir()) / "samplewise-probe"  # nothing is written there
    config = RunConfig(
        model="", data=DataConfig(""), rule="uniform()", output=str(folder),
        training=with_precision(training, initial.autocast),
    )  # fmt: skip
    data = Prepared(WindowDataset(chosen), [], [], {})
    trainer = make_trainer(model, initial.tokenizer, data, config, folder)
    trainer.remove_callback(TrainingProgress)
    return trainer


def _losses(trainer: Any, windows: Sequence[Window]) -> np.ndarray:
    """[N] in the order given: each window is of a document of its own."""
    return evaluate_in(trainer, Prepared(None, list(windows), [], {}), "probe").losses
