"""Losses and gradients together, chunk by chunk, in the forward: three products of the head's size, no logits kept.

Shapes: P predicted positions, n samples, c rows of a chunk, V vocabulary, D hidden size. Gradients of hidden states and
head are formed while a chunk's softmax is at hand, and are not computed again in backward.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samplewise.kernels.gradients import HeadGradient
from samplewise.kernels.inputs import Factor, Inputs, check_factors
from samplewise.kernels.plan import Group, cut, group_samples, rows_per_chunk, widen
from samplewise.kernels.residual import Head, residual_
from samplewise.kernels.targets import Targets


@dataclass(frozen=True)
class Wanted:
    """Which gradients to form."""

    hidden: bool
    head: bool
    bias: bool

    def __bool__(self) -> bool:
        return self.hidden or self.head or self.bias


class Work:
    """One micro-batch on its way through the head: the buffers, and what has gathered so far."""

    def __init__(
        self, inputs: Inputs, targets: Targets, wanted: Wanted, dtype: torch.dtype, *, whole: bool = False
    ) -> None:
        wide = inputs.loss_dtype
        bias = None if inputs.bias is None else (inputs.bias.detach().to(wide) * inputs.scale).to(dtype)
        self.head = Head(inputs.head.detach().to(dtype), bias, inputs.softcap, inputs.scale, wide)
        self.source = inputs.hidden.detach().reshape(-1, inputs.hidden.shape[2])
        self.targets, self.wanted = targets, wanted
        self.rows = rows_per_chunk(inputs.chunk_bytes, len(self.head.weight), dtype, self.source.device)
        if whole and wanted.head and inputs.chunk_bytes is None:  # a budget that was given is kept
            buffer = self.head.weight.numel() * wide.itemsize
            self.rows = widen(self.rows, targets.tokens, len(self.head.weight) * dtype.itemsize, buffer)
        size = (min(self.rows, len(targets)), len(self.head.weight))
        self.logits = torch.empty(size, dtype=dtype, device=self.source.device)
        self.token_loss = torch.zeros(len(targets), dtype=wide, device=self.source.device)
        self.hidden = torch.zeros_like(self.source, dtype=wide) if wanted.hidden else None
        self.gradient = self.new_gradient()

    def new_gradient(self) -> HeadGradient:
        """An empty gradient of the head."""
        return HeadGradient(self.head, self.wanted.head, self.wanted.bias)

    def score(self, start: int, end: int, gradient: bool) -> tuple[Tensor, Tensor]:
        """Token losses of positions start..end-1; returns (residual [c, V], hidden·scale [c, D], not yet rounded)."""
        hidden = self.source[self.targets.position[start:end]]
        if self.head.scale != 1:
            hidden = hidden.to(self.head.wide) * self.head.scale
        rounded, label = hidden.to(self.head.weight.dtype), self.targets.label[start:end]
        logits = self.head.logits(rounded, out=self.logits[: end - start])
        self.token_loss[start:end] = residual_(self.head, rounded, logits, label, gradient)
        return logits, hidden

    def spread(self, start: int, end: int, chunk: tuple[Tensor, Tensor], weight: Tensor, into: HeadGradient) -> None:
        """Add the gradients of positions start..end-1 of which each token weighs weight [c] in the objective.

        A position of weight 0 is absent: 0·inf would poison the whole head.
        """
        residual, hidden = chunk
        absent = weight == 0
        if bool(absent.any()):
            if bool(absent.all()):
                return
            residual[absent], hidden[absent] = 0, 0
        if self.hidden is not None:
            rows = torch.mm(residual, self.head.weight).to(self.head.wide)
            rows.mul_((weight * (self.head.scale / self.head.gain))[:, None])
            self.hidden[self.targets.position[start:end]] = rows
        if self.wanted.head or self.wanted.bias:
            into.add(residual, hidden, weight)


def known(work: Work, factors: Tensor | None) -> None:
    """All factors [n] are there beforehand: chunks need not end where samples end. None: losses only."""
    targets = work.targets
    weight = None if factors is None else targets.shares(factors.to(work.head.wide))
    trained = 0 if weight is None else int((weight != 0).sum())
    if weight is not None and trained < len(
        targets
    ):  # those of factor 0 last, in chunks of one product instead of three
        order = (weight == 0).to(torch.int8).argsort(stable=True)
        work.targets, weight = targets.reorder(order), weight[order]
    for start, end in cut(0, trained, work.rows):
        assert weight is not None
        work.spread(start, end, work.score(start, end, True), weight[start:end], work.gradient)
    for start, end in cut(trained, len(targets), work.rows):
        work.score(start, end, False)


def asked(work: Work, factor: Factor) -> Tensor:
    """Factors [n] come from the losses of complete samples, group by group."""
    used = torch.zeros_like(work.targets.tokens, dtype=work.head.wide)
    for group in group_samples(work.targets.tokens.tolist(), work.rows):
        if len(group.spans) == 1:
            (start, end) = group.spans[0]
            chunk = work.score(start, end, bool(work.wanted))
            weight = _ask(work, group, factor, used)
            if work.wanted:
                work.spread(start, end, chunk, weight, work.gradient)
        else:
            _long_sample(work, group, factor, used)
    return used


def _ask(work: Work, group: Group, factor: Factor, used: Tensor) -> Tensor:
    """Ask for a group's factors, note them in `used`; returns what each of its tokens weighs, [c]."""
    start, end = group.spans[0][0], group.spans[-1][1]
    index = torch.arange(group.first, group.stop, device=used.device)
    index = index[work.targets.tokens[index] > 0]
    loss, tokens = work.targets.means(work.token_loss, start, end)[index], work.targets.tokens[index]
    used[index] = check_factors(factor(loss, tokens, index), tuple(loss.shape), loss).to(used)
    return work.targets.shares(used, start, end)


def _long_sample(work: Work, group: Group, factor: Factor, used: Tensor) -> None:
    """A sample of several chunks: its factor is known after the last, so its gradient gathers with factor 1 until then.

    In the micro-batch's own buffer while that is empty (one long row is the normal case), else in a second one of the
    head's size. Measured on 4 rows of 1,024 in chunks of 512, V 49,152, D 576, bf16, CPU time to known factors:
    second buffer 1.03, scoring such samples first 1.32.
    """
    first = work.gradient.empty
    into = work.gradient if first or not work.wanted else work.new_gradient()
    unit = torch.ones_like(used)
    for start, end in group.spans:
        chunk = work.score(start, end, bool(work.wanted))
        if work.wanted:
            work.spread(start, end, chunk, work.targets.shares(unit, start, end), into)
    start, end = group.spans[0][0], group.spans[-1][1]
    _ask(work, group, factor, used)
    u = float(used[work.targets.sample[start]])
    if work.hidden is not None:
        position = work.targets.position[start:end]
        work.hidden[position] = work.hidden[position] * u if u else 0.0
    into.scale_(u) if first else work.gradient.merge(into, u)
