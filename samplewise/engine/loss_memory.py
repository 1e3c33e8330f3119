"""The loss of every sample at its last visit."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import State


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
        """Remember the losses that samples had in a step; of a repeated id the last counts, NaN changes nothing."""
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
