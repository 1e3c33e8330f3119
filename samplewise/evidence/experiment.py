"""A plan from its file to its results: every arm under every seed, one after another, finished runs never repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from samplewise.config.settings_file import load_settings, to_yaml
from samplewise.core.checkpoint import write_bytes
from samplewise.core.errors import SamplewiseError
from samplewise.core.paths import expanded
from samplewise.evidence.arm_run import PlanContext, run_arm, write_failure
from samplewise.evidence.controls import Arm, all_arms
from samplewise.evidence.evaluation_suite import open_data
from samplewise.evidence.expected import Expected
from samplewise.evidence.initial_model import check_reference, open_initial_model
from samplewise.evidence.labels import LabelledCorpus
from samplewise.evidence.outcome import RESULTS, VALUES, write_outcome
from samplewise.evidence.plan import PlanConfig
from samplewise.evidence.plan_parts import ScratchConfig
from samplewise.evidence.registered import REGISTERED, register, unregistered
from samplewise.evidence.run.arguments import as_begun, check_training, with_precision
from samplewise.evidence.run.folder import exhaustion_explained, locked
from samplewise.evidence.slugs import RUNS, file_of
from samplewise.evidence.trials import TRIALS, trials_of
from samplewise.evidence.tuning import for_trials, tuned

PLAN = "plan.yaml"

GROWING = ("arms", "sweep", "controls", "seeds")
"""What may be added to a plan when it is resumed: its finished runs stay valid under the longer plan."""

Say = Callable[[str], object]


def run_plan(plan: PlanConfig, *, say: Say = print, file: Path | None = None) -> dict[str, Any]:
    """Run what is not finished yet of a plan, and return the results, which are written after every run.

    The output folder gets plan.yaml (defaults included), results.json, values.json and runs/. A call with the same plan
    resumes, within a run from its newest complete checkpoint. Arms, controls and seeds may be added before that.
    registered.json says what was planned before the first arm ran, and what was added later. file: the plan's own file.
    Errors: SamplewiseError on bad input and on a folder of another plan; `Stopped` after Ctrl-C.
    """
    folder = expanded(plan.output)
    check_training(plan.training, plan.data.kind)
    arms = all_arms(plan)
    with locked(folder), exhaustion_explained(folder, "run the same command again to resume"):
        saved = _check_folder(folder, plan)
        if saved is not None:
            plan = replace(plan, training=as_begun(plan.training, saved.training))
        left = [(seed, arm) for seed in plan.seeds for arm in arms if not file_of(folder, arm.name, seed).exists()]
        if left:
            _run_all(plan, folder, arms, left, say, lambda: _register(folder, plan, arms, saved, file))
        else:
            write_bytes(folder / PLAN, to_yaml(plan).encode())
        return write_outcome(folder, plan, arms, isinstance(plan.model, ScratchConfig))


def _run_all(
    plan: PlanConfig, folder: Path, arms: list[Arm], left: list[tuple[int, Arm]], say: Say, begin: Callable[[], None]
) -> None:
    """Run what is left. begin: is called once, when nothing but training can fail any more."""
    initial = open_initial_model(plan.model)
    say(f"model      {initial.text}")
    plan = replace(plan, training=with_precision(plan.training, initial.autocast))  # of all arms, wherever they resume
    data, suite = open_data(plan, initial)
    for line in suite.lines:
        say(line)
    corpus = None if plan.labels is None else LabelledCorpus(plan.labels, plan.data)
    names = {arm.config.under(seed).reference_model for seed, arm in left} - {None}
    for name in sorted(map(str, names)):
        check_reference(name, initial)
    plan_context = PlanContext(plan=plan, initial=initial, suite=suite, data={None: data}, folder=folder, corpus=corpus)
    trials = None if plan.tune is None else for_trials(plan_context, plan)
    for path in dict.fromkeys(arm.config.data for _, arm in left):  # before any training
        if (labels := plan_context.labels_of(path)) is not None:
            say(f"labels     {path or plan.data.path}: {labels}")
    write_bytes(folder / PLAN, to_yaml(plan).encode())
    begin()
    total, at_best = len(arms) * len(plan.seeds), dict[str, Arm]()
    first = [each for each in left if each[1].role in ("control", "oracle")] if plan.controls.stop_early else []
    expected = Expected(_budgets(folder, plan, left))
    for part in (first, [each for each in left if each not in first]):
        if part is not first and _stopped(folder, plan, arms, initial.seeded, say):
            return
        for seed, arm in part:
            if trials is not None and arm.name not in at_best:
                before = _budgets(folder, plan, [(seed, arm)])
                at_best[arm.name] = tuned(trials, arm, say)
                expected.add(before - _budgets(folder, plan, [(seed, arm)]))
            if file_of(folder, arm.name, seed).exists():
                continue  # averaged weights are measured with the control's run
            done = sum(file_of(folder, each.name, s).exists() for each in arms for s in plan.seeds)
            _run_one(plan_context, at_best.get(arm.name, arm), seed, f"run {done + 1} of {total}", say)
            write_outcome(folder, plan, arms, initial.seeded)
            expected.add(arm.config.budget_share)
            if line := expected.line():
                say(line)


def _budgets(folder: Path, plan: PlanConfig, left: list[tuple[int, Arm]]) -> float:
    """The runs and trials that are left, in budgets of the plan; averaged weights are trained with their control."""
    runs = sum(arm.config.budget_share for _, arm in left if arm.role != "average")
    if plan.tune is None:
        return runs
    trials = ((arm, trial) for arm in {arm.name: arm for _, arm in left}.values() for trial in trials_of(plan, arm))
    missing = (
        arm.config.budget_share
        for arm, trial in trials
        if not file_of(folder / TRIALS, trial.name, plan.tune.seed).exists()
    )
    return runs + sum(missing)


def _run_one(plan_context: PlanContext, arm: Arm, seed: int, which: str, say: Say) -> None:
    """Run an arm under a seed; one that diverges leaves a file that says so."""
    try:
        run_arm(plan_context, arm, seed, lambda text: say(f"{which}: {text}"))
    except SamplewiseError as error:
        if error.argument not in ("held-out loss", "loss"):
            raise
        say(f"{arm.name}, seed {seed}: {error}")
        write_failure(plan_context, arm, seed, str(error))


def _stopped(folder: Path, plan: PlanConfig, arms: list[Arm], seeded: bool, say: Say) -> bool:
    """Whether the plan ends here, since not even clean documents gain what it could show."""
    if not plan.controls.stop_early:
        return False
    top = write_outcome(folder, plan, arms, seeded).get("ceiling")
    if top is None or not top["stopped"]:
        return False
    say(top["sentence"])
    return True


def _register(folder: Path, plan: PlanConfig, arms: list[Arm], saved: PlanConfig | None, file: Path | None) -> None:
    """State what is about to run, before it does."""
    finished = sum(file_of(folder, arm.name, seed).exists() for arm in arms for seed in plan.seeds)
    before = None if saved is None or not finished else unregistered(saved, [arm.name for arm in all_arms(saved)])
    register(folder, plan, [arm.name for arm in arms], finished=finished, before=before, file=file)


def _check_folder(folder: Path, plan: PlanConfig) -> PlanConfig | None:
    """The plan that the folder has, if any. Errors: SamplewiseError if it holds anything but this plan."""
    if not (folder / PLAN).exists():
        foreign = [name for name in (RESULTS, VALUES, RUNS, REGISTERED) if (folder / name).exists()]
        if foreign:
            raise SamplewiseError(
                "output", expected="an empty folder, or one of this plan", got=f"{folder} with {', '.join(foreign)}",
                remedy="Name a new or empty folder.",
            )  # fmt: skip
        return None
    saved = load_settings(PlanConfig, folder / PLAN)
    before = asdict(saved)
    given = asdict(replace(plan, training=as_begun(plan.training, saved.training)))
    if before["primary"] != given["primary"]:
        raise SamplewiseError(
            "primary", expected=f"{before['primary']}, as it was fixed before the first arm ran", got=given["primary"],
            remedy="Restore it; to ask something else, name another folder, and say that this one was seen.",
        )  # fmt: skip
    for key in sorted(before.keys() - {"output", *GROWING}):
        if before[key] != given[key]:
            _refuse(f"{folder}, of one with another {key}")
    now = {arm.name: arm for arm in all_arms(plan)}
    changed = [arm.name for arm in all_arms(saved) if now.get(arm.name) != arm]
    if changed:
        _refuse(f"{folder}, where {changed[0]!r} is another arm, or one that is left out now")
    if lost := sorted(set(saved.seeds) - set(plan.seeds)):
        _refuse(f"{folder}, which has seed {lost[0]} as well")
    return saved


def _refuse(got: str) -> NoReturn:
    raise SamplewiseError(
        "output", expected="a folder of this plan", got=got,
        remedy="Name another folder, or give the same plan; arms, controls and seeds may be added to it.",
    )  # fmt: skip
