"""A head that is split over ranks by its vocabulary, against the whole one: kernels, and a model's own head.

    python tests/ranks/vocabulary.py RANKS

Every rank computes both, and raises where they differ.
"""

import sys
from dataclasses import dataclass
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist
from forks import forked
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

from samplewise.core.errors import SamplewiseError
from samplewise.engine.options import WeightingOptions
from samplewise.engine.step import Step
from samplewise.losses.kernels import Shard, Tally, objective, sample_losses, score
from samplewise.losses.request import Request, with_objective

ROWS, LENGTH, SIZE, VOCABULARY = 5, 11, 8, 37
LABELS = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
LABELS[1], LABELS[2, :5] = -100, -100
SEGMENTS = torch.arange(ROWS)[:, None].expand(-1, LENGTH) * 2 + (torch.arange(LENGTH) > 5)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 2e-2}


@dataclass
class Parts:
    """Leaves of one pass; shard: which rows of the head, None for all."""

    hidden: torch.Tensor
    head: torch.Tensor
    bias: torch.Tensor
    shard: Shard | None


def parts(dtype: torch.dtype, shard: Shard | None, spread: float = 1.0) -> Parts:
    g = torch.Generator().manual_seed(1)
    hidden, head = torch.randn(ROWS, LENGTH, SIZE, generator=g), torch.randn(VOCABULARY, SIZE, generator=g) * spread
    bias = torch.randn(VOCABULARY, generator=g)
    rows = slice(None) if shard is None else slice(shard.first, shard.first + shard.widest)
    leaves = [x.to(dtype).clone().requires_grad_() for x in (hidden, head[rows], bias[rows])]
    return Parts(leaves[0], leaves[1], leaves[2], shard)


def tilt(loss: torch.Tensor, tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.exp(loss.double() / 4)


def hard(loss: torch.Tensor, reference: Any, sample: torch.Tensor) -> torch.Tensor:
    return (loss > 3).to(loss)


def trained(given: Parts, factors: Any, **options: Any) -> dict[str, torch.Tensor]:
    out = objective(given.hidden, given.head, LABELS, factors, bias=given.bias, shard=given.shard, **options)
    (out.value * 1.5).backward()
    return {"loss": out.loss.detach(), "factors": out.factors, **gradients(given)}


def differentiated(given: Parts, **options: Any) -> dict[str, torch.Tensor]:
    loss, _ = sample_losses(
        given.hidden, given.head, LABELS, bias=given.bias, shard=given.shard, differentiable=True, **options
    )
    (loss * torch.arange(1, len(loss) + 1)).sum().backward()
    return {"loss": loss.detach(), **gradients(given)}


def scored(given: Parts, **options: Any) -> dict[str, torch.Tensor]:
    tally = Tally()
    out = score(
        given.hidden.detach(), given.head.detach(), LABELS, bias=given.bias.detach(), shard=given.shard,
        token_losses=True, tally=tally, **options,
    )  # fmt: skip
    assert out.token_loss is not None
    return {"loss": out.loss, "token": out.token_loss, "tally": torch.tensor([tally.entropy, tally.correct])}


def gradients(given: Parts) -> dict[str, torch.Tensor]:
    found = {name: getattr(given, name).grad for name in ("hidden", "head", "bias")}
    if given.shard is None:
        return found
    whole: dict[str, list[Any]] = {name: [None] * given.shard.ranks for name in ("head", "bias")}
    for name, gathered in whole.items():
        dist.all_gather_object(gathered, found[name])
    return found | {name: torch.cat(gathered) for name, gathered in whole.items()}


def compare(what: object, got: dict[str, torch.Tensor], want: dict[str, torch.Tensor], limit: float) -> None:
    for name, right in want.items():
        off = float((got[name].double() - right.double()).norm() / right.double().norm())
        assert off <= limit, (what, name, off)


def kernels(shard: Shard) -> None:
    known = torch.tensor([0.0, 1.0, 2.0, 0.5, -1.0], dtype=torch.float64)
    for dtype, limit in TOLERANCE.items():
        for options in ({}, {"softcap": 5.0, "scale": 0.5}, {"chunk_bytes": 3 * VOCABULARY * dtype.itemsize}):
            for factors in (known, tilt):
                got, want = (trained(parts(dtype, each), factors, **options) for each in (shard, None))
                compare((dtype, options, factors), got, want, limit)
            got, want = (differentiated(parts(dtype, each), **options) for each in (shard, None))
            compare((dtype, options, "differentiable"), got, want, limit)
            got, want = (scored(parts(dtype, each), **options) for each in (shard, None))
            compare((dtype, options, "scored"), got, want, limit)
    more = {"segments": SEGMENTS, "token_weights": torch.linspace(0, 2, LABELS.numel()).view(LABELS.shape)}
    for options in (more, {"select": hard}, {"select": hard, "chunk_bytes": 3 * VOCABULARY * 4}):
        got, want = (trained(parts(torch.float32, each), tilt, **options) for each in (shard, None))
        compare(options, got, want, 5e-6)
    got, want = (trained(parts(torch.float32, each, spread=1e3), tilt) for each in (shard, None))
    assert torch.equal(got["loss"].isfinite(), want["loss"].isfinite())


def model(kind: str, ranks: int) -> torch.nn.Module:
    """The head of a model, split as transformers' tp_plan does it, asked through its own forward."""
    whole, split = (tiny.model(kind, tie_word_embeddings=False) for _ in range(2))
    mesh = init_device_mesh("cpu", (ranks,), mesh_dim_names=("tp",))
    style = ColwiseParallel(output_layouts=Replicate())
    parallelize_module(split, mesh, {"lm_head": style})
    ids = torch.randint(3, tiny.VOCABULARY, (4, 9), generator=torch.Generator().manual_seed(0))
    found = []
    for each in (split, whole):
        with with_objective(each):
            out = each(input_ids=ids, samplewise=Request(ids, factors=tilt))
        out.value.backward()
        grads: dict[str, Any] = {name: parameter.grad for name, parameter in each.named_parameters()}
        grads = {name: grad.full_tensor() if hasattr(grad, "full_tensor") else grad for name, grad in grads.items()}
        found.append({"loss": out.loss.detach(), **grads})
    compare(kind, found[0], found[1], 1e-5)
    return split


def refusals(shard: Shard, split: torch.nn.Module) -> None:
    """Others than our kernels; and a loop that would count each row once for every rank."""
    given = parts(torch.float32, shard)
    for backend in ("torch", "reference", "triton", "liger"):
        with pytest.raises(SamplewiseError, match="a head that is split over ranks"):
            score(given.hidden, given.head, LABELS, shard=shard, backend=backend)
    with pytest.raises(SamplewiseError, match="tensor parallelism"):
        Step(WeightingOptions(rule="uniform()"), torch.device("cpu")).attach(split)


def work(rank: int) -> None:
    ranks = int(sys.argv[1])
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    each = -(-VOCABULARY // ranks)
    shard = Shard(dist.group.WORLD, ranks, rank * each, VOCABULARY)
    kernels(shard)
    refusals(shard, model("llama", ranks))
    dist.destroy_process_group()


if __name__ == "__main__":
    raise SystemExit(max(map(abs, forked(int(sys.argv[1]), work))))
