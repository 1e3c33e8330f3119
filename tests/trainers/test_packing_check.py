"""Models that let packed segments see one another are refused by name before the first packed step; others train."""

import peft
import pytest
import tiny
import torch
import transformers
from test_own_terms import CALL, LAYERS
from transformers import DataCollatorWithFlattening

import samplewise as sw
from samplewise.core.columns import ID
from samplewise.core.micro_batch import read_micro_batch
from samplewise.losses.from_logits import FromLogits
from samplewise.losses.packing_check import check_packing
from samplewise.trainers import WeightedTrainer
from samplewise.trainers.collate import FieldsCollator
from samplewise.trainers.loop import WeightedStep


def lists(rows):
    return [{key: value.tolist() for key, value in row.items()} for row in rows]


def train(tmp_path, model, collator, rule="uniform()", **options):
    args = tiny.arguments(tmp_path, max_steps=2, learning_rate=1e-2, bf16=options.pop("bf16", False), max_grad_norm=0.0)
    data = lists([tiny.Rows()[k] for k in range(24)])
    trainer = WeightedTrainer(model, args, train_dataset=data, data_collator=collator, rule=rule, **options)
    trainer.train()
    return model.state_dict()


def flattened(features):
    return DataCollatorWithFlattening()(features)


def padded(features):
    rows = [{key: torch.tensor(value) for key, value in row.items()} for row in features]
    batch = tiny.collate(rows)
    batch["labels"][:, 0] = -100
    return batch


@pytest.mark.parametrize("rule", ["uniform()", "band(drop_top=0.25)"])
@pytest.mark.parametrize("logits", ["refuse", "allow"])
def test_a_model_without_position_ids_is_refused(tmp_path, rule, logits, monkeypatch):
    if logits == "allow":
        tiny.without_plain_head(monkeypatch)
    model = tiny.model("opt")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(sw.SamplewiseError, match=r"OPTForCausalLM with attn_implementation='sdpa'.*padded rows"):
        train(tmp_path, model, flattened, rule, logits=logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    train(tmp_path, model, padded, rule, logits=logits)  # the remedy


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_model_that_reads_them_trains_as_on_padded_rows(tmp_path, attention, bf16):
    options = {"attn_implementation": attention, "initializer_range": 0.2}
    got = train(tmp_path, tiny.model(**options), flattened, "ir_dro(r=0.5)", bf16=bf16)
    want = train(tmp_path, tiny.model(**options), padded, "ir_dro(r=0.5)", bf16=bf16)
    if not bf16:
        for name, value in want.items():
            assert (got[name] - value).abs().max() <= 2e-5, name


def test_an_attention_that_looks_across_is_found_by_what_it_does(tmp_path):
    """The same model, with another implementation of attention: one that ignores the mask of segments."""

    def careless(module, query, key, value, attention_mask, scaling, **kwargs):
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
        return out.transpose(1, 2).contiguous(), None

    transformers.AttentionInterface.register("careless", careless)
    with pytest.raises(sw.SamplewiseError, match="'careless'"):
        train(tmp_path, tiny.model(attn_implementation="careless"), flattened)


def test_adapters_that_are_invoked_once_a_row_are_not_packed(tmp_path):
    model = peft.get_peft_model(tiny.model(), peft.LoraConfig(r=2, alora_invocation_tokens=CALL, **LAYERS))
    with pytest.raises(sw.SamplewiseError, match="aLoRA"):
        train(tmp_path, model, flattened)


def test_a_reference_model_is_asked_too(tmp_path):
    with pytest.raises(sw.SamplewiseError, match="OPTForCausalLM"):
        train(tmp_path, tiny.model(), flattened, "by('excess', ir_dro(r=1.0))", reference_model=tiny.model("opt"))


def test_in_a_loop_of_ones_own():
    collator = FieldsCollator(flattened)
    rows = [{**row, ID: number} for number, row in enumerate(lists([tiny.Rows()[k] for k in range(4)]))]
    step = WeightedStep(tiny.model("opt"), "ir_dro(r=0.5)")
    with pytest.raises(sw.SamplewiseError, match="OPTForCausalLM"):
        list(step.plan([collator(rows)]))


def test_it_leaves_no_trace():
    model = tiny.model(attention_dropout=0.3).train()
    batch = FieldsCollator(flattened)([{**row, ID: n} for n, row in enumerate(lists([tiny.Rows()[0], tiny.Rows()[1]]))])
    state = torch.get_rng_state()
    check_packing(model, read_micro_batch(batch), FromLogits().token_losses)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
