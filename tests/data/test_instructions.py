"""Instruction data: every form and format gives the same conversations; what fits none is named by its line."""

import gzip
import json
import logging

import pytest

from samplewise.core.errors import SamplewiseError
from samplewise.data import (
    InstructionReport,
    deduplicate,
    group_numbers,
    instruction_id,
    read_instructions,
    split_documents,
)

ASK, ANSWER = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
SAME = {  # one conversation in every form
    "alpaca": {"instruction": "2 + 2?", "input": "", "output": "4"},
    "sharegpt": {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]},
    "messages": {"messages": [ASK, ANSWER]},
    "prompt_completion": {"prompt": [ASK], "completion": [ANSWER]},
}


def said(conversation):
    return [(message.role, message.content, message.weight) for message in conversation.messages]


def read(rows, **options):
    return list(read_instructions(rows, **options))


@pytest.mark.parametrize("form", SAME)
@pytest.mark.parametrize("named", [True, False])
def test_every_form_gives_the_same_conversation(form, named):
    report = InstructionReport()
    (found,) = read([SAME[form] | {"other": 1}], format=form if named else "auto", report=report)
    assert said(found) == [("user", "2 + 2?", 0.0), ("assistant", "4", 1.0)]
    assert (found.form, found.plain, found.text, found.prompt) == (form, False, "2 + 2?\n4", "2 + 2?")
    assert dict(report.forms) == {form: 1}


ROWS = [{"instruction": f"say {i}", "input": "" if i % 2 else "kindly", "output": str(i)} for i in range(300)]


def write(path, rows):
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if ".jsonl" in path.name:
        path.write_bytes({".gz": gzip.compress, ".zst": _zst}.get(path.suffix, bytes)(lines))
    elif ".json" in path.name:
        path.write_bytes({".gz": gzip.compress}.get(path.suffix, bytes)(json.dumps(rows, indent=1).encode()))
    else:
        import datasets

        datasets.Dataset.from_list(rows).to_parquet(path)
    return path


def _zst(data):
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.json.gz", "a.parquet"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    found = read(write(tmp_path / name, ROWS))
    assert [said(each) for each in found] == [said(each) for each in read(ROWS)]
    assert [(each.source, each.row) for each in found] == [(name, i) for i in range(300)]
    assert [each.id for each in found] == [instruction_id(name, i) for i in range(300)]
    assert [each.line for each in found][:2] == ([1, 2] if "jsonl" in name else [None, None])


def test_datasets_and_one_object_are_read_too(tmp_path):
    import datasets

    assert [each.text for each in read(datasets.Dataset.from_list(ROWS))] == [each.text for each in read(ROWS)]
    (tmp_path / "a.json").write_text(json.dumps(SAME["alpaca"]))
    assert read(tmp_path / "a.json")[0].form == "alpaca"


def test_parquet_of_several_forms_has_nulls(tmp_path):
    rows = [*SAME.values(), {"messages": [ASK, ANSWER | {"weight": 0.5}]}]
    columns = dict.fromkeys(key for row in rows for key in row)
    found = read(write(tmp_path / "a.parquet", [columns | row for row in rows]))
    assert [each.form for each in found] == [*SAME, "messages"]
    assert [each.messages[1].weight for each in found] == [1, 1, 1, 1, 0.5]


def test_a_folder_is_read_in_order_and_text_files_in_it_are_not(tmp_path):
    write(tmp_path / "b.jsonl", ROWS[:1])
    write(tmp_path / "a.json", ROWS[1:2])
    (tmp_path / "notes.txt").write_text("text")
    report = InstructionReport()
    assert [each.source for each in read(tmp_path, report=report)] == ["a.json", "b.jsonl"]
    assert report.ignored == 1
    with pytest.raises(SamplewiseError, match=r"notes\.txt.*suffix"):
        read(tmp_path / "notes.txt")


def test_tools_may_be_a_text_of_json():
    rows = [{"messages": [ASK, ANSWER], "tools": tools} for tools in ('[{"name": "add"}]', "", None, [{"name": "add"}])]
    assert [each.tools for each in read(rows)] == [[{"name": "add"}], None, None, [{"name": "add"}]]
    with pytest.raises(SamplewiseError, match="expected a list of tools, or its JSON"):
        read([{"messages": [ASK, ANSWER], "tools": "add"}])


def test_roles_have_many_names():
    roles = ["system", "human", "function_call", "observation", "gpt", "user", "assistant"]
    (found,) = read([{"conversations": [{"from": role, "value": f"{i}"} for i, role in enumerate(roles)]}])
    expected = ["system", "user", "assistant", "tool", "assistant", "user", "assistant"]
    assert [message.role for message in found.messages] == expected
    assert [message.weight for message in found.messages] == [0, 0, 1, 0, 1, 0, 1]
    assert found.prompt == "0\n1"


def test_system_and_input_of_a_row_are_kept():
    row = {"system": "Be kind.", "instruction": "Add.", "input": "1, 2", "output": "3"}
    assert said(read([row])[0])[:2] == [("system", "Be kind.", 0.0), ("user", "Add.\n\n1, 2", 0.0)]
    row = {"system": "Be kind.", **SAME["sharegpt"]}
    assert said(read([row])[0])[0] == ("system", "Be kind.", 0.0)


def test_prompt_and_completion_as_texts_are_plain():
    (found,) = read([{"prompt": "2 + 2 =", "completion": " 4"}])
    assert found.plain
    assert found.text == "2 + 2 =\n 4"


def test_answers_within_a_prompt_are_not_predicted():
    row = {"prompt": [ASK, ANSWER, ASK], "completion": [ANSWER, ASK, ANSWER]}
    assert [message.weight for message in read([row])[0].messages] == [0, 0, 0, 1, 0, 1]


