"""One run from its configuration to results: load, prepare, evaluate, train, evaluate, save."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PrinterCallback

from samplewise.config import DataConfig, InstructionsConfig, RunConfig
from samplewise.core.checkpoint import write_bytes
from samplewise.core.errors import SamplewiseError
from samplewise.core.json_file import as_written, read_json
from samplewise.core.paths import expanded
from samplewise.core.progress import Progress
from samplewise.corpus.fingerprints import fingerprint_model
from samplewise.data import PadCollator
from samplewise.engine.weighting import weighting_values
from samplewise.evidence import Evaluation, evaluate
from samplewise.evidence.batches import Batch, batches_of
from samplewise.evidence.outputs import Outputs
from samplewise.evidence.run import fingerprints
from samplewise.evidence.run.adapters import trained_bytes, with_adapters
from samplewise.evidence.run.arguments import as_begun, check_training, training_arguments, with_precision
from samplewise.evidence.run.callbacks import StopOnSignal, TrainingProgress
from samplewise.evidence.run.folder import (
    CONFIG,
    EVALUATION_BEFORE,
    RESULTS,
    check_folder,
    check_space,
    exhaustion_explained,
    locked,
    save_config,
    save_model,
    saved_config,
)
from samplewise.evidence.run.groups import by_name, check_groups
from samplewise.evidence.run.history import History
from samplewise.evidence.run.instructions import prepare_instructions
from samplewise.evidence.run.prepare import prepare
from samplewise.evidence.run.prepared import Prepared
from samplewise.evidence.run.results import results_of
from samplewise.evidence.run.trainer import HistoryMixin, RunTrainer
from samplewise.models import load_model
from samplewise.rules import parse_rule

Say = Callable[[str], object]
Kept = dict[tuple[int, int], list[Batch]]


class Stopped(Exception):  # noqa: N818  no error: it was asked for
    """Training was asked to stop, and stopped after a whole step. Its text says how to resume."""


@dataclass(frozen=True)
class Finished:
    """A run's end. results: as in results.json. title: model and rule. groups: the weights of each, by its name."""

    folder: Path
    before: Evaluation
    after: Evaluation
    history: History
    results: dict[str, Any]
    title: str
    groups: dict[str, list[float]]


Draw = Callable[[Finished], object]


def run(
    config: RunConfig, *, resume: bool = False, accept_changes: bool = False, say: Say = print, draw: Draw | None = None
) -> Finished:
    """Train as the configuration says, and write results, configuration and model to its output folder.

    resume: resume the run in the folder, from its newest complete checkpoint if there is one.
    accept_changes: resume even if data, base model, tokenizer or template are not those that the run began with.
    say: takes one line of text at a time. draw: makes pictures of what came of it, before the results mark the end.
    Errors: SamplewiseError on bad input, before anything is written; `Stopped` after Ctrl-C and a saved checkpoint.
    """
    folder = expanded(config.output)
    check_training(config.training, config.data.kind)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SamplewiseError(
            "WORLD_SIZE", expected="one process", got=os.environ["WORLD_SIZE"],
            remedy="For several, write a script with WeightedTrainer and launch it with torchrun.",
        )  # fmt: skip
    with locked(folder), exhaustion_explained(folder):
        return _run(config, folder, resume, accept_changes, say, draw)


