"""What the host reads of tensors: by numpy, which looks at memory, where torch asks for one number at a time.

Rules and plans work on the host's tensors. Each `bool(x.any())` of torch costs a dispatch, and of a device's tensor a
wait: a step would make some fifty of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import numpy as np
    from samplewise.core.lazy import torch

WITHOUT_FP64 = frozenset({"mps"})
"""Devices that know no fp64: Apple's."""


def host(values: Tensor) -> np.ndarray:
    """The numbers as an array: the memory of a host's tensor, one copy of a device's; bf16, unknown to numpy, in fp32.

    >>> host(torch.tensor([1.0, 2.0])).max()
    np.float32(2.0)
    """
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def wide(values: Tensor) -> np.ndarray:
    """The same numbers in fp64."""
    return host(values).astype(np.float64, copy=False)


def exact_dtype(device: torch.device) -> torch.dtype:
    """What many token losses are summed in: fp64, where the device has it."""
    return torch.float32 if device.type in WITHOUT_FP64 else torch.float64


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A tensor of the array, int64 or as wide as the device's floats are, which the host does not wait for."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return to_device(tensor.to(exact_dtype(device) if tensor.is_floating_point() else torch.int64), device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there, which the host does not wait for."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # copied from pageable memory, it would wait for what runs before it
    return tensor.to(device, non_blocking=True)


def is_on_host(value: Tensor) -> bool:
    """Whether the host may read it without a wait. A subclass of Tensor may stand for anything, elsewhere too."""
    return value.device.type == "cpu" and type(value) is torch.Tensor


def fetched(groups: Iterable[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Copies of the tensors on the host: of each device all their bytes at once, so that it is waited for once."""
    groups = list(groups)
    every = [(number, name, value.detach()) for number, group in enumerate(groups) for name, value in group.items()]
    every.sort(key=lambda each: -each[2].dtype.itemsize)  # so that each begins where its type may
    out: list[dict[str, Tensor]] = [{} for _ in groups]
    for device in {value.device for *_, value in every}:
        some = [each for each in every if each[2].device == device]
        whole = torch.cat([_as_bytes(value) for *_, value in some]).cpu()
        parts = whole.split([value.numel() * value.dtype.itemsize for *_, value in some])
        for (number, name, value), part in zip(some, parts, strict=True):
            out[number][name] = part.view(value.dtype).view(value.shape)
    return out


def copying(values: Tensor) -> Callable[[], np.ndarray]:
    """Begin to copy a tensor to the host; what is returned waits for that copy alone, and gives the numbers.

    >>> copying(torch.tensor([1.0, 2.0]))()
    array([1., 2.], dtype=float32)
    """
    values = values.detach()
    if values.device.type != "cuda":
        there = values.cpu()
        return there.numpy
    there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(values.device))

    def wait() -> np.ndarray:
        copied.synchronize()
        return there.numpy()

    return wait


def _as_bytes(value: Tensor) -> Tensor:
    """[bytes] uint8. A tensor of one number counts as contiguous whatever its stride, which a view of bytes refuses."""
    flat = value.contiguous().view(-1)
    return (flat if flat.numel() > 1 else flat.as_strided(flat.shape, (1,))).view(torch.uint8)


def positions(mask: Tensor) -> Tensor:
    """[K] int64 where the mask [N] holds, on its device.

    >>> positions(torch.tensor([True, False, True]))
    tensor([0, 2])
    """
    return beside(host(mask).nonzero()[0], mask)


def beside(array: np.ndarray, tensor: Tensor) -> Tensor:
    """The array as a tensor where `tensor` is."""
    found = torch.from_numpy(array)
    return found if is_on_host(tensor) else to_device(found, tensor.device)
