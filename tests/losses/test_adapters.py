"""PEFT's kinds of adapters, those that act outside the model's layers too: gradients of the logits, or a refusal."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
import transformers
from test_head import FACTORS, build, gradients, make_batch
from torch import nn

from samplewise.core.errors import SamplewiseError
from samplewise.losses.check_head import check_head
from samplewise.losses.head import find_head
from samplewise.losses.own_terms import has_own_term
from samplewise.losses.reference import reference_token_losses
from samplewise.losses.request import Request, with_objective

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`use_cache=True` is incompatible:UserWarning"),
]
CALL = [50, 51]  # what invokes aLoRA
LAYERS = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}
KINDS = {
    "LoRA": lambda: peft.LoraConfig(r=2, **LAYERS),
    "DoRA": lambda: peft.LoraConfig(r=2, use_dora=True, **LAYERS),
    "aLoRA": lambda: peft.LoraConfig(r=2, alora_invocation_tokens=CALL, **LAYERS),
    "AdaLoRA": lambda: peft.AdaLoraConfig(total_step=20, orth_reg_weight=0.3, **LAYERS),
    "RoAd": lambda: peft.RoadConfig(variant="road_1", group_size=8, **LAYERS),
    "IA3": lambda: peft.IA3Config(feedforward_modules=[], **LAYERS),
    "VeRA": lambda: peft.VeraConfig(r=2, task_type="CAUSAL_LM", target_modules=["q_proj"]),
    "LoHa": lambda: peft.LoHaConfig(r=2, **LAYERS),
    "LoKr": lambda: peft.LoKrConfig(r=2, **LAYERS),
    "OFT": lambda: peft.OFTConfig(oft_block_size=4, task_type="CAUSAL_LM", target_modules=["q_proj"]),
    "tokens": lambda: peft.TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=[4, 5]),
    "LoRA and tokens": lambda: peft.LoraConfig(r=2, trainable_token_indices=[4, 5], **LAYERS),
    "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "AdaptionPrompt": lambda: peft.AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=3, adapter_layers=2),
}


def adapted(config: peft.PeftConfig, base: nn.Module | None = None, **options) -> Any:
    """With random values: what a new adapter adds is 0, so that leaving it out would not show."""
    torch.manual_seed(3)
    model = peft.get_peft_model(base or build("Llama"), config, **options).double()
    moved(model)
    return model


def moved(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def called_batch():
    inputs, labels = make_batch()
    inputs["input_ids"][:, 4:6] = torch.tensor(CALL)
    return inputs, labels.masked_scatter(labels != -100, inputs["input_ids"][labels != -100])


def from_logits(logits, labels):
    token = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    return token.sum(1) / (labels[:, 1:] != -100).sum(1)


def assert_gradient_of_logits(model: nn.Module, **more) -> torch.Tensor | None:
    """Returns the model's own term."""
    inputs, labels = called_batch()
    inputs |= more
    outputs = model(**inputs)
    theirs = from_logits(outputs.logits, labels)
    want = gradients(model, (FACTORS * theirs).sum())
    with with_objective(model):
        out = model(**inputs, samplewise=Request(labels, FACTORS))
        got = gradients(model, out.value)
    torch.testing.assert_close(out.loss.float(), theirs.float().detach(), rtol=1e-5, atol=1e-5)
    assert got.keys() == want.keys()
    whole = sum(float(gradient.norm()) for gradient in want.values())
    assert whole > 0
    for name, gradient in want.items():
        assert gradient.norm() > 0, name
        assert (got[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7 * whole, name
    check_head(model, inputs)
    return out.aux


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "AdaLoRA"])
def test_the_gradient_is_that_of_the_logits(kind, checkpointing):
    checkpointing = checkpointing and kind != "prefix"  # PEFT itself fails there
    model = adapted(KINDS[kind]()).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    assert assert_gradient_of_logits(model) is None


