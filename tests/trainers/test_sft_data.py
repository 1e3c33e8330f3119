"""Conversations in TRL's trainer as people have them: templates, masks, packing, weights inside messages."""

import json
import logging

import datasets
import pytest
import tiny
import torch
import transformers
from test_trl import Watched, conversations, trained
from tokenizers import Tokenizer, models, pre_tokenizers
from trl import SFTConfig, SFTTrainer

import samplewise as sw
from samplewise.losses.segments import nested_ids
from samplewise.trainers.trl import WeightedSFTTrainer

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "<user>", "<assistant>", "<end>", *[f"w{i}" for i in range(30)]]
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<assistant> {% generation %}{{ m['content'] }} <end>"
    "{% endgeneration %} {% else %}<user> {{ m['content'] }} <end> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def chatty(template: str = TEMPLATE):
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="<end>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.chat_template = template
    return tokenizer


def said(n: int = 8, weights=None) -> list[list[dict]]:
    """Conversations of two turns; the n-th's are of their own lengths."""
    rows = []
    for k in range(n):
        row = []
        for turn in range(2):
            row.append({"role": "user", "content": " ".join(f"w{(k + i) % 30}" for i in range(2 + k % 3))})
            answer = {"role": "assistant", "content": " ".join(f"w{(3 * k + turn + i) % 30}" for i in range(3 + turn))}
            row.append(answer)
        if weights is not None:
            for message, weight in zip(row, (None, weights[0], None, weights[1]), strict=True):
                message["weight"] = weight
        rows.append(row)
    return rows


def run(tmp_path, data, cls=Watched, rule="ir_dro(r=0.5)", tokenizer=None, per="sample", turns=False, **options):
    torch.manual_seed(0)
    defaults = {
        "output_dir": str(tmp_path), "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1,
        "per_device_train_batch_size": 8, "max_steps": 2, "learning_rate": 1e-3, "disable_tqdm": True, "bf16": False,
        "dataloader_pin_memory": False, "max_length": 64, tiny.CHECKPOINTING: False, "seed": 3,
    }  # fmt: skip
    ours = {"rule": rule, "per": per, "turns": turns} if issubclass(cls, WeightedSFTTrainer) else {}
    trainer = cls(
        tiny.model(), SFTConfig(**{**defaults, **options}), train_dataset=data,
        processing_class=tokenizer or chatty(), **ours,
    )  # fmt: skip
    trainer.train()
    return trainer


def logged(trainer, key):
    return [entry[key] for entry in trainer.state.log_history if key in entry]


PROMPTS = {
    "prompt": [[row[0]] for row in said()],
    "completion": [row[1:2] for row in said()],
}


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ({"messages": said()}, {}),
        ({"messages": said()}, {"assistant_only_loss": True}),
        (PROMPTS, {}),
        (PROMPTS, {"completion_only_loss": False}),
        ({"messages": said()}, {"assistant_only_loss": True, "packing": True, "max_length": 40}),
        (PROMPTS, {"packing": True, "packing_strategy": "bfd_split", "max_length": 7}),
        ({"messages": said()}, {"packing": True, "packing_strategy": "wrapped", "max_length": 20}),
        ({"text": [" ".join(m["content"] for m in row) for row in said()]}, {"pad_to_multiple_of": 8}),
        ({"messages": said()}, {"padding_free": True, "max_length": None, "pad_to_multiple_of": 16}),
    ],
    ids=["messages", "assistant only", "completion", "completion and prompt", "packed", "bfd_split", "wrapped", "text",
         "padding-free, padded"],
)  # fmt: skip
@pytest.mark.fast_cases("messages", "completion and prompt", "packed", "bfd_split")
def test_uniform_per_token_is_trl_on_every_form_of_data(tmp_path, data, options):
    options = {"eval_strategy": "no", **options}
    ours = run(tmp_path, datasets.Dataset.from_dict(data), rule="uniform()", per="token", **options)
    host = run(tmp_path, datasets.Dataset.from_dict(data), SFTTrainer, **options)
    for a, b in zip(ours.model.parameters(), host.model.parameters(), strict=True):
        assert (a - b).abs().max() <= 2e-5
    for key in ("loss", "grad_norm", "num_tokens", "entropy", "mean_token_accuracy"):
        assert logged(ours, key) == pytest.approx(logged(host, key), rel=1e-4), key


