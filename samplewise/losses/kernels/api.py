"""The functions of this package, with one signature for all backends."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import positions
from samplewise.losses.kernels import autograd, liger_backend, torch_backend
from samplewise.losses.kernels import reference as oracle
from samplewise.losses.kernels.backends import Backend, resolve
from samplewise.losses.kernels.inputs import Factor, Inputs, Select, check_factors, wide_factors
from samplewise.losses.kernels.inputs import refuse_nan as refuse
from samplewise.losses.kernels.selection import apply_selection, selected_inputs
from samplewise.losses.kernels.tally import Tally
from samplewise.losses.kernels.targets import Targets, find_targets
from samplewise.losses.kernels.vocabulary import Shard

OURS = ("chunked", "triton")


class Objective(NamedTuple):
    """What `objective` returns.

    value: [] Σ u_i L_i, differentiable.
    loss: [n] nats/token. tokens: [n] int64. factors: [n], the u_i used, 0 for samples without a predicted token.
    mass: [n] Σ m_t, fp64; without token weights it is tokens.
    """

    value: Tensor
    loss: Tensor
    tokens: Tensor
    factors: Tensor
    mass: Tensor


class Scores(NamedTuple):
    """What `score` returns.

    loss: [n] nats/token. tokens: [n] int64. mass: [n] Σ m_t, fp64; without token weights it is tokens.
    token_loss: [B, T] nats, a constant, aligned with labels, 0 where nothing is predicted; None where not asked for.
    """

    loss: Tensor
    tokens: Tensor
    mass: Tensor
    token_loss: Tensor | None


def sample_losses(
    hidden: Tensor, head: Tensor, labels: Tensor, *, bias: Tensor | None = None, segments: Tensor | None = None,
    token_weights: Tensor | None = None, softcap: float | None = None, scale: float = 1.0, shifted: bool = False,
    backend: Backend = "auto", differentiable: bool = False, chunk_bytes: int | None = None,
    shard: Shard | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The loss of every sample, and its number of predicted tokens, without logits.

    hidden [B, T, D]: last hidden states. head [V, D], bias [V]: the output embedding.
    labels [B, T]: unshifted, position t predicts labels[t + 1]; -100 is not predicted. `shifted`: t predicts labels[t].
    segments [B, T]: each position's sample, 0..n-1 over the whole micro-batch, -1 for none. Without it, a row is a
        sample. The target at a segment's first position is never predicted.
    token_weights [B, T]: 0 or more, aligned with labels: what the prediction of labels[b, t] counts within its sample,
        whose loss is Σ m_t ℓ_t / Σ m_t (`losses.token_mass`). A target of weight 0 is one of label -100.
    softcap, scale: logits are softcap·tanh((hidden·headᵀ + bias)·scale / softcap).
    backend: "chunked" (ours), "triton" (the same with one kernel a chunk), "torch" (torch core, from 2.13 on; no
        softcap; products in fp32), "liger" (Liger 0.8.2 and newer, on CUDA; no softcap), "reference" (holds the
        logits); "auto" is "triton" on a CUDA device that has it, else "chunked".
    differentiable: allow a gradient of any function of the losses; chunks are computed again in backward.
        Otherwise a backward that reaches the losses raises; take loss.detach() for numbers.
    shard: of a head that is split over ranks by its vocabulary, which rows `head` and `bias` are ("auto", "chunked").
    chunk_bytes: budget of one chunk's logits; None: 512 rows or 96 MiB on a CPU, 4,096 or 1 GiB elsewhere, 128 or more.

    Returns (loss [n], nats/token, at least fp32; tokens [n], int64). A sample without a predicted token has loss 0
    and 0 tokens. Losses that are not finite are returned as they are. Raises SamplewiseError on shapes that do not
    fit, labels outside the vocabulary, and no predicted token at all.

    >>> loss, tokens = sample_losses(torch.zeros(1, 3, 4), torch.zeros(8, 4), torch.tensor([[0, 1, -100]]))
    >>> loss, tokens  # ln 8
    (tensor([2.0794]), tensor([1]))
    """
    inputs = Inputs(
        hidden, head, labels, bias=bias, segments=segments, token_weights=token_weights, softcap=softcap, scale=scale,
        shifted=shifted, chunk_bytes=chunk_bytes, shard=shard,
    )  # fmt: skip
    scores = _score(inputs, backend, differentiable, False)
    return scores.loss, scores.tokens


