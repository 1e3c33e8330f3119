"""`samplewise evaluate`: one model on held-out text, other domains, benchmarks and instructions, in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from samplewise.core.errors import SamplewiseError
from samplewise.core.paths import expanded
from samplewise.core.replaced import write_whole
from samplewise.evidence.answers import answer_rows
from samplewise.evidence.crossed import crossed
from samplewise.evidence.evaluate import evaluate
from samplewise.evidence.evaluation_config import EvaluateConfig
from samplewise.evidence.evaluation_suite import open_sets
from samplewise.evidence.groups import group_of
from samplewise.evidence.initial_model import open_initial_model
from samplewise.evidence.tasks import run_tasks


def run_evaluation(config: EvaluateConfig, say: Callable[[str], object] = print) -> dict[str, Any]:
    """Evaluate, write config.output, and return what is in it.

    {"model", "config", "sets": {name: {"figures", "groups", "documents"}}, "tasks", "answers"}: values by
    document, item and row, so that two such files can be paired.
    """
    initial = open_initial_model(config.model)
    say(f"model      {initial.text}")
    sets, lines = open_sets(config.data, config.domains, initial)
    for line in lines:
        say(line)
    model = initial.fresh(0)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    autocast = torch.bfloat16 if initial.autocast else None
    pad, size = initial.tokenizer.pad_token_id, config.batch_size
    found: dict[str, Any] = {"model": initial.text, "config": asdict(config), "sets": {}, "tasks": {}}
    for name, windows in sets.items():
        result = evaluate(model, windows, pad_token_id=pad, batch_size=size, autocast=autocast)
        found["sets"][name] = {**result.to_json(), "groups": groups(result.to_json()["documents"])}
    if config.tasks:
        found["tasks"] = run_tasks(model, initial.tokenizer, config.tasks, batch_size=size, autocast=autocast)
    if config.answers is not None:
        found["answers"] = answer_rows(model, initial.tokenizer, config.answers, batch_size=size, autocast=autocast)
    path = expanded(config.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(found, indent=1, allow_nan=False).encode())
    return found


def groups(documents: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The number of documents and the mean loss of each group; empty if there is only one group."""
    own: dict[str, list[float]] = {}
    for document in documents:
        own.setdefault(group_of(document["source"]), []).append(document["loss"])
    if len(own) < 2:
        return {}
    return {name: {"documents": len(losses), "mean": float(np.mean(losses))} for name, losses in sorted(own.items())}


def measured(found: Mapping[str, Any]) -> Iterator[tuple[str, list[Any], list[float]]]:
    """(name, what each value is of, values) of everything in an evaluation's file."""
    for name, each in found["sets"].items():
        documents = each["documents"]
        yield f"{name}: loss", [(d["id"], d["tokens"]) for d in documents], [d["loss"] for d in documents]
    for name, each in {**found["tasks"], "answers": found.get("answers")}.items():
        for metric, values in (each or {"values": {}})["values"].items():
            yield f"{name}: {metric}", each["items"], values


def paired(this: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mean differences this − other of everything that both files have, with intervals over documents or items.

    Errors: SamplewiseError if they have nothing in common, or a common name over other documents.
    """
    known = {name: (of, values) for name, of, values in measured(other)}
    rows = []
    for name, of, values in measured(this):
        if name not in known:
            continue
        if [list(each) if isinstance(each, tuple) else each for each in of] != [
            list(each) if isinstance(each, tuple) else each for each in known[name][0]
        ]:
            raise SamplewiseError(
                name,
                expected="the same documents in both files",
                got="others",
                remedy="Evaluate both on the same text.",
            )
        difference = crossed(np.array(values, float)[None] - np.array(known[name][1], float)[None])
        rows.append({
            "name": name, "mean": difference.mean, "low": difference.low, "high": difference.high, "p": difference.p,
            "documents": difference.documents,
        })  # fmt: skip
    if not rows:
        raise SamplewiseError(
            "against",
            expected="a measurement in common",
            got="none",
            remedy="Evaluate both models on the same sets or tasks.",
        )
    return rows


def table(found: Mapping[str, Any], against: list[dict[str, Any]] | None = None) -> str:
    """The figures in text, and the differences to another file."""
    lines = [
        "loss in nats/token: mean over documents and over tokens, p90 and mean of the worst tenth over documents",
        f"{'':<24}{'documents':>11}{'mean':>10}{'token mean':>12}{'p90':>10}{'worst tenth':>13}{'bits/byte':>11}",
    ]  # fmt: skip
    for name, each in found["sets"].items():
        f = each["figures"]
        lines.append(
            f"{name:<24}{len(each['documents']):>11,}{f['mean']:>10.4f}{f['token_mean']:>12.4f}{f['p90']:>10.4f}"
            f"{f['worst_decile']:>13.4f}{f['bits_per_byte']:>11.4f}"
        )
        lines += [f"  {group:<22}{g['documents']:>11,}{g['mean']:>10.4f}" for group, g in each["groups"].items()]
    for name, each in {**found["tasks"], "answers": found.get("answers")}.items():
        if each:
            shown = ", ".join(f"{metric} {value:.4g}" for metric, value in each["figures"].items())
            lines.append(f"{name:<24}{shown} ({len(each['items']):,} items)")
    if against is not None:
        lines += ["", "difference to the other file, 95% interval over documents or items (one run of each)"]
        lines += [f"{r['name']:<30}{r['mean']:+.4f}  [{r['low']:+.4f}, {r['high']:+.4f}]" for r in against]
    return "\n".join(lines)
