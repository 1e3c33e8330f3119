"""Do the two forms of a rule agree? One pass trains with `factor`, and its figures and state are those of `apply`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host, wide
from samplewise.core.rule import Rule

FP64_TOLERANCE, FP32_TOLERANCE = 1e-6, 1e-4
"""Relative differences allowed: of rules that compute in fp64, and in fp32."""
NEGLIGIBLE_SHARE = 1e-12
"""Of the largest coefficient: below it a sample adds nothing to the gradient, and exponentials underflow."""


def is_fp32(values: Tensor) -> Tensor:
    """[] whether numbers were computed in fp32, whatever their type is now. Zeros and halves are exact in any.

    On the device of the numbers: a caller that needs it once a step need not wait for every micro-batch.
    """
    if values.dtype != torch.float64:
        return torch.ones((), dtype=torch.bool, device=values.device)
    return all_fit(values, torch.float32) & ~all_fit(values, torch.bfloat16)


def all_fit(values: Tensor, dtype: torch.dtype) -> Tensor:
    """[] whether a narrower type holds them without rounding."""
    return (values == values.to(dtype).double()).all()


def check_agreement(
    rule: Rule, by_factor: Tensor, by_apply: Tensor, ids: Tensor, *, coarse: bool, raw: Callable[[], Tensor]
) -> None:
    """Compare what each sample loss of a step is multiplied by, from both forms.

    by_factor, by_apply: [N] coefficients, both divided as the rule's norm says. coarse: whether factors are fp32's.
    raw: what `apply` said; asked only where the rounding of fp32 would explain a difference.
    Cost: N floats a step.
    Errors: SamplewiseError naming the samples that differ most. All ranks see the same numbers, so that all of them
    raise, before the optimizer moves.
    """
    one, other = wide(by_factor), wide(by_apply)
    size = np.maximum(np.abs(one), np.abs(other))
    off = np.abs(one - other) / np.maximum(size, NEGLIGIBLE_SHARE * size.max())
    most = float(off.max())
    if most <= FP64_TOLERANCE:
        return
    allowed = FP32_TOLERANCE if coarse or (most <= FP32_TOLERANCE and bool(host(is_fp32(raw())))) else FP64_TOLERANCE
    if most <= allowed:
        return
    worst = torch.from_numpy((-off).argsort(kind="stable")[:3].copy())
    raise SamplewiseError(
        "rule", expected=f"factor and apply to agree within {allowed:g}",
        got=f"coefficients {by_factor[worst].tolist()} by factor and {by_apply[worst].tolist()} by apply for ids "
        f"{ids[worst].tolist()} from {rule}",
        remedy="Fix one of them, or leave factor out: the rule then runs in two passes.",
    )  # fmt: skip
