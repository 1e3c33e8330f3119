"""What goes wrong between a template and a row is that row's fault, with its place; a template's own is said first."""

import copy
import time

import pytest

from samplewise.core.errors import SamplewiseError
from samplewise.data import ChatReport, chat_template, encode_conversations, read_instructions
from samplewise.data.trial import check_size

TURN = "{% for m in messages %}HERE<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}"
TALK = TURN + "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
MARKED = TALK.replace(
    "{{ m.content }}</s>",
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}"
    "{% else %}{{ m.content }}</s>{% endif %}",
)
GOOD = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
BAD = [{"role": "user", "content": "q", "part": 3}, {"role": "assistant", "content": "a"}]
MANY = [{"messages": GOOD}, {"messages": BAD}, {"messages": GOOD * 2}]

RAISES = {
    "TypeError": "{% if m.part %}{{ 'x' + m.part }}{% endif %}",
    "TypeError of items": "{% if m.part %}{% for k, v in m.part | items %}{% endfor %}{% endif %}",
    "ValueError": "{% if m.part %}{{ 'x'.index('y') }}{% endif %}",
    "ZeroDivisionError": "{% if m.part %}{{ 1 // (m.part - 3) }}{% endif %}",
    "KeyError": "{% if m.part %}{{ 'x %(a)s' | format(b=1) }}{% endif %}",
    "OverflowError": "{% if m.part %}{{ 2.0 ** 10000 * m.part ** 0.5 }}{% endif %}".replace(
        "2.0 ** 10000", "(m.part * 1.0) ** 10000"
    ),
    "MemoryError": "{% if m.part %}{{ 'x' * (m.part * 10 ** 17) }}{% endif %}",
    "RecursionError": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{% if m.part %}{{ f(1) }}{% endif %}",
    "UndefinedError": "{% if m.part %}{{ m.nothing.more }}{% endif %}",
    "SecurityError": "{% if m.part %}{{ m.append(1) if m.part is string else [].append(1) }}{% endif %}",
    "raise_exception": "{% if m.part %}{{ raise_exception('no parts here') }}{% endif %}",
}


def encoded(tokenizer, template, rows=MANY, **options):
    return list(encode_conversations(read_instructions(rows), chat_template(tokenizer, template), **options))


@pytest.mark.parametrize("whole", [TALK, MARKED], ids=["by prefix", "marked"])
@pytest.mark.parametrize("kind", RAISES)
@pytest.mark.fast_cover(1)
def test_whatever_a_template_raises_is_that_rows_fault(tokenizer, kind, whole):
    template, report = whole.replace("HERE", RAISES[kind]), ChatReport()
    with pytest.raises(
        SamplewiseError, match=rf"rows, record 1: .* got .*{'no parts' if kind.islower() else kind.split()[0]}"
    ):
        encoded(tokenizer, template)
    found = encoded(tokenizer, template, on_error="skip", report=report)
    plain = encoded(tokenizer, whole.replace("HERE", ""))
    assert [each.row for each in found] == [0, 2]
    assert [each.labels.tolist() for each in found] == [plain[0].labels.tolist(), plain[2].labels.tolist()]
    assert (report.read, dict(report.skipped)) == (2, {"refused by the template": 1})
    assert report.places[0].startswith("rows, record 1: refused by the template")


REARRANGED = {
    "rearranged by the template": "{% if m.part %}{{ messages | length }}{% endif %}",
    "not shown by the template": "{% if messages[0].part %}{% break %}{% endif %}",
}


@pytest.mark.parametrize("reason", REARRANGED)
def test_a_row_that_a_template_tells_in_another_way_is_that_rows_fault(tokenizer, reason):
    template, report = TURN.replace("HERE", REARRANGED[reason]), ChatReport()
    with pytest.raises(SamplewiseError, match=r"rows, record 1: .*generation"):
        encoded(tokenizer, template)
    assert [each.row for each in encoded(tokenizer, template, on_error="skip", report=report)] == [0, 2]
    assert dict(report.skipped) == {reason: 1}
    assert f"1 left out ({reason})" in str(report)


def test_blocks_that_do_not_match_the_turns_are_that_rows_fault(tokenizer):
    one = MARKED.replace("HERE", "").replace("m.role == 'assistant'", "m.role == 'assistant' and loop.last")
    uneven = [GOOD[0], GOOD[1] | {"weight": 0.5}, *GOOD]
    rows, report = [{"messages": GOOD}, {"messages": uneven}], ChatReport()
    assert [each.row for each in encoded(tokenizer, one, rows, on_error="skip", report=report)] == [0]
    assert dict(report.skipped) == {"other blocks than turns": 1}


