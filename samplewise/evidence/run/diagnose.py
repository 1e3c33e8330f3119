"""What can be seen to go wrong in a run's folder, whether it goes on, was killed or has ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samplewise.config import load_config
from samplewise.core.errors import SamplewiseError
from samplewise.engine.diagnosis import Finding, Watch
from samplewise.evidence.run.folder import CONFIG, RESULTS
from samplewise.evidence.run.history import FILE
from samplewise.rules import parse_rule

Weighed = dict[int, tuple[Tensor, Tensor]]


def diagnose_run(folder: Path) -> tuple[int, list[Finding]]:
    """(steps looked at, findings) of a folder of `samplewise train`.

    Figures of every step come from results.json, else from the newest checkpoint; held-out losses from its log, where
    training evaluates; the weight that single ids gather from `log_samples`, where that is on.
    Errors: SamplewiseError where there is no run, or nothing is saved of it yet.
    """
    if not (folder / CONFIG).exists():
        raise SamplewiseError(
            str(folder), expected=f"a folder of samplewise train, with {CONFIG}", got="none there",
            remedy="Give the run file's output.",
        )  # fmt: skip
    config = load_config(folder / CONFIG)
    curves, seconds = _recorded(folder)
    steps = len(curves["loss"])
    spent = {phase: seconds.get(phase, 0.0) / max(1, steps) for phase in ("score", "rule", "train")}
    held_out, weighed = _held_out(folder), _weighed(config.log_samples)
    watch, found = Watch(parse_rule(config.rule)), []
    for step in range(1, steps + 1):
        ids, weights = weighed.get(step, (None, None))
        figures = {name: values[step - 1] for name, values in curves.items()}
        found += watch.step(step, figures, seconds=spent, ids=ids, weights=weights)
        if step in held_out:
            found += watch.evaluated(step, held_out[step])
    return steps, found


def _recorded(folder: Path) -> tuple[Mapping[str, Sequence[float]], Mapping[str, float]]:
    if (folder / RESULTS).exists():
        results = json.loads((folder / RESULTS).read_text())
        return results["training"]["curves"], results["seconds"]
    saved = [path / FILE for path in _checkpoints(folder) if (path / FILE).exists()]
    if not saved:
        raise SamplewiseError(
            str(folder), expected="a finished run, or one with a checkpoint", got="neither yet",
            remedy="Set training.save_steps, or wait for its end; while it trains it warns by itself.",
        )  # fmt: skip
    history = json.loads(saved[-1].read_text())
    return history["curves"], history["seconds"]


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _held_out(folder: Path) -> dict[int, float]:
    """Losses of evaluations while training, by step."""
    states = [path / "trainer_state.json" for path in _checkpoints(folder)]
    states = [path for path in states if path.exists()]
    log: list[dict[str, Any]] = json.loads(states[-1].read_text())["log_history"] if states else []
    return {int(entry["step"]): float(entry["eval_loss"]) for entry in log if "eval_loss" in entry}


def _weighed(path: str | None) -> Weighed:
    """Ids and weights of every step that `log_samples` has written."""
    if path is None or not Path(path).expanduser().is_dir():
        return {}
    return dict(_steps(Path(path).expanduser()))


def _steps(folder: Path) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder, columns=["step", "id", "weight"])
    step, ids, weight = (torch.from_numpy(table[name].to_numpy().copy()) for name in ("step", "id", "weight"))
    counts = torch.unique_consecutive(step, return_counts=True)
    starts = counts[1].cumsum(0) - counts[1]
    for number, start, count in zip(counts[0].tolist(), starts.tolist(), counts[1].tolist(), strict=True):
        yield number, (ids[start : start + count], weight[start : start + count])
