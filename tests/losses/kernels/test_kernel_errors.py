"""Bad input: the argument, what was expected, what was got, what to do."""

from __future__ import annotations

import pytest
import torch

from samplewise.core.errors import SamplewiseError
from samplewise.losses.kernels import objective, sample_losses, torch_backend

BACKENDS = ["chunked", "torch", "reference"]


def good():
    return {
        "hidden": torch.randn(2, 4, 3), "head": torch.randn(7, 3), "factors": torch.ones(2),
        "labels": torch.tensor([[1, 2, 3, 4], [4, 5, -100, 6]]),
    }  # fmt: skip


BAD = {
    "label too high": ({"labels": torch.full((2, 4), 7)}, "labels", r"0\.\.6.*7\.\.7"),
    "label too low": ({"labels": torch.full((2, 4), -1)}, "labels", "-1"),
    "float labels": ({"labels": torch.ones(2, 4)}, "labels", "float32"),
    "labels of another shape": ({"labels": torch.ones(2, 5, dtype=torch.long)}, "labels", r"\(2, 4\).*\(2, 5\)"),
    "nothing predicted": ({"labels": torch.tensor([[1, -100, -100, -100]] * 2)}, "labels", r"none in shape \(2, 4\)"),
    "another size": ({"head": torch.randn(7, 5)}, "hidden", r"\(2, 4, 3\) and head \(7, 5\)"),
    "flat hidden": ({"hidden": torch.randn(8, 3)}, "hidden", r"\(8, 3\)"),
    "short bias": ({"bias": torch.zeros(6)}, "bias", r"\(7,\).*\(6,\)"),
    "segments of another shape": ({"segments": torch.zeros(2, 3, dtype=torch.long)}, "segments", r"\(2, 3\)"),
    "no budget": ({"chunk_bytes": 0}, "chunk_bytes", "positive"),
    "no cap": ({"softcap": 0.0}, "softcap", "positive"),
    "unknown backend": ({"backend": "cuda"}, "backend", "auto, chunked, triton, torch, liger, reference.*'cuda'"),
}
BAD_FACTORS = {
    "NaN": (torch.tensor([1.0, float("nan")]), r"nan.*\[1\]"),
    "too many": (torch.ones(3), r"\(2,\).*\(3,\)"),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_input(change, backend):
    changed, argument, message = change
    with pytest.raises(SamplewiseError, match=message) as raised:
        objective(**{**good(), "backend": backend, **changed})
    assert raised.value.argument == argument


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_bad_input_of_sample_losses(change):
    arguments = {**good(), **change[0]}
    del arguments["factors"]
    with pytest.raises(SamplewiseError, match=change[2]):
        sample_losses(**arguments)


@pytest.mark.parametrize("bad", BAD_FACTORS.values(), ids=BAD_FACTORS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("asks", [False, True])
def test_bad_factors(bad, backend, asks):
    factors, message = bad
    given = (lambda loss, tokens, index: factors) if asks else factors
    with pytest.raises(SamplewiseError, match=message):
        objective(**{**good(), "factors": given, "backend": backend})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("asks", [False, True])
def test_a_factor_of_either_sign_multiplies_value_and_gradient(backend, asks):
    torch.manual_seed(0)
    inputs = good()

    def gradient(factors):
        hidden = inputs["hidden"].clone().requires_grad_()
        given = (lambda loss, tokens, index: factors[index]) if asks else factors
        out = objective(**{**inputs, "hidden": hidden, "factors": given, "backend": backend})
        out.value.backward()
        return out.value.detach(), hidden.grad

    up, down = gradient(torch.tensor([1.0, 0.5])), gradient(torch.tensor([-1.0, -0.5]))
    both, one, other = (gradient(torch.tensor(each)) for each in ([2.0, -0.5], [2.0, 0.0], [0.0, 0.5]))
    for k in (0, 1):
        torch.testing.assert_close(down[k], -up[k])
        torch.testing.assert_close(both[k], one[k] - other[k])


def test_a_budget_below_one_row_names_the_least():
    with pytest.raises(SamplewiseError, match="at least 28"):
        objective(**{**good(), "chunk_bytes": 27})


@pytest.mark.parametrize("backend", ["torch"])
def test_torch_refuses_a_soft_cap_by_name(backend):
    with pytest.raises(SamplewiseError, match=r'softcap.*backend="chunked"'):
        objective(**{**good(), "softcap": 30.0, "backend": backend})


def test_a_torch_without_its_kernel_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch_backend, "OPTIONS", None)
    with pytest.raises(SamplewiseError, match=r"backend: .*before torch 2\.13, got 'torch'.*\"chunked\""):
        objective(**good(), backend="torch")


@pytest.mark.parametrize("backend", BACKENDS)
def test_labels_out_of_range_where_nothing_is_predicted_do_no_harm(backend):
    arguments = good()
    arguments["labels"][:, 0] = 10**6  # the first label of a row is nobody's target
    assert objective(**arguments, backend=backend).loss.isfinite().all()
