"""The head inside PEFT models, and beside TRL, which wraps the same model's forward for itself."""

from __future__ import annotations

import inspect

import pytest
import torch
from test_head import FACTORS, build, from_logits, gradients, make_batch

from samplewise.core.errors import SamplewiseError
from samplewise.losses.check_head import check_head
from samplewise.losses.head import find_head
from samplewise.losses.reference import reference_token_losses
from samplewise.losses.request import Request, attach_objective, with_objective

peft = pytest.importorskip("peft")

# transformers renames these while its own Trainer and peft still call the old names:
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")


def lora(model, **options):
    with torch.random.fork_rng():
        config = peft.LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM", **options)
        return peft.get_peft_model(model, config)


def both(model):
    """(losses, gradients) without logits, and from them."""
    inputs, labels = make_batch()
    theirs = from_logits(model(**inputs).logits, labels)
    want = gradients(model, (FACTORS * theirs).sum())
    with with_objective(model):
        out = model(**inputs, samplewise=Request(labels, FACTORS))
        got = gradients(model, out.value)
    return (out.loss.detach(), got), (theirs.detach(), want)


def assert_equal(ours, theirs):
    torch.testing.assert_close(ours[0], theirs[0].double(), rtol=1e-5, atol=0)  # their losses are in fp32
    assert ours[1].keys() == theirs[1].keys()
    for parameter, grad in theirs[1].items():
        assert (ours[1][parameter] - grad).norm() <= 1e-6 * grad.norm(), parameter


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("checkpointing", [None, "reentrant", "not reentrant"])
def test_adapters_get_the_gradient_of_the_logits(tied, checkpointing):
    model = lora(build("Llama", tie_word_embeddings=tied).double(), target_modules=["q_proj", "v_proj"]).train()
    if checkpointing is not None:
        model.gradient_checkpointing_enable({"use_reentrant": checkpointing == "reentrant"})
        model.enable_input_require_grads()
    ours, theirs = both(model)
    assert_equal(ours, theirs)
    assert len(ours[1]) == 8
    assert all("lora" in parameter for parameter in ours[1])
    with model.disable_adapter():
        assert (plain_losses(model) - ours[0]).abs().max() > 1e-3
    with with_objective(model):
        assert "input_ids" in inspect.signature(model.forward).parameters
    check_head(model, make_batch()[0])


def plain_losses(model):
    """From logits, without gradient."""
    inputs, labels = make_batch()
    model.eval()
    with torch.no_grad():
        return from_logits(model(**inputs).logits, labels).double()


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning")
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_head_trained_in_full_beside_adapters(tied):
    """modules_to_save: PEFT trains a copy of the head, which is a plain linear one level down."""
    model = build("Llama", tie_word_embeddings=tied).double()
    model = lora(model, target_modules=["q_proj"], modules_to_save=["lm_head"]).train()
    with torch.no_grad():
        find_head(model).weight.mul_(1.1)  # the copy is no longer the original
    ours, theirs = both(model)
    assert_equal(ours, theirs)
    assert any("lm_head.modules_to_save" in parameter for parameter in ours[1])
    check_head(model, make_batch()[0])
    with model.disable_adapter(), torch.no_grad(), with_objective(model):
        inputs, labels = make_batch()
        original = model(**inputs, samplewise=Request(labels)).loss
        torch.testing.assert_close(original, plain_losses(model), rtol=1e-5, atol=0)
    assert (original - ours[0]).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # peft 0.18
def test_the_active_adapters_own_head():
    model = lora(build("Llama").double(), target_modules=["q_proj"], modules_to_save=["lm_head"])
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["v_proj"], modules_to_save=["lm_head"]))
    model.add_adapter("headless", peft.LoraConfig(r=2, target_modules=["k_proj"]))
    copies = model.get_base_model().lm_head
    assert find_head(model).weight is copies.modules_to_save["default"].weight
    model.set_adapter("other")
    assert find_head(model).weight is copies.modules_to_save["other"].weight
    check_head(model, make_batch()[0])
    model.set_adapter("headless")
    check_head(model, make_batch()[0])


def test_a_frozen_head_holds_no_gradient():
    """What is stored for the backward is of the batch's size; the head's is not among it."""
    model, (inputs, labels) = lora(build("Llama"), target_modules=["q_proj"]), make_batch()
    with with_objective(model):
        value = model(**inputs, samplewise=Request(labels, FACTORS)).value
        trained = build("Llama")
        with with_objective(trained):
            other = trained(**inputs, samplewise=Request(labels, FACTORS)).value
    assert [x is None for x in value.grad_fn.parts] == [False, True, True]
    assert [x is None for x in other.grad_fn.parts] == [False, False, True]


@pytest.mark.parametrize(
    "options", [{"target_modules": ["q_proj", "lm_head"]}, {"trainable_token_indices": {"lm_head": [1, 2]}}]
)
def test_an_adapted_head_is_refused_by_name(options):
    with pytest.raises(SamplewiseError, match=r'adapted by PEFT.*logits="allow"'):
        find_head(lora(build("Llama"), **{"target_modules": ["q_proj"], **options}))


def test_the_model_without_its_adapters_as_reference():
    inputs, labels = make_batch()
    batch, base = {**inputs, "labels": labels}, build("Llama")
    want = reference_token_losses(base, batch)
    model = lora(base, target_modules=["q_proj"])
    assert not torch.equal(reference_token_losses(model, batch), want)
    with model.disable_adapter():
        assert torch.equal(reference_token_losses(model, batch), want)


def test_prompt_learning_is_refused_by_name():
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(SamplewiseError, match="prompt learning"):
        find_head(peft.get_peft_model(build("Llama"), config))


@pytest.mark.parametrize("order", ["ours, TRL", "TRL, ours", "TRL, adapters, ours"])
def test_beside_trl(order):
    """SFTTrainer wraps the base model's forward on the instance; either order answers both, and detaching frees it."""
    utils = pytest.importorskip("trl.trainer.utils")
    if not hasattr(utils, "add_fused_lm_head"):
        pytest.skip("TRL before its fused head wraps the forward inside SFTTrainer: held by the tests of the hosts")
    model, (inputs, labels), detach = build("Llama"), make_batch(), None
    for step in order.split(", "):
        if step == "TRL":
            utils.add_fused_lm_head(model)
        elif step == "ours":
            detach = attach_objective(model)
        else:
            model = lora(model, target_modules=["q_proj"])
    request = Request(labels, FACTORS)
    out = model(**inputs, samplewise=request)
    got = gradients(model, out.value)
    fused = model(**inputs, labels=labels, fused_lm_head=True)
    torch.testing.assert_close(-fused.log_probs.sum(1) / fused.label_mask.sum(1), out.loss, rtol=1e-5, atol=1e-5)
    logits = model(**inputs).logits
    want = gradients(model, (FACTORS * from_logits(logits, labels)).sum())
    for parameter, grad in want.items():
        torch.testing.assert_close(got[parameter], grad, rtol=1e-4, atol=1e-5)
    check_head(model, inputs)
    assert detach is not None
    detach()
    assert torch.equal(model(**inputs, samplewise=request).logits, logits)  # Llama takes and ignores what it knows not
    assert model(**inputs, labels=labels, fused_lm_head=True).log_probs is not None
    again = attach_objective(model)
    assert torch.equal(model(**inputs, samplewise=request).loss, out.loss)
    again()
    assert torch.equal(model(**inputs).logits, logits)
