"""The error of a scoring that scored nothing: what was found in the corpus, and what to do about it."""

from __future__ import annotations

import json

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.manifest import Manifest
from samplewise.data.records import place_of

_REMEDIES = {
    "missing field": "Name the field of the text with --text-field, or give --kind instructions for conversations.",
    "no text": "Name another field with --text-field, or give --kind instructions for conversations.",
    "no known form": "Name the form of the rows with --format, or give --kind text for plain text.",
    "no JSON object": "Write one JSON object a line, with the text in a field.",
}
_REMEDY = "Fix the records, or check --data and --kind."


def nothing_scored(manifest: Manifest, quarantined: bytes) -> SamplewiseError:
    """manifest: of the scoring. quarantined: lines of the quarantine file, of which the first is told."""
    if not manifest.rows_in:
        return SamplewiseError(
            "--data", expected="at least one record", got="none",
            remedy="Check the path. Blank lines are not records.",
        )  # fmt: skip
    reasons = sorted(manifest.reasons.items(), key=lambda each: (-each[1], each[0]))
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
    first = quarantined.splitlines()[:1]
    told = f"; first: {_told(json.loads(first[0]))}" if first else ""
    return SamplewiseError(
        "--data", expected="at least one record that can be scored",
        got=f"{manifest.rows_in:,} records of which nothing could be scored ({counts}{told})",
        remedy=_REMEDIES.get(reasons[0][0], _REMEDY) if reasons else _REMEDY,
    )  # fmt: skip


def _told(line: dict) -> str:
    return f"{place_of(line['source'], line['row'], line.get('line'))}, {line['got'][:200]}"