def _run(config: RunConfig, folder: Path, resume: bool, accept_changes: bool, say: Say, draw: Draw | None) -> Finished:
    seconds: dict[str, float] = {}
    saved = saved_config(folder)
    if saved is not None:
        config = replace(config, training=as_begun(config.training, saved.training))
    goes_on = check_folder(folder, config, resume)
    if resume and not goes_on:
        say(f"no complete checkpoint in {folder} yet: starting at the first step")
    with _timed(seconds, "load the model"):
        model, tokenizer, description = load_model(config.model)
        facts = fingerprints.of_model(model, tokenizer)
    say(f"model      {description}" + (f"; {description.note}" if description.note else ""))
    with _timed(seconds, "read the text"):
        data = prepare_any(config.data, tokenizer, description.context, negative=config.allow_negative)
        facts |= fingerprints.of_data(data, config.data, tokenizer)
    for line in data.lines:
        say(line)
    if saved is None:
        config = replace(config, training=with_precision(config.training, description.autocast))
    if config.lora is not None:
        model = with_adapters(model, config.lora, config.model, int(config.training.get("seed", 42)))
        say(f"lora       {model.get_nb_trainable_parameters()[0] / 1e6:,.2f} M parameters trained")
    make = make_sft_trainer if isinstance(config.data, InstructionsConfig) else make_trainer
    trainer: HistoryMixin = make(model, tokenizer, data, config, folder)
    _check_plan(trainer, config)
    check_space(folder, _bytes_needed(trainer.model, trainer.args))
    _claim_log(trainer, saved is not None, goes_on)
    if trainer.options.reference_model is not None:
        facts["the reference model"] = fingerprint_model(trainer.options.reference_model)
    if fingerprints.check(folder, facts, accept_changes, say) & fingerprints.MEASURED:
        # measured again, so that both sides of the comparison are of one text
        (folder / EVALUATION_BEFORE).unlink(missing_ok=True)
    save_config(folder, config)
    with _nothing_left_if_nothing_came_of_it(trainer, folder, resume):
        before = _before(trainer, data, folder, seconds)
        _train(trainer, goes_on, folder, seconds, say)
    with _timed(seconds, "evaluate"):
        after = evaluate_in(trainer, data, "held out, after")
    with _timed(seconds, "save"):
        save_model(folder, trainer.model, tokenizer)
    for phase, spent in seconds.items():
        trainer.history.spend(phase, spent)
    groups = by_name(trainer.history.groups, data.counts) if trainer.history.groups else {}
    title = f"{description.name} · {config.rule}"
    results = results_of(config, str(description), data.counts, before, after, trainer.history)
    finished = Finished(
        folder=folder, before=before, after=after, history=trainer.history, results=results, title=title, groups=groups
    )
    return _finish(finished, draw)


def _claim_log(trainer: HistoryMixin, begun: bool, goes_on: bool) -> None:
    """Before the configuration is there: from then on all that is logged is this run's."""
    if not begun:
        trainer.engine.claim()
    elif not goes_on and trainer.engine.log is not None:
        trainer.engine.log.on_begin(0)  # killed before its first checkpoint: its steps are taken again


def prepare_any(
    data: DataConfig | InstructionsConfig, tokenizer: Any, context: int | None, *, negative: bool = False
) -> Prepared:
    """Prepare data of any kind. negative: whether its weights may be below 0."""
    if isinstance(data, InstructionsConfig):
        return prepare_instructions(data, tokenizer, context, negative=negative)
    return prepare(data, tokenizer, context)


Trainer = TypeVar("Trainer", bound=RunTrainer)


def make_trainer(
    model: Any, tokenizer: Any, data: Prepared, config: RunConfig, folder: Path, kind: type[Trainer] = RunTrainer
) -> Trainer:
    """The trainer of a run on text, with this library's progress in place of the host's. folder: of its checkpoints."""
    check_groups(parse_rule(config.rule), data.counts)
    args, collator = training_arguments(config.training, folder), PadCollator(tokenizer.pad_token_id)
    return _made(kind, args=args, data_collator=collator, **_common(model, tokenizer, data, config))


def make_sft_trainer(
    model: Any, tokenizer: Any, data: Prepared, config: RunConfig, folder: Path, kind: type[Any] | None = None
) -> HistoryMixin:
    """The trainer of a run on instructions."""
    if kind is None:
        from samplewise.evidence.run.sft import RunSFTTrainer as kind  # noqa: N813
    assert kind is not None
    assert isinstance(config.data, InstructionsConfig)
    args = training_arguments(config.training, folder, config.data.max_length)
    return _made(kind, args=args, turns=config.data.turns, **_common(model, tokenizer, data, config))


def _common(model: Any, tokenizer: Any, data: Prepared, config: RunConfig) -> dict[str, Any]:
    return {
        "model": model, "train_dataset": data.train, "processing_class": tokenizer, **weighting_values(config),
    }  # fmt: skip


def _made(kind: type[Any], **given: Any) -> Any:
    """The trainer, with progress. Errors: SamplewiseError, for what the host refuses too."""
    try:
        trainer = kind(**given)
    except SamplewiseError:
        raise
    except ValueError as error:  # an evaluation during training, adapters on the head: each with a sentence
        got = " ".join(str(error).split())
        raise SamplewiseError(
            "training", expected="what the trainer takes", got=got, remedy="Check the values under training and lora."
        ) from error
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(TrainingProgress(trainer))
    return trainer


