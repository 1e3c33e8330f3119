"""An engine's state on disk, for loops that write their own checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samplewise.core.checkpoint import load_state, save_state
from samplewise.core.distributed import is_first
from samplewise.core.errors import SamplewiseError
from samplewise.engine.step import Step


def saved(engine: Step) -> dict[str, Any]:
    """The rule's expression, the number of steps, and the state of the rule and the observers."""
    return {"rule": engine.options.rule.expression, "steps": engine.steps, "state": engine.state_dict()}


def restore(engine: Step, state: Mapping[str, Any]) -> None:
    """Resume from what `saved` returned. The state of another rule is left alone, and the log says so."""
    engine.load_state_dict(dict(state["state"]), steps=state["steps"], rule=state["rule"])


def write(engine: Step, folder: Path) -> None:
    """Write the state into `folder`/samplewise as JSON and safetensors, from the first rank."""
    engine.flush()
    if is_first():
        facts = saved(engine)
        save_state(folder, facts.pop("state"), facts)


def read(engine: Step, folder: Path) -> None:
    """Resume from what `write` wrote. Errors: SamplewiseError if it is not complete, or has changed."""
    found = load_state(folder)
    if found is None:
        raise SamplewiseError(
            "folder", expected="a checkpoint", got=str(folder), remedy="Give a folder that save() has written."
        )
    restore(engine, {"state": found[0], **found[1]})
