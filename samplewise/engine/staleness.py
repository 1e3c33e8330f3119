"""How well a loss that was stored earlier still describes its sample."""

from __future__ import annotations

import torch
from torch import Tensor

from samplewise.core.host import host, positions
from samplewise.core.rule import State
from samplewise.core.statistics import rank_correlation
from samplewise.rules.base import uniforms

PROBE_SHARE = 0.05
"""The share of rows whose fresh loss is compared with the stored one."""
MAX_PAIRS, MIN_PAIRS = 256, 32
"""Of (stored, fresh) that a correlation is over: at most, the latest, and at least."""
PROBE_SEED = 0x5EED


class Staleness:
    """How well stored losses rank samples as fresh ones do, and how old they are; over the latest `MAX_PAIRS` pairs."""

    def __init__(self) -> None:
        self.stored = self.fresh = self.age = torch.zeros(0, dtype=torch.float64)

    @staticmethod
    def probe(ids: Tensor, step: int) -> Tensor:
        """[N] bool, the random `PROBE_SHARE` of rows to score afresh: a function of (step, id), whatever the split.

        step: from 1. Draws are counted from 0, as the rules' own are.
        """
        return uniforms(ids, step - 1, PROBE_SEED) < PROBE_SHARE

    def add(self, stored: Tensor, fresh: Tensor, age: Tensor) -> None:
        """Add pairs: [n] stored and fresh losses of the same samples, and the age of the stored ones in steps."""
        there = positions(torch.isfinite(stored.double().cpu()) & torch.isfinite(fresh.double().cpu()))
        for name, values in (("stored", stored), ("fresh", fresh), ("age", age)):
            setattr(self, name, torch.cat([getattr(self, name), values.double().cpu()[there]])[-MAX_PAIRS:])

    @property
    def figures(self) -> dict[str, float]:
        """stored_corr: the rank correlation, NaN below `MIN_PAIRS` pairs; stored_age: their mean age in steps."""
        enough = len(self.stored) >= MIN_PAIRS
        return {
            "stored_corr": rank_correlation(self.stored, self.fresh) if enough else float("nan"),
            "stored_age": float(host(self.age).mean()) if len(self.age) else float("nan"),
        }

    def stale(self, minimum: float = 0.7) -> bool:
        """Whether the rank correlation is known and below `minimum`: the step's samples are to be scored afresh."""
        return self.figures["stored_corr"] < minimum

    def state(self) -> State:
        """The pairs and their ages, for a checkpoint."""
        return {"stored": self.stored, "fresh": self.fresh, "age": self.age}

    @classmethod
    def from_state(cls, state: State) -> Staleness:
        """The `Staleness` whose `state` returned these pairs."""
        staleness = cls()
        staleness.add(*(torch.as_tensor(state[name]) for name in ("stored", "fresh", "age")))
        return staleness
