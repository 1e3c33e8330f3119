"""What is tried: a command line, and the files that it reads, made of a seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz.inputs.world import World


@dataclass(frozen=True)
class Attack:
    """words: of the command line. what: the attack in words, enough to make it again by hand.

    scores: where a success leaves a folder of scores, whose counts must add up.
    hopeless: nothing of it can be used, so that a success would be a fault.
    """

    words: list[str]
    what: str
    scores: Path | None = None
    hopeless: bool = False


@dataclass(frozen=True)
class Ground:
    """Where an attack is made: dice of its seed, the good files (not to be changed), and a folder of its own."""

    dice: Random
    world: World
    folder: Path
