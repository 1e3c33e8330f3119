"""Each backend alone, on random hidden states and heads, against fp64 on the host: which part of a step is wrong?

Shapes: n rows and samples, T positions, D hidden size, V vocabulary. V is no multiple of any block, and in one case
above the most logits that the Triton kernel holds at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.evidence.doctor.checks import Check, judge
from samplewise.losses.kernels import Backend, objective
from samplewise.losses.kernels.backends import obstacle
from samplewise.losses.kernels.inputs import Inputs

ROWS, LENGTH, SIZE = 6, 20, 64
VOCABULARIES, SOFTCAPS = (1031, 8209), (None, 30.0)
FP32_LIMIT, TIMES = 5e-6, 1.5


@dataclass(frozen=True)
class Problem:
    """hidden [n, T, D] and head [V, D] in one dtype, labels [n, T], factors [n] of which one is 0."""

    hidden: Tensor
    head: Tensor
    labels: Tensor
    factors: Tensor
    softcap: float | None

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Problem:
        """The same numbers in another dtype and place."""
        wide = self.factors.to(device, torch.promote_types(dtype, torch.float32))
        return replace(
            self, hidden=self.hidden.to(device, dtype), head=self.head.to(device, dtype),
            labels=self.labels.to(device), factors=wide,
        )  # fmt: skip


def problem(vocabulary: int, softcap: float | None) -> Problem:
    """Random, of numbers that bf16 holds; part of the labels are -100."""
    draw = torch.Generator().manual_seed(vocabulary)
    hidden, head = torch.randn(ROWS, LENGTH, SIZE, generator=draw), torch.randn(vocabulary, SIZE, generator=draw)
    labels = torch.randint(vocabulary, (ROWS, LENGTH), generator=draw)
    labels[1, : LENGTH // 2] = -100
    factors = torch.rand(ROWS, generator=draw) + 0.5
    factors[0] = 0
    return Problem(hidden.bfloat16().float(), (head * 0.3).bfloat16().float(), labels, factors, softcap)


def by_logits(given: Problem) -> list[Tensor]:
    """[losses, gradient of hidden, gradient of head] by autograd: logits in the inputs' dtype, losses from fp32 up."""
    hidden, head = given.hidden.clone().requires_grad_(), given.head.clone().requires_grad_()
    logits = F.linear(hidden, head)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logits = logits if given.softcap is None else given.softcap * torch.tanh(logits / given.softcap)
    target = given.labels[:, 1:]
    token = F.cross_entropy(logits[:, :-1].transpose(1, 2), target, reduction="none")
    loss = token.sum(1) / (target != -100).sum(1)
    (given.factors * loss).sum().backward()
    return _found(loss, hidden, head)


def by_backend(given: Problem, backend: Backend, asked: bool) -> list[Tensor]:
    """The same by a backend. asked: factors come from a function, as in one pass, and not from a tensor."""
    hidden, head = given.hidden.clone().requires_grad_(), given.head.clone().requires_grad_()
    factors = (lambda loss, tokens, index: given.factors[index]) if asked else given.factors
    budget = 37 * len(head) * head.dtype.itemsize
    out = objective(
        hidden, head, given.labels, factors, softcap=given.softcap, backend=backend, chunk_bytes=budget
    )  # fmt: skip
    out.value.backward()
    return _found(out.loss, hidden, head)


def check_kernels(device: torch.device, dtypes: list[torch.dtype]) -> Iterator[Check]:
    """A check for each backend and dtype: the largest relative distance over all cases."""
    for backend in ("chunked", "triton"):
        for dtype in dtypes:
            name = f"kernel {backend}, {str(dtype).removeprefix('torch.')}"
            probe = problem(VOCABULARIES[0], None).to(dtype, device)
            why = obstacle(Inputs(probe.hidden, probe.head, probe.labels)) if backend == "triton" else None
            if why is not None:
                yield Check(name, "not checked", f"{why}; the chunked kernels are used, as exact", judged=False)
                continue
            if backend == "triton" and device.type == "cpu" and dtype == torch.bfloat16:
                yield Check(name, "not checked", "Triton's interpreter cuts bf16 off, where a GPU rounds", judged=False)
                continue
            yield _checked(name, backend, dtype, device)


def _checked(name: str, backend: Backend, dtype: torch.dtype, device: torch.device) -> Check:
    worst, limit = 0.0, FP32_LIMIT
    try:
        for given in [problem(vocabulary, cap) for vocabulary in VOCABULARIES for cap in SOFTCAPS]:
            right = by_logits(given.to(torch.float64, "cpu"))
            plain = _distance(by_logits(given.to(dtype, device)), right)
            for asked in (False, True):
                off = _distance(by_backend(given.to(dtype, device), backend, asked), right)
                allowed = max(FP32_LIMIT, TIMES * plain)
                worst, limit = max((worst, limit), (off, allowed), key=lambda pair: _ratio(*pair))
    except SamplewiseError as error:
        return Check(name, "fail", str(error))
    return judge(name, worst, limit, f"losses and gradients off by {worst:.1e}, allowed {limit:.1e}")


def _ratio(off: float, allowed: float) -> float:
    return off / allowed if off == off else float("inf")


def _found(loss: Tensor, hidden: Tensor, head: Tensor) -> list[Tensor]:
    assert hidden.grad is not None
    assert head.grad is not None
    return [each.detach().cpu().double() for each in (loss, hidden.grad, head.grad)]


def _distance(found: list[Tensor], right: list[Tensor]) -> float:
    """The largest of the relative Euclidean distances; NaN if any is."""
    off = [float((mine - theirs).norm() / theirs.norm()) for mine, theirs in zip(found, right, strict=True)]
    return float("nan") if any(each != each for each in off) else max(off)
