"""Tools and tool calls: the same conversation whatever they are written as, and the same text of it."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplewise.core.errors import SamplewiseError
from samplewise.data import ChatReport, chat_template, encode_conversations, read_instructions
from samplewise.data.arguments import CallForm, call_form
from samplewise.data.arrow import unpadded

ASK = {"role": "user", "content": "q"}


def row(name, arguments, parameters=None):
    function = {"name": name, "arguments": arguments}
    tools = [{"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}}}]
    said = [ASK, {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}]
    return {
        "tools": tools,
        "messages": [*said, {"role": "tool", "content": "r"}, {"role": "assistant", "content": "a"}],
    }


def schema(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


UNEVEN = [
    row("weather", {"city": "Rome", "days": [1, None]}, schema(city={"type": "string", "enum": ["Rome", None]})),
    row("add", {"a": 1, "b": {"c": 2.5}}, schema(a={"type": "number"}, b={"type": "object", "default": {"c": 1.0}})),
    {"messages": [ASK, {"role": "assistant", "content": "plain"}]},
]


def read(rows, **options):
    return [
        (each.tools, [message.for_template() for message in each.messages])
        for each in read_instructions(rows, **options)
    ]


def in_parquet(rows, folder):
    import pyarrow
    import pyarrow.parquet

    columns = {name: pyarrow.array([each.get(name) for each in rows]) for name in ("tools", "messages")}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "a.parquet")
    return folder / "a.parquet"


def dataset_of(rows, _folder):
    import datasets

    return datasets.Dataset.from_list(rows)


def stream_of(rows, folder):
    return dataset_of(rows, folder).to_iterable_dataset()


def mapped_stream_of(rows, folder):
    """Of which the columns are no longer known."""
    return stream_of(rows, folder).map(lambda found: {**found, "more": 1})


def uneven_json_of(rows, _folder):
    import datasets

    return datasets.Dataset.from_list([{"tools": None, **each} for each in rows], on_mixed_types="use_json")


@pytest.mark.parametrize("table", [in_parquet, dataset_of, stream_of, mapped_stream_of])
def test_tables_give_what_was_put_into_them(tmp_path, table):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in UNEVEN))
    assert read(table(UNEVEN, tmp_path)) == read(tmp_path / "a.jsonl") == read(UNEVEN)


def test_nulls_that_are_no_padding_stay(tmp_path):
    tools = [{"name": "f", "parameters": schema(a={"default": None, "enum": [None, 1]})}]
    rows = [{"messages": [ASK, {"role": "assistant", "content": "a"}], "tools": tools}]
    as_text = [{**rows[0], "tools": json.dumps(tools)}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]))
    for source in (rows, as_text, tmp_path / "a.jsonl", in_parquet(as_text, tmp_path), dataset_of(as_text, tmp_path)):
        ((found, _),) = read(source)
        assert found == tools


def test_json_columns_of_datasets_are_read_back_from_parquet(tmp_path):
    mixed = [
        *UNEVEN,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, *UNEVEN[2]["messages"][1:]]},
    ]
    mixed[0]["messages"][1]["tool_calls"][0]["function"]["arguments"]["none"] = None  # a real one
    table = uneven_json_of(mixed, tmp_path)
    table.to_parquet(tmp_path / "a.parquet")
    try:
        assert read(tmp_path / "a.parquet") == read(table) == read(mixed)
        assert read(table)[0][1][1]["tool_calls"][0]["function"]["arguments"]["none"] is None
    finally:
        del mixed[0]["messages"][1]["tool_calls"][0]["function"]["arguments"]["none"]


@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_messages_may_be_a_text_of_json(name):
    said = UNEVEN[0]["messages"]
    forms = [json.dumps(said), [json.dumps(each) for each in said]]
    assert read([{name: form} for form in forms]) == read([{"messages": said}] * 2)
    for wrong in ("[", "3", '"said"', ["[]"], "[" * 100_000):
        with pytest.raises(SamplewiseError, match=r"rows, record 0: expected a (list of messages|mapping)"):
            read([{name: wrong}])


def test_prompt_and_completion_in_json_are_messages_and_other_texts_are_texts():
    prompt, completion = [ASK], [{"role": "assistant", "content": "a"}]
    given = [{"prompt": json.dumps(prompt), "completion": json.dumps(completion)}]
    assert read(given) == read([{"prompt": prompt, "completion": completion}])
    for texts in (("[1]", "[2]"), ("[", "x"), (json.dumps(prompt), "[x]")):
        (found,) = read_instructions([{"prompt": texts[0], "completion": texts[1]}])
        assert found.plain
        assert [message.content for message in found.messages] == list(texts)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(arguments=st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_arguments_as_text_are_the_objects_that_they_stand_for(arguments):
    assert read([row("f", json.dumps(arguments))]) == read([row("f", arguments)])
    calls = row("f", arguments)["messages"][1]["tool_calls"]
    as_text = {"messages": [ASK, {"role": "assistant", "content": "", "tool_calls": json.dumps(calls)}]}
    assert read([as_text])[0][1][1]["tool_calls"] == calls


@settings(max_examples=50, deadline=None)
@given(value=json_values)
def test_what_has_no_null_in_an_object_is_left_as_it_is(value):
    whole = json.loads(json.dumps(value).replace("null", "0"))
    assert unpadded(whole) == whole
    padded = unpadded({"own": whole, "another's": None, "list": [{"own": whole, "another's": None}, None]})
    assert padded == {"own": whole, "list": [{"own": whole}, None]}


def test_no_arguments_are_no_arguments_however_they_are_written():
    for nothing in ("", " ", "{}", "null", None, {}):
        assert read([row("f", nothing)]) == read([row("f", {})])
    bare = {"messages": [ASK, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}]}
    assert read([bare])[0][1][1]["tool_calls"] == [{"function": {"name": "f", "arguments": {}}}]


def test_no_calls_and_no_tools_leave_no_trace():
    for nothing in ("", "[]", None, []):
        plain = {"messages": [ASK, {"role": "assistant", "content": "a", "tool_calls": nothing}], "tools": nothing}
        assert read([plain]) == [(None, [ASK, {"role": "assistant", "content": "a"}])]


def test_the_old_form_of_a_call_is_read_as_one():
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    ((_, said),) = read([{"messages": [ASK, old]}])
    assert said[1]["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]
    assert "function_call" not in said[1]


def test_tools_are_read_in_text_of_any_depth():
    tool = {"type": "function", "function": {"name": "f", "parameters": schema(a={"type": "number"})}}
    inside = {"type": "function", "function": {"name": "f", "parameters": json.dumps(tool["function"]["parameters"])}}
    for tools in ([tool], json.dumps([tool]), [json.dumps(tool)], [inside], json.dumps([json.dumps(inside)])):
        assert read([{"messages": row("f", {})["messages"], "tools": tools}])[0][0] == [tool]


WRONG_TOOLS = [
    {"type": "function", "function": {"name": "f"}}, 3, True, "f", "3", '{"name": "f"}', [None], [3], ["f"], [[]],
    [{"type": "function"}], [{"function": 3}], [{"name": "f", "parameters": "none"}],
    [{"name": "f", "parameters": "[]"}],
]  # fmt: skip
WRONG_CALLS = [
    3, "f", {"name": "f"}, [None], ["f"], [{}], [{"function": None}], [{"function": "f"}], [{"function": {}}],
    [{"function": {"name": None}}], [{"function": {"name": 3}}],
    *[[{"function": {"name": "f", "arguments": wrong}}] for wrong in (3, "x", "[1]", '"x"', [1], "{" * 10, "9" * 5000)],
]  # fmt: skip


@pytest.mark.parametrize("field", ["tools", "tool_calls", "function_call"])
def test_what_is_no_tool_and_no_call_is_that_rows_fault(tokenizer, field):
    good = UNEVEN[2]
    for wrong in WRONG_TOOLS if field == "tools" else WRONG_CALLS if field == "tool_calls" else [3, "x", {}, [1]][:2]:
        answer = {"role": "assistant", "content": "a"} | ({} if field == "tools" else {field: wrong})
        bad = {"messages": [ASK, answer]} | ({"tools": wrong} if field == "tools" else {})
        with pytest.raises(SamplewiseError, match="rows, record 1: expected"):
            read([good, bad])
        kept = read_instructions([good, bad, good], on_error="skip")
        assert [each.row for each in encode_conversations(kept, chat_template(tokenizer, "plain"))] == [0, 2], wrong


# ---- what a template takes ----

TALK = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}CALL{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
ARGUMENTS = {"city": "Ròm", "days": 2}
WRITTEN = json.dumps(ARGUMENTS, ensure_ascii=False)
TEMPLATES = {  # how a template writes a call's arguments, and what they must come out as
    "tojson": ("{{ a | tojson }}", WRITTEN),
    "items": ("{% for k, v in a | items %}{{ k }}={{ v }};{% endfor %}", "city=Ròm;days=2;"),
    "whole": ("{{ c.function | tojson }}", json.dumps({"name": "weather", "arguments": ARGUMENTS}, ensure_ascii=False)),
    "either": ("{% if a is string %}{{ a }}{% else %}{{ a | tojson }}{% endif %}", WRITTEN),
    "added": ("{{ '' + a }}", WRITTEN),
    "printed": ("{{ a }}", WRITTEN),
}


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("marked", [True, False])
def test_a_call_is_written_the_same_whatever_it_came_as(tokenizer, kind, marked):
    call, written = TEMPLATES[kind]
    text = TALK.replace("CALL", "{% set a = c.function.arguments %}" + call)
    if marked:
        text = text.replace("{{ m.content }}", "{% generation %}{{ m.content }}").replace(
            "</s>{% endfor %}", "</s>{% endgeneration %}{% endfor %}"
        )
    for arguments in (ARGUMENTS, json.dumps(ARGUMENTS)):
        rows = read_instructions([row("weather", arguments)])
        (found,) = encode_conversations(rows, chat_template(tokenizer, text))
        assert tokenizer.decode(found.input_ids).count(written) == 1
        if not marked:
            assert tokenizer.decode(found.labels[found.labels != -100]) == f"{written}</s>a</s>"


def test_strict_templates_are_asked_in_a_way_that_they_take(tokenizer):
    """A template that takes calls only with an id and a result after them is recognised as one that takes text."""
    strict = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 or messages | length < 4 %}"
        "{{ raise_exception('an id of nine and a result') }}{% endif %}{{ c.function.arguments + '' }}"
        "{% endfor %}{% endfor %}"
    )
    assert call_form(strict, tokenizer) == CallForm(text=True)
    assert call_form(strict.replace("+ ''", "| tojson"), tokenizer) == CallForm()
    assert call_form("{{ messages[0].content }}", tokenizer) == CallForm()
    beside_no_content = strict.replace("m.tool_calls or []", "m.tool_calls or [] if m.content is none")
    assert call_form(beside_no_content, tokenizer) == CallForm(text=True, null=True)


def test_a_call_that_a_template_does_not_show_is_not_left_out_in_silence(tokenizer):
    rows, report = [row("weather", ARGUMENTS), UNEVEN[2]], ChatReport()
    with pytest.raises(
        SamplewiseError, match=r"rows, record 0: .*shows tool calls, got nothing of the calls in message 1"
    ):
        list(encode_conversations(read_instructions(rows), chat_template(tokenizer, "plain")))
    found = encode_conversations(
        read_instructions(rows), chat_template(tokenizer, "plain"), on_error="skip", report=report
    )
    assert [each.row for each in found] == [1]
    assert dict(report.skipped) == {"not shown by the template": 1}


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "llama3_1", "glm4moe", "deepseek_r1_distill_training"])
def test_templates_of_known_models_write_calls_the_same_whatever_they_came_as(tokenizer, name):
    """DeepSeek's adds the arguments to a text; the others write objects. None is Python's or quoted twice."""
    from trl import chat_template_utils

    known = copy.deepcopy(tokenizer)
    known.chat_template = getattr(chat_template_utils, f"{name}_chat_template")
    texts = []
    for arguments in (ARGUMENTS, json.dumps(ARGUMENTS)):
        (conversation,) = read_instructions([{"messages": row("weather", arguments)["messages"][:2]}])
        text, _ = chat_template(known).render(conversation)
        texts.append(text)
    assert texts[0] == texts[1]
    assert "weather" in texts[0]
    assert "Ròm" in texts[0]
    assert "{'" not in texts[0]
    assert '\\"' not in texts[0]