def test_adalora_brings_its_own_term():
    model = adapted(KINDS["AdaLoRA"]()).train()
    assert has_own_term(model)
    aux = assert_gradient_of_logits(model)
    inputs, labels = called_batch()
    outputs = model(**inputs, labels=labels)
    token = nn.functional.cross_entropy(outputs.logits[:, :-1].transpose(1, 2), labels[:, 1:])
    want = gradients(model, outputs.loss - token)
    assert aux is not None
    torch.testing.assert_close(aux.double(), (outputs.loss - token).detach().double(), rtol=1e-5, atol=1e-5)
    with with_objective(model):
        got = gradients(model, model(**inputs, samplewise=Request(labels, FACTORS)).aux)
    for name, gradient in got.items():
        assert (gradient - want[name]).norm() <= 1e-4 * want[name].norm() + 1e-6, name


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")  # peft 0.18, of a model without a folder
def test_xlora_scales_its_adapters(tmp_path):
    for name in "01":
        one = peft.get_peft_model(build("Llama"), peft.LoraConfig(r=2, init_lora_weights=False, **LAYERS))
        one.save_pretrained(tmp_path / name)
    adapters = {name: str(tmp_path / name) for name in "01"}
    config = peft.XLoraConfig(
        task_type="CAUSAL_LM", hidden_size=16, xlora_depth=2, xlora_size=8, adapters=adapters,
        use_trainable_adapters=True, xlora_dropout_p=0.0,
    )  # fmt: skip
    assert_gradient_of_logits(adapted(config, build("Llama", use_cache=False)))


def test_poly_reads_its_tasks():
    config = peft.PolyConfig(r=2, n_tasks=2, n_splits=1, **LAYERS)
    assert_gradient_of_logits(adapted(config).eval(), task_ids=torch.tensor([0, 1, 0, 1]))


def test_mixed_adapters():
    assert_gradient_of_logits(adapted(KINDS["LoRA"](), mixed=True))


def test_a_reference_with_an_invoked_adapter():
    model, (inputs, labels) = adapted(KINDS["aLoRA"]()), called_batch()
    got = reference_token_losses(model, {**inputs, "labels": labels})
    with torch.no_grad():
        logits = model(**inputs).logits[:, :-1].transpose(1, 2)
    want = nn.functional.cross_entropy(logits, labels[:, 1:], reduction="none")
    torch.testing.assert_close(got[:, 1:].float(), want.float(), rtol=1e-5, atol=1e-5)
    with model.disable_adapter():
        assert (reference_token_losses(model, {**inputs, "labels": labels}) - got).abs().max() > 1e-3


def test_the_models_forward_is_given_back_where_it_fails():
    model, (inputs, _) = adapted(KINDS["aLoRA"]()), called_batch()
    inner = model.get_base_model()
    inner.loss_function = function = lambda *a, **k: torch.zeros(())
    check_head(model, inputs)
    assert "forward" not in inner.__dict__
    assert inner.loss_function is function
    with pytest.raises(IndexError):
        check_head(model, {"input_ids": inputs["input_ids"] + 1000})
    assert "forward" not in inner.__dict__
    assert inner.loss_function is function


PROMPTS = {
    "PROMPT_TUNING": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    "P_TUNING": peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, encoder_hidden_size=8),
    "MULTITASK": peft.MultitaskPromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, num_tasks=2),
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_virtual_tokens_are_refused_with_a_remedy_that_works(kind):
    with pytest.raises(SamplewiseError, match=rf"prompt learning \({kind}.*LoRA, or prefix tuning"):
        find_head(peft.get_peft_model(build("Llama"), PROMPTS[kind]))


@pytest.mark.skipif(not hasattr(peft, "ShadowConfig"), reason="this peft has no ShadowPEFT")
def test_the_loss_of_a_second_model_is_refused():
    config = peft.ShadowConfig(task_type="CAUSAL_LM")
    assert config.auxiliary_loss_weight > 0
    model = peft.get_peft_model(build("Llama"), config)
    with pytest.raises(SamplewiseError, match="auxiliary_loss_weight=0"):
        find_head(model)
    config.auxiliary_loss_weight = 0.0
    find_head(model)


class Regularised(transformers.LlamaForCausalLM):
    """Adds a term to its loss that nobody knows of."""

    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        if outputs.loss is not None:
            outputs.loss = outputs.loss + 0.1 * self.model.embed_tokens.weight.norm()
        return outputs


@pytest.mark.parametrize("with_lora", [False, True])
def test_a_term_that_is_not_known_is_refused(with_lora):
    model = Regularised(build("Llama").config)
    model = peft.get_peft_model(model, KINDS["LoRA"]()) if with_lora else model
    with pytest.raises(SamplewiseError, match=r"additional loss term of 0.*Regularised"):
        check_head(model, make_batch()[0])
