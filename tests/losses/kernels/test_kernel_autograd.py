"""What autograd may do with the objective: scale it, call it twice, freeze parts, and be refused."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import error, run

from samplewise.core.errors import SamplewiseError
from samplewise.losses.kernels import objective, sample_losses


def test_upstream_scalar(micro):
    once, scaled = run(micro.to(torch.float64), objective), run(micro.to(torch.float64), objective, upstream=-7.5)
    for name in ("hidden", "head"):
        torch.testing.assert_close(scaled[name], -7.5 * once[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_backward_calls_give_the_same(micro, dtype):
    m = micro.to(dtype)
    value = objective(m.hidden, m.head, m.labels, m.factors, bias=m.bias).value
    leaves = [m.hidden, m.head, m.bias]
    first = [g.clone() for g in torch.autograd.grad(3 * value, leaves, retain_graph=True)]
    second = torch.autograd.grad(3 * value, leaves, retain_graph=True)
    third = torch.autograd.grad(3 * value, leaves)
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    with pytest.raises(SamplewiseError, match="retain_graph=True"):
        value.backward()


def test_gradients_accumulate_over_micro_batches(micro):
    m = micro.to(torch.float64)
    for _ in range(3):
        objective(m.hidden, m.head, m.labels, m.factors).value.backward()
    want = run(micro.to(torch.float64), objective)
    torch.testing.assert_close(m.head.grad, 3 * want["head"], rtol=1e-12, atol=0)


def test_the_delivered_gradient_is_not_shared(micro):
    """Autograd may keep our buffer as .grad, and clipping changes that in place: a kept graph must not see it."""
    m = micro.to(torch.float32)
    value = objective(m.hidden, m.head, m.labels, m.factors).value
    value.backward(retain_graph=True)
    assert m.head.grad is not None
    want = m.head.grad.clone()
    m.head.grad.zero_()
    value.backward()
    torch.testing.assert_close(m.head.grad, want)


@pytest.mark.parametrize("backend", ["chunked", "reference", "torch"])
def test_no_grad(micro, backend):
    m = micro.to(torch.float64)
    with torch.no_grad():
        out = objective(m.hidden, m.head, m.labels, m.factors, backend=backend)
    want = objective(m.hidden, m.head, m.labels, m.factors)
    assert not out.value.requires_grad
    assert not out.loss.requires_grad
    torch.testing.assert_close(out.value, want.value.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("frozen", [("head", "bias"), ("hidden",), ("bias",), ("hidden", "head")])
@pytest.mark.parametrize("budget", [None, 4 * 37 * 8])
def test_frozen_parts(micro, frozen, budget):
    m, full = micro.to(torch.float64), micro.to(torch.float64)
    want = run(full, objective, bias=full.bias)
    for name in frozen:
        getattr(m, name).requires_grad_(False)
    factors = lambda loss, tokens, index: m.factors[index]  # noqa: E731
    got = run(m, objective, bias=m.bias, factors=factors, chunk_bytes=budget)
    assert not set(frozen) & set(got)
    assert max(error(got, {k: v for k, v in want.items() if k not in frozen}).values()) <= 1e-10


def test_a_frozen_head_costs_two_products(micro):
    from torch.utils.flop_counter import FlopCounterMode

    def flops(**frozen):
        m = micro.to(torch.float32)
        for name, value in frozen.items():
            getattr(m, name).requires_grad_(value)
        with FlopCounterMode(display=False) as counter:
            objective(m.hidden, m.head, m.labels, lambda loss, tokens, index: loss).value.backward()
        return counter.get_total_flops()

    product = 2 * 36 * 8 * 37  # 36 predicted positions: those of label -100 cost nothing
    assert flops() == 3 * product
    assert flops(head=False) == flops(hidden=False) == 2 * product


def test_samples_of_factor_zero_cost_one_product(micro):
    from torch.utils.flop_counter import FlopCounterMode

    m = micro.to(torch.float32)
    with FlopCounterMode(display=False) as counter:
        objective(m.hidden, m.head, m.labels, m.factors).value.backward()
    assert counter.get_total_flops() == 2 * 8 * 37 * (3 * 26 + 10)


def test_losses_beside_the_objective_refuse_a_gradient(micro):
    m = micro.to(torch.float32)
    for out in (objective(m.hidden, m.head, m.labels, m.factors), sample_losses(m.hidden, m.head, m.labels)):
        loss = out.loss if hasattr(out, "loss") else out[0]
        with pytest.raises(SamplewiseError, match="differentiable=True"):
            loss.mean().backward()
    out = objective(m.hidden, m.head, m.labels, m.factors)
    out.value.backward()  # unaffected by the losses beside it


def test_second_derivatives_are_refused(micro):
    m = micro.to(torch.float32)
    value = objective(m.hidden, m.head, m.labels, m.factors).value
    loss, _ = sample_losses(m.hidden, m.head, m.labels, differentiable=True)
    for x in (value, loss.sum()):
        with pytest.raises(SamplewiseError, match="create_graph"):
            torch.autograd.grad(x, m.hidden, create_graph=True)


def test_tied_embeddings(micro):
    """The head's gradient and the embedding's arrive at one parameter."""
    table = torch.randn(37, 8, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(37, (5, 11))
    grads = []
    for backend in ("chunked", "reference"):
        value = objective(torch.tanh(table[ids]), table, ids, micro.factors, backend=backend).value
        grads += torch.autograd.grad(value, table)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-14)


def test_inside_gradient_checkpointing(micro):
    m, want = micro.to(torch.float64), run(micro.to(torch.float64), objective)
    hidden = torch.utils.checkpoint.checkpoint(lambda x: x * 1.0, m.hidden, use_reentrant=False)
    objective(hidden, m.head, m.labels, m.factors).value.backward()
    torch.testing.assert_close(m.hidden.grad, want["hidden"], rtol=1e-12, atol=0)
