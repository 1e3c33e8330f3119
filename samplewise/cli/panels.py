"""Which options stand together in the help of the commands that have many."""

from __future__ import annotations

PANELS = {
    "dedup": {
        "The corpus": ["kind", "text_field", "config", "split"],
        "What is written": ["out", "format", "shard_size", "json_file"],
    },
    "score": {
        "The corpus": ["kind", "text_field", "format", "template", "config", "split", "streaming", "limit"],
        "Windows": ["max_length", "min_tokens", "stride", "rolling"],
        "What is written": ["column", "sample", "characters", "shard_bytes", "strict", "json_file"],
        "Speed": ["dtype", "batch_tokens", "compiled", "engine", "workers"],
    },
    "select": {
        "What is selected": [
            "rule", "drop_junk", "drop_shared", "above", "below", "tokens", "take", "by", "join", "within", "unit",
            "seed",
        ],
        "What is written": [
            "out", "format", "shard_size", "tokenizer", "ids", "weights", "control", "json_file",
        ],
        "Reading the scores": ["data", "memory", "no_verify"],
    },
}  # fmt: skip
"""By command, the title of a panel -> names of parameters. The others stand under Options."""


def panel_of(command: str | None, parameter: str | None) -> str | None:
    """The title of the panel of an option, or None."""
    return next((title for title, names in PANELS.get(command or "", {}).items() if parameter in names), None)
