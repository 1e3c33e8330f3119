"""The page and the pictures of a probe: one figure a question, and the paragraph that its numbers allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from samplewise.report.page import (
    Axis,
    Column,
    Interval,
    Line,
    figure,
    intervals,
    lines,
    paragraph,
    section,
    table,
    write_page,
)
from samplewise.report.style import ARMS, picture

Found = Mapping[str, Any]

QUESTIONS = {
    "learnability": "Are high losses learnable?",
    "agreement": "Do they pull where held-out text goes?",
    "noise": "Are they noise?",
    "redundancy": "Are low losses repetition?",
    "ranking": "Is the ranking stable?",
}


def write_probe(folder: Path, found: Found) -> list[Path]:
    """Write report.html and fig-*.svg; the files."""
    parts = [
        section(title, figure(_drawing(name, found), CAPTIONS[name]), paragraph(found["conclusions"][name]))
        for name, title in QUESTIONS.items()
    ]
    path = folder / "report.html"
    write_page(path, "What the losses mean", _quantiles(found), *parts, lead=found["model"])
    return [path, *_pictures(folder, found)]


CAPTIONS = {
    "learnability": "Fall of the loss after a short training, by quantile of the loss before it; 95% over windows.",
    "agreement": "Cosine of the head's gradients, sample against held-out text, by quantile of the loss; 95%.",
    "noise": "P(loss of a corrupted text > loss of a clean one), by kind; 95%. At 0.5 the loss tells nothing.",
    "redundancy": "Share of the bytes that zlib saves, and of documents that repeat another, by quantile; 95%.",
    "ranking": "Correlation of ranks by loss between models, and the share of the highest eighth they have in common.",
}


def _quantiles(found: Found) -> Markup:
    columns = [Column("quantile"), Column("samples"), Column("from, nats/token"), Column("to"), Column("mean")]
    rows = [[i + 1, q["samples"], q["low"], q["high"], q["mean"]] for i, q in enumerate(found["quantiles"])]
    return section("Samples by loss", table(columns, rows), _bands(found["quantiles"]))


def _bands(quantiles: Sequence[Found]) -> Markup:
    columns = [Column("quantile"), Column("loss, nats/token"), Column("from", "word"), Column("begins", "text")]
    rows = [
        [i + 1, each["loss"], each["group"], each["opening"]] for i, q in enumerate(quantiles) for each in q["examples"]
    ]
    shares = [f"{i + 1}: {shares_of(q['groups'])}." for i, q in enumerate(quantiles)]
    return Markup("").join([paragraph(f"Where they come from, by quantile. {' '.join(shares)}"), table(columns, rows)])


def shares_of(groups: Mapping[str, float]) -> str:
    """The largest four and the rest.

    >>> shares_of({"a": 0.5, "b": 0.2, "c": 0.1, "d": 0.1, "e": 0.1})
    'a 50%, b 20%, c 10%, d 10%, others 10%'
    """
    named, rest = list(groups.items())[:4], sum(list(groups.values())[4:])
    told = [f"{name} {share:.0%}" for name, share in named]
    return ", ".join([*told, f"others {rest:.0%}"] if rest else told)


def curves(name: str, found: Found) -> list[tuple[str, Sequence[Mapping[str, float]]]]:
    """(name, rows of mean, low and high by quantile) of the questions that are asked by quantile."""
    if name == "learnability":
        rows = found[name]["quantiles"]
        return [("on peers", [r["peers"] for r in rows]), ("on others", [r["others"] for r in rows]),
                ("held-out text, on peers", [r["held_out"] for r in rows])]  # fmt: skip
    if name == "agreement":
        return [("cosine", found[name]["cosine"])]
    return [(key, found["redundancy"][key]) for key in ("compressibility", "repeated")]


UNITS = {"learnability": "fall, nats/token", "agreement": "cosine", "redundancy": "share"}


def _drawing(name: str, found: Found) -> Markup:
    if name == "noise":
        rows = [
            Interval(kind, v["auc"], max(0.0, v["auc"] - 1.96 * v["error"]), min(1.0, v["auc"] + 1.96 * v["error"]))
            for kind, v in found["noise"]["kinds"].items()
        ]
        return intervals(rows, Axis("AUC of the loss", 0.0, 1.0), label=CAPTIONS[name], zero=0.5)
    if name == "ranking":
        columns = [Column("models", "word"), Column("correlation of ranks"), Column("top eighth shared")]
        return table(
            columns, [[f"{r['first']} · {r['second']}", r["spearman"], r["top_shared"]] for r in found["ranking"]]
        )
    series = [
        Line(
            label,
            [float(i + 1) for i in range(len(rows))],
            *([r[key] for r in rows] for key in ("mean", "low", "high")),
        )
        for label, rows in curves(name, found)
    ]
    return lines(series, Axis("quantile of the loss, 1 is the lowest"), Axis(UNITS[name]), label=CAPTIONS[name])


def _pictures(folder: Path, found: Found) -> list[Path]:
    made = []
    for name in QUESTIONS:
        if name == "ranking" and not found["ranking"]:
            continue
        path = folder / f"fig-{name}.svg"
        with picture(path, 6.4, 4.0) as (_, axes):
            _draw(axes, name, found)
            axes.set_title(QUESTIONS[name])
        made.append(path)
    return made


def _draw(axes: Any, name: str, found: Found) -> None:
    if name == "noise":
        kinds = found["noise"]["kinds"]
        values, errors = [v["auc"] for v in kinds.values()], [1.96 * v["error"] for v in kinds.values()]
        axes.errorbar(values, range(len(kinds)), xerr=errors, fmt="o", color=ARMS[1], capsize=3)
        axes.axvline(0.5, color=ARMS[0], linestyle=":")
        axes.set_yticks(range(len(kinds)), list(kinds))
        axes.set_xlabel("P(loss of a corrupted text > loss of a clean one)")
    elif name == "ranking":
        rows = found["ranking"]
        axes.barh(range(len(rows)), [r["spearman"] for r in rows], color=ARMS[1])
        axes.set_yticks(range(len(rows)), [f"{r['first']}\n{r['second']}" for r in rows])
        axes.set_xlabel("correlation of ranks")
    else:
        for (label, rows), colour in zip(curves(name, found), ARMS[1:], strict=False):
            x = range(1, len(rows) + 1)
            axes.fill_between(x, [r["low"] for r in rows], [r["high"] for r in rows], color=colour, alpha=0.15)
            axes.plot(x, [r["mean"] for r in rows], color=colour, marker="o", label=label)
        axes.set_xticks(range(1, len(found["quantiles"]) + 1))
        axes.set_xlabel("quantile of the loss, 1 is the lowest")
        axes.set_ylabel(UNITS[name])
        axes.legend()
