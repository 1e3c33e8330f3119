"""Tuning: every arm's trials are run and measured on development documents, which nothing is reported on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from samplewise.config import DataConfig, InstructionsConfig
from samplewise.core.errors import SamplewiseError
from samplewise.data import Document, cut_windows, deduplicate, document_id, read_documents
from samplewise.evidence.arm_run import PlanContext, run_arm, write_failure
from samplewise.evidence.controls import Arm
from samplewise.evidence.evaluate import HeldOut
from samplewise.evidence.evaluation_suite import EvaluationSuite
from samplewise.evidence.initial_model import InitialModel
from samplewise.evidence.plan import PlanConfig
from samplewise.evidence.plan_parts import TuneConfig
from samplewise.evidence.run.execute import prepare_any
from samplewise.evidence.run.prepared import Prepared
from samplewise.evidence.slugs import file_of
from samplewise.evidence.trials import DEVELOPMENT, TRIALS, at_best, trials_of, tuning_of


def for_trials(context: PlanContext, plan: PlanConfig) -> PlanContext:
    """The context that trials run in: measured on development documents alone.

    Errors: SamplewiseError if those overlap with held-out ones, or are too few.
    """
    windows = development(plan, context.initial, context.data[None])
    suite = EvaluationSuite({DEVELOPMENT: windows}, [])
    controls = replace(plan.controls, average=False)
    bare = replace(plan, controls=controls, evaluations=0, tasks=[], answers=None, measures=[])
    return replace(context, plan=bare, suite=suite, folder=context.folder / TRIALS)


def tuned(trials: PlanContext, arm: Arm, say: Callable[[str], object]) -> Arm:
    """The arm at the best of its trials; those that are not finished yet are run."""
    plan = trials.plan
    assert plan.tune is not None
    for trial in trials_of(plan, arm):
        if file_of(trials.folder, trial.name, plan.tune.seed).exists():
            continue
        try:
            run_arm(trials, trial, plan.tune.seed, lambda text: say(f"trial: {text}"))
        except SamplewiseError as error:
            if error.argument not in ("held-out loss", "loss"):
                raise
            write_failure(trials, trial, plan.tune.seed, str(error))
    found = tuning_of(trials.folder.parent, plan, arm)
    assert found is not None, "every trial has a file now"
    say(f"tuned      {arm.name}: learning rate × {found['learning_rate']:g}, batch × {found['batch']:g}")
    return at_best(arm, found)


def development(plan: PlanConfig, initial: InitialModel, data: Prepared) -> Sequence[HeldOut]:
    """The windows, or conversations, that trials are measured on."""
    tune = plan.tune
    assert tune is not None
    if isinstance(plan.data, InstructionsConfig):
        return _conversations(tune, plan.data, initial, data)
    documents = _unused(data) if tune.path is None else _of_path(tune.path, plan.data, data)
    if len(documents) < tune.documents:
        raise SamplewiseError(
            "tune.documents", expected=f"{tune.documents} documents, held out and not evaluated, or of tune.path",
            got=len(documents),
            remedy="Raise data.held_out, lower data.held_out_documents or tune.documents, or name a tune.path.",
        )  # fmt: skip
    own = plan.data
    cut = cut_windows(
        documents[: tune.documents], initial.tokenizer, max_length=own.max_length, min_tokens=own.min_tokens,
        context=initial.context,
    )  # fmt: skip
    return [each for each in cut if own.held_out_windows is None or each.index < own.held_out_windows]


def _unused(data: Prepared) -> list[Document]:
    """The held-out documents that are not evaluated."""
    evaluated = {window.doc_id for window in data.held_out}
    return [each for each in data.held_out_documents if document_id(each.source, each.row) not in evaluated]


def _of_path(path: str, own: DataConfig, data: Prepared) -> list[Document]:
    """The documents of a path that are not in the training text. Errors: SamplewiseError if one is held out."""
    read = list(read_documents(path, text_field=own.text_field, on_error=own.on_error, split=own.split))
    held = list(data.held_out_documents)
    _refuse_overlap(path, len(read) - len(_new(read, held)), len(read))
    trained = read_documents(own.path, text_field=own.text_field, on_error=own.on_error, split=own.split)
    return _new(read, [] if own.streaming else list(trained))


def _new(documents: list[Document], known: list[Document]) -> list[Document]:
    """Those without a copy among known ones, near copies included; copies among themselves stay."""
    own = {id(each) for each in documents}
    unique = len(deduplicate(documents).kept)
    kept = [each for each in deduplicate([*known, *documents]).kept if id(each) in own]
    return documents if len(kept) == unique else kept


def _conversations(
    tune: TuneConfig, own: InstructionsConfig, initial: InitialModel, data: Prepared
) -> Sequence[HeldOut]:
    if tune.path is None:
        raise SamplewiseError(
            "tune.path", expected="conversations to tune on, in a file of their own", got="none",
            remedy="Name a file, for example tune: {path: development.jsonl, …}.",
        )  # fmt: skip
    other = replace(own, held_out_from=tune.path, held_out_conversations=tune.documents)
    found = prepare_any(other, initial.tokenizer, initial.context).held_out
    known = {each.input_ids.tobytes() for each in data.held_out}
    _refuse_overlap(tune.path, sum(each.input_ids.tobytes() in known for each in found), len(found))
    return found


def _refuse_overlap(path: str, common: int, read: int) -> None:
    if common:
        raise SamplewiseError(
            "tune.path", expected="documents that are not held out: tuning must not see what is reported",
            got=f"{common} of {read} in {path} that are held out, or copies",
            remedy="Remove them, or leave tune.path out: the rest of data.held_out is used then.",
        )  # fmt: skip
