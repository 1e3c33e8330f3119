"""What a selection left out, with examples from each edge: a selection nobody looked at is a bug nobody found."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from samplewise.core.replaced import write_whole
from samplewise.corpus.cut import put_table
from samplewise.corpus.junk_filter import dropped
from samplewise.corpus.losses_by_group import kept_by
from samplewise.corpus.place import Place
from samplewise.corpus.selection import Selection, Total
from samplewise.corpus.shared_lines import left_out
from samplewise.corpus.stand_in import stand_ins
from samplewise.corpus.store import Scores
from samplewise.corpus.within import part_name

EXAMPLES = 20
"""Of each edge."""
EDGES = {
    "above": "WHERE key >= {most} ORDER BY key - {most}, id",
    "between": "WHERE key > {least} AND key < {most} ORDER BY id",
    "below": "WHERE key <= {least} ORDER BY {least} - key, id",
}
"""SQL of which and in which order, by the least and the most of the keys kept of a part."""
PARTS = 1000
"""Parts listed at most."""


def statement(scores: Scores, selection: Selection, control: Selection | None = None) -> dict[str, Any]:
    """Counts in samples and tokens of what was there, kept and left out, by part; and of each edge the examples.

    Edges: "above" the highest key kept of the same part, "below" the lowest, nearest first; "between", what was left
    out between the two, by the smallest ids.
    """
    choice = selection.choice
    totals = selection.totals()
    by_part = selection.totals(selection.budget_part)
    parts = [{"part": part_name(choice.parts, part), **_counts(own)} for part, own in by_part.items()]
    return {
        "scores": str(scores.place),
        "joined": {name: str(other.place) for name, other in scores.joined.items()},
        "choice": {**asdict(choice), "rule": None if choice.rule is None else repr(choice.rule)},
        "all": _counts(*totals.values()),
        "not_ranked": selection.candidates.left_out,
        "junk": None if choice.drop_junk is None else dropped(selection.connection, choice.drop_junk),
        "shared": None if choice.drop_shared is None else left_out(selection.connection),
        "kept_by": kept_by(selection),
        "mean": _means(selection),
        "stands_in": _stands_in(scores, selection),
        "weights_differ": selection.weighs,
        "parts": parts[:PARTS] if choice.parts else [],
        "parts_in_all": len(parts),
        "parts_too_small_for_the_rule": [part_name(choice.within, part) for part in list(selection.too_small)[:PARTS]],
        "left_out": _examples(scores, selection),
        "control": None if control is None else {**_control(control), "mean": _means(control)},
    }


def write_statement(place: Place, name: str, said: dict[str, Any]) -> None:
    """Write the statement as a JSON file."""
    data = json.dumps(said, indent=1, ensure_ascii=False).encode() + b"\n"
    if place.remote:
        place.write(name, data)
    else:
        write_whole(place.local / name, data)


def sentences(said: dict[str, Any], shown: int = 3) -> list[str]:
    """The statement in a few lines; `shown` examples of each edge, one line each."""
    every, by = said["all"], said["choice"]["by"]
    unit = said["choice"]["unit"]
    lines = [
        f"kept       {every['kept']:,} of {every['samples']:,} {unit}s "
        f"({every['kept'] / every['samples']:.1%}), {every['kept_tokens']:,} of {every['tokens']:,} tokens",
        f"{f'mean {by}':<10} {said['mean']['kept']:.4f} kept, {_number(said['mean']['left_out'])} left out",
    ]
    lines += [f"stands in  {text}" for text in said["stands_in"]]
    if said["not_ranked"]:
        lines.append(f"not ranked {said['not_ranked']:,} {unit}s without a finite {by}, or with nothing to predict")
    if said["junk"] is not None:
        lines.append(
            f"junk       {said['junk']:,} {unit}s of a junk score of {said['choice']['drop_junk']} or more left out"
        )
    if said["shared"] is not None:
        share = f"{said['choice']['drop_shared']:.0%}"
        lines.append(
            f"shared     {said['shared']:,} {unit}s of which {share} or more are lines of many documents left out"
        )
    if small := said["parts_too_small_for_the_rule"]:
        lines.append(
            f"too small  {len(small):,} of {said['parts_in_all']:,} parts for the rule to act on: {_line(small[0])}, …"
        )
    if control := said["control"]:
        lines.append(f"control    {control['kept']:,} {unit}s, {control['kept_tokens']:,} tokens at random; "
                     f"mean {by} {control['mean']['kept']:.4f}")  # fmt: skip
    lines += [f"warning    {_line(text)}" for text in said["kept_by"]["warnings"][:shown]]
    for edge, examples in said["left_out"].items():
        if examples:
            lines.append(f"left out {edge} (nearest first; {len(examples)} in the statement):")
            lines += [
                f"  {e[by]:8.3f}  {_line(e['source'])}:{e['row']}  {_short(e.get('text'))}" for e in examples[:shown]
            ]
    return lines


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4f}"


def _line(text: str) -> str:
    """The text in one line: the name of a file may hold ends of lines, and begin others that say what is not so."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _short(text: str | None) -> str:
    return "" if text is None else " ".join("".join(c if c.isprintable() else " " for c in text[:300]).split())[:80]


