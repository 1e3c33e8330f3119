"""The page of the demo: what was weighed, what it cost, and whether it helped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from samplewise.evidence import Evaluation, crossed
from samplewise.evidence.run.history import EDGES, History
from samplewise.report.page import (
    Axis,
    Column,
    Interval,
    bars,
    columns,
    figure,
    histogram,
    intervals,
    paragraph,
    section,
    table,
    warning,
    write_page,
)  # fmt: skip

TWO_SEEDS = (
    "Two seeds show how the library works. They cannot show that a rule helps or harms: in a pilot, three seeds gave "
    "differences of opposite signs, each far from 0 over its documents. samplewise compare runs more."
)


@dataclass
class Run:
    """after: of the held-out documents. seconds: of training. samples: (id, loss, weight) of every sample of a step."""

    after: Evaluation
    history: History
    seconds: float
    samples: Sequence[tuple[int, float, float]]


def differences(runs: Mapping[str, Sequence[Run]], name: str) -> np.ndarray:
    """[seeds, documents] held-out losses less those of uniform weights of the same seed, nats/token."""
    pairs = zip(runs[name], runs["uniform"], strict=True)
    return np.stack([run.after.losses - uniform.after.losses for run, uniform in pairs])


def said(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """A line for each arm, and the sentence that two seeds allow."""
    lines = []
    for name, own in runs.items():
        mean = np.mean([run.after.mean for run in own])
        seconds, tokens = (np.mean([getattr(each, key) for each in things]) for key, things in (
            ("seconds", own), ("tokens", [run.history for run in own])))  # fmt: skip
        line = f"{name:<14} held-out loss {mean:.4f} nats/token, {tokens:,.0f} tokens, {seconds:.0f} s"
        if name != "uniform":
            each = ", ".join(f"{value:+.4f}" for value in differences(runs, name).mean(axis=1))
            line += f"; minus uniform, by seed: {each}"
        lines.append(line)
    return [*lines, "", TWO_SEEDS]


def write_demo_page(
    path: Path, title: str, arms: Mapping[str, str], runs: Mapping[str, Sequence[Run]], texts: Mapping[int, str]
) -> Path:
    """Write the page. arms: rule by name, the first the one compared with, the last the rule. texts: by sample's id."""
    rule = list(arms)[-1]
    write_page(
        path, "The demo of samplewise",
        section("What was weighed", *_weighed(arms[rule], runs[rule], texts)),
        section("What it cost", _cost(runs)),
        section("Did it help?", *_help(runs)),
        lead=f"{title}. The rule is {arms[rule]}.",
    )  # fmt: skip
    return path


def _weighed(rule: str, runs: Sequence[Run], texts: Mapping[int, str]) -> list:
    history, seen = runs[0].history, [sample for run in runs for sample in run.samples]
    used = [i for i, count in enumerate(history.bins) if count]
    edges, counts = EDGES[used[0] : used[-1] + 2], history.bins[used[0] : used[-1] + 1]
    drawing = histogram(
        edges, {"samples": counts}, Axis("weight", log=True), Axis("samples"), label="weights of samples"
    )
    left_out = sum(weight == 0 for _, _, weight in seen)
    told = f"{left_out} of {len(seen)} samples were left out, the hardest of each step. The others have these weights."
    rows = sorted(seen, key=lambda sample: (sample[2], -sample[1]))
    shown = [(weight, loss, texts[number]) for number, loss, weight in rows[:6] + rows[-6:]]
    heads = [Column("weight"), Column("loss, nats/token"), Column("text", "text")]
    return [
        figure(drawing, f"{told} A weight of 1 counts as in ordinary training."),
        paragraph("Texts left out, and the heaviest:"), table(heads, shown),
    ]  # fmt: skip


def _cost(runs: Mapping[str, Sequence[Run]]) -> Markup:
    told = []
    for name, own in runs.items():
        seconds, tokens = sum(run.seconds for run in own), sum(run.history.tokens for run in own)
        told.append((name, seconds, f"{seconds:.0f} s for {tokens:,} tokens trained on"))
    caption = (
        "Training of both seeds, without evaluation. A rule that ranks scores all samples first, then trains on fewer."
    )
    return figure(bars(told, Axis("seconds"), label="seconds of training"), caption)


def _help(runs: Mapping[str, Sequence[Run]]) -> list:
    rows = []
    for name in list(runs)[1:]:
        for seed, values in enumerate(differences(runs, name)):
            found = crossed(np.stack([values]))
            rows.append(Interval(f"{name}, seed {seed}", found.mean, found.low, found.high))
    drawing = intervals(rows, Axis("held-out loss − uniform, nats/token"), label="differences to uniform weights")
    documents = len(runs["uniform"][0].after.documents)
    caption = f"Left of 0 is better. The intervals cover other documents ({documents} here), not other seeds."
    return [warning(TWO_SEEDS), columns(figure(drawing, caption))]
