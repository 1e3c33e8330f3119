"""The names of the files of finished runs."""

from __future__ import annotations

from pathlib import Path

RUNS = "runs"


def file_of(folder: Path, arm: str, seed: int) -> Path:
    """The file of the finished run of an arm."""
    return folder / RUNS / f"{slug(arm)}-{seed}.json"


def before_of(folder: Path, seed: int, seeded: bool) -> Path:
    """The file of the measurements before training: one for all seeds, unless the initial model is random."""
    return folder / RUNS / (f".before-{seed}.json" if seeded else ".before.json")


def slug(name: str) -> str:
    """The name of an arm as a file name.

    >>> slug("band + IR-DRO, r=0.5")
    'band-+-IR-DRO,-r=0.5'
    """
    return "".join("-" if each.isspace() or each in '/\\:*?"<>|' else each for each in name)
