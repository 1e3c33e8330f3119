"""The share of weight that the arms of a comparison gave to labelled documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from samplewise.report.page import Column, paragraph, percent, table

WORDS = {"weight": "weight", "samples": "samples seen", "tokens": "tokens trained on"}


def labels_table(results: Mapping[str, Any]) -> list[Markup]:
    """A row for each arm: the weight on all labelled documents, then on each label."""
    ran = {arm["name"]: arm["ran"] for arm in results["arms"] if arm["ran"] and "labels" in arm["ran"]}
    found = {name: own["labels"]["mean"] for name, own in ran.items()}
    kinds = [kind for kind in dict.fromkeys(kind for own in found.values() for kind in own) if kind != "labelled"]
    names = [f"{words}, labelled" for words in WORDS.values()] + [f"weight, {kind}" for kind in kinds]
    columns = [Column("arm", "word"), *(Column(name) for name in names)]
    rows = []
    for arm, own in found.items():
        shares = [own["labelled"][name] for name in WORDS] + [own.get(kind, {}).get("weight", 0.0) for kind in kinds]
        rows.append([arm, *((share, percent(share)) for share in shares)])
    told = "Shares over the whole run, means over seeds. Labels are counted by; no rule sees them."
    return [paragraph(told), table(columns, rows)]
