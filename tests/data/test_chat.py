"""Conversations in tokens: what is predicted is what the assistant said, as transformers and TRL see it."""

import copy
import math
import warnings

import numpy as np
import pytest
import tiny
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from watching import OnStep

from samplewise.core.errors import SamplewiseError
from samplewise.data import (
    ChatReport,
    Conversation,
    PadCollator,
    chat_template,
    encode_conversations,
    read_instructions,
    to_dataset,
)

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<s>system\nBe kind.</s>\n' }}{% endif %}"
    "{{ '<s>' + m['role'] + '\n' }}{{ m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
SAID = "{{ m['content'] + '</s>\n' }}"
MARKED = CHATML.replace(
    SAID,
    "{% if m['role'] == 'assistant' %}{% generation %}" + SAID + "{% endgeneration %}{% else %}" + SAID + "{% endif %}",
)
LAST_ONLY = CHATML.replace(SAID, "{{ ('thinking ' if loop.last else '') + m['content'] + '</s>\n' }}")


def turns(*contents, weights=None, first="user"):
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    said = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    for message, weight in zip(said, weights or [], strict=False):
        message.update({} if weight is None else {"weight": weight})
    return {"messages": said}


def encoded(rows, tokenizer, template=CHATML, **options):
    return list(encode_conversations(read_instructions(rows), chat_template(tokenizer, template), **options))


def predicted(example, tokenizer):
    return tokenizer.decode(example.labels[example.labels != -100])


def with_template(tokenizer, template):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    return tokenizer


