"""What accelerators get of the same kernels: products in fp32, larger chunks, no copy of 16-bit tensors."""

import pytest
import torch
from kernel_cases import error, make_micro, run

from samplewise.losses.kernels import objective, products
from samplewise.losses.kernels.chunked import Wanted, Work
from samplewise.losses.kernels.inputs import Inputs
from samplewise.losses.kernels.plan import rows_per_chunk
from samplewise.losses.kernels.targets import find_targets

BYTES = 7 * 37 * 2


@pytest.fixture
def used(monkeypatch) -> dict[str, int]:
    """As on CUDA, by products of our own; how often each is asked for."""
    counts = {"wide": 0, "first": 0, "more": 0}

    def wide(a, b):
        counts["wide"] += 1
        return a.float() @ b.float()

    def add_wide_(out, a, b, empty):
        counts["first" if empty else "more"] += 1
        out.copy_(a.float() @ b.float() if empty else out + a.float() @ b.float())

    monkeypatch.setattr(products, "has_wide", lambda like: like.dtype in (torch.bfloat16, torch.float16))
    monkeypatch.setattr(products, "wide", wide)
    monkeypatch.setattr(products, "add_wide_", add_wide_)
    return counts


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_wide_products_round_less(dtype, used, monkeypatch):
    micro = make_micro()
    want = run(micro.to(torch.float64), objective)
    got = error(run(micro.to(dtype), objective, chunk_bytes=BYTES), want)
    assert used["wide"] > 1
    assert (used["first"], used["more"] > 1) == ((1, True) if dtype == torch.bfloat16 else (0, False))
    monkeypatch.undo()
    narrow = error(run(micro.to(dtype), objective, chunk_bytes=BYTES), want)
    assert got["head"] <= narrow["head"]
    assert got["hidden"] <= 1.05 * narrow["hidden"]


def test_torch_takes_the_calls_on_cuda():
    """And says of other devices that it has no such kernel, which it does once the arguments have fitted."""
    assert not products.has_wide(torch.ones(1, dtype=torch.bfloat16))
    a, out = torch.ones(2, 2, dtype=torch.bfloat16), torch.zeros(2, 2)
    for call in (lambda: products.wide(a, a), *(lambda e=e: products.add_wide_(out, a, a, e) for e in (True, False))):
        with pytest.raises(NotImplementedError, match=r"mm\.dtype"):
            call()


def test_rows_of_a_chunk_follow_the_vocabulary_on_accelerators():
    cuda, dtype = torch.device("cuda"), torch.bfloat16
    assert [rows_per_chunk(None, v, dtype, cuda) for v in (32_000, 128_256, 262_144)] == [4096, 4096, 2048]
    assert rows_per_chunk(None, 262_144, torch.float32, cuda) == 1024


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sixteen_bit_tensors_are_not_copied(dtype):
    micro = make_micro().to(dtype)
    targets = find_targets(micro.labels, None, False, len(micro.head))
    work = Work(Inputs(micro.hidden, micro.head, micro.labels), targets, Wanted(True, True, False), dtype)
    assert work.head.weight.data_ptr() == micro.head.data_ptr()
    assert work.source.data_ptr() == micro.hidden.data_ptr()
    assert work.hidden is not None
    assert work.hidden.dtype == (torch.bfloat16 if dtype == torch.bfloat16 else torch.float32)