def score(
    hidden: Tensor, head: Tensor, labels: Tensor, *, bias: Tensor | None = None, segments: Tensor | None = None,
    token_weights: Tensor | None = None, softcap: float | None = None, scale: float = 1.0, shifted: bool = False,
    backend: Backend = "auto", differentiable: bool = False, chunk_bytes: int | None = None,
    token_losses: bool = False, tally: Tally | None = None, shard: Shard | None = None,
) -> Scores:  # fmt: skip
    """`sample_losses` and what else the pass knows: Scores(loss, tokens, mass, token_loss); the arguments are those.

    token_losses: return them too, [B, T]; they cost nothing more. tally: is filled.

    >>> weights = torch.tensor([[1.0, 0.5, 0.25]])
    >>> score(torch.zeros(1, 3, 4), torch.zeros(8, 4), torch.tensor([[0, 1, 2]]), token_weights=weights).mass
    tensor([0.7500], dtype=torch.float64)
    """
    inputs = Inputs(
        hidden, head, labels, bias=bias, segments=segments, token_weights=token_weights, softcap=softcap, scale=scale,
        shifted=shifted, chunk_bytes=chunk_bytes, tally=tally, shard=shard,
    )  # fmt: skip
    return _score(inputs, backend, differentiable, token_losses)


def objective(
    hidden: Tensor, head: Tensor, labels: Tensor, factors: Tensor | Factor, *, bias: Tensor | None = None,
    segments: Tensor | None = None, token_weights: Tensor | None = None, softcap: float | None = None,
    scale: float = 1.0, shifted: bool = False, backend: Backend = "auto", chunk_bytes: int | None = None,
    select: Select | None = None, reference: Tensor | None = None, tally: Tally | None = None, refuse_nan: bool = True,
    shard: Shard | None = None,
) -> Objective:  # fmt: skip
    """Σ u_i L_i over the samples of a micro-batch, its gradient formed in the forward, without logits.

    factors: the u_i, [n], of any sign; or a function `factor(loss [k], tokens [k], index [k]) -> [k]`, called with
        complete samples that have at least one predicted token, possibly several times a micro-batch; index numbers
        them within it. u is a constant to autograd.
    select: `select(loss [c], reference [c], sample [c]) -> [c]` token weights, called with the losses of all predicted
        tokens of complete samples, before the sample losses and factors that follow from them (`TokenRule`);
        they multiply `token_weights`. A TokenRule of norm "count" leaves losses and factors as they are, is called with
        any tokens, and L_i is Σ m_t ℓ_t / n_i in the objective, in as many products as without it.
    reference: [B, T] token losses of another model, aligned with labels; select gets those of its tokens, or None.
    tally: is filled with the predicted tokens' entropy and correctness ("chunked" and "triton" only).
    refuse_nan: look at the factors that a function gives, which waits for the device; False where the caller looks at
        those that are returned, such as once a step. The other arguments are those of `sample_losses`.

    Costs three products of the head's size (two with a frozen head or frozen body, one under no_grad) and, unless the
    head is frozen, one buffer of its size in fp32; samples of factor 0 known beforehand cost one product only. With a
    function for factors, a sample longer than the chunk beside others takes a second such buffer, or a larger chunk
    where that is less and `chunk_bytes` is not given. With `select`, tokens of weight 0 cost one product instead of
    three; a sample longer than the chunk is scored first, so its kept tokens cost one more, and no second buffer.
    "torch", "liger" and "reference" score everything first.
    Under autocast a copy of the head in its dtype, as F.linear makes.
    Returns Objective(value, loss, tokens, factors, mass). A backward that reaches `loss` raises: take loss.detach().
    Raises SamplewiseError as `sample_losses` does, and on factors that are NaN where the loss is finite.

    >>> hidden, head = torch.zeros(2, 3, 4, requires_grad=True), torch.zeros(8, 4)
    >>> labels = torch.tensor([[0, 1, 2], [0, 1, -100]])
    >>> out = objective(hidden, head, labels, lambda loss, tokens, index: torch.exp(loss / 2))
    >>> out.value.backward()
    >>> out.factors
    tensor([2.8284, 2.8284])
    """
    inputs = Inputs(
        hidden, head, labels, bias=bias, segments=segments, token_weights=token_weights, softcap=softcap, scale=scale,
        shifted=shifted, chunk_bytes=chunk_bytes, select=select, reference=reference, tally=tally,
        refuse_nan=refuse_nan, shard=shard,
    )  # fmt: skip
    inputs, targets = _enter(inputs, backend)
    if not callable(factors):
        factors = check_factors(factors, tuple(targets.tokens.shape))
    if inputs.backend in OURS:
        value, loss, used, tokens, mass = autograd.objective(inputs, targets, factors)
        loss = autograd.refuse_gradient(loss) if inputs.wants_gradient else loss
        return Objective(value, loss, tokens, used, mass)
    graph, loss, targets = _by_autograd(inputs, targets)
    used = _factors(inputs, loss, targets.tokens, factors)
    value = torch.where(used == 0, 0, used * graph).sum()
    loss = autograd.refuse_gradient(loss) if inputs.wants_gradient else loss
    return Objective(value, loss, targets.tokens, used, targets.mass)