contents = st.lists(st.text(min_size=1, max_size=20).filter(str.strip), min_size=2, max_size=6).map(
    lambda found: found[: len(found) // 2 * 2]
)
tame = contents.filter(lambda found: not any(c in "\0" or 0xD800 <= ord(c) < 0xE000 for c in "".join(found)))


@settings(max_examples=60, deadline=None)
@given(said=tame)
def test_marks_and_prefixes_show_the_same_and_transformers_agrees(tokenizer, said):
    row = turns(*said)
    (by_prefix,) = encoded([row], tokenizer, CHATML)
    (by_marks,) = encoded([row], tokenizer, MARKED)
    theirs = tokenizer.apply_chat_template(
        row["messages"], chat_template=MARKED, return_dict=True, return_assistant_tokens_mask=True
    )
    for example in (by_prefix, by_marks):
        assert example.input_ids.tolist() == theirs["input_ids"]
        assert (example.labels != -100).astype(int).tolist() == theirs["assistant_masks"]
        assert (example.labels == example.input_ids)[example.labels != -100].all()
        spoken = sum(len(f"{answer}</s>\n".encode()) for answer in said[1::2])
        merged = any(answer[0].isspace() for answer in said[1::2])  # a token may hold the line end before it too
        assert example.size == spoken or (merged and example.size > spoken)


def test_what_is_predicted_is_the_answer_and_its_end(tokenizer):
    examples = encoded([turns("that cat", "a mat"), turns("the cat", "sat", "on what", "the hat")], tokenizer)
    assert [predicted(example, tokenizer) for example in examples] == ["a mat</s>\n", "sat</s>\nthe hat</s>\n"]
    assert [example.token_weights for example in examples] == [None, None]


def test_an_answer_may_come_first(tokenizer):
    (example,) = encoded([turns("hello", "hi", "and now", first="assistant")], tokenizer)
    assert predicted(example, tokenizer) == "hello</s>\nand now</s>\n"


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_weights_of_messages_reach_their_tokens(tokenizer, template):
    rows = [turns("the", "cat", "sat", "on", "that", "mat", weights=[None, 0, None, 0.5, 0, 2])]
    (example,) = encoded(rows, tokenizer, template)
    assert predicted(example, tokenizer) == "on</s>\nmat</s>\n"
    for weight, text in ((0.5, "on</s>\n"), (2.0, "mat</s>\n")):
        assert tokenizer.decode(example.input_ids[example.token_weights == weight]) == text
    assert ((example.token_weights > 0) == (example.labels != -100)).all()


def test_weights_of_0_and_1_need_no_column(tokenizer):
    masked, whole = encoded(
        [turns("the", "cat", "sat", "mat", weights=[None, 0, None, 1]), turns("the", "cat")], tokenizer
    )
    assert masked.token_weights is None
    assert predicted(masked, tokenizer) == "mat</s>\n"
    assert "token_weights" not in to_dataset([masked, whole]).column_names


def test_a_column_of_weights_is_there_for_all_rows_if_for_one(tokenizer):
    examples = encoded([turns("the", "cat", weights=[None, 0.25]), turns("the", "cat")], tokenizer)
    first, second = to_dataset(examples)["token_weights"]
    assert np.array_equal(np.array(second), (examples[1].labels != -100).astype(float))
    assert set(first) == {0.0, 0.25}


def test_what_is_cut_or_masked_is_counted(tokenizer):
    rows = [turns("the cat", "sat"), turns("the cat", "sat on the mat " * 9), turns("that was " * 40, "mat")]
    rows.append(turns("the", "cat", weights=[None, 0]))
    report = ChatReport()
    examples = encoded(rows, tokenizer, max_length=60, report=report)
    assert [example.row for example in examples] == [0, 1]
    assert (report.read, report.cut, report.no_target, report.masked, report.open_ended) == (2, 1, 1, 1, 0)
    assert len(examples[1].input_ids) == 60
    assert report.predicted == sum(example.tokens for example in examples)
    assert "1 cut" in str(report)
    assert "no answer is left" in str(report)
    whole = encoded(rows[1:2], tokenizer)[0]
    assert np.array_equal(whole.labels[:60], examples[1].labels)


def test_a_plain_prompt_and_completion_are_continued(tokenizer):
    report = ChatReport()
    (example,) = encoded([{"prompt": "the cat", "completion": " sat"}], tokenizer, report=report)
    assert tokenizer.decode(example.input_ids) == "the cat sat</s>"
    assert predicted(example, tokenizer) == " sat</s>"
    assert report.open_ended == 0


def test_the_first_position_is_never_a_target(tokenizer):
    (example,) = encoded([{"prompt": "", "completion": "the cat"}], tokenizer)
    assert example.labels[0] == -100
    assert example.tokens == len(example.input_ids) - 1


def test_plain_headings_are_used_when_asked_for(tokenizer):
    with pytest.raises(SamplewiseError, match=r'chat_template: .* "plain"'):
        chat_template(tokenizer)
    (example,) = encoded([turns("the cat", "sat")], tokenizer, "plain")
    assert tokenizer.decode(example.input_ids) == "<s>### User:\nthe cat\n\n### Assistant:\nsat</s>\n\n"
    assert predicted(example, tokenizer) == "sat</s>"
    plain = chat_template(tokenizer, "plain")
    assert "generation %}" not in plain.unmarked()
    said = turns("the cat", "sat")["messages"]
    assert tokenizer.apply_chat_template(said, chat_template=plain.unmarked(), tokenize=False).endswith("sat</s>\n\n")


def test_a_template_may_be_a_file(tokenizer, tmp_path):
    (tmp_path / "chat.jinja").write_text(CHATML)
    row = turns("the cat", "sat")
    (by_file,) = encoded([row], tokenizer, tmp_path / "chat.jinja")
    (by_name,) = encoded([row], with_template(tokenizer, CHATML), None)
    assert np.array_equal(by_file.labels, by_name.labels)
    with pytest.raises(SamplewiseError, match="chat_template"):
        chat_template(tokenizer, tmp_path / "none.jinja")


def test_a_template_that_hides_the_answers_start_names_the_remedy(tokenizer):
    with pytest.raises(SamplewiseError, match="generation"):
        encoded([turns("the", "cat", "sat", "mat")], tokenizer, LAST_ONLY)
    with pytest.raises(SamplewiseError, match="shows the assistant's turns"):
        encoded([turns("the", "cat")], tokenizer, "{{ messages[0]['content'] }}")
    no_block = MARKED.replace("m['role'] == 'assistant'", "false")
    with pytest.raises(SamplewiseError, match="shows the assistant's turns"):
        encoded([turns("the", "cat")], tokenizer, no_block)


def test_blocks_that_do_not_match_the_turns_take_no_weights(tokenizer):
    one = MARKED.replace("m['role'] == 'assistant'", "m['role'] == 'assistant' and loop.last")
    rows = [turns("the", "cat", "sat", "mat", weights=[None, 0.5, None, 1])]
    with pytest.raises(SamplewiseError, match=r"one .* block for each of the 2"):
        encoded(rows, tokenizer, one)


def test_trl_has_training_templates_for_known_models_only(tokenizer):
    from trl.chat_template_utils import qwen3_chat_template, qwen3_training_chat_template

    known = with_template(tokenizer, qwen3_chat_template)
    with pytest.raises(SamplewiseError, match='"training"'):
        encoded([turns("the", "cat", "sat", "mat")], known, None)
    template = chat_template(known, "training")
    assert template.given == qwen3_training_chat_template
    with pytest.raises(SamplewiseError, match="TRL has a training variant"):
        chat_template(with_template(tokenizer, CHATML), "training")


def test_a_conversation_that_the_template_refuses_is_named_or_counted(tokenizer):
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    rows = [{"messages": [{"role": "system", "content": "x"}, *turns("the", "cat")["messages"]]}, turns("the", "cat")]
    with pytest.raises(SamplewiseError, match=r"rows, record 0: .*no system"):
        encoded(rows, tokenizer, strict)
    report = ChatReport()
    assert [example.row for example in encoded(rows, tokenizer, strict, on_error="skip", report=report)] == [1]
    assert dict(report.skipped) == {"refused by the template": 1}


def test_a_template_that_does_not_end_the_turn_is_noticed(tokenizer):
    report = ChatReport()
    encoded([turns("the", "cat")], tokenizer, CHATML.replace("</s>", ""), report=report)
    assert report.open_ended == 1


def test_columns_reach_the_dataset(tokenizer):
    columns = [
        {"sample_id": 7, "sample_weight": 0.5, "group": "web", "reference_loss": 1.5},
        {"sample_id": 3, "sample_weight": 0, "group": "books", "reference_loss": math.pi},
    ]
    found = to_dataset(encoded([turns("the", "cat") | more for more in columns], tokenizer))
    assert found["sample_id"][:] == [7, 3]
    assert found["sample_weight"][:] == [0.5, 0.0]
    assert found["group"][:] == [1, 0]
    assert found["reference_loss"][:] == [1.5, math.pi]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([{"sample_weight": 1}, {}], "sample_weight: expected a value in every row"),
        ([{"group": "web"}, {"group": 1}], "group: expected names or whole numbers"),
        ([{"sample_id": 1}, {"sample_id": 1}], "sample_id: expected a unique id"),
    ],
)
def test_columns_that_do_not_fit_together_are_refused(tokenizer, columns, message):
    examples = encoded([turns("the", "cat") | more for more in columns], tokenizer)
    with pytest.raises(SamplewiseError, match=message):
        to_dataset(examples)


