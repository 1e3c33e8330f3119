"""What a step asks of torch: numbers of any tensor, one by one; and fp64 on a device that has none."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import samplewise
from samplewise.evidence.doctor.stand_ins import OnDevice

PACKAGE, THEIRS = str(Path(samplewise.__file__).parent), "/transformers/"
ASKED = {f"aten.{name}.default" for name in ("_local_scalar_dense", "nonzero", "bincount", "equal", "is_nonzero")}
ASKED |= {f"aten.{name}.default" for name in ("masked_select", "_unique2", "unique_dim", "unique_consecutive")}


def _stack() -> Iterator[str]:
    """File and line of every frame, the innermost first, without a look at the files."""
    frame = sys._getframe(1)
    while frame is not None:
        yield f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back


class _Asked(TorchDispatchMode):
    """Counts the operations whose result the host must know, of any tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """By the package's line, unless transformers asks."""
        name = str(func)
        masks = args[1] if name.startswith(("aten.index.Tensor", "aten.index_put")) else ()
        if name in ASKED or any(isinstance(each, torch.Tensor) and each.dtype == torch.bool for each in masks or ()):
            asked = next((place for place in _stack() if PACKAGE in place or THEIRS in place), "")
            if THEIRS not in asked:
                self.found[f"{asked} {name}".lstrip()] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def scalar_reads() -> Generator[Counter[str]]:
    """The numbers that torch is asked for within, of the host's tensors too; those that transformers asks for apart."""
    with _Asked() as mode:
        yield mode.found


class WideResults(TorchFunctionMode):
    """Within `waits`: the lines of this package that make fp64 on the device (`found`)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Notes where the result is one, looks at what is there already apart."""
        found, name = func(*args, **(kwargs or {})), getattr(func, "__name__", "")
        if isinstance(found, OnDevice) and found.dtype == torch.float64 and name not in ("__get__", "detach"):
            asked = next((place for place in _stack() if PACKAGE in place and "stand_ins" not in place), None)
            self.found |= set() if asked is None else {f"{asked} {name}"}
        return found
