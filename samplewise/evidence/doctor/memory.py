"""Peak memory of a piece of work, above what was there before: by the allocator on CUDA, by live tensors on a CPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from samplewise.core import device_memory
from samplewise.evidence.doctor.checks import Check, judge
from samplewise.losses.body import decoder_of, unwrapped

LIMIT = 0.35
"""Of what plain training takes above the body."""
MIN_MEGABYTES = 16.0
"""Of logits and what is made of them: below, the smallest chunk is no small part of them."""


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that operations return, as long as they live; `peak` is the most at one time.

    What an operation allocates and frees inside itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation and counts what is new among its results."""
        given = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        found = func(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if isinstance(each, Tensor) and each.untyped_storage()._cdata not in given:
                self._count(each.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def freed(_: Any) -> None:
            self.now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


def peak_bytes(work: Callable[[], object], device: torch.device) -> int | None:
    """The most that `work` takes above what was there before; None on a device that does not say."""
    if device.type == "cuda":
        return device_memory.peak_bytes(work, device)
    if device.type != "cpu":
        return None
    with LiveBytes() as live:
        work()
    return live.peak


def body_step(model: nn.Module, batch: dict[str, Tensor]) -> None:
    """Forward and backward of the model without its head: the floor that memory is measured from."""
    hidden = decoder_of(unwrapped(model))(input_ids=batch["input_ids"], use_cache=False).last_hidden_state
    hidden.float().mean().backward()


def plain_step(model: Any, batch: dict[str, Tensor]) -> None:
    """Forward with the model's own loss, and backward."""
    model(**batch, use_cache=False).loss.backward()


def check_memory(model: nn.Module, batch: dict[str, Tensor], ours: Callable[[], object], device: torch.device) -> Check:
    """Our step's peak above that of the body, over that of plain training. ours: runs one step."""
    ways: dict[str, Callable[[], object]] = {
        "body": lambda: body_step(model, batch), "plain": lambda: plain_step(model, batch), "ours": ours,
    }  # fmt: skip
    found: dict[str, float] = {}
    for name, work in ways.items():
        model.zero_grad(set_to_none=True)
        work()  # once before: buffers that are made in a first step and stay
        model.zero_grad(set_to_none=True)
        peak = peak_bytes(work, device)
        if peak is None:
            return Check("memory above the body", "not checked", f"{device.type} does not say its peak", judged=False)
        found[name] = peak / 1e6
    model.zero_grad(set_to_none=True)
    plain, own = found["plain"] - found["body"], found["ours"] - found["body"]
    ratio = own / plain
    text = f"{ratio:.2f} of plain ({own:,.1f} of {plain:,.1f} MB), allowed {LIMIT}"
    if plain < MIN_MEGABYTES:
        return Check("memory above the body", "info", f"{text}; too little to be judged", {"megabytes": found})
    return judge("memory above the body", ratio, LIMIT, text, megabytes=found)