def test_text_in_parts_is_joined():
    parts = [{"type": "text", "text": "2 "}, {"type": "text", "text": "+ 2?"}]
    assert read([{"messages": [{"role": "user", "content": parts}, ANSWER]}])[0].text == "2 + 2?\n4"


BAD = {
    "no known form": [
        {"question": "2 + 2?", "answer": "4"}, {"messages": "2 + 2?"}, {"messages": ["2 + 2?"]},
        {"prompt": "2 + 2?", "completion": [ANSWER]}, SAME["alpaca"] | {"history": [["a", "b"]]},
    ],
    "more than one form": [SAME["alpaca"] | SAME["messages"]],
    "unknown role": [
        {"messages": [{"role": "narrator", "content": "x"}, ANSWER]}, {"messages": [{"content": "x"}, ANSWER]},
        {"messages": [{"role": ["user"], "content": "x"}, ANSWER]},
    ],
    "no assistant turn": [
        {"messages": [ASK]}, {"messages": []}, {"prompt": [ASK, ANSWER], "completion": [ASK]}, {"conversations": []},
    ],
    "empty response": [
        {"instruction": "x", "output": " \n"}, {"prompt": "x", "completion": ""},
        {"messages": [ASK, {"role": "assistant", "content": None}]},
    ],
    "empty prompt": [{"instruction": "", "input": " ", "output": "x"}],
    "bad weight": [
        {"messages": [ASK, ANSWER | {"weight": weight}]} for weight in (-1, float("nan"), float("inf"), "1", True)
    ] + [{"messages": [ASK | {"weight": 1}, ANSWER]}],
    "bad sample_weight": [SAME["alpaca"] | {"sample_weight": w} for w in (-0.5, float("nan"), "much", float("inf"))],
    "bad sample_id": [SAME["alpaca"] | {"sample_id": name} for name in (-1, 2**63, "x", 1.5, True)],
    "bad group": [SAME["alpaca"] | {"group": 1.5}],
    "bad reference_loss": [SAME["alpaca"] | {"reference_loss": float("nan")}],
    "no text": [
        {"instruction": 2, "output": "x"}, {"instruction": "x", "output": None},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}, ANSWER]},
    ],
    "binary data": [{"instruction": "\0", "output": "x"}],
    "bad encoding": [{"instruction": "x", "output": "\ud800"}],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "row"), [(reason, row) for reason, rows in BAD.items() for row in rows])
def test_what_does_not_fit_is_named_by_its_line_or_counted(tmp_path, reason, row):
    good = {"instruction": "say", "output": "x"}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (good, row, good)))
    with pytest.raises(SamplewiseError, match=r"a\.jsonl, line 2: expected"):
        read(tmp_path)
    report = InstructionReport()
    assert [each.row for each in read(tmp_path, on_error="skip", report=report)] == [0, 2]
    assert (report.records, dict(report.skipped)) == (3, {reason: 1})
    assert report.places[0].startswith(f"a.jsonl, line 2: {reason}")


def test_a_form_that_is_named_must_be_there():
    both = SAME["alpaca"] | SAME["messages"]
    assert read([both], format="messages")[0].form == "messages"
    with pytest.raises(SamplewiseError, match="the fields conversations of sharegpt"):
        read([both], format="sharegpt")
    with pytest.raises(SamplewiseError, match="format: expected auto or alpaca"):
        read([both], format="alpacka")


def test_nothing_is_an_error_and_the_choice_is_logged(caplog, tmp_path):
    with pytest.raises(SamplewiseError, match="at least one conversation"):
        read([])
    with pytest.raises(SamplewiseError, match="First: rows, record 0: no known form"):
        read([{"text": "x"}], on_error="skip")
    with pytest.raises(SamplewiseError, match="nothing of that name"):
        read(tmp_path / "none.jsonl")
    with caplog.at_level(logging.INFO, logger="samplewise"):
        read([*SAME.values(), SAME["alpaca"]])
    assert "5 conversations read (2 alpaca, 1 messages, 1 prompt_completion, 1 sharegpt)" in caplog.text


def test_columns_are_kept():
    columns = {"sample_id": 7, "sample_weight": 2, "group": "web", "reference_loss": 1.25}
    (found,) = read([SAME["alpaca"] | columns])
    assert (found.id, found.sample_weight, found.group, found.reference_loss) == (7, 2.0, "web", 1.25)


def test_groups_are_numbered_whatever_the_order():
    rows = [SAME["alpaca"] | {"group": name} for name in ("web", "books", "web", "code")]
    assert group_numbers(read(rows)) == group_numbers(read(rows[::-1])) == {"books": 0, "code": 1, "web": 2}
    assert group_numbers(read([SAME["alpaca"] | {"group": number} for number in (7, -3)])) == {-3: -3, 7: 7}


def test_duplicates_are_found_over_prompt_and_answer():
    long = "the quick brown fox jumps over the lazy dog and runs away from it " * 3
    rows = [{"instruction": long, "output": "a"}, {"instruction": long.upper(), "output": "A"}]
    rows += [{"instruction": long, "output": "no, it does not; it stays at home and reads all day long " * 3}]
    rows += [{"instruction": long + "then", "output": "a"}]
    found = deduplicate(read(rows))
    assert ([each.row for each in found.kept], found.exact, found.near) == ([0, 2], 1, 1)


def test_a_question_stays_on_one_side_of_a_split():
    rows = [{"instruction": f"question {i % 50}", "output": f"answer {i}"} for i in range(500)]
    sides = split_documents(read(rows), 0.3, text=lambda each: each.prompt)
    prompts = [{each.prompt for each in side} for side in sides]
    assert not prompts[0] & prompts[1]
    assert sum(map(len, sides)) == 500
