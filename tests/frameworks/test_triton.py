"""The Triton kernel under its interpreter equals the fp64 reference, and the chunked path's own error in bf16."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported, here or in the package

import pytest
import torch
from kernel_cases import error, make_micro, run

from samplewise.core.errors import SamplewiseError
from samplewise.losses.kernels import Tally, backends, objective, residual_triton, sample_losses, score

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")  # numpy, of inf, in a GPU's place
OPTIONS = {
    "plain": {}, "shifted": {"shifted": True}, "scale": {"scale": 0.25}, "softcap": {"softcap": 1.5},
    "softcap and scale": {"softcap": 30.0, "scale": 3.0},
}  # fmt: skip


@pytest.fixture(params=[16, 8192], ids=["several blocks", "one block"])
def block(request, monkeypatch):
    """How much of a row a program holds at once."""
    monkeypatch.setattr(residual_triton, "MAX_BLOCK", request.param)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("asks", [False, True], ids=["known", "asked"])
@pytest.mark.parametrize("vocabulary", [32, 37])
@pytest.mark.usefixtures("block")
def test_equals_the_reference(options, asks, vocabulary):
    micro = make_micro(vocabulary=vocabulary)  # its first factor is 0, its second row all -100
    exact, ours = micro.to(torch.float64), micro.to(torch.float32)
    want = run(exact, objective, backend="reference", bias=exact.bias, **options)
    factors = (lambda loss, tokens, index: micro.factors[index]) if asks else micro.factors
    budget = 7 * vocabulary * 4
    got = run(ours, objective, backend="triton", bias=ours.bias, factors=factors, chunk_bytes=budget, **options)
    assert max(error(got, want).values()) <= 5e-6


@pytest.mark.parametrize("spread", [1.0, 8.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("block")
def test_16_bit_is_no_worse_than_the_chunked_path(dtype, spread):
    micro = make_micro(rows=8, length=20, size=16, vocabulary=97, spread=spread)
    rounded = make_micro(rows=8, length=20, size=16, vocabulary=97, spread=spread).to(dtype).to(torch.float64)
    want = run(rounded, objective, backend="reference")
    plain = error(run(micro.to(dtype), objective, backend="chunked"), want)
    ours = error(run(micro.to(dtype), objective, backend="triton"), want)
    for name, off in ours.items():
        assert off <= 1.5 * plain[name] + 1e-7, (name, off, plain[name])


@pytest.mark.usefixtures("block")
def test_losses_that_are_small_and_that_are_large():
    """Near 0, where log(p) loses its digits, and above 69 nats, where p is denormal."""
    head = torch.zeros(40, 2, dtype=torch.float64)
    head[3, 0], head[5, 0] = 12.0, 300.0
    hidden = torch.tensor([[[1.0, 0.0], [0.05, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    for labels in ([[0, 3, 5]], [[0, 5, 5]], [[0, 0, 3]]):
        target = torch.tensor(labels)
        want, _ = sample_losses(hidden, head, target, backend="reference")
        got, _ = sample_losses(hidden.float(), head.float(), target, backend="triton")
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.usefixtures("block")
def test_what_is_not_finite_is_what_the_chunked_path_has(value):
    """In one row's logits: the loss of that sample, and gradients of the others, which have no part in it."""
    found = []
    for backend in ("chunked", "triton"):
        micro = make_micro(vocabulary=37).to(torch.float32)
        hidden = micro.hidden.detach().clone()
        hidden[3, 2, 0] = value
        hidden.requires_grad_()
        factors = torch.tensor([1.0, 1.0, 1.0, 0.0, 2.0])
        out = objective(hidden, micro.head, micro.labels, factors, backend=backend)
        out.value.backward()
        found.append((out.loss, hidden.grad, micro.head.grad))
    (loss, *gradients), (other, *theirs) = found
    torch.testing.assert_close(other, loss, rtol=1e-6, atol=1e-6, equal_nan=True)
    for a, b in zip(theirs, gradients, strict=True):
        assert b.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_bias_that_forbids_a_token():
    micro = make_micro(vocabulary=37).to(torch.float32)
    bias = micro.bias.detach().clone()
    bias[[*range(16), 36]] = -float("inf")  # whole blocks of −inf come first
    labels = torch.where(micro.labels >= 0, micro.labels.clamp(16, 35), micro.labels)
    want = sample_losses(micro.hidden, micro.head, labels, bias=bias, backend="reference")[0]
    residual_triton.MAX_BLOCK, before = 16, residual_triton.MAX_BLOCK
    try:
        got = sample_losses(micro.hidden, micro.head, labels, bias=bias, backend="triton")[0]
    finally:
        residual_triton.MAX_BLOCK = before
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("block")
def test_the_tally_is_that_of_the_chunked_path():
    tallies = {}
    for backend in ("chunked", "triton"):
        micro = make_micro(rows=6, length=12, vocabulary=53, spread=3.0).to(torch.float32)
        tallies[backend] = Tally()
        score(micro.hidden, micro.head, micro.labels, softcap=5.0, tally=tallies[backend], backend=backend)
    ours, want = tallies["triton"], tallies["chunked"]
    assert (ours.correct, ours.tokens) == (want.correct, want.tokens)
    assert ours.entropy == pytest.approx(want.entropy, rel=1e-5)


def test_losses_that_take_any_gradient():
    grads = []
    for backend in ("triton", "reference"):
        micro = make_micro().to(torch.float32 if backend == "triton" else torch.float64)
        loss, _ = sample_losses(micro.hidden, micro.head, micro.labels, backend=backend, differentiable=True)
        loss.square().sum().backward()
        grads.append({"loss": loss.detach(), "hidden": micro.hidden.grad, "head": micro.head.grad})
    assert max(error(*grads).values()) <= 5e-6


def test_where_it_cannot_run_it_says_why(monkeypatch):
    micro = make_micro().to(torch.float64)
    with pytest.raises(SamplewiseError, match="fp64"):
        sample_losses(micro.hidden, micro.head, micro.labels, backend="triton")
    ours = micro.to(torch.float32)
    monkeypatch.setattr(backends, "_interpreted", lambda: False)
    with pytest.raises(SamplewiseError, match="no compiler"):
        sample_losses(ours.hidden, ours.head, ours.labels, backend="triton")
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(SamplewiseError, match=r"pip install 'samplewise\[triton\]'"):
        sample_losses(ours.hidden, ours.head, ours.labels, backend="triton")


def test_an_old_triton_is_not_used(monkeypatch):
    ours = make_micro().to(torch.float32)
    monkeypatch.setattr("triton.__version__", "3.5.1+git1b2c")
    with pytest.raises(SamplewiseError, match=r"triton 3\.5, older than 3\.6: pip install -U triton"):
        sample_losses(ours.hidden, ours.head, ours.labels, backend="triton")


def test_the_trial_of_a_device_passes_here():
    backends.fault.cache_clear()
    assert backends.fault(torch.device("cpu")) is None
