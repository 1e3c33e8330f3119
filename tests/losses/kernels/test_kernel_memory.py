"""No allocation is large: sizes of all tensors that operators create, watched one by one."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from samplewise.losses.kernels import objective, sample_losses


class Sizes(TorchDispatchMode):
    """Bytes of every new storage."""

    def __init__(self):
        super().__init__()
        self.seen, self.created = set(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        old = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in old:
                self.created.append(x.untyped_storage().nbytes())
        return out


def large(rows, length, vocabulary, size, dtype, frozen, least, **options):
    """Allocations above 1/8 of the logits' size in `dtype`, in one forward and backward."""
    hidden = torch.randn(rows, length, size).to(dtype).requires_grad_()
    head = torch.randn(vocabulary, size).mul_(0.02).to(dtype).requires_grad_(not frozen)
    labels = torch.randint(vocabulary, (rows, length))
    with Sizes() as sizes:
        objective(hidden, head, labels, lambda loss, tokens, index: torch.exp(loss - least), **options).value.backward()
    return [n for n in sizes.created if n > rows * length * vocabulary * dtype.itemsize / 8]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frozen", [False, True], ids=["trained head", "frozen head"])
def test_gemma_shape(dtype, frozen):
    buffer = 262144 * 640
    found = large(8, 256, 262144, 640, dtype, frozen, 12.0)
    # In bf16 the delivered gradient is a second, narrower tensor: the parameter's own dtype.
    expected = [] if frozen else [buffer * 4] if dtype == torch.float32 else [buffer * 4, buffer * 2]
    assert found == expected


@pytest.mark.parametrize("frozen", [False, True], ids=["trained head", "frozen head"])
def test_small_gemma_shape(frozen):
    """A sixteenth of its vocabulary and a quarter of the rest, the budget in proportion."""
    found = large(8, 64, 16384, 160, torch.float32, frozen, 9.0, chunk_bytes=64 * 16384 * 4)
    assert found == ([] if frozen else [16384 * 160 * 4])


@pytest.mark.parametrize("rows", [8, 1], ids=["short samples", "a sample of several chunks"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trained head", "frozen head"])
def test_selected_tokens(rows, frozen):
    """They are moved together within the chunk, and scored a second time in it: nothing of its size is made anew."""
    half = lambda loss, theirs, sample: torch.arange(len(loss)) % 2  # noqa: E731
    found = large(rows, 512 // rows, 16384, 160, torch.float32, frozen, 9.0, chunk_bytes=64 * 16384 * 4, select=half)
    assert found == ([] if frozen else [16384 * 160 * 4])


def test_a_larger_chunk_instead_of_a_second_buffer():
    """439 positions a sample, 384 rows a chunk: 55 rows more are less than a head of 64 columns."""
    hidden = torch.randn(2, 440, 64)
    head, labels = torch.randn(65536, 64, requires_grad=True), torch.randint(65536, (2, 440))
    with Sizes() as sizes:
        objective(hidden, head, labels, lambda loss, tokens, index: loss)
    assert [n for n in sizes.created if n >= 65536 * 64 * 4] == [439 * 65536 * 4, 65536 * 64 * 4]


def test_scoring_keeps_no_logits():
    hidden, head, labels = torch.randn(4, 64, 16), torch.randn(8192, 16), torch.randint(8192, (4, 64))
    with torch.no_grad(), Sizes() as sizes:
        sample_losses(hidden, head, labels, chunk_bytes=16 * 8192 * 4)
    assert max(sizes.created) == 16 * 8192 * 4


def test_the_watch_sees_logits():
    """The instrument itself: the reference holds them."""
    hidden, head, labels = torch.randn(2, 16, 4), torch.randn(512, 4), torch.randint(512, (2, 16))
    with Sizes() as sizes:
        sample_losses(hidden, head, labels, backend="reference")
    assert max(sizes.created) == 2 * 16 * 512 * 4
