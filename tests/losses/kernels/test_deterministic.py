"""No operation of a pass through the head depends on the order in which a GPU's threads come."""

from collections import Counter
from typing import Any

import pytest
import torch
from kernel_cases import make_micro
from torch.utils._python_dispatch import TorchDispatchMode

from samplewise.losses.kernels import Tally, objective, sample_losses
from samplewise.losses.token_losses import sample_means

# From the documentation of torch.use_deterministic_algorithms, as dispatched: what may depend on the order on CUDA.
LISTED = (
    "conv", "replication_pad", "reflection_pad", "bmm", "put", "scatter", "gather", "index_add", "index_select",
    "repeat_interleave", "avg_pool", "_adaptive_", "adaptive_", "fractional_max", "max_unpool", "max_pool3d",
    "upsample",
    "nll_loss", "_ctc_loss", "_embedding_bag", "histc", "bincount", "median", "grid_sampler", "_scatter",
)  # fmt: skip
"""The beginnings of their names."""
ONLY_IF_REPEATED = {"index_put", "_index_put_impl_", "index_copy"}
"""On the list too, since of positions given twice the last would win: here none is."""
ONLY_OF_FLOATS = {"cumsum"}


class Listed(TorchDispatchMode):
    """Counts the operations on the list."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.seen[name] += 1
        plain = name.removesuffix("_")
        if plain in ONLY_IF_REPEATED:
            self.found[name] += _repeated(plain, args)
        elif plain in ONLY_OF_FLOATS:
            self.found[name] += args[0].is_floating_point()
        elif name.startswith(LISTED):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def _repeated(name: str, args: Any) -> bool:
    if name == "index_copy":
        return len(args[2].unique()) < len(args[2])
    indices = [each for each in args[1] if each is not None]
    if len(args) > 3 and args[3]:
        return True
    if indices[0].dtype == torch.bool:
        return False
    rows = torch.stack([each.flatten() for each in torch.broadcast_tensors(*indices)], 1)
    return len(rows.unique(dim=0)) < len(rows)


def tilt(loss: torch.Tensor, tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.exp(loss / 4)


@pytest.mark.parametrize("chunk_bytes", [None, 7 * 37 * 8])
@pytest.mark.parametrize("form", ["known", "asked", "selected", "packed", "differentiable"])
def test_a_pass_has_none_of_them(form, chunk_bytes):
    micro = make_micro().to(torch.float32)
    options: dict[str, Any] = {"bias": micro.bias, "chunk_bytes": chunk_bytes}
    if form == "packed":
        segments = torch.arange(micro.labels.numel()).view(micro.labels.shape) // 4
        options |= {"segments": segments, "token_weights": torch.ones(micro.labels.shape)}
    if form == "selected":
        options |= {"select": lambda loss, reference, sample: (loss > 3).to(loss)}
    with Listed() as mode:
        if form == "differentiable":
            loss, _ = sample_losses(micro.hidden, micro.head, micro.labels, differentiable=True, **options)
            loss.sum().backward()
        else:
            factors = micro.factors if form == "known" else tilt
            objective(micro.hidden, micro.head, micro.labels, factors, tally=Tally(), **options).value.backward()
    assert not +mode.found, mode.found
    assert mode.seen["mm"] + mode.seen["addmm"] + mode.seen["addmm_"] > 0


@pytest.mark.parametrize("packed", [False, True])
def test_means_of_token_losses_have_none_of_them(packed):
    labels = torch.randint(9, (2, 8))
    segments = torch.arange(16).view(2, 8) // 3 if packed else None
    token = torch.rand(2, 8, requires_grad=True)
    with Listed() as mode:
        sample_means(token, labels, segments=segments)
    assert not +mode.found, mode.found


def test_the_list_is_found():
    x, twice = torch.zeros(4), torch.tensor([1, 1])
    with Listed() as mode:
        _ = x.index_add_(0, twice, torch.ones(2)), x.scatter_add_(0, twice, torch.ones(2)), x.cumsum(0)
        x[twice] = torch.ones(2)
        x[torch.tensor([1, 2])] = torch.ones(2)
        twice.cumsum(0)
    assert +mode.found == {"index_add_": 1, "scatter_add_": 1, "cumsum": 1, "index_put_": 1}