def _enter(inputs: Inputs, backend: str) -> tuple[Inputs, Targets]:
    inputs.check()
    inputs = replace(inputs, backend=resolve(backend, inputs))
    if inputs.tally is not None and inputs.backend not in OURS:
        raise SamplewiseError(
            "tally", expected='backend="chunked" or "triton"', got=repr(backend),
            remedy='Use backend="auto": the others see no probabilities.',
        )  # fmt: skip
    return inputs, find_targets(
        inputs.labels, inputs.segments, inputs.shifted, inputs.vocabulary, inputs.token_weights,
        device=inputs.hidden.device,
    )  # fmt: skip


def _score(inputs: Inputs, backend: Backend, differentiable: bool, token_losses: bool) -> Scores:
    inputs, targets = _enter(inputs, backend)
    if differentiable:
        loss, token = _differentiable(inputs, targets)
    else:
        loss, token = _constant(inputs, targets)
        loss = autograd.refuse_gradient(loss) if inputs.wants_gradient else loss
    placed = targets.placed(token, inputs.labels) if token_losses else None
    return Scores(loss, targets.tokens, targets.mass, placed)


def _by_autograd(inputs: Inputs, targets: Targets) -> tuple[Tensor, Tensor, Targets]:
    """([n] losses as they stand in the objective, with a graph; [n] losses that factors follow from; what counts)."""
    if inputs.select is None:
        graph, _ = _differentiable(inputs, targets)
        return graph, graph.detach(), targets
    plain, token = _constant(inputs, targets)
    chosen = apply_selection(inputs, targets, token, 0, len(targets))
    graph, _ = _differentiable(selected_inputs(inputs, chosen), chosen.present())
    if inputs.selects:
        return graph, graph.detach(), chosen.present()
    return graph * (chosen.mass / targets.divisor).to(graph), plain, targets  # from Σ mℓ / Σ m to Σ mℓ / n


@torch.no_grad()
def _constant(inputs: Inputs, targets: Targets) -> tuple[Tensor, Tensor]:
    return autograd.scored(inputs, targets) if inputs.backend in OURS else _differentiable(inputs, targets)


def _differentiable(inputs: Inputs, targets: Targets) -> tuple[Tensor, Tensor]:
    """([n] losses, [P] token losses, constants)."""
    if inputs.backend == "reference":
        return oracle.losses(inputs, targets)
    if inputs.backend in ("torch", "liger"):
        return (torch_backend if inputs.backend == "torch" else liger_backend).losses(inputs, targets)
    return autograd.sample_losses(inputs, targets)


def _factors(inputs: Inputs, loss: Tensor, tokens: Tensor, factors: Tensor | Factor) -> Tensor:
    """[n] the factors of all samples at once, 0 where a sample has no token."""
    index = positions(tokens > 0)
    given = factors(loss[index], tokens[index], index) if callable(factors) else factors.to(loss.device)[index]
    wide = wide_factors(given, tuple(index.shape), loss.device)
    if inputs.refuse_nan:
        refuse(wide, loss[index])
    used = torch.zeros_like(loss)
    used[index] = wide.to(used)
    return used
