"""All backends, all ways to give factors and all options agree with the fp64 reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import error, make_micro, run

from samplewise.losses.kernels import objective, sample_losses

BOUND = {torch.float64: 1e-10, torch.float32: 2e-6}
OPTIONS = {
    "plain": {},
    "shifted": {"shifted": True},
    "scale": {"scale": 0.25},
    "softcap": {"softcap": 1.5},
    "softcap and scale": {"softcap": 1.5, "scale": 3.0},
}


def known(factors):
    return factors


def asked(factors):
    return lambda loss, tokens, index: factors[index]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("given_as", [known, asked])
@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rows", [1, 7, None])
@pytest.mark.fast_cover(2)
def test_chunked_equals_reference(micro, options, given_as, dtype, biased, rows):
    exact, ours = micro.to(torch.float64), micro.to(dtype)
    budget = None if rows is None else rows * 37 * dtype.itemsize
    want = run(exact, objective, backend="reference", bias=exact.bias if biased else None, **options)
    got = run(ours, objective, factors=given_as(micro.factors), bias=ours.bias if biased else None,
              chunk_bytes=budget, **options)  # fmt: skip
    assert max(error(got, want).values()) <= BOUND[dtype]
    assert got["hidden"].dtype == got["head"].dtype == dtype


@pytest.mark.parametrize("options", [OPTIONS["plain"], OPTIONS["scale"], OPTIONS["shifted"]])
@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("backend", ["torch"])
def test_torch_equals_reference(micro, options, dtype, backend):
    exact, ours = micro.to(torch.float64), micro.to(dtype)
    want = run(exact, objective, backend="reference", bias=exact.bias, **options)
    got = run(ours, objective, backend=backend, bias=ours.bias, chunk_bytes=9 * 37 * 8, **options)
    assert max(error(got, want).values()) <= BOUND[dtype]


@given(rows=st.integers(1, 60), seed=st.integers(0, 99), vocabulary=st.integers(2, 40), asks=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_budget_gives_the_same(rows, seed, vocabulary, asks):
    micro = make_micro(vocabulary=vocabulary, seed=seed)
    want = run(micro.to(torch.float64), objective)
    factors = asked(micro.factors) if asks else micro.factors
    got = run(micro.to(torch.float64), objective, factors=factors, chunk_bytes=rows * vocabulary * 8)
    assert max(error(got, want).values()) <= 1e-12


def test_a_function_sees_complete_samples_once_each(micro):
    m, seen = micro.to(torch.float64), {}

    def factor(loss, tokens, index):
        for i, value, n in zip(index.tolist(), loss.tolist(), tokens.tolist(), strict=True):
            assert i not in seen
            seen[i] = (value, n)
        return torch.exp(loss)

    out = objective(m.hidden, m.head, m.labels, factor, chunk_bytes=14 * 37 * 8)
    loss, tokens = sample_losses(m.hidden, m.head, m.labels, backend="reference")
    assert tokens.tolist() == [10, 0, 6, 10, 10]
    assert {i: n for i, (_, n) in seen.items()} == {0: 10, 2: 6, 3: 10, 4: 10}
    assert torch.tensor([seen[i][0] for i in seen]).allclose(loss.detach()[list(seen)].float())
    assert torch.equal(out.factors, torch.where(tokens > 0, out.loss.exp(), 0).detach())
    assert float(out.loss.detach()[1]) == 0


@pytest.mark.parametrize("backend", ["chunked", "torch"])
def test_differentiable_losses_take_any_gradient(micro, backend):
    upstream = torch.tensor([-2.0, 5.0, 0.0, 1.0, 0.3], dtype=torch.float64)
    grads = []
    for b in (backend, "reference"):
        m = micro.to(torch.float64)
        loss, _ = sample_losses(m.hidden, m.head, m.labels, bias=m.bias, scale=0.5, backend=b, differentiable=True)
        loss.square().backward(upstream)
        grads.append({"loss": loss.detach(), "hidden": m.hidden.grad, "head": m.head.grad, "bias": m.bias.grad})
    assert max(error(*grads).values()) <= 1e-10


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_gradcheck(softcap):
    m = make_micro(rows=4, length=4, size=3, vocabulary=5).to(torch.float64)

    def value(hidden, head, bias):
        factors = m.factors[:4].clone()
        return objective(hidden, head, m.labels, factors, bias=bias, softcap=softcap, chunk_bytes=3 * 5 * 8).value

    def losses(hidden, head, bias):
        return sample_losses(hidden, head, m.labels, bias=bias, softcap=softcap, differentiable=True)[0]

    for f in (value, losses):
        assert torch.autograd.gradcheck(f, (m.hidden, m.head, m.bias), check_batched_grad=False)


def test_segments_equal_padded_rows(micro):
    """Two samples in one row, a third cut out by -1: the losses and gradients of the rows they came from."""
    lengths = [4, 3, 5]
    m = micro.to(torch.float64)
    ids = torch.arange(12) % 37
    hidden = torch.randn(12, 8, dtype=torch.float64)
    padded, labels = torch.zeros(3, 5, 8, dtype=torch.float64), torch.full((3, 5), -100)
    start = 0
    for i, n in enumerate(lengths):
        padded[i, :n], labels[i, :n] = hidden[start : start + n], ids[start : start + n]
        start += n
    packed = torch.cat([hidden, torch.randn(2, 8, dtype=torch.float64)])[None].requires_grad_()
    padded.requires_grad_()
    segments = torch.tensor([[0] * 4 + [1] * 3 + [2] * 5 + [-1] * 2])
    flat = torch.cat([ids, torch.tensor([3, 4])])[None]
    u = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    one = objective(padded, m.head, labels, u, chunk_bytes=4 * 37 * 8)
    other = objective(packed, m.head, flat, asked(u), segments=segments, chunk_bytes=4 * 37 * 8)
    a = torch.autograd.grad(one.value, [padded, m.head])
    b = torch.autograd.grad(other.value, [packed, m.head])
    torch.testing.assert_close(one.loss, other.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(a[1], b[1], rtol=1e-10, atol=1e-14)
    for i, n in enumerate(lengths):
        torch.testing.assert_close(a[0][i, :n], b[0][segments == i], rtol=1e-10, atol=1e-14)
    assert b[0][segments == -1].count_nonzero() == 0


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("backend", "given_as"), [("chunked", known), ("chunked", asked), ("torch", known)])
def test_interleaved_segments_equal_reference(micro, shifted, backend, given_as):
    segments = torch.randint(-1, 4, (5, 6), generator=torch.Generator().manual_seed(3)).repeat_interleave(2, 1)[:, :11]
    u = torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    options = {"segments": segments, "shifted": shifted}
    want = run(micro.to(torch.float64), objective, factors=u, backend="reference", **options)
    budget = 900 if backend == "chunked" else None
    got = run(micro.to(torch.float64), objective, factors=given_as(u), backend=backend, chunk_bytes=budget, **options)
    assert max(error(got, want).values()) <= 1e-10
