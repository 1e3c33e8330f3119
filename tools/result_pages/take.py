"""A finished run's files into results/: accepted, without a machine's paths, small, and with a page to write on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from result_pages.facts import FACTS, model_facts, precision
from result_pages.parts import COST, KINDS, PLAN, PROBE
from result_pages.skeleton import put_on_page
from samplewise.config.settings_file import load_settings, to_yaml
from samplewise.core.checkpoint import write_bytes
from samplewise.core.errors import SamplewiseError
from samplewise.evidence.check import check_results
from samplewise.evidence.outcome import VALUES
from samplewise.evidence.plan import PlanConfig
from samplewise.evidence.probes.conclusions import conclusions
from samplewise.evidence.registered import REGISTERED
from samplewise.evidence.run.arguments import as_begun

NAME = re.compile(r"[a-z0-9][a-z0-9.-]*(/[a-z0-9][a-z0-9.-]*)?")
DIGITS = 5
"""After the point, of training curves: they are drawn and not computed with, and most of the file."""


def take(run: Path, name: str, root: Path) -> Path:
    """Copy a folder of `samplewise compare`, `sweep` or `probe`, or one with a cost.json, to `root`/`name`.

    name: of a page, or page/part. A plan.yaml that is there stays if it is the run's; results.json and values.json are
    written in one line, training curves with 5 decimals; facts.json says which model it was. The page gets headings and
    markers where it has none.
    Errors: SamplewiseError for a run that is partial or not accepted, and for paths of one machine only.
    """
    kind = next((kind for kind in KINDS if (run / kind).exists()), None)
    if kind is None or not NAME.fullmatch(name):
        expected = f"a folder with one of {', '.join(KINDS)}, and a name such as r1-own-data or r4/redundancy"
        raise SamplewiseError("--take", expected=expected, got=f"{run} {name}", remedy="Name both.")
    files = {PLAN: _plan, PROBE: _probe}.get(kind, _cost)(run, name, root)
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("fig-*.svg"):
        old.unlink()
    files |= {figure.name: figure.read_bytes() for figure in sorted(run.glob("fig-*.svg"))}
    for file, content in files.items():
        write_bytes(folder / file, content)
    if kind == PLAN:
        check_results(folder)
    put_on_page(root, name, kind, [file for file in files if file.startswith("fig-")])
    return folder


def _plan(run: Path, name: str, root: Path) -> dict[str, bytes]:
    results = check_results(run)
    if not results["complete"]:
        raise SamplewiseError(
            str(run), expected="a finished run", got=f"{len(results['missing'])} runs missing", remedy="Let it finish."
        )
    plan = replace(load_settings(PlanConfig, run / "plan.yaml"), output=f"build/results/{name}")
    written = _written_plan(plan, root / name / "plan.yaml")
    refuse_machine_paths(results, PLAN)
    for arm in results["arms"]:
        if arm["ran"]:
            arm["ran"]["curve"] = [round(loss, DIGITS) for loss in arm["ran"]["curve"]]
    values = json.loads((run / VALUES).read_text(encoding="utf-8"))
    registered = {REGISTERED: (run / REGISTERED).read_bytes()} if (run / REGISTERED).exists() else {}
    return registered | {
        "plan.yaml": written, PLAN: _compact(results), VALUES: _compact(values),
        FACTS: _compact(model_facts(plan.model, root) | precision(plan.training)),
    }  # fmt: skip


def _written_plan(plan: PlanConfig, path: Path) -> bytes:
    """The plan that is there already, comments and all, if it is the run's; the run's own where there is none.

    Errors: SamplewiseError on another plan, and on paths of one machine.
    """
    if not path.exists():
        refuse_machine_paths(asdict(plan), path.name)
        return to_yaml(plan).encode()
    there = load_settings(PlanConfig, path)
    there = replace(there, training=as_begun(there.training, plan.training))  # what the machine chose is no other plan
    refuse_machine_paths(asdict(there), str(path))
    other = [key for key, value in asdict(plan).items() if key != "output" and asdict(there)[key] != value]
    if other:
        raise SamplewiseError(
            str(path),
            expected="the plan that was run",
            got=f"one with another {other[0]}",
            remedy="Run it, or fix it.",
        )
    return path.read_bytes()


def _probe(run: Path, name: str, root: Path) -> dict[str, bytes]:
    found = json.loads((run / PROBE).read_text(encoding="utf-8"))
    if conclusions(found) != found["conclusions"]:
        raise SamplewiseError(
            PROBE, expected="the conclusions that its numbers give", got="others", remedy="Run it again."
        )
    found["config"]["output"] = f"build/results/{name}"
    refuse_machine_paths(found, PROBE)
    settings = yaml.safe_dump(found["config"], sort_keys=False, allow_unicode=True)
    return {PROBE: _compact(found), "probe.yaml": settings.encode()}


def _cost(run: Path, name: str, root: Path) -> dict[str, bytes]:
    return {COST: (run / COST).read_bytes()}


def refuse_machine_paths(values: Any, place: str) -> None:
    """Errors: SamplewiseError on a text that is an absolute path, or leads out of the folder that one stands in."""
    for text in _texts(values):
        if text.startswith(("/", "~")) or ".." in text.split("/"):
            raise SamplewiseError(
                place, expected="paths below the folder in which the command is given", got=text[:100],
                remedy="Run the plan with such paths; a link there may lead elsewhere.",
            )  # fmt: skip


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield from (*_texts(key), *_texts(value))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _texts(value)


def _compact(values: Any) -> bytes:
    return (json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n").encode()
