"""One line that says what was run: model, data, budget, seeds, documents. And the same in the cells of the summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from result_pages.markdown import code
from samplewise.config.settings_file import load_settings
from samplewise.evidence.plan import HELD_OUT, PlanConfig
from samplewise.evidence.plan_parts import ScratchConfig
from samplewise.evidence.run.arguments import PRECISIONS

FACTS = "facts.json"
"""What is in neither plan nor results: {"path": the plan's model, "model": in words, "short": in fewer, "precision"};
written when a run is taken over."""

UNIT = {
    "steps": "steps", "tokens": "trained tokens", "epochs": "epochs",
    "flops": "FLOPs, all models counted by their size",
    "compute": "units of compute (a token's forward 1, backward 2)",
}  # fmt: skip


def facts_line(folder: Path, results: Mapping[str, Any]) -> str:
    """The sentence above a comparison's table."""
    plan, known = _plan(folder), _known(folder)
    data = plan.data
    form = "instructions" if data.kind == "instructions" else "windows"
    own = results["documents"].get(HELD_OUT, [])
    documents = len({row.get("id") for row in own})
    texts = "".join(f", {name} ({len(results['documents'][name])} documents)" for name in plan.domains)
    return (
        f"Model: {known['model']}{_trained_in(known)}. "
        f"Data: {code(data.path)}, {form} of up to {data.max_length} tokens, {documents:,} held-out documents{texts}. "
        f"Budget of every arm: {_amount(results)}. "
        f"Seeds: {', '.join(map(str, results['seeds']))}; intervals cover {_covers(results)}. "
        f"The plan: [plan.yaml]({_link(folder, 'plan.yaml')})."
    )


def cells(folder: Path, results: Mapping[str, Any]) -> list[str]:
    """Model, data, budget and number of seeds, short."""
    kind = {"epochs": "epochs", "steps": "steps", "tokens": "tokens", "compute": "units", "flops": "FLOPs"}[
        results["budget"]["kind"]
    ]
    amount = results["budget"]["amount"]
    short = f"{amount:.3g}" if amount >= 1e12 else f"{amount / 1e6:,.3g} M" if amount >= 1e6 else f"{amount:,}"
    return [
        _known(folder)["short"],
        code(Path(_plan(folder).data.path).name),
        f"{short} {kind}",
        str(len(results["seeds"])),
    ]


def _amount(results: Mapping[str, Any]) -> str:
    budget = results["budget"]
    amount = f"{budget['amount']:.3g}" if budget["kind"] == "flops" else f"{budget['amount']:,}"
    return f"{amount} {UNIT[budget['kind']]}"


def _covers(results: Mapping[str, Any]) -> str:
    found = sorted({row["covers"] for row in results["differences"]})
    return " or ".join(found) if found else "nothing"


def _plan(folder: Path) -> PlanConfig:
    return load_settings(PlanConfig, folder / "plan.yaml")


def _known(folder: Path) -> dict[str, str]:
    return json.loads((folder / FACTS).read_text(encoding="utf-8"))


def _trained_in(known: Mapping[str, str]) -> str:
    return f", trained in {known['precision']}" if "precision" in known else ""  # runs before there were such facts


def precision(training: Mapping[str, Any]) -> dict[str, str]:
    """What a finished run was trained in.

    >>> precision({"bf16": False})
    {'precision': 'fp32'}
    """
    named = [name for name in ("bf16", "fp16") if training.get(name)]
    return {"precision": f"{named[0]} autocast" if named else "fp32"} if PRECISIONS & training.keys() else {}


def _link(folder: Path, name: str) -> str:
    """From the page's README.md, which is in this folder or in the one above it."""
    return name if (folder / "README.md").exists() else f"{folder.name}/{name}"


def model_facts(model: str | ScratchConfig, root: Path) -> dict[str, str]:
    """The model is opened for it, where the plan's paths lead, unless another result has the same path."""
    from samplewise.evidence.initial_model import open_initial_model

    path = model if isinstance(model, str) else ""
    for other in root.rglob(FACTS):
        known = json.loads(other.read_text(encoding="utf-8"))
        if path and known["path"] == path:
            return {key: known[key] for key in ("path", "model", "short")}
    text = open_initial_model(model).text
    if not path:
        return {"path": "", "model": text, "short": f"{text.split()[0]} from scratch, {_size(text)}"}
    name, _, rest = text.partition(" (")
    config = Path(path, "config.json")
    if not config.exists():
        return {"path": path, "model": text, "short": name}
    kind = json.loads(config.read_text(encoding="utf-8"))["model_type"]  # a folder's own name says nothing
    return {"path": path, "model": f"{kind}, {path} ({rest}", "short": f"{kind}, {_size(text)}"}


def _size(text: str) -> str:
    """Of the parameters, out of a description.

    >>> _size("llama with random weights, 7.49 M parameters, 4,096 tokens")
    '7.49 M'
    """
    return next(part.removesuffix(" parameters") for part in text.split(", ") if part.endswith(" parameters"))
