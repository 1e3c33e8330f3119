"""Terms that a model or its adapters add to the loss: in the gradient, and in the logged loss, as in the host."""

from typing import Any

import peft
import pytest
import tiny
import torch
import transformers
from transformers import Trainer, TrainerCallback

import samplewise as sw
from samplewise.trainers import WeightedTrainer

CALL = [35, 36]
LAYERS = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}
KINDS = {
    "aLoRA": lambda: peft.LoraConfig(r=2, alora_invocation_tokens=CALL, **LAYERS),
    "AdaLoRA": lambda: peft.AdaLoraConfig(total_step=20, **LAYERS),
    "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
}


class Gradients(TrainerCallback):
    """What the optimizer sees at each step, of the parameters that took part."""

    def __init__(self):
        self.steps: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args, state, control, model: Any = None, **kwargs):
        self.steps.append(torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None]))


class Called(tiny.Rows):
    def __getitem__(self, index):
        row = self.rows[index].clone()
        row[1:3] = torch.tensor(CALL)
        return {"input_ids": row, "labels": row}


def trained(tmp_path, cls, config, checkpointing=False, **options):
    torch.manual_seed(1)
    model = peft.get_peft_model(tiny.model(), config)
    args = tiny.arguments(
        tmp_path, per_device_train_batch_size=8, gradient_accumulation_steps=1, max_steps=3, learning_rate=3e-2,
        **{tiny.CHECKPOINTING: checkpointing},
    )  # fmt: skip
    trainer = cls(model, args, train_dataset=Called(), data_collator=tiny.collate, **options)
    trainer.train()
    values = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], values


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["aLoRA", "AdaLoRA"])
@pytest.mark.fast_cover(1)
def test_uniform_per_token_is_the_host(tmp_path, kind, checkpointing):
    theirs, want = trained(tmp_path, Trainer, KINDS[kind](), checkpointing)
    ours, got = trained(tmp_path, WeightedTrainer, KINDS[kind](), checkpointing, rule="uniform()", per="token")
    assert ours == pytest.approx(theirs, abs=2e-4)
    for name, value in want.items():
        assert (got[name] - value).abs().max() <= 2e-5, name


def test_an_invoked_adapter_in_two_passes_under_checkpointing(tmp_path):
    plain, want = trained(tmp_path, WeightedTrainer, KINDS["aLoRA"](), rule="band(drop_top=0.25)")
    ours, got = trained(tmp_path, WeightedTrainer, KINDS["aLoRA"](), True, rule="band(drop_top=0.25)")
    assert ours == pytest.approx(plain, abs=2e-4)
    for name, value in want.items():
        assert (got[name] - value).abs().max() <= 2e-5, name
        if "lora_B" in name:
            assert value.abs().max() > 1e-3  # it began at 0


@pytest.mark.skipif(not hasattr(peft, "LilyConfig"), reason="this peft has no Lily")
@pytest.mark.parametrize("logits", ["refuse", "allow"])
def test_an_adapter_that_mixes_the_rows_of_a_micro_batch_is_refused(tmp_path, logits):
    config = peft.LilyConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(tiny.model(), config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    rows = torch.randint(3, tiny.VOCABULARY, (2, 6))
    assert (model(rows).logits[:1] - model(rows[:1]).logits).abs().max() > 1e-4, "else nothing need be refused"
    with pytest.raises(sw.SamplewiseError, match="LILY, which mixes its experts"):
        trained(tmp_path, WeightedTrainer, config, rule="ir_dro(r=0.5)", logits=logits)


@pytest.mark.parametrize("logits", ["refuse", "allow"])
def test_prompt_learning_is_refused_and_its_remedy_trains(tmp_path, logits):
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(sw.SamplewiseError, match="PrefixTuningConfig"):
        trained(tmp_path, WeightedTrainer, config, rule="ir_dro(r=0.5)", logits=logits)
    theirs, want = trained(tmp_path, Trainer, KINDS["prefix"]())
    ours, got = trained(tmp_path, WeightedTrainer, KINDS["prefix"](), rule="uniform()", per="token", logits=logits)
    assert ours == pytest.approx(theirs, abs=2e-4)
    for name, value in want.items():
        assert (got[name] - value).abs().max() <= 2e-5, name


def test_the_adapters_term_is_not_lost_from_logits(tmp_path):
    config = peft.AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "lm_head"], total_step=20)
    with pytest.raises(sw.SamplewiseError, match="orth_reg_weight=0"):
        trained(tmp_path, WeightedTrainer, config, rule="ir_dro(r=0.5)", logits="allow")
    config = peft.AdaLoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj", "lm_head"], total_step=20, orth_reg_weight=0.0
    )
    try:
        theirs, _ = trained(tmp_path, Trainer, config)
    except ValueError as error:  # peft 0.18
        assert "orth_reg_weight should be greater than 0" in str(error)  # noqa: PT017
        pytest.skip("this peft refuses orth_reg_weight=0 in the plain Trainer too")
    ours, _ = trained(tmp_path, WeightedTrainer, config, rule="uniform()", per="token", logits="allow")
    assert ours == pytest.approx(theirs, abs=2e-4)