def evaluate_in(
    trainer: HistoryMixin, data: Prepared, title: str, outputs: Outputs | None = None, kept: Kept | None = None
) -> Evaluation:
    """Evaluate the trainer's model, where and in the precision in which it trains.

    outputs: as in `evaluate`. kept: the batches of earlier evaluations of the same windows, by their size.
    """
    args = trainer.args
    trainer.model.to(args.device)  # pyright: ignore
    kind = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    pad = trainer.data_collator.pad_token_id  # pyright: ignore
    key, batches = (pad, args.per_device_eval_batch_size), None
    if kept is not None:
        if key not in kept:
            kept[key] = batches_of(data.held_out, pad_token_id=pad, batch_size=args.per_device_eval_batch_size)
        batches = kept[key]
    with Progress(title, len(data.held_out), unit="windows") as bar:
        return evaluate(
            trainer.model, data.held_out, pad_token_id=pad, batch_size=args.per_device_eval_batch_size,
            autocast=kind, progress=bar.advance, outputs=outputs, batches=batches,
        )  # fmt: skip


def _check_plan(trainer: HistoryMixin, config: RunConfig) -> None:
    trainer.check_rule()  # before the evaluation, which takes long
    if isinstance(config.data, DataConfig) and config.data.streaming and trainer.args.max_steps <= 0:
        raise SamplewiseError(
            "training.max_steps", expected="a number of steps, since data.streaming is on", got="none",
            remedy="Set training.max_steps: a stream has no length.",
        )  # fmt: skip


def _bytes_needed(model: Any, args: Any) -> int:
    """The final model, and a checkpoint where some are saved: the parameters and two numbers each of the optimizer."""
    size = trained_bytes(model)
    return size + (3 * size if str(getattr(args.save_strategy, "value", args.save_strategy)) != "no" else 0)


def _before(trainer: HistoryMixin, data: Prepared, folder: Path, seconds: dict[str, float]) -> Evaluation:
    path = folder / EVALUATION_BEFORE
    if path.exists():
        what, remedy = "an evaluation", "Remove the file; the model is then evaluated again."
        with as_written(path, what, remedy):
            return Evaluation.from_json(read_json(path, what, remedy))
    with _timed(seconds, "evaluate"):
        before = evaluate_in(trainer, data, "held out, before")
    write_bytes(path, json.dumps(before.to_json()).encode())
    return before


def _train(trainer: HistoryMixin, goes_on: bool, folder: Path, seconds: dict[str, float], say: Say) -> None:
    stop = StopOnSignal()
    trainer.add_callback(stop)
    start = time.perf_counter()
    try:
        with stop.listening():
            trainer.train(resume_from_checkpoint=True if goes_on else None)
    except KeyboardInterrupt:
        raise Stopped(
            f"Stopped at once. Resume from the newest complete checkpoint in {folder} with --resume."
        ) from None
    state, spent = trainer.state, trainer.history.seconds
    seconds["other in training"] = max(0.0, time.perf_counter() - start - sum(spent.get(n, 0) for n in _PHASES))
    if stop.asked and state.global_step < state.max_steps:
        raise Stopped(f"Stopped after step {state.global_step} of {state.max_steps}, and saved. Resume with --resume.")


@contextmanager
def _nothing_left_if_nothing_came_of_it(trainer: HistoryMixin, folder: Path, resume: bool) -> Iterator[None]:
    """Remove the files of the run again if an error occurs before its first step."""
    try:
        yield
    except SamplewiseError:
        if not resume and trainer.history.steps == 0:
            for name in (CONFIG, EVALUATION_BEFORE, fingerprints.FINGERPRINTS):
                (folder / name).unlink(missing_ok=True)
        raise


_PHASES = ("score", "rule", "train")


def _finish(finished: Finished, draw: Draw | None) -> Finished:
    folder = finished.folder
    if changes := fingerprints.accepted(folder):
        finished.results["changed_on_resume"] = changes
    if draw is not None:
        draw(finished)
    write_bytes(folder / RESULTS, json.dumps(finished.results, indent=1, allow_nan=False).encode())  # it marks the end
    for name in (EVALUATION_BEFORE, fingerprints.FINGERPRINTS):
        (folder / name).unlink(missing_ok=True)
    return finished


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start
