"""In 16 bits: no further from fp64 than the plain path, which upcasts logits and takes their cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import error, make_micro, run

from samplewise.losses.kernels import objective, sample_losses


def plain(hidden, head, labels, factors, *, bias=None, weights=None):
    """Losses from logits as a model computes them, in the ambient autocast."""
    logits = F.linear(hidden, head, bias).float()
    token = F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    mass = (labels[:, 1:] != -100) * (1 if weights is None else weights[:, 1:].float())
    loss = (token * mass).sum(1) / torch.where(mass.sum(1) > 0, mass.sum(1), 1)
    return loss, (factors.float() * loss).sum()


def grads_of_plain(micro, upstream=1.0, weights=None):
    loss, value = plain(micro.hidden, micro.head, micro.labels, micro.factors, bias=micro.bias, weights=weights)
    (value * upstream).backward()
    grads = {"hidden": micro.hidden.grad, "head": micro.head.grad, "bias": micro.bias.grad}
    return {"value": value.detach(), "loss": loss.detach(), "factors": micro.factors, **grads}


@pytest.mark.parametrize("rows", [17, 64, None])
@pytest.mark.parametrize("asks", [False, True])
def test_bf16_autocast_no_worse_than_logits(rows, asks):
    micro = make_micro(rows=6, length=33, size=64, vocabulary=499, spread=0.3)
    exact = micro.to(torch.float64)
    want = run(exact, objective, backend="reference", bias=exact.bias)
    ours, theirs = micro.to(torch.float32), micro.to(torch.float32)
    factors = (lambda loss, tokens, index: micro.factors[index]) if asks else micro.factors
    with torch.autocast("cpu", torch.bfloat16):
        got = run(ours, objective, factors=factors, bias=ours.bias, chunk_bytes=rows and rows * 499 * 2)
        base = grads_of_plain(theirs)
    e, p = error(got, want), error(base, want)
    assert all(e[k] <= 1.5 * p[k] for k in e if k != "factors"), (e, p)
    assert got["head"].dtype == torch.float32
    assert e["head"] > 1e-4  # autocast was in force: these products were not in fp32


@pytest.mark.parametrize("rows", [17, 64, None])
@pytest.mark.parametrize("chosen", [False, True], ids=["known", "chosen in the pass"])
def test_token_weights_in_bf16_no_worse_than_logits(rows, chosen):
    micro = make_micro(rows=6, length=33, size=64, vocabulary=499, spread=0.3)
    weights = (torch.rand(6, 33, generator=torch.Generator().manual_seed(1)) * 2 - 0.6).clamp(min=0)
    exact = micro.to(torch.float64)
    want = run(exact, objective, backend="reference", bias=exact.bias, token_weights=weights)
    ours, theirs = micro.to(torch.float32), micro.to(torch.float32)
    how = {"select": lambda loss, weights, sample: weights, "reference": weights} if chosen else {}
    how = how or {"token_weights": weights}
    with torch.autocast("cpu", torch.bfloat16):
        got = run(ours, objective, bias=ours.bias, chunk_bytes=rows and rows * 499 * 2, **how)
        base = grads_of_plain(theirs, weights=weights)
    e, p = error(got, want), error(base, want)
    assert all(e[k] <= 1.5 * p[k] for k in e if k != "factors"), (e, p)


def test_bf16_parameters_no_worse_than_logits():
    micro = make_micro(rows=6, length=33, size=64, vocabulary=499, spread=0.3)
    ours, theirs = micro.to(torch.bfloat16), micro.to(torch.bfloat16)
    exact = ours.to(torch.float64)
    want = run(exact, objective, backend="reference", bias=exact.bias)
    e = error(run(ours, objective, bias=ours.bias, chunk_bytes=40 * 499 * 2), want)
    p = error(grads_of_plain(theirs), want)
    assert all(e[k] <= 1.5 * p[k] for k in e if k != "factors"), (e, p)
    assert ours.hidden.grad is not None
    assert ours.hidden.grad.dtype == torch.bfloat16


def test_fp16_with_loss_scale_loses_no_more_than_logits():
    """Probabilities of 2e-4 and weights of 1/192: without the gain and the fp32 buffers they would vanish."""
    micro = make_micro(rows=6, length=33, size=32, vocabulary=4999, spread=0.02)
    micro = micro._replace(factors=micro.factors / 6)
    exact = micro.to(torch.float64)
    want = run(exact, objective, backend="reference", bias=exact.bias, upstream=65536)
    ours, theirs = micro.to(torch.float32), micro.to(torch.float32)
    with torch.autocast("cpu", torch.float16):
        e = error(run(ours, objective, bias=ours.bias, upstream=65536, chunk_bytes=64 * 4999 * 2), want)
        p = error(grads_of_plain(theirs, upstream=65536), want)
    assert all(e[k] <= 1.1 * p[k] for k in e if k != "factors"), (e, p)


def test_all_ways_to_the_losses_multiply_in_the_same_dtype(micro):
    """Scoring decides what is trained: its losses are those that training sees, bit for bit, under autocast too."""
    m = micro.to(torch.float32)
    arguments = (m.hidden, m.head, m.labels)
    with torch.autocast("cpu", torch.bfloat16):
        trained = objective(*arguments, m.factors.new_ones(5)).loss.detach()
        scored = sample_losses(*arguments)[0].detach()
        through = sample_losses(*arguments, differentiable=True)[0].detach()
    assert torch.equal(scored, trained)
    assert torch.equal(through, trained)
    assert not torch.equal(trained, sample_losses(*arguments)[0].detach())


def test_autocast_leaves_fp64_alone(micro):
    m = micro.to(torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        inside = sample_losses(m.hidden, m.head, m.labels)[0]
    assert torch.equal(inside, sample_losses(m.hidden, m.head, m.labels)[0])


@pytest.mark.parametrize("softcap", [None, 300.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_losses_beyond_the_smallest_probability(dtype, softcap):
    """A loss of some hundred nats has a probability of 0 in fp32; it is a finite loss all the same."""
    micro = make_micro(spread=40.0).to(dtype)
    got = sample_losses(micro.hidden, micro.head, micro.labels, softcap=softcap)[0].detach()
    want = sample_losses(
        micro.hidden.double(), micro.head.double(), micro.labels, softcap=softcap, backend="reference"
    )[0]
    assert want.detach().max() > 150
    assert got.isfinite().all()
    torch.testing.assert_close(got.double(), want.detach(), rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=0)


def test_losses_that_are_not_finite_come_back_as_they_are(micro):
    m = micro.to(torch.float32)
    with torch.no_grad():
        m.hidden[3, 4] = float("inf")
    out = objective(m.hidden, m.head, m.labels, lambda loss, tokens, index: torch.exp(loss))
    assert out.loss.detach().isfinite().tolist() == [True, True, True, False, True]
    assert out.factors.isfinite().tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("budget", [None, 3 * 37 * 4, 25 * 37 * 4])
def test_factor_zero_is_absence(micro, asks, budget):
    """0·inf would be NaN in the whole head; a sample of factor 0 leaves the gradient of the others untouched."""
    clean, broken = micro.to(torch.float32), micro.to(torch.float32)
    with torch.no_grad():
        broken.hidden[0] = float("inf")
    u = micro.factors
    factors = (lambda loss, tokens, index: u[index]) if asks else u
    want = run(clean, objective, factors=factors, chunk_bytes=budget)
    got = run(broken, objective, factors=factors, chunk_bytes=budget)
    assert u[0] == 0
    for name in ("value", "hidden", "head"):
        torch.testing.assert_close(got[name], want[name])