MODELS = {
    "Mixtral": {"num_local_experts": 4},
    "Qwen3Moe": {"num_experts": 4, "moe_intermediate_size": 8, "head_dim": 8, "decoder_sparse_step": 1},
    "Doge": {"is_moe": True, "num_experts": 4, "num_experts_per_tok": 1},
    "JetMoe": {"num_local_experts": 4, "kv_channels": 8, "num_key_value_heads": 1, "aux_loss_coef": 0.4},
    "Olmoe": {"num_experts": 4},
    "Phimoe": {"num_local_experts": 4, "router_jitter_noise": 0.0, "input_jitter_noise": 0.0},
}


def router_model(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": tiny.VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "num_experts_per_tok": 2, "output_router_logits": True,
        "router_aux_loss_coef": 0.4,
    }  # fmt: skip
    config = getattr(transformers, f"{name}Config")(**{**sizes, **MODELS[name]})
    return transformers.AutoModelForCausalLM.from_config(config)


def wrapped_router_model() -> torch.nn.Module:
    """A text model inside a wrapper for images, whose experts the text config alone counts."""
    torch.manual_seed(0)
    text = {
        "vocab_size": tiny.VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 8, "layer_types": ["full_attention"] * 2, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8, "pad_token_id": 0,
        "output_router_logits": True, "router_aux_loss_coef": 0.4, "bos_token_id": 1, "eos_token_id": 2,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "partial_rotary_factor": 1.0
        },
    }  # fmt: skip
    image = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = transformers.Qwen3_5MoeConfig(text_config=text, vision_config=image)
    return transformers.Qwen3_5MoeForConditionalGeneration(config)


@pytest.mark.parametrize("name", [*MODELS, "wrapped"])
@pytest.mark.parametrize("logits", ["refuse", "allow"])
@pytest.mark.fast_cover(1)
def test_a_routers_term_is_the_models_own(tmp_path, name, logits, monkeypatch):
    """Each model computes it in a way of its own, and multiplies it by a coefficient of its own."""
    if logits == "allow":
        tiny.without_plain_head(monkeypatch)

    def run(cls, **options):
        model = wrapped_router_model() if name == "wrapped" else router_model(name)
        args = tiny.arguments(
            tmp_path, per_device_train_batch_size=8, gradient_accumulation_steps=1, max_steps=1, learning_rate=0.0,
            max_grad_norm=0.0,
        )  # fmt: skip
        seen = Gradients()
        trainer = cls(model, args, train_dataset=tiny.Rows(), data_collator=tiny.collate, callbacks=[seen], **options)
        trainer.train()
        return trainer.state.log_history[0]["loss"], seen.steps[0]

    try:
        theirs, want = run(Trainer)
    except TypeError:  # transformers 5.17
        if name != "Doge":
            raise
        pytest.skip("a Doge with experts does not run in the plain Trainer of this transformers either")
    ours, got = run(WeightedTrainer, rule="uniform()", per="token", logits=logits)
    assert ours == pytest.approx(theirs, abs=2e-4)
    assert (got - want).norm() <= 1e-5 * want.norm()


def test_ids_of_32_bits(tmp_path):
    def narrow(features):
        batch = tiny.collate(features)
        return {**batch, "input_ids": batch["input_ids"].int()}

    def run(cls, **options):
        args = tiny.arguments(tmp_path, per_device_train_batch_size=8, gradient_accumulation_steps=1)
        trainer = cls(tiny.model(), args, train_dataset=tiny.Rows(), data_collator=narrow, **options)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    assert run(WeightedTrainer, rule="uniform()", per="token") == pytest.approx(run(Trainer), abs=2e-4)
