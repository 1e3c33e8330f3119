"""Losses and gradients together, chunk by chunk, in the forward: three products of the head's size, no logits kept.

Shapes: P predicted positions, n samples, c rows of a chunk, V vocabulary, D hidden size. Gradients of hidden states and
head are formed while a chunk's softmax is at hand, and are not computed again in backward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samplewise.core.distributed import reduce_
from samplewise.core.host import host, is_on_host, on_device, positions
from samplewise.losses.kernels import products
from samplewise.losses.kernels.backends import turn
from samplewise.losses.kernels.gradients import HeadGradient
from samplewise.losses.kernels.inputs import Factor, Inputs, wide_factors
from samplewise.losses.kernels.plan import Group, cut, group_samples, rows_per_chunk, widen
from samplewise.losses.kernels.residual import Head, block_bytes
from samplewise.losses.kernels.selection import apply_selection, reweighed
from samplewise.losses.kernels.targets import Targets

Where = slice | Tensor
"""Which of the P positions, [c] of them: a slice, or their numbers."""


ALMOST_ALL = 0.9
"""Of a chunk's rows: where more are kept, to move them to the front costs more than to multiply the others by 0."""


@dataclass(frozen=True)
class Wanted:
    """Which gradients a pass through the head must form."""

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
        self.inputs, self.targets, self.wanted = inputs, targets, wanted
        width = len(self.head.weight) if inputs.shard is None else inputs.shard.widest  # alike on all ranks
        self.rows = rows_per_chunk(inputs.chunk_bytes, width, dtype, self.source.device)
        if whole and wanted.head and inputs.chunk_bytes is None:  # a budget that was given is kept
            buffer = width * self.source.shape[1] * wide.itemsize
            self.rows = widen(self.rows, targets.counts.tolist(), width * dtype.itemsize, buffer)
        size = (min(self.rows, len(targets)), len(self.head.weight))
        self.logits = torch.empty(size, dtype=dtype, device=self.source.device)
        self.token_loss = torch.zeros(len(targets), dtype=wide, device=self.source.device)
        self.scale = torch.ones_like(self.token_loss) if inputs.reweighs else None
        self.tally = None if inputs.tally is None else self.token_loss.new_zeros(2, len(targets))
        self.hidden = torch.zeros_like(self.source, dtype=self._hidden_dtype()) if wanted.hidden else None
        self.gradient = self.new_gradient()
        self.turn = turn(inputs.backend, inputs.shard)
        self.clean = whole  # factors that are known leave rows out beforehand

    def _hidden_dtype(self) -> torch.dtype:
        """What the hidden states' gradient waits in for its upstream scalar.

        bf16 has the range of fp32: no copy twice as large. fp16 has not, and ranks' parts are summed first.
        """
        narrow = self.source.dtype == torch.bfloat16 and self.inputs.shard is None
        return self.source.dtype if narrow else self.head.wide

    def new_gradient(self) -> HeadGradient:
        """An empty gradient of the head."""
        return HeadGradient(self.head, self.wanted.head, self.wanted.bias)

    def score(self, where: Where, gradient: bool) -> tuple[Tensor, Tensor]:
        """Token losses of positions `where`; returns (residual [c, V], hidden·scale [c, D], not yet rounded)."""
        hidden, bad = self._cleaned(self.source[self.targets.position[where]])
        if self.head.scale != 1:
            hidden = hidden.to(self.head.wide) * self.head.scale
        rounded, label = hidden.to(self.head.weight.dtype), self.targets.label[where]
        logits = self.head.logits(rounded, out=self.logits[: len(hidden)])
        own = None if self.tally is None else self.tally.new_empty(2, len(label))
        overflows = self.clean and self.head.weight.dtype == torch.float16  # of finite hidden states: there alone
        loss = self.turn(self.head, logits, label, gradient, own, overflows)
        self.token_loss[where] = loss if bad is None else loss.masked_fill(bad, torch.nan)
        if self.scale is not None:
            self.scale[where] = reweighed(self.inputs, self.targets, self.token_loss, where)
        if self.tally is not None and own is not None:
            self.tally[:, where] = own
        return logits, hidden

    def _cleaned(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """Hidden states [c, D], those that are not finite as 0, so that residuals are finite; and which were not.

        A pass over D columns, where cleaning the residual takes one over V.
        """
        if not self.clean:
            return hidden, None
        bad = ~hidden.isfinite().all(1)
        return hidden.masked_fill(bad[:, None], 0.0), bad

    def finish(self) -> None:
        """Add the entropy and correctness of the pass to the caller's tally, if there is one; sum what ranks share."""
        if self.inputs.shard is not None and self.hidden is not None:
            reduce_(self.hidden, "sum", self.inputs.shard.group)
        if self.inputs.tally is not None and self.tally is not None:
            self.inputs.tally.add(self.tally)

    def means(self) -> Tensor:
        """[n] the losses of the samples, once every position was scored."""
        return self.targets.means(self.token_loss)

    def objective(self, used: Tensor, loss: Tensor) -> Tensor:
        """[] Σ u_i L_i of factors [n] and losses [n]; where tokens are weighed again, of their Σ m_t ℓ_t / n_i."""
        if self.scale is not None:
            loss = self.targets.means(torch.where(self.scale == 0, 0, self.scale * self.token_loss))
        return torch.where(used == 0, 0, used * loss).sum()

    def unusable(self) -> Tensor | float:
        """[n] 0, NaN where a sample's tokens are weighed again by what is no number; it joins the factors.

        On a device alone: the host has looked.
        """
        if self.scale is None or is_on_host(self.scale):
            return 0.0
        return 0 * self.targets.summed(self.scale)

    def shares(self, values: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """[c] what each token of positions start..end-1 has in the objective of its sample's value, of values [n]."""
        share = self.targets.shares(values, start, end)
        return share if self.scale is None else share * self.scale[start:end]

    def weights(self, factors: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """[c] what each token of positions start..end-1 weighs under the factors [n]; NaN if its loss is not finite."""
        weight = self.shares(factors, start, end)
        finite = self.token_loss[start:end].isfinite() | (weight == 0)
        return torch.where(finite, weight, torch.nan)

    def spread(self, where: Where, chunk: tuple[Tensor, Tensor], weight: Tensor, into: HeadGradient) -> None:
        """Add the gradients of positions `where`, of which each token weighs weight [c] in the objective.

        A position of weight 0 is absent: 0·inf would poison the whole head. So a token whose loss is not finite has
        residual and hidden state 0, and `weights` says NaN of it unless it is absent. Where factors are known, no
        absent position comes here. What a selection leaves out costs one product where the host can see it, three on
        a device, which it would have to wait for.
        """
        (residual, hidden), position = chunk, self.targets.position[where]
        kept = positions(weight != 0) if self.inputs.selects and is_on_host(weight) else None
        if kept is None or len(kept) > ALMOST_ALL * len(weight):
            absent = (weight == 0) | ~self.token_loss[where].isfinite()
            hidden = hidden.masked_fill(absent[:, None], 0.0)
        else:  # two products of the rest alone are cheaper
            if not len(kept):
                return
            residual, hidden = to_front_(residual, kept), hidden[kept]
            weight, position = weight[kept], position[kept]
        if self.hidden is not None:
            rows = self._product(residual)
            rows.mul_((weight * (self.head.scale / self.head.gain))[:, None])
            self.hidden[position] = rows.to(self.hidden.dtype)
        if self.wanted.head or self.wanted.bias:
            into.add(residual, hidden, weight)

    def _product(self, residual: Tensor) -> Tensor:
        """[c, D] the product residual·head, in a wide dtype."""
        if products.has_wide(residual):
            return products.wide(residual, self.head.weight)
        return torch.mm(residual, self.head.weight).to(self.head.wide)


def to_front_(rows: Tensor, index: Tensor) -> Tensor:
    """The rows at `index` (ascending) moved to the front, a block at a time: no copy of their size."""
    step = max(1, block_bytes(rows.device) // (rows.shape[1] * rows.dtype.itemsize))
    for i, block in enumerate(index.split(step)):
        rows[i * step : i * step + len(block)] = rows[block]
    return rows[: len(index)]


def known(work: Work, factors: Tensor | None) -> Tensor:
    """All factors [n] are there beforehand: chunks need not end where samples end. None: losses only.

    Returns those used, 0 where a sample has no token. Factors that lie on the host are read there, without a wait.
    """
    targets, device = work.targets, work.token_loss.device
    if factors is None or not work.wanted:
        for start, end in cut(0, len(targets), work.rows):
            work.score(slice(start, end), False)
        return torch.zeros_like(targets.tokens, dtype=work.head.wide) if factors is None else _used(work, factors)
    used = _used(work, factors)
    there = np.repeat(factors.detach().cpu().numpy() != 0, targets.counts)
    trained, order = int(there.sum()), None
    if trained < len(targets):  # those of factor 0 last, in chunks of one product instead of three
        order = on_device((~there).argsort(kind="stable"), device)
        work.targets = targets.reorder(order)
    for start, end in cut(0, trained, work.rows):
        where = slice(start, end)
        chunk = work.score(where, True)
        work.spread(where, chunk, work.weights(used, start, end), work.gradient)
    for start, end in cut(trained, len(targets), work.rows):
        work.score(slice(start, end), False)
    if order is not None:
        work.targets = targets
        work.token_loss = torch.zeros_like(work.token_loss).index_copy_(0, order, work.token_loss)
        work.scale = None if work.scale is None else torch.zeros_like(work.scale).index_copy_(0, order, work.scale)
    return used


def _used(work: Work, factors: Tensor) -> Tensor:
    """[n] on the device; factors that are wider than its floats are rounded on the host."""
    factors = factors.to(work.head.wide).to(work.token_loss.device, non_blocking=True)
    return torch.where(work.targets.tokens > 0, factors, 0)


def asked(work: Work, factor: Factor) -> Tensor:
    """Factors [n] come from the losses of complete samples, group by group."""
    used = torch.zeros_like(work.targets.tokens, dtype=work.head.wide)
    for group in group_samples(work.targets.counts.tolist(), work.rows):
        if len(group.spans) == 1:
            where = slice(*group.spans[0])
            chunk = work.score(where, bool(work.wanted))
            weight = _ask(work, group, factor, used)
            if work.wanted:
                work.spread(where, chunk, weight, work.gradient)
        elif work.inputs.pointwise:
            _long_sample(work, group, factor, used)
        else:
            _long_selection(work, group, factor, used)
    return used


def _ask(work: Work, group: Group, factor: Factor, used: Tensor, selected: bool = False) -> Tensor:
    """Ask for a group's token weights and factors, note them; returns what each of its tokens weighs, [c].

    selected: the token weights are there. Whether a factor is NaN is looked at once, by the caller.
    """
    start, end = group.spans[0][0], group.spans[-1][1]
    if work.inputs.selects and not selected:
        work.targets = apply_selection(work.inputs, work.targets, work.token_loss, start, end)
    there = work.targets.counts[group.first : group.stop].nonzero()[0]
    if work.inputs.selects and is_on_host(work.token_loss):
        there = there[host(work.targets.tokens)[there + group.first] > 0]
    index = on_device(there + group.first, work.token_loss.device)
    loss = work.targets.means(work.token_loss, group.first, group.stop)[index - group.first]
    tokens = work.targets.tokens[index]
    found = wide_factors(factor(loss, tokens, index), tuple(index.shape), loss.device)
    used[index] = torch.where(tokens > 0, found.to(used), 0)  # a selection may have left a sample nothing
    return work.weights(used, start, end)


def _long_sample(work: Work, group: Group, factor: Factor, used: Tensor) -> None:
    """A sample of several chunks: its factor is known after the last, so its gradient gathers with factor 1 until then.

    In the micro-batch's own buffer while that is empty (one long row is the normal case), else in a second one of the
    head's size. Measured on 4 rows of 1,024 in chunks of 512, V 49,152, D 576, bf16, CPU time to known factors:
    second buffer 1.03, scoring such samples first 1.32.
    """
    first = work.gradient.empty
    into = work.gradient if first or not work.wanted else work.new_gradient()
    for start, end in group.spans:
        chunk = work.score(slice(start, end), bool(work.wanted))
        if work.wanted:
            work.spread(slice(start, end), chunk, _units(work, start, end), into)
        elif work.inputs.selects:
            _units(work, start, end)
    start, end = group.spans[0][0], group.spans[-1][1]
    weight = _ask(work, group, factor, used, selected=True)
    u = used[group.stop - 1] + 0 * weight.sum()  # NaN where a loss is not finite and the sample counts
    if work.inputs.selects:
        u = u / work.targets.divisor[group.stop - 1].to(u)
    if work.hidden is not None:
        work.hidden[work.targets.position[start:end]] *= u
    if first:
        into.scale_(u)
    elif not into.empty:  # else no token of it was kept
        work.gradient.merge(into, u)


def _units(work: Work, start: int, end: int) -> Tensor:
    """[c] what each of a long sample's positions start..end-1 has in the objective if its factor is 1.

    Where tokens are selected, before the division by Σ m, which is known after the last.
    """
    if not work.inputs.selects:
        return work.shares(torch.ones_like(work.targets.tokens, dtype=work.head.wide), start, end)
    work.targets = apply_selection(work.inputs, work.targets, work.token_loss, start, end)
    assert work.targets.weight is not None
    return work.targets.weight[start:end].to(work.head.wide)


def _long_selection(work: Work, group: Group, factor: Factor, used: Tensor) -> None:
    """A sample of several chunks whose tokens are selected: scored first, then what is kept of it, with gradients.

    1 + 3·kept products of the head's size instead of 1 + 2·kept: no chunk knows what is kept before the last is scored.
    """
    for span in group.spans:
        work.score(slice(*span), False)
    weight, start = _ask(work, group, factor, used), group.spans[0][0]
    kept = positions(weight != 0) if is_on_host(weight) else torch.arange(len(weight), device=weight.device)
    for i, j in cut(0, len(kept) if work.wanted else 0, work.rows):
        where = kept[i:j] + start
        work.spread(where, work.score(where, True), weight[kept[i:j]], work.gradient)