def _counts(*totals: Total) -> dict[str, int]:
    names = ("samples", "tokens", "kept", "kept_tokens")
    return {name: sum(getattr(own, name) for own in totals) for name in names}


def _control(control: Selection) -> dict[str, int]:
    own = _counts(*control.totals().values())
    return {name: own[name] for name in ("kept", "kept_tokens")}


def _stands_in(scores: Scores, selection: Selection) -> list[str]:
    """How well the loss stands in for models that have scored a sample alone; nothing where another key ranks."""
    if selection.choice.by not in ("loss", "completion_loss"):
        return []
    return [str(each) for each in stand_ins(selection.connection, scores, sampled=True)]


def _means(selection: Selection) -> dict[str, float | None]:
    totals = selection.totals().values()
    kept, count = sum(own.kept_key for own in totals), sum(own.kept for own in totals)
    rest, left = sum(own.key for own in totals) - kept, sum(own.samples for own in totals) - count
    return {"kept": kept / count, "left_out": rest / left if left else None}


def _examples(scores: Scores, selection: Selection) -> dict[str, list[dict[str, Any]]]:
    """By edge. Keys and ids alone are looked at to find them; their other columns are then read for them alone."""
    names, ends = _ends(selection)
    found = {edge: _nearest(selection, names, order.format(**ends)) for edge, order in EDGES.items()}
    known = {row["id"]: row for each in found.values() for row in _rows(selection, each)}
    _add_texts(scores, selection, known)
    return {edge: [known[own] for own, _ in each] for edge, each in found.items()}


def _ends(selection: Selection) -> tuple[str, dict[str, str]]:
    """SQL of what to join for the least and the most of the keys kept, and of these: of a lone part themselves."""
    found = {part: own for part, own in selection.totals().items() if own.kept}  # others have no edge
    ends = {name: [getattr(own, name) for own in found.values()] for name in ("least", "most")}
    if len(selection.totals()) == 1:
        return "", {name: f"'{value!r}'::DOUBLE" for name, (value,) in ends.items()}
    put_table(selection.connection, "kept_keys", {"part": list(found), **ends})
    return " JOIN kept_keys USING (part)", {name: name for name in ends}


def _nearest(selection: Selection, ends: str, order: str) -> list[tuple[int, float]]:
    """The ids and keys of the first few of what is left out."""
    return selection.connection.sql(f"""
        SELECT id, key FROM (SELECT id, key, part FROM {selection.view} WHERE NOT kept){ends} {order} LIMIT {EXAMPLES}
    """).fetchall()


def _rows(selection: Selection, found: list[tuple[int, float]]) -> list[dict[str, Any]]:
    """By their keys too, by which files skip what is far away."""
    if not found:
        return []
    ids, keys = zip(*found, strict=True)
    names = ("id", "doc_id", "source", "row", "window", "n_tokens", selection.choice.by)
    rows = selection.connection.sql(f"""
        SELECT id, doc_id, source, row, "window", n_tokens, key FROM {selection.view}
        WHERE key BETWEEN '{min(keys)!r}'::DOUBLE AND '{max(keys)!r}'::DOUBLE AND id IN ({", ".join(map(str, ids))})
    """).fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


def _add_texts(scores: Scores, selection: Selection, known: dict[int, dict[str, Any]]) -> None:
    if "text" not in scores.columns or not known:
        return
    own = "doc_id" if selection.choice.unit == "document" else "id"
    texts = selection.connection.sql(f"""
        SELECT {own}, arg_min(text, "window") FROM scored WHERE {own} IN ({", ".join(map(str, known))}) GROUP BY {own}
    """).fetchall()
    for name, text in texts:
        known[name]["text"] = text
