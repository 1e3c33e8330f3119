"""The tables of a probe: by quantile of the loss, by kind of noise, by rule, and between models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from result_pages.markdown import code, percent, span, table
from samplewise.report.probe import shares_of

Found = Mapping[str, Any]


def facts_line(found: Found) -> str:
    """The sentence above a probe's tables."""
    config = found["config"]
    data = config["data"]
    samples = sum(row["samples"] for row in found["quantiles"])
    others = "".join(f", {name}" for name in config["models"])
    return (
        f"Model: {found['model']}{f'; ranked beside it{others[1:]}' if others else ''}. "
        f"Data: {code(data['path'])}, first windows of up to {data['max_length']} tokens of {samples:,} documents, "
        f"{config['held_out']} documents held out. Short trainings: {config['steps']} × {config['batch']} windows "
        f"at a learning rate of {config['learning_rate']:g}. Noise: {config['noisy']} documents a way."
    )


def tables(found: Found) -> str:
    """All of them, with what the numbers mean."""
    told = [
        "By quantile of the loss (1 is the lowest), means with 95% intervals over samples; losses and their fall in "
        "nats/token, cosine: a sample's gradient of the head against the held-out text's.",
        _quantiles(found),
        "What is in them, and how some of their windows begin, at evenly spaced ranks:",
        _bands(found["quantiles"]),
        "How well the loss distinguishes a corrupted text from a clean one (AUC: 0.5 not at all; above it the "
        f"corrupted text's is higher; clean text has {found['noise']['clean']:.3f}), and the mean weight that a rule "
        "gives to it, 1 being its share of the samples:",
        _noise(found["noise"]),
    ]
    if found["ranking"]:
        told += ["Between models, the correlation of ranks by loss, and how much of the highest eighth they share (by "
                 "chance 12%):", _ranking(found["ranking"])]  # fmt: skip
    return "\n\n".join(told)


def _quantiles(found: Found) -> str:
    head = ["quantile", "samples", "loss", "fall after training on peers", "on others", "peers − others",
            "fall of held-out text", "cosine", "gradient norm", "bytes that zlib saves", "repeats"]  # fmt: skip
    return table(head, [_quantile(found, i) for i in range(len(found["quantiles"]))])


def _quantile(found: Found, i: int) -> list[str]:
    own, learnt = found["quantiles"][i], found["learnability"]["quantiles"][i]
    agreed, repeated = found["agreement"], found["redundancy"]
    return [
        str(i + 1), str(own["samples"]), f"{own['mean']:.2f} ({own['low']:.2f} to {own['high']:.2f})",
        *(span(learnt[key], 3) for key in ("peers", "others", "excess", "held_out")),
        span(agreed["cosine"][i], 3), span(agreed["norm"][i], 2, ""),
        *(percent(repeated[key][i]["mean"]) for key in ("compressibility", "repeated")),
    ]  # fmt: skip


def _bands(quantiles: Sequence[Found]) -> str:
    rows = [
        [str(i + 1), shares_of(own["groups"]), *(verbatim(each) for each in own["examples"])]
        for i, own in enumerate(quantiles)
    ]
    return table(["quantile", "from", *(f"example {k + 1}" for k in range(len(rows[0]) - 2))], rows)


def verbatim(example: Found) -> str:
    """A text's beginning as code, in which Markdown reads nothing.

    >>> verbatim({"loss": 2.0, "opening": "a `b` *c*"})
    "2.00: `a 'b' *c*`"
    """
    return f"{example['loss']:.2f}: {code(example['opening'].replace('`', chr(39)))}"


def _noise(found: Found) -> str:
    rules = found["weights"]
    head = ["corrupted by", "mean loss", "AUC", *(code(rule) for rule in rules)]
    rows = [
        [kind, f"{own['mean']:.3f}", f"{own['auc']:.2f} ± {1.96 * own['error']:.2f}",
         *(f"{weights['kinds'][kind]:.2f}" if kind in weights["kinds"] else "–" for weights in rules.values())]
        for kind, own in found["kinds"].items()
    ]  # fmt: skip
    shares = [f"{percent(weights['all'])} of {percent(weights['given'])}" for weights in rules.values()]
    return table(head, [*rows, ["all: share of the weight, of the samples", "–", "–", *shares]])


def _ranking(rows: Sequence[Found]) -> str:
    return table(
        ["models", "Spearman", "highest eighth shared"],
        [[f"{r['first']} · {r['second']}", f"{r['spearman']:.3f}", percent(r["top_shared"])] for r in rows],
    )