def test_text_that_no_tokenizer_takes_is_that_rows_fault_wherever_it_comes_from(tokenizer):
    template = TALK.replace("HERE", "{{ m.part if m.part is string else '' }}")
    for part in ("\ud800", "\0"):
        rows = [{"messages": GOOD}, {"messages": [GOOD[0] | {"part": part}, GOOD[1]]}]
        with pytest.raises(SamplewiseError, match="record 1: expected"):
            encoded(tokenizer, template, rows)
        assert [each.row for each in encoded(tokenizer, template, rows, on_error="skip")] == [0]


# ---- templates by name ----


def named(tokenizer, **templates):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = templates
    return tokenizer


WITH_TOOLS = [{"messages": GOOD, "tools": [{"name": "f"}]}, {"messages": GOOD}]
PLAIN, TOOLS = MARKED.replace("HERE", ""), "{{ tools[0].name }}\n" + TALK.replace("HERE", "")


def test_each_row_has_the_template_of_its_name_and_that_ones_marks(tokenizer):
    """The default has marks and tool_use has none, and the other way round: both are taken apart."""
    for templates in (
        {"default": PLAIN, "tool_use": TOOLS},
        {"default": TALK.replace("HERE", ""), "tool_use": "f\n" + PLAIN},
    ):
        several = named(tokenizer, **templates)
        assert not chat_template(several).marked
        found = encoded(several, None, WITH_TOOLS)
        said = [tokenizer.decode(each.labels[each.labels != -100]) for each in found]
        assert said == ["a</s>", "a</s>"]
        assert [tokenizer.decode(each.input_ids).startswith("f\n") for each in found] == [True, False]


def test_a_row_that_none_of_the_names_is_for_is_that_rows_fault(tokenizer):
    several = named(tokenizer, tool_use=TOOLS)
    with pytest.raises(SamplewiseError, match=r"rows, record 1: .*no default"):
        encoded(several, None, WITH_TOOLS)
    assert [each.row for each in encoded(several, None, WITH_TOOLS, on_error="skip")] == [0]


def test_a_template_may_be_asked_for_by_its_name(tokenizer):
    several = named(tokenizer, rag="rag\n" + PLAIN, other=PLAIN)
    with pytest.raises(SamplewiseError, match=r"chat_template: .*those named 'rag', 'other'"):
        chat_template(several)
    (found,) = encoded(several, "rag", [{"messages": GOOD}])
    assert tokenizer.decode(found.input_ids).startswith("rag\n")


def test_scores_know_templates_by_name_apart(tokenizer):
    from samplewise.corpus.fingerprints import fingerprint_template

    names = [{"default": PLAIN, "tool_use": TOOLS}, {"default": PLAIN, "tool_use": TOOLS + " "}, {"default": PLAIN}]
    assert len({fingerprint_template(chat_template(named(tokenizer, **each))) for each in names}) == 3


# ---- templates that are at fault themselves ----


@pytest.mark.parametrize("wrong", ["{% for %}", "{{ m | nonsense }}", "{% if x %}", "{{ " + "(" * 5000 + "}}"])
def test_what_is_no_template_is_said_before_any_row(tokenizer, wrong):
    with pytest.raises(SamplewiseError, match="chat_template: expected a Jinja template"):
        chat_template(tokenizer, wrong)


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}BODY{% endfor %}{% endfor %}"
ENDLESS = {
    "a constant": "{{ 'x' * 10 ** 10 }}",
    "by a number": "{{ 'x' * (messages | length * 10 ** 10) }}",
    "a list": "{{ [1] * 10 ** 10 }}",
    "wide": "{{ '%9999999999d' % 1 }}",
    "padded": "{{ messages[0].role.ljust(10 ** 10) }}",
    "loops": LOOP.replace("BODY", "xxxxxxxxxxxxxxxx"),
    "doubled": "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "with tools": "{% if tools %}{{ 'x' * 10 ** 10 }}{% endif %}",
    "in marks": "{% generation %}{{ 'x' * (messages | length * 10 ** 10) }}{% endgeneration %}",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_template_that_builds_gigabytes_is_refused_before_any_row(tokenizer, kind):
    began = time.monotonic()
    with pytest.raises(SamplewiseError, match="chat_template: expected a template that writes at most"):
        chat_template(tokenizer, ENDLESS[kind] + PLAIN)
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_template_that_takes_for_ever_and_writes_nothing_is_refused(tokenizer):
    with pytest.raises(SamplewiseError, match="or 10 s"):
        chat_template(tokenizer, LOOP.replace("BODY", "") + PLAIN)


@pytest.mark.parametrize("name", ["qwen3_chat_template", "gptoss_chat_template"])
def test_templates_of_known_models_are_no_giants(name):
    from trl import chat_template_utils

    check_size(getattr(chat_template_utils, name))