def test_fragments_of_a_split_conversation_have_ids_of_their_own(tmp_path):
    trainer = run(
        tmp_path, datasets.Dataset.from_dict({"messages": said(4)}), packing=True, packing_strategy="bfd_split",
        max_length=7, per_device_train_batch_size=64, max_steps=1,
    )  # fmt: skip
    ids = [name for row in trainer.train_dataset for name in row["sample_id"]]
    lengths = [len(chatty().apply_chat_template(row)["input_ids"]) for row in said(4)]
    expected = {
        int(nested_ids(torch.tensor([k]), torch.tensor([part])))
        for k, length in enumerate(lengths)
        for part in range(-(-length // 7))
    }
    assert len(ids) == len(set(ids))
    assert set(ids) == expected


def test_wrapped_packing_makes_rows_samples_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = run(
            tmp_path, datasets.Dataset.from_dict({"messages": said()}), packing=True, packing_strategy="wrapped",
            max_length=20, per_device_train_batch_size=16, max_steps=1,
        )  # fmt: skip
    assert caplog.text.count("each packed row is one sample") == 1
    assert len(trainer.steps[0][1]) == len(trainer.train_dataset)


def test_wrapped_packing_loses_no_column_in_silence(tmp_path):
    data = datasets.Dataset.from_dict({"messages": said(), "sample_weight": [1.0] * 8})
    with pytest.raises(sw.SamplewiseError, match=r"packing_strategy: expected 'bfd'.*sample_weight would be lost"):
        run(tmp_path, data, packing=True, packing_strategy="wrapped", max_length=20)


def test_a_conversation_cut_before_its_target_is_no_sample(tmp_path):
    """Packed with a prompt that fills the row: excluded and counted; TRL itself drops it where rows are padded."""
    rows = {**PROMPTS, "prompt": [*PROMPTS["prompt"]]}
    rows["prompt"][3] = [{"role": "user", "content": " ".join(["w1"] * 30)}]
    data = datasets.Dataset.from_dict(rows)
    trainer = run(tmp_path, data, packing=True, max_length=20, max_steps=1)
    _, samples, weights, _ = trainer.steps[0]
    assert samples.tokens[samples.id == 3].item() == 0
    assert weights[samples.id == 3].item() == 0
    assert logged(trainer, "samplewise/empty") == [1.0]
    padded = run(tmp_path, data, max_length=20, max_steps=1)
    assert 3 not in padded.steps[0][1].id.tolist()
    torch.testing.assert_close(padded.steps[0][1].loss, samples.loss[samples.tokens > 0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("options", [{}, {"packing": True, "max_length": 40}], ids=["padded", "packed"])
@pytest.mark.fast_cases("packed")
def test_a_weight_inside_each_message(tmp_path, options):
    """1 and 0 mask, fractions weigh tokens; the sample's loss by a plain loop over the model's logits."""
    data = datasets.Dataset.from_dict({"messages": said(weights=(0.5, 1.0))})
    masked = datasets.Dataset.from_dict({"messages": said(weights=(0.0, 1.0))})
    model, tokenizer = tiny.model(), chatty()
    for rows, weights in ((data, (0.5, 1.0)), (masked, (0.0, 1.0))):
        trainer = run(tmp_path, rows, max_steps=1, **options)
        found = trainer.steps[0][1]
        for k, row in enumerate(said()):
            encoded = tokenizer.apply_chat_template(row, return_assistant_tokens_mask=True)
            ids, mask = encoded["input_ids"], encoded["assistant_masks"]
            starts = [at for at in range(1, len(mask)) if mask[at] and not mask[at - 1]]
            m = [0.0 if not mask[at] else weights[sum(start <= at for start in starts) - 1] for at in range(len(ids))]
            with torch.no_grad():
                log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            loss = sum(-m[at] * float(log_p[at - 1, ids[at]]) for at in range(1, len(ids))) / sum(m[1:])
            assert float(found.loss[found.id == k]) == pytest.approx(loss, rel=1e-5)
            assert int(found.tokens[found.id == k]) == sum(weight > 0 for weight in m[1:])


@pytest.mark.parametrize("mark", [{"train": False}, {"loss": False}, {"loss_scale": 0.0}, {"masked": True}], ids=str)
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.fast_cases("3-{'train': False}", "0-{'masked': True}")
def test_other_marks_and_uneven_rows_are_weights_too(tmp_path, mark, at):
    """Uneven rows come in a JSON column, where the first row need not have the mark."""
    rows, by_weight = said(), said(weights=(1.0, 1.0))
    rows[at][1].update(mark)
    by_weight[at][1]["weight"] = 0.0
    data = datasets.Dataset.from_dict({"messages": rows}, on_mixed_types="use_json")
    uneven = data.cast(datasets.Features({"messages": datasets.List(datasets.Json())}))
    (expected,) = run(tmp_path, datasets.Dataset.from_dict({"messages": by_weight}), max_steps=1).steps
    for given in (data, uneven):
        (found,) = run(tmp_path, given, max_steps=1).steps
        assert found[1].tokens.tolist() == expected[1].tokens.tolist()
        assert torch.equal(found[1].loss, expected[1].loss)


@pytest.mark.parametrize("bad", [-0.5, float("nan")])
def test_a_message_weight_that_is_none_is_named(tmp_path, bad):
    data = datasets.Dataset.from_dict({"messages": said(weights=(1.0, bad))})
    with pytest.raises(sw.SamplewiseError, match="train_dataset, row 0: expected a finite number of at least 0"):
        run(tmp_path, data)


@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("options", [{}, {"packing": True, "max_length": 40}], ids=["padded", "packed"])
def test_conversations_whose_messages_all_have_weight_zero_are_left_out_and_counted(tmp_path, caplog, at, options):
    """The others keep the number of their row as id."""
    rows = said(weights=(0.5, 1.0))
    rows[at] = said(8, weights=(0.0, 0.0))[at]
    with caplog.at_level(logging.WARNING):
        trainer = run(tmp_path, datasets.Dataset.from_dict({"messages": rows}), max_steps=1, **options)
    assert trainer.steps[0][1].id.tolist() == [k for k in range(8) if k != at]
    assert "1 of 8 conversations were left out: they have nothing to predict" in caplog.text


def test_messages_that_all_have_weight_zero_are_refused(tmp_path):
    data = datasets.Dataset.from_dict({"messages": said(weights=(0.0, 0.0))})
    with pytest.raises(sw.SamplewiseError, match=r"^train_dataset: expected an assistant's message with a weight"):
        run(tmp_path, data)


def test_arguments_of_the_template_are_not_passed_over(tmp_path):
    rows = {"messages": said(weights=(1.0, 0.5)), "chat_template_kwargs": [{"enable_thinking": False}] * 8}
    with pytest.raises(sw.SamplewiseError, match="expected no column chat_template_kwargs beside weights"):
        run(tmp_path, datasets.Dataset.from_dict(rows))


@pytest.mark.parametrize("weights", [None, (1.0, 1.0)], ids=["by TRL", "weights"])
def test_tools_may_be_a_text_of_json(tmp_path, weights):
    tool = {"type": "function", "function": {"name": "w1", "parameters": {"type": "object", "properties": {}}}}
    tokenizer = chatty("{% if tools %}<user> {{ tools[0]['function']['name'] }} <end> {% endif %}" + TEMPLATE)
    data = datasets.Dataset.from_dict({"messages": said(weights=weights), "tools": [json.dumps([tool])] * 8})
    trainer = run(tmp_path, data, tokenizer=tokenizer, assistant_only_loss=True, max_steps=1)
    expected = tokenizer.apply_chat_template(said()[0], tools=[tool])["input_ids"]
    assert expected in [list(row) for row in trainer.train_dataset["input_ids"]]


def test_tools_padded_by_a_table_are_whole_with_weights_and_said_without(tmp_path, caplog):
    tools = [[{"name": "f", "parameters": {key: {"type": "string"}}}] for key in ("city", "a")] * 4
    tokenizer = chatty("{% if tools %}<user> {{ tools | tojson }} <end> {% endif %}" + TEMPLATE)
    expected = [tokenizer.apply_chat_template(r, tools=t)["input_ids"] for r, t in zip(said(), tools, strict=True)]
    data = datasets.Dataset.from_dict({"messages": said(weights=(1.0, 1.0)), "tools": tools})
    trainer = run(tmp_path, data, tokenizer=tokenizer, max_steps=1)
    assert [list(ids) for ids in trainer.train_dataset["input_ids"]] == expected
    assert "null parameters" not in caplog.text
    data = datasets.Dataset.from_dict({"messages": said(), "tools": tools})
    run(tmp_path, data, tokenizer=tokenizer, max_steps=1)
    assert "null parameters" in caplog.text


def test_a_template_that_trl_cannot_take_apart_gets_a_remedy_that_works(tmp_path):
    from samplewise.data import chat_template, encode_conversations, read_instructions, to_dataset

    marks = TEMPLATE.replace("<end>{% endgeneration %} ", "<end>{% endgeneration %}").replace("<end> {%", "<end>{%")
    marks = marks.replace("<assistant> ", " <assistant> ").replace("<user>", " <user>")
    without_marks = chatty(marks.replace("{% generation %}", "").replace("{% endgeneration %}", ""))
    data = datasets.Dataset.from_dict({"messages": said()})
    with pytest.raises(
        sw.SamplewiseError, match=r"assistant_only_loss: .*not training-compatible.*encode_conversations"
    ):
        run(tmp_path, data, tokenizer=without_marks, assistant_only_loss=True)
    rows = to_dataset(list(encode_conversations(read_instructions(data), chat_template(without_marks))))
    ours = run(tmp_path, rows, tokenizer=without_marks, max_steps=1).steps[0][1]
    marked = run(tmp_path, data, tokenizer=chatty(marks), assistant_only_loss=True, max_steps=1).steps[0][1]
    assert sorted(ours.loss.tolist()) == pytest.approx(sorted(marked.loss.tolist()), rel=1e-5)


def test_weights_that_begin_within_a_stream_are_not_passed_over(tmp_path):
    """Of a stream the first row alone says whether messages have weights."""
    rows = said()
    rows[3][1]["weight"] = 0.25
    stream = datasets.IterableDataset.from_generator(lambda: ({"messages": row} for row in rows))
    with pytest.raises(sw.SamplewiseError, match="expected weights in the messages of a stream's first row"):
        run(tmp_path, stream, max_steps=1)


def test_turns_of_conversations(tmp_path):
    data = datasets.Dataset.from_dict({"messages": said()})
    trainer = run(tmp_path, data, assistant_only_loss=True, turns=True, packing=True, max_length=40)
    assert len(trainer.steps[0][1]) == 16


def test_the_first_evaluation_is_trls(tmp_path):
    data = datasets.Dataset.from_dict({"messages": said()})

    def evaluated(cls, **ours):
        trainer = cls(
            tiny.model(), SFTConfig(str(tmp_path), use_cpu=True, report_to="none", bf16=False, max_length=64,
                                    dataloader_pin_memory=False, disable_tqdm=True),
            train_dataset=data, eval_dataset=data, processing_class=chatty(), **ours,
        )  # fmt: skip
        return trainer.evaluate()

    ours, host = evaluated(WeightedSFTTrainer, rule="ir_dro(r=0.1)"), evaluated(SFTTrainer)
    for key in ("eval_loss", "eval_entropy", "eval_mean_token_accuracy"):
        assert ours[key] == host[key]


def test_an_evaluation_set_named_train_is_evaluated_like_any_other(tmp_path):
    """Weights inside messages are for training alone: TRL encodes all evaluation sets."""
    data = datasets.Dataset.from_dict({"messages": said(weights=(0.5, 1.0)), "sample_weight": [1.0] * 8})
    args = SFTConfig(
        str(tmp_path), use_cpu=True, report_to="none", bf16=False, dataloader_pin_memory=False, disable_tqdm=True
    )
    trainer = WeightedSFTTrainer(
        tiny.model(), args, train_dataset=data, eval_dataset={"train": data, "other": data}, processing_class=chatty(),
        rule="column_weights()",
    )  # fmt: skip
    found = trainer.evaluate()
    assert found["eval_train_loss"] == found["eval_other_loss"]


# ---- refused ----


def test_dft_is_refused_by_name(tmp_path):
    with pytest.raises(sw.SamplewiseError, match=r"^loss_type.*token_rule='dft\(\)'"):
        trained(tmp_path, "padded", "uniform()", loss_type="dft")


def test_a_template_without_marks_is_trls_error(tmp_path):
    plain = chatty("{% for m in messages %}{{ m['content'] }} {% endfor %}")
    with pytest.raises(ValueError, match="generation"):
        run(tmp_path, datasets.Dataset.from_dict({"messages": said()}), tokenizer=plain, assistant_only_loss=True)


def test_a_packed_stream_of_several_shards_needs_ids(tmp_path):
    data = conversations().to_iterable_dataset(num_shards=2)
    with pytest.raises(sw.SamplewiseError, match="a column sample_id in a packed stream"):
        trained(tmp_path, "bfd", "uniform()", data=data)


@pytest.mark.parametrize("form", ["padded", "bfd"])
def test_streams(tmp_path, form):
    trainer, _ = trained(tmp_path, form, "ir_dro(r=0.5)", data=conversations().to_iterable_dataset())
    assert trainer.steps[0][1].id.tolist() == list(range(16))
