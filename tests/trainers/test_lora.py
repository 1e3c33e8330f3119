"""LoRA in both trainers: the gradient of the adapters is autograd's from the model's logits."""

import inspect

import peft
import pytest
import tiny
import torch
from test_trl import Gradients, config, conversations, tokenizer, trained
from transformers import MixtralConfig, MixtralForCausalLM
from trl import SFTTrainer

import samplewise as sw
from samplewise.trainers import WeightedTrainer
from samplewise.trainers.trl import WeightedSFTTrainer


def adapted(model, **options) -> peft.PeftModel:
    torch.manual_seed(5)
    lora = peft.LoraConfig(
        r=2, lora_alpha=4, init_lora_weights=False, task_type="CAUSAL_LM",
        **{"target_modules": ["q_proj", "v_proj", "down_proj"], **options},
    )  # fmt: skip
    return peft.get_peft_model(model, lora)


def from_logits(model, rows, rule: sw.Rule, dtype=torch.float64) -> torch.Tensor:
    """The gradient of Σ w_i L_i of one step over these rows, row by row, all of the rule's weights at once."""
    losses = []
    for row in rows:
        ids = torch.as_tensor(row["input_ids"])[None]
        labels = torch.as_tensor(row["labels"])[None]
        losses.append(sw.sample_losses(model(input_ids=ids).logits.to(dtype), labels)[0][0])
    loss = torch.stack(losses)
    weights = sw.weights(rule, loss.detach())
    model.zero_grad()
    (weights * loss).mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointing", "plain"])
@pytest.mark.parametrize("rule", ["ir_dro(r=0.5)", "chain(band(drop_top=0.25), ir_dro(r=0.5))"])
@pytest.mark.fast_cover(2)
def test_adapters_in_the_plain_trainer(tmp_path, rule, tied, checkpointing):
    model, seen = adapted(tiny.model(tie_word_embeddings=tied)), Gradients()
    rows = tiny.Rows(24)
    args = tiny.arguments(
        tmp_path, gradient_accumulation_steps=3, per_device_train_batch_size=8, learning_rate=0.0, max_grad_norm=0.0,
        **{tiny.CHECKPOINTING: checkpointing},
    )  # fmt: skip
    trainer = WeightedTrainer(model, args, train_dataset=rows, data_collator=tiny.collate, rule=rule, callbacks=[seen])
    trainer.train()
    expected = from_logits(adapted(tiny.model(tie_word_embeddings=tied)), rows, sw.parse_rule(rule))
    assert len(expected) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    for gradient in seen.steps:
        assert (gradient - expected).norm() <= 2e-5 * expected.norm()
    assert model.get_output_embeddings().weight.grad is None


def test_adapters_in_trls_trainer(tmp_path):
    torch.manual_seed(5)
    lora = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj", "v_proj", "down_proj"], lora_alpha=4)
    seen = Gradients()
    trainer = WeightedSFTTrainer(
        tiny.model(), config(tmp_path, "bfd", 4), train_dataset=conversations(), processing_class=tokenizer(),
        peft_config=lora, rule="ir_dro(r=0.5)", callbacks=[seen],
    )  # fmt: skip
    trainer.train()
    expected = from_logits(trainer.model, conversations(), sw.ir_dro(r=0.5))  # at a learning rate of 0
    for gradient in seen.steps:
        assert (gradient - expected).norm() <= 2e-5 * expected.norm()


def test_an_adapter_on_the_head_is_refused_by_name(tmp_path):
    model = adapted(tiny.model(tie_word_embeddings=False), target_modules=["q_proj", "lm_head"])
    with pytest.raises(sw.SamplewiseError, match=r"^model: .*LoRA"):
        WeightedTrainer(
            model, tiny.arguments(tmp_path), train_dataset=tiny.Rows(24), data_collator=tiny.collate, rule="ir_dro()"
        ).train()


def test_a_routers_term_keeps_trls_coefficient(tmp_path):
    """A mixture of experts under `uniform()` per token is TRL's own training, its auxiliary loss included."""

    def model():
        torch.manual_seed(0)
        return MixtralForCausalLM(
            MixtralConfig(vocab_size=tiny.VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                          num_attention_heads=2, num_key_value_heads=2, num_local_experts=4, output_router_logits=True,
                          bos_token_id=1, eos_token_id=2, pad_token_id=0)
        )  # fmt: skip

    options = {"learning_rate": 1e-3, "max_steps": 3, "router_aux_loss_coef": 0.5}
    theirs = 0.5 if "weighted_aux_loss" in inspect.getsource(SFTTrainer.compute_loss) else 0.25  # below
    ours, _ = trained(tmp_path, "padded", "uniform()", 2, per="token", model=model(), **options)
    # TRL before 1.15 adds the term once for each micro-batch, 2 here, where later ones and this package average it
    host, _ = trained(
        tmp_path, "padded", None, 2, cls=SFTTrainer, model=model(), **options | {"router_aux_loss_coef": theirs}
    )
    without, _ = trained(
        tmp_path, "padded", None, 2, cls=SFTTrainer, model=model(), **options | {"router_aux_loss_coef": 0.0}
    )
    for a, b in zip(ours.model.parameters(), host.model.parameters(), strict=True):
        assert (a - b).abs().max() <= 2e-5
    assert (
        max((a - b).abs().max() for a, b in zip(host.model.parameters(), without.model.parameters(), strict=True))
        > 1e-4
    )
    logged = [[h["aux_loss"] for h in each.state.log_history if "aux_loss" in h] for each in (ours, host)]
    assert len(logged[0]) == 3
    assert logged[0] == pytest.approx(logged[1], rel=1e-3)
    losses = [[h["loss"] for h in each.state.log_history if "loss" in h] for each in (ours, host)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)  # it holds the term, as TRL's does
