"""Which backend computes a micro-batch: the one that was asked for, or the best that this device has."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch

from samplewise.core.errors import SamplewiseError
from samplewise.losses.kernels import vocabulary
from samplewise.losses.kernels.fallbacks import fall_back
from samplewise.losses.kernels.inputs import Inputs
from samplewise.losses.kernels.residual import Head
from samplewise.losses.kernels.vocabulary import Shard

Backend = Literal["auto", "chunked", "triton", "torch", "liger", "reference"]
MIN_TRITON = (3, 6)  # none before was tried
MIN_CAPABILITY = (8, 0)  # bf16 products; nothing older was thought of
MAX_VOCABULARY = 2**20


def resolve(backend: str, inputs: Inputs) -> str:
    """The backend to use: "auto" is "triton" on a CUDA device that can, else "chunked".

    Errors: SamplewiseError for an unknown name, and where "triton" was asked for and cannot be used.
    """
    if backend not in get_args(Backend):
        raise SamplewiseError(
            "backend", expected=f"one of {', '.join(get_args(Backend))}", got=repr(backend),
            remedy='Use "auto", which handles every case.',
        )  # fmt: skip
    if inputs.shard is not None:
        if backend not in ("auto", "chunked"):
            raise SamplewiseError(
                "backend", expected="'auto' or 'chunked' for a head that is split over ranks", got=repr(backend),
                remedy="Leave it out.",
            )  # fmt: skip
        return "chunked"
    if backend not in ("auto", "triton") or (backend == "auto" and inputs.hidden.device.type != "cuda"):
        return "chunked" if backend == "auto" else backend
    why = obstacle(inputs)
    if why is None:
        return "triton"
    if backend == "triton":
        raise SamplewiseError(
            "backend", expected="'triton' where it can run", got=why, remedy='Use "auto" or "chunked".'
        )
    fall_back(why)
    return "chunked"


def obstacle(inputs: Inputs) -> str | None:
    """Why these inputs cannot go through Triton; None where they can."""
    if find_spec("triton") is None:
        return "triton is not installed: pip install 'samplewise[triton]'"
    if _triton() < MIN_TRITON:
        found, needed = (".".join(map(str, each)) for each in (_triton(), MIN_TRITON))
        return f"triton {found}, older than {needed}: pip install -U triton"
    if inputs.loss_dtype == torch.float64:
        return "fp64, which Triton's statistics are not kept in"
    if inputs.head.shape[0] > MAX_VOCABULARY:
        return f"a vocabulary of {inputs.head.shape[0]}, above {MAX_VOCABULARY}"
    device = inputs.hidden.device
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < MIN_CAPABILITY:
            return f"compute capability {capability[0]}.{capability[1]}, below 8.0"
        return fault(device)
    return None if can_launch(device) else f"the device {device.type}, for which Triton has no compiler"


@cache
def fault(device: torch.device) -> str | None:
    """What is wrong with the Triton kernel on a device, tried once a process on three rows; None where nothing is.

    A compiler that is missing, or an architecture that Triton does not know, shows when the first kernel is compiled.
    """
    head = Head(torch.zeros(5, 1, device=device), None, 30.0, 1.0, torch.float32)
    label = torch.tensor([0, 3, 4], device=device)
    logits = torch.linspace(-40.0, 40.0, 15, device=device).view(3, 5)
    found = []
    for backend in ("chunked", "triton"):
        residual = logits.clone()
        try:
            found.append(torch.cat([turn(backend)(head, residual, label, True)[:, None], residual], 1))
        except Exception as error:  # of Triton, of a C compiler, of the driver
            return f"its kernel does not run: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    off = float((found[0] - found[1]).abs().max())
    return None if off <= 1e-5 else f"its kernel gives other numbers than the chunked ones, by {off:.1e}"


def turn(backend: str, shard: Shard | None = None) -> Callable[..., Any]:
    """`residual_` of the backend: logits of a chunk to losses and residuals."""
    if shard is not None:
        return partial(vocabulary.residual_, shard)
    if backend == "triton":
        from samplewise.losses.kernels.residual_triton import residual_
    else:
        from samplewise.losses.kernels.residual import residual_
    return residual_


def _triton() -> tuple[int, ...]:
    import triton  # pyright: ignore[reportMissingImports]

    return tuple(int(part) for part in re.findall(r"\d+", triton.__version__)[:2])


def can_launch(device: torch.device) -> bool:
    """Whether Triton's kernels run on tensors that lie there: CUDA's, or a CPU's under its interpreter."""
    return device.type == "cuda" or _interpreted()


def _interpreted() -> bool:
    from triton import knobs  # pyright: ignore[reportMissingImports]

    return bool(knobs.runtime.interpret)
