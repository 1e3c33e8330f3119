"""The loss of every sample at its last visit, and how much such a loss still says."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import State
from samplewise.core.statistics import correlation
from samplewise.rules.base import uniforms

PROBE = 0.05
"""The share of rows whose fresh loss is compared with the stored one."""
PAIRS, LEAST_PAIRS = 256, 32
"""Of (stored, fresh) that a correlation is over: at most, the latest, and at least."""
SEED = 0x5EED


class LossMemory:
    """id -> (loss, step) of the last visit: sorted arrays, one search for any number of ids.

    Cost: 24 bytes a sample. A look-up of 10⁶ ids among 10⁶ takes a second; a step of N known samples N binary
    searches; new ids are merged in, which copies the arrays (10 ms at 10⁶), in the first epoch only.
    """

    def __init__(self) -> None:
        self.ids: NDArray[np.int64] = np.zeros(0, np.int64)
        self.losses: NDArray[np.float64] = np.zeros(0)
        self.steps: NDArray[np.int64] = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def look_up(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """([N] stored losses, nats/token, NaN for ids never seen; [N] int64 the steps they are of, −1 for those)."""
        wanted = ids.cpu().numpy()
        place, known = self._find(wanted)
        losses, steps = np.full(len(wanted), np.nan), np.full(len(wanted), -1)
        losses[known], steps[known] = self.losses[place[known]], self.steps[place[known]]
        return torch.from_numpy(losses), torch.from_numpy(steps)

    def store(self, ids: Tensor, losses: Tensor, step: int) -> None:
        """Take in the losses that samples had in a step; of an id given twice the last counts, NaN leaves what was."""
        given = losses.detach().double().cpu().numpy()
        there = np.isfinite(given)
        names, last = np.unique(ids.cpu().numpy()[there][::-1], return_index=True)
        values = given[there][::-1][last]
        place, known = self._find(names)
        self.losses[place[known]], self.steps[place[known]] = values[known], step
        if not known.all():
            at, new = place[~known], names[~known]
            self.ids = np.insert(self.ids, at, new)
            self.losses = np.insert(self.losses, at, values[~known])
            self.steps = np.insert(self.steps, at, step)

    def state(self) -> State:
        """For a checkpoint: three tensors of equal length."""
        arrays = {"ids": self.ids, "losses": self.losses, "steps": self.steps}
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    @classmethod
    def from_state(cls, state: State) -> LossMemory:
        """What `state` gave. Errors: SamplewiseError where it is something else."""
        memory, tensors = cls(), [state.get(name) for name in ("ids", "losses", "steps")]
        arrays = [each.cpu().numpy().copy() for each in tensors if isinstance(each, Tensor)]
        if len(arrays) < 3 or len({each.shape for each in arrays}) > 1 or bool((np.diff(arrays[0]) <= 0).any()):
            raise SamplewiseError(
                "state", expected="ids, losses and steps of a LossMemory, sorted by id", got=sorted(state),
                remedy="Give what its state() returned.",
            )  # fmt: skip
        memory.ids, memory.losses, memory.steps = arrays
        return memory

    def _find(self, wanted: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """(where each id is or would be inserted, whether it is there)."""
        place = np.searchsorted(self.ids, wanted)
        known = place < len(self.ids)
        known[known] = self.ids[place[known]] == wanted[known]
        return place, known


class Staleness:
    """How well stored losses rank samples as fresh ones do, and how old they are; over the latest `PAIRS` pairs."""

    def __init__(self) -> None:
        self.stored = self.fresh = self.age = torch.zeros(0, dtype=torch.float64)

    @staticmethod
    def probe(ids: Tensor, step: int) -> Tensor:
        """[N] bool, the random `PROBE` share of rows to score afresh: a function of (step, id), whatever the split."""
        return uniforms(ids, step, SEED) < PROBE

    def add(self, stored: Tensor, fresh: Tensor, age: Tensor) -> None:
        """Take in pairs: [n] stored and fresh losses of the same samples, and how many steps the stored are old."""
        there = torch.isfinite(stored.double().cpu()) & torch.isfinite(fresh.double().cpu())
        for name, values in (("stored", stored), ("fresh", fresh), ("age", age)):
            setattr(self, name, torch.cat([getattr(self, name), values.double().cpu()[there]])[-PAIRS:])

    @property
    def figures(self) -> dict[str, float]:
        """stored_corr: the rank correlation, NaN below `LEAST_PAIRS` pairs; stored_age: their mean age in steps."""
        enough = len(self.stored) >= LEAST_PAIRS
        return {
            "stored_corr": rank_correlation(self.stored, self.fresh) if enough else float("nan"),
            "stored_age": float(self.age.mean()) if len(self.age) else float("nan"),
        }

    def stale(self, least: float = 0.7) -> bool:
        """Whether the rank correlation is known and below `least`: the step's samples are to be scored afresh."""
        return self.figures["stored_corr"] < least

    def state(self) -> State:
        """For a checkpoint."""
        return {"stored": self.stored, "fresh": self.fresh, "age": self.age}

    @classmethod
    def from_state(cls, state: State) -> Staleness:
        """What `state` gave."""
        staleness = cls()
        staleness.add(*(torch.as_tensor(state[name]) for name in ("stored", "fresh", "age")))
        return staleness


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's: Pearson's correlation of the ranks, ties having their middle one; 0 where one does not vary.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.1, 0.2, 0.3])), 6)
    1.0
    """
    return correlation(_ranks(x), _ranks(y))


def _ranks(values: Tensor) -> Tensor:
    ordered = values.double().sort().values
    below = torch.searchsorted(ordered, values.double())
    return (below + torch.searchsorted(ordered, values.double(), right=True)).double() / 2