def test_a_conversation_with_tools(tokenizer):
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    said = [
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2", "name": "add"},
        {"role": "assistant", "content": "it is 2"},
    ]
    template = CHATML.replace("m['content']", "(m['content'] or m['tool_calls'][0]['function']['name'])")
    template = "{{ tools[0]['name'] + '\n' }}" + template
    (example,) = encoded([{"messages": said, "tools": [{"name": "add"}]}], tokenizer, template)
    assert tokenizer.decode(example.input_ids).startswith("add\n<s>system")
    assert predicted(example, tokenizer) == "add</s>\nit is 2</s>\n"


# ---- TRL ----


def trls(rows, tokenizer, tmp_path, **options):
    """What TRL's own trainer makes of the rows."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    common = {"use_cpu": True, "bf16": False, "report_to": "none", "max_length": 64, "disable_tqdm": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)  # TRL's own default
        args = SFTConfig(output_dir=str(tmp_path), **common, **options)
    model = tiny.model(vocab_size=len(tokenizer))
    data, tokenizer = datasets.Dataset.from_list(rows), copy.deepcopy(tokenizer)
    return SFTTrainer(model, args, train_dataset=data, processing_class=tokenizer).train_dataset


MANY = [
    turns("the cat sat", "on the mat"), turns("hello", "hat " * 40), turns("a", "b", "c", "naïve — ☃"),
    turns("that was " * 30, "cut away"), turns("x\n", "\n\ny "),
]  # fmt: skip


def same(ours, theirs):
    assert [example.input_ids.tolist() for example in ours] == theirs["input_ids"][:]
    assert [example.labels.tolist() for example in ours] == theirs["labels"][:]


def test_messages_are_trls_with_assistant_only_loss(tokenizer, tmp_path):
    tokenizer = with_template(tokenizer, MARKED)
    same(encoded(MANY, tokenizer, None, max_length=64), trls(MANY, tokenizer, tmp_path, assistant_only_loss=True))


def test_prompt_and_completion_in_messages_are_trls(tokenizer, tmp_path):
    rows = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in MANY]
    tokenizer = with_template(tokenizer, CHATML)
    same(encoded(rows, tokenizer, None, max_length=64), trls(rows, tokenizer, tmp_path))


def test_plain_prompt_and_completion_are_trls(tokenizer, tmp_path):
    rows = [
        {"prompt": row["messages"][0]["content"], "completion": " " + row["messages"][1]["content"]} for row in MANY
    ]
    same(encoded(rows, tokenizer, "plain", max_length=64), trls(rows, tokenizer, tmp_path))


def test_rows_of_ours_pass_through_trl_unchanged(tokenizer, tmp_path):
    ours = encoded(MANY, tokenizer, CHATML, max_length=64)
    prepared = trls(to_dataset(ours).to_list(), with_template(tokenizer, CHATML), tmp_path)
    same(ours, prepared)


def test_the_plain_trainer_takes_them_too(tokenizer, tmp_path):
    from samplewise.trainers import WeightedTrainer

    row, columns = turns("the cat", "sat", weights=[None, 0.5]), [(0.5, 3), (2.0, 4)]
    data = to_dataset(encoded([row | {"sample_weight": w, "group": g} for w, g in columns], tokenizer))
    trainer = WeightedTrainer(
        tiny.model(vocab_size=len(tokenizer)), tiny.arguments(tmp_path, max_steps=1, gradient_accumulation_steps=1),
        train_dataset=data, data_collator=PadCollator(1), rule="chain(column_weights(), ir_dro(r=1.0))",
    )  # fmt: skip
    results = []
    trainer.engine.added.append(OnStep(results.append))
    trainer.train()
    samples = results[0].samples
    order = [samples.id.tolist().index(name) for name in data["sample_id"]]
    assert list(zip(samples.weight[order].tolist(), samples.group[order].tolist(), strict=True)) == columns
    assert samples.tokens[order].tolist() == [sum(label != -100 for label in labels) for labels in data["labels"]]


def test_fast_tokenizers_only(tokenizer):
    class Slow(transformers.PreTrainedTokenizer):
        pass

    with pytest.raises(SamplewiseError, match="maps tokens to characters"):
        chat_template(object.__new__(Slow), "plain")


def test_conversations_have_the_same_names_wherever_they_are_read():
    first, second = (Conversation((), "a.jsonl", row, "messages") for row in (0, 1))
    assert first.id != second.id
    assert 0 <= first.id < 2**63
