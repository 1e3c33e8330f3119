"""A weight for prompts in TRL's trainer: gradients in fp64, padded and packed, and both ends of the scale."""

import datasets
import pytest
import tiny
import torch
from test_sft_data import chatty, said
from test_trl import Gradients
from trl import SFTConfig, SFTTrainer

import samplewise as sw
from samplewise.trainers.trl import WeightedSFTTrainer

PROMPTS = datasets.Dataset.from_dict(
    {"prompt": [[row[0]] for row in said()], "completion": [row[1:2] for row in said()]}
)
MESSAGES = datasets.Dataset.from_dict({"messages": said()})
DATA = {"prompts": (PROMPTS, {}), "messages": (MESSAGES, {"assistant_only_loss": True})}
FORMS = {
    "padded": {"max_length": 64},
    "cut": {"max_length": 7},
    "padding-free": {"padding_free": True, "max_length": None},
    "packed": {"packing": True, "packing_strategy": "bfd", "max_length": 32},
}


def gradient(tmp_path, data, weight, form="padded", *, rule="uniform()", per="sample", cls=WeightedSFTTrainer, **more):
    """Of a step over all rows, and the trainer."""
    seen = Gradients()
    given = {
        "output_dir": str(tmp_path), "use_cpu": True, "report_to": "none", "save_strategy": "no", "max_steps": 1,
        "per_device_train_batch_size": 8, "learning_rate": 0.0, "disable_tqdm": True, "bf16": False,
        "max_grad_norm": 0.0, "dataloader_pin_memory": False, tiny.CHECKPOINTING: False, **FORMS[form], **more,
    }  # fmt: skip
    ours = {"rule": rule, "per": per, "prompt_weight": weight} if cls is WeightedSFTTrainer else {}
    model = tiny.model("llama", dtype=torch.float64)
    trainer = cls(
        model, SFTConfig(**given), train_dataset=data, processing_class=chatty(), callbacks=[seen], **ours
    )  # fmt: skip
    trainer.train()
    return seen.steps[0], trainer


def rows_of(data, options, cut=None):
    """(ids, 1 where TRL predicts by itself) of every conversation, encoded here."""
    tokenizer, found = chatty(), []
    for row in data:
        if "prompt" in row:
            text = row["prompt"] + row["completion"]
            start = len(tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"])
            ids = tokenizer.apply_chat_template(text)["input_ids"]
            mask = [int(t >= start) for t in range(len(ids))]
        else:
            out = tokenizer.apply_chat_template(row["messages"], return_dict=True, return_assistant_tokens_mask=True)
            ids, mask = out["input_ids"], out["assistant_masks"]
        found.append((torch.tensor(ids[:cut]), torch.tensor(mask[:cut], dtype=torch.float64)))
    return found


def by_hand(rows, weight, *, rule="uniform()", per="sample"):
    """Autograd over the step: each row alone through the model, fp64."""
    model = tiny.model("llama", dtype=torch.float64)
    model.train()
    losses, masses = [], []
    for ids, mask in rows:
        token_loss = torch.nn.functional.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
        m = (mask + weight * (1 - mask))[1:]
        losses.append((m * token_loss).sum() / m.sum())
        masses.append(m.sum())
    loss, mass = torch.stack(losses), torch.stack(masses)
    w = sw.weights(sw.parse_rule(rule), loss.detach()) * (mass if per == "token" else 1)
    ((w * loss).sum() / w.sum()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("data", DATA)
@pytest.mark.fast_cover(1)
def test_prompts_take_part_with_their_weight(tmp_path, data, form):
    rows, options = DATA[data]
    cut = 7 if form == "cut" else None
    for rule, per in (("ir_dro(r=0.5)", "sample"), ("uniform()", "token")):
        got, _ = gradient(tmp_path, rows, 0.1, form, rule=rule, per=per, **options)
        want = by_hand(rows_of(rows, options, cut), 0.1, rule=rule, per=per)
        assert (got - want).norm() <= 1e-6 * want.norm(), (rule, "Llama's norm is fp32 always")
        other = by_hand(rows_of(rows, options, cut), 0.3, rule=rule, per=per)
        assert (got - other).norm() >= 1e-3 * want.norm()


@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.fast_cases("packed")
def test_both_ends_are_trls_own_trainer(tmp_path, form):
    """0 is completion only; 1 is all tokens."""
    for weight, only in ((0, True), (1, False)):
        ours, _ = gradient(tmp_path, PROMPTS, weight, form, per="token")
        theirs, _ = gradient(tmp_path, PROMPTS, None, form, cls=SFTTrainer, completion_only_loss=only)
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm(), weight


def test_the_order_of_rows_and_their_columns_are_kept(tmp_path):
    data = PROMPTS.add_column("sample_weight", [1.0 + k % 3 for k in range(8)])
    data = data.add_column("sample_id", [10 + k for k in range(8)])
    _, trainer = gradient(tmp_path, data, 0.5, shuffle_dataset=True)
    _, plain = gradient(tmp_path, data, None, shuffle_dataset=True)
    assert trainer.train_dataset["sample_id"] == plain.train_dataset["sample_id"]
    assert trainer.train_dataset["input_ids"] == plain.train_dataset["input_ids"]
    assert trainer.train_dataset["sample_weight"] == [1.0 + (i - 10) % 3 for i in trainer.train_dataset["sample_id"]]


REFUSED = {
    "no prompt": (datasets.Dataset.from_dict({"text": ["w1 w2 w3"] * 8}), {}, "data of prompts and completions"),
    "switched off": (PROMPTS, {"completion_only_loss": False}, "data of prompts and completions"),
    "labels": (
        datasets.Dataset.from_dict({"input_ids": [[5, 6, 7]] * 8, "labels": [[-100, 6, 7]] * 8}),
        {"completion_only_loss": True}, "data without labels, got a column labels.*token_weights",
    ),
    "weights inside messages": (
        datasets.Dataset.from_dict({"messages": said(weights=(1.0, 0.5))}), {"assistant_only_loss": True},
        "messages without weights",
    ),
    "wrapped": (PROMPTS, {"packing": True, "packing_strategy": "wrapped", "max_length": 16}, "token_weights would be"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_prompt_to_weigh_is_refused(tmp_path, name):
    data, options, says = REFUSED[name]
    with pytest.raises(sw.SamplewiseError, match=says):
        gradient(tmp_path, data, 0.1, **options)


@pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan"), "half", True])
def test_a_prompt_weight_is_a_fraction(tmp_path, weight):
    with pytest.raises(sw.SamplewiseError, match=r"^prompt_weight: expected a number in \[0, 1\]"):
        gradient(tmp_path, PROMPTS, weight)
