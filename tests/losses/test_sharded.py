"""Heads that FSDP2 shards, alone, with the final norm, or tied to the input: on one rank, losses and gradients."""

import pytest
import torch
from test_head import FACTORS, build, make_batch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

import samplewise as sw
from samplewise.losses.head import find_head
from samplewise.losses.reference import reference_token_losses
from samplewise.losses.request import Request, attach_objective, exact
from samplewise.losses.sharded import Sealed

BF16 = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, torch.bfloat16)


@pytest.fixture
def one_rank(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def shard(model, units: str, **options):
    """units: what is sharded beside the layers and the rest of the model."""
    base, head = model.model, model.lm_head
    for layer in base.layers:
        fully_shard(layer, **options)
    groups = {"head": [head], "norm and head": [base.norm, head], "tied": [base.norm, base.embed_tokens, head]}
    if units in groups:
        fully_shard(groups[units], **options)
    return fully_shard(model, **options)


def named(model) -> dict[str, torch.Tensor]:
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: grad.full_tensor() if isinstance(grad, DTensor) else grad for name, grad in grads.items()}


@pytest.mark.parametrize("reshard", [True, False])
@pytest.mark.parametrize(
    ("kind", "units"),
    [("Llama", "none"), ("Llama", "head"), ("Llama", "norm and head"), ("tied", "tied"), ("Mixtral", "head"),
     ("Mixtral", "norm and head")],
)  # fmt: skip
def test_gradients_are_those_of_the_whole_model(one_rank, kind, units, reshard):
    options = {"output_router_logits": True} if kind == "Mixtral" else {"tie_word_embeddings": kind == "tied"}
    model, (inputs, labels) = build("Mixtral" if kind == "Mixtral" else "Llama", **options), make_batch()
    requests = [Request(labels, FACTORS), Request(labels, differentiable=True), Request(labels, blank=True)]
    attach_objective(model)
    want = []
    for request in requests:
        model.zero_grad()
        _sum(model(**inputs, samplewise=request)).backward()
        want.append(named(model))
    model.zero_grad()
    shard(model, units, mesh=one_rank, reshard_after_forward=reshard)
    with torch.no_grad():
        model(**inputs, samplewise=Request(labels))  # a forward that no backward follows changes nothing
    for request, expected in zip(requests, want, strict=True):
        for last in (False, True):  # accumulated without communication, then with it
            model.set_requires_gradient_sync(last)
            _sum(model(**inputs, samplewise=request)).backward()
        got = named(model)
        for name, gradient in got.items():
            torch.testing.assert_close(gradient, 2 * expected[name], msg=lambda text, n=name: f"{n}: {text}")
        assert got.keys() == expected.keys()
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters()), "resharded"
        model.zero_grad()


def _sum(result):
    """What backward is called on: the objective and the model's own term, or the sum of the losses."""
    value = result.loss.sum() if result.value is None else result.value
    return value if result.aux is None else value + result.aux


@pytest.mark.parametrize("units", ["none", "head", "norm and head"])
def test_a_mixed_precision_policy_rounds_no_weight_and_no_loss(one_rank, units):
    model, (inputs, labels) = build("Llama"), make_batch()
    attach_objective(model)
    shard(model, units, mesh=one_rank, mp_policy=BF16)
    factors = torch.full_like(FACTORS, 1 / 3)
    given = model(**inputs, samplewise=Sealed(Request(labels, factors)))
    result = exact(given)
    assert given.loss.dtype == torch.bfloat16
    assert result.value.dtype == result.loss.dtype == torch.float32
    assert torch.equal(result.factors, factors.to(result.factors))
    (result.value * (1 / 3)).backward()
    third = named(model)["lm_head.weight"]
    model.zero_grad()
    exact(model(**inputs, samplewise=Sealed(Request(labels, factors / 3)))).value.backward()
    assert float(third.norm()) == pytest.approx(
        float(named(model)["lm_head.weight"].norm()), rel=3e-4
    )  # bf16(1/3): 2e-3


def test_parts_of_a_sharded_model_are_refused(one_rank):
    model, (inputs, labels) = build("Llama"), make_batch()
    shard(model, "norm and head", mesh=one_rank)
    with pytest.raises(sw.SamplewiseError, match="one in pieces"):
        reference_token_losses(model, {**inputs, "labels": labels})
    shard(other := build("Llama"), "none", mesh=one_rank)
    with pytest.raises(sw.SamplewiseError, match="one in pieces"):
        find_head(other)


def test_hooks_beside_those_of_fsdp_are_refused(one_rank):
    model = build("Llama")
    shard(model, "head", mesh=one_rank)
    model.lm_head.register_forward_hook(lambda module, args, out: out)
    with pytest.raises(sw.SamplewiseError, match="hooks"):
        find_head(model)
