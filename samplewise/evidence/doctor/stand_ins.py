"""Tensors that stand for a device's on a CPU: every read of one by the host is counted, with the line that asked."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

READS = {"cpu", "tolist", "item", "numpy", "__bool__", "__int__", "__float__", "__index__"}
SIZED_BY_VALUES = {"nonzero", "bincount", "unique", "masked_select", "equal", "argwhere", "is_nonzero", "allclose"}
"""Their results have a size, or are a value, that the host must know."""

PACKAGE, TORCH = Path(__file__).parents[2], str(Path(torch.__file__).parent)
counted: Counter[str] = Counter()


class OnDevice(torch.Tensor):
    """A tensor that a device would hold; so is what is computed from it, until it is copied to the host."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Counts reads; `.cpu()` gives a plain tensor, while `.to(device)` stays where it is."""
        name = getattr(func, "__name__", str(func))
        if _waits(name, args):
            counted[_line(name)] += 1
        found = super().__torch_function__(func, types, args, kwargs or {})
        if name in ("cpu", "numpy") and isinstance(found, torch.Tensor):
            return found.as_subclass(torch.Tensor)
        return found


def _waits(name: str, args: Any) -> bool:
    if name in ("__getitem__", "__setitem__"):
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(i, torch.Tensor) and (i.dtype == torch.bool or i.dim() == 0) for i in index)
    return name in READS or name in SIZED_BY_VALUES


def _line(name: str) -> str:
    frame: FrameType | None = sys._getframe(1)  # a traceback would look at the file of every frame
    while frame is not None and (frame.f_code.co_filename == __file__ or _between(frame)):
        frame = frame.f_back
    assert frame is not None, "what asks is neither torch nor this file"
    return f"{place(frame.f_code.co_filename, frame.f_lineno)} {name}"


def place(file: str, line: int | None) -> str:
    """File and line of this package, or "elsewhere": the model's, or a test's."""
    return f"{file.removeprefix(f'{PACKAGE}/')}:{line}" if file.startswith(f"{PACKAGE}/") else "elsewhere"


def _between(frame: FrameType) -> bool:
    """Torch's own frame, or that of another mode."""
    return frame.f_code.co_name == "__torch_function__" or frame.f_code.co_filename.startswith(TORCH)


def on_device(model: torch.nn.Module) -> torch.nn.Module:
    """The model with its parameters and buffers as a device's."""
    for module in model.modules():
        for key, value in list(module._parameters.items()):
            if value is not None:
                module._parameters[key] = torch.nn.Parameter(value.detach().as_subclass(OnDevice))
        for key, value in list(module._buffers.items()):
            if value is not None:
                module._buffers[key] = value.as_subclass(OnDevice)
    return model


def stands_in(model: torch.nn.Module) -> bool:
    """Whether its parameters are such tensors."""
    return isinstance(next(model.parameters()), OnDevice)


def batch_on_device(batch: dict[str, Any], host: frozenset[str] = frozenset({"sample_id"})) -> dict[str, Any]:
    """What a loader has moved: all tensors but the fields of samples, which are the host's."""
    return {k: v if k in host else v.as_subclass(OnDevice) for k, v in batch.items()}


class _Made(TorchFunctionMode):
    """What losses make on a device, or anybody moves to one, is a device's; what rules and plans make is the host's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Tags what a device would hold."""
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        placed = isinstance(found, torch.Tensor) and is_placed(func, args, kwargs)
        return found.as_subclass(OnDevice) if placed else found


def is_placed(func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call of torch makes its result on a device: losses do, where they name one, and `.to(device)`."""
    named = isinstance(kwargs.get("device"), torch.device) and _line("").startswith(("losses/", "elsewhere"))
    return named or (getattr(func, "__name__", "") == "to" and any(isinstance(each, torch.device) for each in args))


@contextmanager
def waits() -> Generator[Counter[str]]:
    """The reads within, by line of this package ("elsewhere": those of the model or the test)."""
    counted.clear()
    with _Made():
        yield counted
