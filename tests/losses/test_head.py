"""Every listed architecture, tiny and random: losses and gradients without logits equal those from logits."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from samplewise.core.errors import SamplewiseError
from samplewise.losses.check_head import check_head
from samplewise.losses.head import find_head
from samplewise.losses.request import Request, attach_objective, with_objective

# transformers renames these while its own Trainer and peft still call the old names:
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")

SIZES = {
    "vocab_size": 61, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
EXPERTS = {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2}
ARCHITECTURES = {
    "Llama": SIZES,
    "Qwen2": SIZES,
    "Qwen3": {**SIZES, "head_dim": 8},
    "Mistral": {**SIZES, "tie_word_embeddings": True},
    "Gemma2": {**SIZES, "head_dim": 8, "final_logit_softcapping": 0.5, "layer_types": ["full_attention"] * 2},
    "Gemma3Text": {**SIZES, "head_dim": 8, "final_logit_softcapping": 0.7, "layer_types": ["full_attention"] * 2},
    "GPT2": {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "OPT": {
        "vocab_size": 61, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "word_embed_proj_dim": 8, "max_position_embeddings": 64,
    },
    "GPTNeoX": {**SIZES, "rotary_pct": 0.5},
    "GPTJ": {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "rotary_dim": 4},
    "Cohere": {**SIZES, "logit_scale": 0.25},
    "Granite": {**SIZES, "logits_scaling": 4.0, "embedding_multiplier": 3.0},
    "FalconH1": {
        **SIZES, "lm_head_multiplier": 0.3, "head_dim": 8,
        "mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8, "mamba_d_state": 8,
    },
    "Mixtral": EXPERTS,
    "Llama4Text": {**SIZES, "head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 24},
    "Qwen3Moe": {**EXPERTS, "num_experts": 4, "moe_intermediate_size": 8, "head_dim": 8, "norm_topk_prob": True},
}  # fmt: skip


def build(name, **changes):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**ARCHITECTURES[name], **changes})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # initial weights are so small that a wrong cap or scale would hardly show
        model.get_output_embeddings().weight.mul_(20)
        if model.get_output_embeddings().bias is not None:
            model.get_output_embeddings().bias.normal_()
    return model


def make_batch(left=False):
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 61, (4, 12), generator=g)
    mask = torch.ones_like(ids)
    for row, padding in ((1, 5), (3, 2)):
        mask[row, slice(0, padding) if left else slice(-padding, None)] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[2, :6] = -100
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}, labels


def from_logits(logits, labels):
    token = F.cross_entropy(logits[:, :-1].transpose(1, 2).float(), labels[:, 1:], reduction="none")
    return token.sum(1) / (labels[:, 1:] != -100).sum(1)


FACTORS = torch.tensor([0.5, 2.0, 1.0, 0.1])


def gradients(model, value):
    model.zero_grad()
    value.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_losses_and_gradients_equal_those_from_logits(name):
    model, (inputs, labels) = build(name), make_batch()
    theirs = from_logits(model(**inputs).logits, labels)
    want = gradients(model, (FACTORS * theirs).sum())
    with with_objective(model):
        out = model(**inputs, samplewise=Request(labels, FACTORS, chunk_bytes=9 * 61 * 4))
        got = gradients(model, out.value)
    torch.testing.assert_close(out.loss.detach(), theirs.detach(), rtol=1e-5, atol=1e-5)
    assert got.keys() == want.keys()
    assert len(got) > 5
    for parameter, grad in want.items():
        torch.testing.assert_close(
            got[parameter], grad, rtol=1e-4, atol=1e-5 * float(grad.abs().max()) + 1e-7, msg=parameter
        )
    check_head(model, inputs)


def test_the_head_is_what_the_config_says():
    assert find_head(build("Gemma2")).softcap == 0.5
    assert find_head(build("Cohere")).scale == 0.25
    assert find_head(build("Granite")).scale == 0.25
    assert find_head(build("FalconH1")).scale == 0.3
    assert find_head(build("GPTJ")).bias is not None
    plain = find_head(build("Llama"))
    assert (plain.softcap, plain.scale, plain.bias) == (None, 1.0, None)


class ScaledLlama(transformers.LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.logits = out.logits * 1.01
        return out


def test_check_refuses_a_model_that_does_more():
    model = ScaledLlama(build("Llama").config)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    with pytest.raises(SamplewiseError, match=r'ScaledLlama.*logits="allow"'):
        check_head(model, make_batch()[0])
    model.config.logit_scale = 1.01
    check_head(model, make_batch()[0])


@pytest.mark.parametrize("left", [False, True])
def test_check_leaves_no_trace(left):
    model = build("GPT2", resid_pdrop=0.5).train()
    model.transformer.h[0].eval()
    modes = [m.training for m in model.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        check_head(model, make_batch(left)[0])
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())


def test_check_reads_few_tokens():
    model, seen = build("Llama"), []
    model.model.embed_tokens.register_forward_hook(lambda module, args, out: seen.append(args[0].numel()))
    check_head(model, {"input_ids": torch.randint(61, (8, 60))})
    assert seen == [64, 64]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_check_allows_for_the_rounding_of_16_bits(dtype):
    check_head(build("Llama").to(dtype), make_batch()[0])
    wrong = build("Llama").to(dtype)
    wrong.config.logit_scale = 1.5
    with pytest.raises(SamplewiseError):
        check_head(wrong, make_batch()[0])


def test_check_needs_two_tokens():
    with pytest.raises(SamplewiseError, match="two tokens"):
        check_head(build("Llama"), {"input_ids": torch.ones(3, 1, dtype=torch.long)})


def test_check_takes_whole_documents_of_a_packed_row():
    """Position ids restart at each document; what is scored never reaches from one into the next."""
    model, seen = build("Llama"), []
    model.model.embed_tokens.register_forward_hook(lambda module, args, out: seen.append(args[0].tolist()))
    ids = torch.arange(4, 60)[None]
    lengths = [1, 5, 7, 40, 1, 1, 1]  # the last three: padding to a multiple
    position = torch.cat([torch.arange(n) for n in lengths])[None]
    packed = {"input_ids": ids, "position_ids": position, "labels": ids, "seq_idx": position, "max_length_q": 40}
    check_head(model, packed)
    want = [[*range(5, 10), 0, 0], [*range(10, 17)]]
    assert seen == [want, want]
    seen.clear()
    rows = {"input_ids": ids.expand(3, -1), "position_ids": torch.arange(56)[None]}
    check_head(model, rows)
    assert seen == [[[*range(4, 36)]] * 2] * 2


def test_attached_model_keeps_its_face():
    model, (inputs, labels) = build("Llama"), make_batch()
    signature, keys, before = inspect.signature(model.forward), list(model.state_dict()), model(**inputs).logits
    detach = attach_objective(model)
    assert inspect.signature(model.forward) == signature
    assert "input_ids" in signature.parameters
    assert list(model.state_dict()) == keys
    assert torch.equal(model(**inputs).logits, before)
    assert type(model).forward is transformers.LlamaForCausalLM.forward
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.lm_head.weight.zero_()
    request = Request(labels, FACTORS)
    assert float(twin(**inputs, samplewise=request).loss[0].detach()) == pytest.approx(torch.tensor(61.0).log().item())
    assert float(model(**inputs, samplewise=request).loss[0].detach()) > 4.2
    detach()
    assert "forward" not in vars(model)
    assert torch.equal(model(**inputs).logits, before)


def test_detach_passes_through_where_someone_wrapped_since():
    model, (inputs, _) = build("Llama"), make_batch()
    want, detach = model(**inputs).logits, attach_objective(model)
    ours, calls = model.forward, []
    model.forward = lambda *args, **kwargs: (calls.append(1), ours(*args, **kwargs))[1]
    detach()
    assert torch.equal(model(**inputs).logits, want)
    assert calls == [1]


def test_scoring_and_arbitrary_gradients():
    model, (inputs, labels) = build("Qwen3"), make_batch()
    with with_objective(model):
        with torch.no_grad():
            scored = model(**inputs, labels=labels, samplewise=Request(labels))
        out = model(**inputs, samplewise=Request(labels, differentiable=True))
    got = gradients(model, out.loss.square().sum())
    theirs = from_logits(model(**inputs).logits, labels)
    want = gradients(model, theirs.square().sum())
    assert scored.value is scored.factors is None
    torch.testing.assert_close(scored.loss, theirs.detach())
    for parameter in want:
        torch.testing.assert_close(got[parameter], want[parameter], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant):
    model, (inputs, labels) = build("Llama").train(), make_batch()
    with with_objective(model):
        want = gradients(model, model(**inputs, samplewise=Request(labels, FACTORS)).value)
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
        got = gradients(model, model(**inputs, samplewise=Request(labels, FACTORS)).value)
    for parameter in want:
        torch.testing.assert_close(got[parameter], want[parameter])


@pytest.mark.parametrize("unused", [False, True])
def test_inside_ddp(tmp_path, unused):
    model, (inputs, labels) = build("Llama"), make_batch()
    attach_objective(model)
    want = gradients(model, model(**inputs, samplewise=Request(labels, FACTORS)).value)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=unused)
        model.zero_grad()
        wrapped(**inputs, samplewise=Request(labels, FACTORS)).value.backward()
    finally:
        torch.distributed.destroy_process_group()
    for parameter, grad in want.items():
        torch.testing.assert_close(model.get_parameter(parameter).grad, grad)


def test_auxiliary_term_of_a_router():
    model, (inputs, labels) = build("Mixtral", output_router_logits=True, router_aux_loss_coef=0.7), make_batch()
    want = model(**inputs).aux_loss * 0.7
    with with_objective(model):
        out = model(**inputs, samplewise=Request(labels, FACTORS))
    assert out.aux is not None
    torch.testing.assert_close(out.aux, want)
    assert out.aux.requires_grad
    torch.testing.assert_close(out.value, (FACTORS * out.loss).sum())


def test_other_models_are_refused():
    t5 = transformers.T5Config(vocab_size=61, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    for model in (nn.Linear(2, 2), build("Llama").model, transformers.T5ForConditionalGeneration(t5)):
        with pytest.raises(SamplewiseError, match=type(model).__name__):
            find_head(model)


def test_a_hooked_head_is_refused():
    model = build("Llama")
    model.lm_head.register_forward_hook(lambda module, args, out: out)
    with pytest.raises(SamplewiseError, match="hooks"):
        find_head(model)


def test_a_head_with_another_forward_is_refused():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = build("Llama")
    model.lm_head = Doubled(16, 61, bias=False)
    with pytest.raises(SamplewiseError, match="Doubled"):
        find_head(model)
