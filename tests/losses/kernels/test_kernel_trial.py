"""Triton's kernel is tried on a device before it is used there: one that fails or gives other numbers is not used."""

import pytest
import torch

from samplewise.losses.kernels import backends
from samplewise.losses.kernels.residual import residual_

CPU = torch.device("cpu")


@pytest.fixture
def kernel(monkeypatch):
    """Puts a kernel in the place of Triton's."""
    turn = backends.turn

    def put(function):
        backends.fault.cache_clear()
        monkeypatch.setattr(backends, "turn", lambda backend: function if backend == "triton" else turn(backend))

    yield put
    backends.fault.cache_clear()


def test_a_right_one_is_used(kernel):
    kernel(residual_)
    assert backends.fault(CPU) is None


def test_one_that_does_not_compile_is_told(kernel):
    def broken(*args):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

    kernel(broken)
    assert backends.fault(CPU) == (
        "its kernel does not run: RuntimeError: Failed to find C compiler. Please specify via CC environment variable."
    )


@pytest.mark.parametrize("wrong", [lambda loss, z: loss.mul_(1.001), lambda loss, z: z[0].mul_(1.01)])
def test_one_of_other_numbers_is_told(kernel, wrong):
    def other(head, logits, label, gradient):
        loss = residual_(head, logits, label, gradient)
        wrong(loss, logits)
        return loss

    kernel(other)
    found = backends.fault(CPU)
    assert found is not None
    assert found.startswith("its kernel gives other numbers than the chunked ones, by ")


def test_it_is_tried_once(kernel):
    calls = []
    kernel(lambda *args: calls.append(1) or residual_(*args))
    backends.fault(CPU), backends.fault(CPU)
    assert calls == [1]
