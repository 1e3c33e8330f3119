"""Marks on messages in the words of many tools: what is not to be learned is not, and contradictions are refused."""

import itertools

import pytest

from samplewise.core.errors import SamplewiseError
from samplewise.data import chat_template, encode_conversations, read_instructions
from samplewise.data.marks import FLAGS, NUMBERS
from samplewise.data.unfit import say_once


def talk(marks, **others):
    said = [{"role": "user", "content": "q", **others}, {"role": "assistant", "content": "bad", **marks}]
    return {"messages": [*said, {"role": "user", "content": "r"}, {"role": "assistant", "content": "good"}]}


def weight(marks, **others):
    (found,) = read_instructions([talk(marks, **others)])
    assert found.messages[1].fields == {}  # no template sees them
    return found.messages[1].weight


OUT = [{name: out} for name, masked in FLAGS.items() for out in (masked, int(masked), float(masked))]
OUT += [{name: 0} for name in NUMBERS] + [{name: False} for name in NUMBERS if name != "weight"]
IN = [{name: not masked} for name, masked in FLAGS.items()] + [{name: 1.0} for name in NUMBERS]
AGREE = [
    {"train": False, "weight": 0},
    {"loss": False, "loss_scale": 0.0},
    {"masked": True, "train": False, "loss_mask": 0},
]


@pytest.mark.parametrize("marks", [*OUT, *AGREE], ids=str)
def test_what_is_marked_is_not_learned(tokenizer, marks):
    assert weight(marks) == 0
    (found,) = encode_conversations(read_instructions([talk(marks)]), chat_template(tokenizer, "plain"))
    assert tokenizer.decode(found.labels[found.labels != -100]) == "good</s>"


@pytest.mark.parametrize("marks", [*IN, {}, *({name: None} for name in (*FLAGS, *NUMBERS, "train_detail"))], ids=str)
def test_what_is_not_marked_is_learned(marks):
    assert weight(marks) == 1


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_weigh(name):
    assert weight({name: 0.25}) == 0.25
    assert weight({name: 0.25, "train": True, "masked": False}) == 0.25


def test_another_roles_messages_may_say_that_they_are_not_learned():
    for name, masked in FLAGS.items():
        assert weight({}, **{name: masked}) == 1
        with pytest.raises(SamplewiseError, match=r"record 0: expected weights of the assistant's .*for user"):
            weight({}, **{name: not masked})


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations([*FLAGS, *NUMBERS], 2)))
def test_marks_that_contradict_one_another_are_refused_by_place(first, second):
    for one, other in ((0, 1), (1, 0)):
        marks = {first: one != FLAGS.get(first, False), second: other != FLAGS.get(second, False)}
        marks = {name: bool(value) if name in FLAGS else float(value) for name, value in marks.items()}
        with pytest.raises(SamplewiseError, match=rf"record 0: expected marks that agree in messages\[1\].*{first}"):
            weight(marks)
    if first in NUMBERS:
        with pytest.raises(SamplewiseError, match="marks that agree"):
            weight({first: 0.5, second: 0.25})


@pytest.mark.parametrize(
    "marks", [{"train": "no"}, {"loss": 2.5}, {"loss": 0.5}, {"training": []}, {"loss_mask": [0, 1]},
              {"loss_scale": -1}, {"loss_weight": "0"}, {"loss_scale": float("nan")}, {"masked": {}},
              {"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": False}]}], ids=str,
)  # fmt: skip
def test_marks_of_unknown_meaning_are_refused_by_place(marks):
    with pytest.raises(SamplewiseError, match=r"rows, record 0: expected .* in messages\[1\]"):
        weight(marks)
    kept = list(read_instructions([talk(marks), talk({})], on_error="skip"))
    assert [each.row for each in kept] == [1]


def test_every_meaning_is_said_once(caplog):
    say_once.cache_clear()
    list(read_instructions([talk({"loss_scale": 0.5})] * 3 + [talk({"no_loss": True})] * 2 + [talk({"weight": 0})] * 2))
    said = [record.getMessage() for record in caplog.records if "messages have" in record.getMessage()]
    assert len(said) == 2
    assert "'loss_scale': it is read" in said[0]
    assert "'no_loss', which is not read" in said[1]


def test_they_are_read_in_the_other_form_and_in_tables(tmp_path):
    import datasets

    said = [
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "a", "train": False},
        {"from": "gpt", "value": "b"},
    ]
    table = datasets.Dataset.from_list([{"conversations": said}] * 2)
    table.to_parquet(tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        assert [[message.weight for message in each.messages] for each in read_instructions(source)] == [[0, 0, 1]] * 2
