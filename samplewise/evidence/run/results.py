"""The results of a run: the values of results.json, and the table printed at its end."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from samplewise.config import RunConfig
from samplewise.evidence import Evaluation, compare
from samplewise.evidence.run.groups import by_name
from samplewise.evidence.run.history import History

FIGURES = {
    "mean": "mean over documents, nats/token",
    "token_mean": "mean over tokens, nats/token",
    "bits_per_byte": "bits per byte",
    "p90": "p90 of documents, nats/token",
    "worst_decile": "mean of the worst decile, nats/token",
}


def results_of(
    config: RunConfig, model: str, counts: dict[str, Any], before: Evaluation, after: Evaluation, history: History
) -> dict[str, Any]:
    """The whole of results.json; a document is a conversation where instructions are the data."""
    noun = _noun(config.data.kind)
    return {
        "model": model,
        "kind": config.data.kind,
        "rule": config.rule,
        "per": config.per,
        "normalize": config.normalize,
        "data": counts,
        "held_out": {"before": before.figures(), "after": after.figures(), "change": _change(before, after, noun)},
        "documents": [
            {"id": a.id, "source": a.source, "row": a.row, "tokens": a.tokens, "bytes": a.bytes,
             "loss_before": b.loss, "loss_after": a.loss}
            for b, a in zip(before.documents, after.documents, strict=True)
        ],
        "training": {
            "steps": history.steps, "samples": history.samples, "samples_left_out": history.left_out,
            "tokens_trained": history.tokens, "curves": history.curves, "weight_bins": history.bins,
            "group_weights": {name: path[-1] for name, path in by_name(history.groups, counts).items()},
        },
        "seconds": history.seconds,
        "versions": {name: _version(name) for name in ("samplewise", "torch", "transformers")},
    }  # fmt: skip


def _noun(kind: str) -> str:
    return "conversations" if kind == "instructions" else "documents"


def _change(before: Evaluation, after: Evaluation, noun: str) -> dict[str, Any] | None:
    if len(after.documents) < 2:
        return None
    found = compare(after, before)
    sentence = found.sentence("the model after training", "the model before").replace("documents", noun)
    return {
        "difference": found.difference, "low": found.low, "high": found.high, "documents": found.documents,
        "sentence": sentence[0].upper() + sentence[1:],
    }  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(results: dict[str, Any]) -> str:
    """The results of a run as a table in text.

    Held-out figures before and after, tokens trained, seconds by phase.
    """
    before, after = results["held_out"]["before"], results["held_out"]["after"]
    lines = [f"{'held-out loss':<38}{'before':>10}{'after':>10}{'change':>10}"]
    noun = _noun(results["kind"])
    for name, words in FIGURES.items():
        label, change = words.replace("documents", noun), after[name] - before[name]
        lines.append(f"{label:<38}{before[name]:>10.4f}{after[name]:>10.4f}{change:>+10.4f}")
    training = results["training"]
    share = training["samples_left_out"] / max(1, training["samples"])
    lines.append("")
    lines.append(
        f"trained    {training['steps']:,} steps, {training['samples']:,} samples ({share:.1%} left out), "
        f"{training['tokens_trained']:,} tokens"
    )
    seconds = results["seconds"]
    lines.append(f"seconds    {sum(seconds.values()):.0f}: " + ", ".join(f"{k} {v:.1f}" for k, v in seconds.items()))
    if results["held_out"]["change"]:
        lines.append(results["held_out"]["change"]["sentence"])
    return "\n".join(lines)
