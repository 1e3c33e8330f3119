"""TRL's logs under `WeightedSFTTrainer`: every key, and with `uniform()` every value, in training and evaluation."""

import inspect

import pytest
import tiny
import torch
import transformers
from test_trl import conversations, tokenizer
from trl import SFTConfig, SFTTrainer

from samplewise.trainers.trl import WeightedSFTTrainer

MEASURED = ("runtime", "per_second")
"""Parts of keys that hold times."""
ROUTER = 0.05
"""The coefficient of the router's term."""


def experts():
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(
        transformers.Qwen3MoeConfig(
            vocab_size=tiny.VOCABULARY, hidden_size=16, intermediate_size=24, moe_intermediate_size=12, head_dim=8,
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
            output_router_logits=True, router_aux_loss_coef=ROUTER, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip


def logs(tmp_path, cls, model, *, rule="uniform()", per="token", **options):
    given = {
        "output_dir": str(tmp_path / cls.__name__), "use_cpu": True, "report_to": "none", "save_strategy": "no",
        "logging_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 4, "learning_rate": 1e-3,
        "per_device_train_batch_size": 3, "disable_tqdm": True, "seed": 3, "bf16": False, "max_length": 40,
        "dataloader_pin_memory": False, tiny.CHECKPOINTING: False,
    }  # fmt: skip
    ours = {"rule": rule, "per": per} if cls is WeightedSFTTrainer else {}
    trainer = cls(
        model, SFTConfig(**{**given, **options}), train_dataset=conversations(24), processing_class=tokenizer(),
        eval_dataset=conversations(6, seed=2), **ours,
    )  # fmt: skip
    trainer.train()
    return trainer.state.log_history


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("kind", ["llama", "experts"])
@pytest.mark.parametrize("form", [{}, {"packing": True}], ids=["padded", "packed"])
@pytest.mark.fast_cover(2)
def test_every_key_and_value_is_trls(tmp_path, form, kind, accumulation):
    make = experts if kind == "experts" else lambda: tiny.model()
    options = {**form, "gradient_accumulation_steps": accumulation}
    ours, theirs = (logs(tmp_path, cls, make(), **options) for cls in (WeightedSFTTrainer, SFTTrainer))
    assert len(ours) == len(theirs) == 5, "two logs, two evaluations, the end"
    keys = {key for entry in theirs for key in entry}
    assert {"entropy", "mean_token_accuracy", "num_tokens", "eval_entropy", "eval_mean_token_accuracy"} <= keys
    assert ("aux_loss" in keys) == ("eval_aux_loss" in keys) == (kind == "experts")
    averaged = kind != "experts" or "weighted_aux_loss" in inspect.getsource(SFTTrainer.compute_loss)
    for mine, other in zip(ours, theirs, strict=True):
        assert {key for key in mine if not key.startswith("samplewise/")} == set(other)
        if not averaged:  # TRL before 1.15 adds the router's term once for each micro-batch, to the gradient too
            term = ROUTER * (accumulation - 1) * theirs[0]["aux_loss"]
            other |= {key: other[key] - term for key in ("loss", "train_loss") if key in other}
        for key, value in other.items():
            if not any(part in key for part in MEASURED) and key != "total_flos":
                assert mine[key] == pytest.approx(value, rel=2e-4 if averaged else 2e-3, abs=1e-6), key


@pytest.mark.parametrize("rule", ["top_k(0.5)", "ir_dro(kl=0.1)"])
def test_in_two_passes_the_metrics_are_of_all_tokens_once(tmp_path, rule):
    """Of the scoring pass, whatever is trained on and however often; so of a plain step of one micro-batch."""
    seen = []
    for given, accumulation in (("uniform()", 1), (rule, 1), (rule, 2)):
        found = logs(
            tmp_path, WeightedSFTTrainer, tiny.model(), rule=given, per="sample", max_steps=1, logging_steps=1,
            per_device_train_batch_size=6 // accumulation, gradient_accumulation_steps=accumulation, eval_strategy="no",
        )  # fmt: skip
        seen.append({key: found[0][key] for key in ("entropy", "mean_token_accuracy", "num_tokens")})
    assert seen[1] == pytest.approx(seen[0], rel=1e-5)
    assert seen[2] == pytest.approx(seen[0], rel=1e-5)
