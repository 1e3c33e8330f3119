"""Liger's fused loss with factors, under Triton's interpreter, equals the fp64 reference; old versions are refused."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported, here or in the package

import pytest
import torch
from kernel_cases import error, make_micro, run

from samplewise.core.errors import SamplewiseError
from samplewise.losses.kernels import liger_backend, objective, sample_losses

SEGMENTS = torch.arange(11).div(4, rounding_mode="floor").expand(5, -1) + 3 * torch.arange(5)[:, None]


@pytest.mark.parametrize("asks", [False, True], ids=["known", "asked"])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("bias", [False, True])
def test_factors_are_in_the_gradients(bias, scale, asks):
    micro = make_micro(vocabulary=37)  # its first factor is 0, its second row all -100
    exact, ours = micro.to(torch.float64), micro.to(torch.float32)
    want = run(exact, objective, backend="reference", bias=exact.bias if bias else None, scale=scale)
    factors = (lambda loss, tokens, index: micro.factors[index]) if asks else micro.factors
    got = run(ours, objective, backend="liger", bias=ours.bias if bias else None, scale=scale, factors=factors)
    assert max(error(got, want).values()) <= 5e-6


def test_token_weights_and_segments():
    micro = make_micro(vocabulary=37)
    weights = torch.rand(5, 11, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    factors = torch.rand(15, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = []
    for backend, dtype in (("reference", torch.float64), ("liger", torch.float32)):
        own = micro.to(dtype)
        more = {"segments": SEGMENTS, "token_weights": weights, "factors": factors}
        found.append(run(own, objective, backend=backend, **more))
    assert max(error(found[1], found[0]).values()) <= 5e-6


def test_scoring_takes_no_gradient():
    micro = make_micro().to(torch.float32)
    loss, tokens = sample_losses(micro.hidden, micro.head, micro.labels, backend="liger")
    want, counts = sample_losses(micro.hidden, micro.head, micro.labels, backend="chunked")
    torch.testing.assert_close(loss.detach(), want.detach(), rtol=1e-6, atol=1e-6)
    assert torch.equal(tokens, counts)


def test_bf16_is_as_exact_as_the_chunked_path():
    micro = make_micro(rows=8, length=20, size=16, vocabulary=97)
    rounded = micro.to(torch.bfloat16).to(torch.float64)
    want = run(rounded, objective, backend="reference")
    plain = error(run(micro.to(torch.bfloat16), objective, backend="chunked"), want)
    liger = error(run(micro.to(torch.bfloat16), objective, backend="liger"), want)
    for name, off in liger.items():
        assert off <= 2 * plain[name] + 1e-7, (name, off, plain[name])  # the interpreter cuts bf16 off


def refused(match: str, **options) -> None:
    micro = make_micro().to(options.pop("dtype", torch.float32))
    with pytest.raises(SamplewiseError, match=match):
        sample_losses(micro.hidden, micro.head, micro.labels, backend="liger", **options)


def test_what_it_cannot_do_is_refused(monkeypatch):
    refused(r'^softcap: expected None with backend=.liger., got 30.0\. Use backend="chunked"', softcap=30.0)
    refused(r"^chunk_bytes: expected None", chunk_bytes=10**6)
    refused(r"^hidden: expected fp32 or 16 bits", dtype=torch.float64)
    monkeypatch.setattr(liger_backend, "can_launch", lambda device: False)
    refused(r"^backend: expected a CUDA device for 'liger', got cpu")
    monkeypatch.setattr(liger_backend, "version", lambda name: "0.8.1")
    refused(r"^backend: expected liger-kernel 0\.8\.2 or newer, whose gradients hold factors, got liger-kernel 0\.8\.1")
