"""A device that this machine lacks, of tensors without numbers: whoever asks for a number of one is an error."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from samplewise.evidence.doctor.stand_ins import is_placed


class _Placed(TorchFunctionMode):
    """What losses make on a device, or anybody moves to one, is fake."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake = fake

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Swaps the result."""
        found = func(*args, **(kwargs or {}))
        real = isinstance(found, torch.Tensor) and not isinstance(found, FakeTensor)
        return self.fake.from_tensor(found) if real and is_placed(func, args, kwargs or {}) else found


class FakeDevice(TorchDispatchMode):
    """Within it, tensors that `empty` makes, and what is computed from them, are a device's; others are the host's.

    A look at a number of the device's (`item`, `tolist`, `bool`, `nonzero`, a mask as index) raises, since there is
    none. wide: the operations whose result on the device is fp64.
    They say that they are on "cpu": a build of torch without CUDA can neither index nor differentiate others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.wide: list[str] = []
        self.making = False

    def __enter__(self) -> Self:
        """The fake mode runs below this one."""
        self.stack = ExitStack()
        self.stack.enter_context(self.fake)
        self.stack.enter_context(_Placed(self.fake))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Leaves both."""
        super().__exit__(*error)
        self.stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs what touches the device without numbers."""
        kwargs = kwargs or {}
        if not self.making and not any(isinstance(each, FakeTensor) for each in tree_leaves((args, kwargs))):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        found = func(*args, **kwargs)
        if any(isinstance(x, FakeTensor) and x.dtype == torch.float64 for x in tree_leaves(found)):
            self.wide.append(str(func))
        return found

    def empty(self, like: torch.Tensor) -> torch.Tensor:
        """A tensor of that shape on the device."""
        self.making = True
        try:
            return torch.empty(like.shape, dtype=like.dtype)
        finally:
            self.making = False

    def move(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model with its parameters and buffers on the device."""
        for module in model.modules():
            for key, value in list(module._parameters.items()):
                if value is not None:
                    module._parameters[key] = torch.nn.Parameter(self.empty(value))
            for key, value in list(module._buffers.items()):
                if value is not None:
                    module._buffers[key] = self.empty(value)
        return model
