"""The keys of a probe file, apart from what reads them: a wrong key is said before transformers is imported."""

from __future__ import annotations

from dataclasses import dataclass, field

from samplewise.config import DataConfig
from samplewise.evidence.plan_parts import ScratchConfig
from samplewise.evidence.probes.corruptions import CORRUPTIONS

RULES = ["uniform()", "ir_dro(r=1)", "band(drop_top=0.125)", "chain(band(drop_top=0.125), ir_dro(r=1))"]


@dataclass(frozen=True)
class ProbeConfig:
    """The questions of a probe: about one model, one corpus, and rules.

    model: as in a plan. models: others, or checkpoints of the same, whose ranking is held against its own.
    samples: documents looked at, the first window of each; held_out: documents that stand for what is wanted.
    quantiles: of the loss; examples: texts shown of each. steps, batch, learning_rate: of the short trainings. noisy:
    documents corrupted in each of kinds. rules: those whose weight on noise is reported, in steps of step samples, a
    fifth of which is noise. output: a folder.
    """

    model: str | ScratchConfig
    data: DataConfig
    output: str
    models: dict[str, str] = field(default_factory=dict)
    samples: int = 256
    held_out: int = 64
    quantiles: int = 4
    examples: int = 3
    steps: int = 16
    batch: int = 16
    learning_rate: float = 1e-4
    noisy: int = 32
    kinds: list[str] = field(default_factory=lambda: list(CORRUPTIONS))
    rules: list[str] = field(default_factory=lambda: list(RULES))
    step: int = 32
    seed: int = 0
