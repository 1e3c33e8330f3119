"""What the machine is: versions, the device, the dtypes it multiplies in."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from samplewise import __version__
from samplewise.core.errors import SamplewiseError
from samplewise.evidence.doctor.checks import Check

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "trl",
    "peft",
    "triton",
    "numpy",
    "liger-kernel",
    "cut-cross-entropy",
)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def device_of(name: str | None) -> torch.device:
    """The device by its name; the best there is without one.

    Errors: SamplewiseError where it is not there, or torch was built without it.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return torch.device(next(each for each, found in there.items() if found))
    if name.partition(":")[0] not in there:
        raise SamplewiseError("--device", expected="cpu, cuda or mps", got=repr(name), remedy="Name one of them.")
    if not there[name.partition(":")[0]]:
        built = f"torch {torch.__version__}, which sees none"
        raise SamplewiseError(
            "--device", expected=f"a {name} device", got=built,
            remedy="Install a torch built for it and its driver, or examine this machine with --device cpu.",
        )  # fmt: skip
    return torch.device(name)


def check_versions(device: torch.device) -> Check:
    """Python, samplewise and what it stands on; the device, its capability and memory."""
    found: dict[str, Any] = {"python": platform.python_version(), "samplewise": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["torch"] = torch.__version__  # with what it was built for
    text = ", ".join(f"{name} {value}" for name, value in found.items())
    return Check("versions", "info", text, {**found, "device": describe(device)})


def describe(device: torch.device) -> str:
    """The device in a few words."""
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        kind = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
        return f"{facts.name}, capability {facts.major}.{facts.minor}, {facts.total_memory / 2**30:.0f} GiB, {kind}"
    return f"{device.type}, {platform.machine()}, {torch.get_num_threads()} threads"


def multiplies_in(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a product of this dtype runs on the device at all."""
    try:
        one = torch.ones(8, 8, dtype=dtype, device=device)
        return float((one @ one)[0, 0]) == 8
    except (RuntimeError, TypeError):
        return False


def has_wide_products(device: torch.device) -> bool:
    """Whether products of bf16 come in fp32 (`out_dtype`), as the head's gradient would have them."""
    try:
        one = torch.ones(16, 16, dtype=torch.bfloat16, device=device)
        return torch.mm(one, one, out_dtype=torch.float32).dtype == torch.float32
    except (RuntimeError, TypeError, NotImplementedError):
        return False


def check_dtypes(device: torch.device) -> Check:
    """Which dtypes the device multiplies in, and whether 16-bit products can have fp32 results."""
    found = {str(dtype).removeprefix("torch."): multiplies_in(dtype, device) for dtype in DTYPES}
    found["fp32 results of bf16 products"] = has_wide_products(device)
    there = [name for name, runs in found.items() if runs]
    lacking = [name for name, runs in found.items() if not runs]
    text = f"{', '.join(there)}{'; not ' + ', '.join(lacking) if lacking else ''}"
    if lacking and "float64" in lacking:
        text += " (losses are summed in fp32 on the device, in fp64 on the CPU)"
    return Check("dtypes", "info", text, dict(found))
