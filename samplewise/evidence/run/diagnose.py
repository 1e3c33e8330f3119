"""Problems that show in the folder of a run, whether it is running, was killed or has finished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from samplewise.config import load_config
from samplewise.core.errors import SamplewiseError
from samplewise.core.json_file import as_written, read_json
from samplewise.core.paths import expanded
from samplewise.engine.diagnosis import Finding, Watch
from samplewise.evidence.run.folder import CONFIG, RESULTS
from samplewise.evidence.run.history import CURVES, FILE
from samplewise.rules import parse_rule

Weighed = dict[int, tuple[Tensor, Tensor]]
Curves = dict[str, list[float]]
DAMAGED = "Restore it, or remove it to diagnose from an older checkpoint."


def diagnose_run(folder: Path) -> tuple[int, list[Finding]]:
    """(steps looked at, findings) of a folder of `samplewise train`.

    Figures of every step come from results.json, else from the newest checkpoint; held-out losses from its log, where
    training evaluates; the weight that single ids gather from `log_samples`, where that is on.
    Errors: SamplewiseError where there is no run, or nothing is saved of it yet.
    """
    if not (folder / CONFIG).exists():
        raise SamplewiseError(
            str(folder), expected=f"a folder of samplewise train, with {CONFIG}", got="none there",
            remedy="Name the output folder of the run file.",
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


def _recorded(folder: Path) -> tuple[Curves, dict[str, float]]:
    if (folder / RESULTS).exists():
        results = read_json(folder / RESULTS, "the results of a run", DAMAGED)
        with as_written(folder / RESULTS, "the results of a run", DAMAGED):
            return _checked(results["training"]["curves"], results["seconds"])
    saved = [path / FILE for path in _checkpoints(folder) if (path / FILE).exists()]
    if not saved:
        raise SamplewiseError(
            str(folder), expected="a finished run, or one with a checkpoint", got="neither yet",
            remedy="Wait until the run has finished, or set training.save_steps for the next one.",
        )  # fmt: skip
    history = read_json(saved[-1], "the history of a run", DAMAGED)
    with as_written(saved[-1], "the history of a run", DAMAGED):
        return _checked(history["curves"], history["seconds"])


def _checked(curves: dict[str, list[float]], seconds: dict[str, float]) -> tuple[Curves, dict[str, float]]:
    """Numbers, and of every curve as many. Raises what `as_written` tells."""
    found = {name: [float(value) for value in curves[name]] for name in CURVES}
    if len({len(values) for values in found.values()}) > 1:
        raise ValueError("curves of different lengths")
    return found, {name: float(value) for name, value in seconds.items()}


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _held_out(folder: Path) -> dict[int, float]:
    """The losses of evaluations during training, by step."""
    states = [path / "trainer_state.json" for path in _checkpoints(folder)]
    states = [path for path in states if path.exists()]
    if not states:
        return {}
    state = read_json(states[-1], "the state of the trainer", DAMAGED)
    with as_written(states[-1], "the state of the trainer", DAMAGED):
        return {int(entry["step"]): float(entry["eval_loss"]) for entry in state["log_history"] if "eval_loss" in entry}


def _weighed(path: str | None) -> Weighed:
    """Ids and weights of every step that `log_samples` has written."""
    if path is None or not expanded(path).is_dir():
        return {}
    return dict(_steps(expanded(path)))


def _steps(folder: Path) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(folder, columns=["step", "id", "weight"])
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SamplewiseError(
            str(folder), expected="what log_samples writes", got=" ".join(str(error).split())[:200],
            remedy="Move the folder away to diagnose the run without the sample log.",
        ) from None  # fmt: skip
    step, ids, weight = (torch.from_numpy(table[name].to_numpy().copy()) for name in ("step", "id", "weight"))
    counts = torch.unique_consecutive(step, return_counts=True)
    starts = counts[1].cumsum(0) - counts[1]
    for number, start, count in zip(counts[0].tolist(), starts.tolist(), counts[1].tolist(), strict=True):
        yield number, (ids[start : start + count], weight[start : start + count])
