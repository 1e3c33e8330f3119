"""What a step asks of torch: numbers of any tensor, one by one; and fp64 on a device that has none."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Generator
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
            inner = [f for f in traceback.extract_stack() if PACKAGE in f.filename or THEIRS in f.filename]
            if not inner or THEIRS not in inner[-1].filename:
                self.found[f"{inner[-1].filename}:{inner[-1].lineno} {name}" if inner else name] += 1
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
            inner = [f for f in traceback.extract_stack() if PACKAGE in f.filename and "stand_ins" not in f.filename]
            self.found |= {f"{f.filename}:{f.lineno} {name}" for f in inner[-1:]}
        return found
