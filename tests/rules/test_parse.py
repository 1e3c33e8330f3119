"""Rules from text: what reads, what is refused and where the error points."""

import builtins
import contextlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.rules import RULES
from samplewise.rules.schedules import SCHEDULES


def refused(text: object) -> SamplewiseError:
    with pytest.raises(SamplewiseError) as raised:
        sw.parse_rule(text)  # pyright: ignore[reportArgumentType]
    return raised.value


def pointed_at(error: SamplewiseError) -> str:
    """What the line above the caret holds from the caret on; the column in words must say the same."""
    *_, line, caret = str(error).split("\n")
    assert caret.strip() == "^"
    column = caret.index("^")
    assert f"column {column - 1}:" in str(error), "the text is shown two spaces in, columns count from 1"
    return line[column:]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("uniform()", sw.uniform()),
        ("ir_dro()", sw.ir_dro()),
        ("ir_dro(2)", sw.ir_dro(r=2.0)),
        ("ir_dro(r=0.5)", sw.ir_dro(r=0.5)),
        ("  ir_dro ( r = 5e-1 , ) \n", sw.ir_dro(r=0.5)),
        ("mid_ranking(0.25, portion=1)", sw.mid_ranking(0.25, 1)),
        ("random_keep(share=.5, seed=-3)", sw.random_keep(0.5, seed=-3)),
        ("chain(band(drop_top=0.1), ir_dro(r=1))", sw.chain(sw.band(drop_top=0.1), sw.ir_dro(r=1.0))),
        ("warmup(steps=10, rule=chain(top_k(.5), mix_uniform(0.1)))",
         sw.warmup(10, sw.chain(sw.top_k(0.5), sw.mix_uniform(0.1)))),
        ("chain(\n  ir_dro(r=1),  # the tilt\n  clip_weights(max=3),\n)", sw.chain(sw.ir_dro(), sw.clip_weights(3))),
        ("(ir_dro(1_0))", sw.ir_dro(r=10.0)),
        ("ir_dro(r=-2)", sw.ir_dro(r=-2.0)),
        ("ir_dro(ess=.5, lagged=True)", sw.ir_dro(ess=0.5, lagged=True)),
        ("ir_dro(r=linear(1, 0.3, steps=100))", sw.ir_dro(r=sw.linear(1.0, 0.3, 100))),
        ("band(piecewise(0.1, 50, 0), cosine(.2, .1, 9))", sw.band(sw.piecewise(0.1, 50, 0.0), sw.cosine(0.2, 0.1, 9))),
    ],
)  # fmt: skip
def test_valid(text, rule):
    assert repr(sw.parse_rule(text)) == repr(rule)
    losses = [float(k * k % 7) for k in range(12)]
    assert sw.weights(sw.parse_rule(text), losses).tolist() == sw.weights(rule, losses).tolist()


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("ir_dor(r=1)", "ir_dor(r=1)", "Did you mean ir_dro?"),
        ("chain(bnad(0.1), ir_dro())", "bnad(0.1), ir_dro())", "Did you mean band?"),
        ("chain(uniform(), zzz())", "zzz())", "Known: band, by, by_length"),
        ("band(drop_tip=0.1)", "drop_tip=0.1)", "Did you mean drop_top?"),
        ("uniform(r=1)", "r=1)", "Known: none"),
        ("ir_dro(r=one)", "one)", "a number, a schedule, a text or a rule"),
        ("ir_dro(r=1+1)", "1+1)", "a number, a schedule, a text or a rule"),
        ("chain(uniform(), ir_dro(r=0))", "ir_dro(r=0))", "r as a finite temperature other than 0"),
        ("chain(uniform(), clip_weights(1, 2))", "clip_weights(1, 2))", "arguments of clip_weights(max: Number)"),
        ("mid_ranking(0.5)", "mid_ranking(0.5)", "portion"),
        ("ir_dro(1, r=2)", "ir_dro(1, r=2)", "arguments of ir_dro"),
        ("chain(ir_dro)", "ir_dro)", ""),
        ("uniform", "uniform", "Write uniform()."),
        ("ir_dro(r=1", "(r=1", "never closed"),
        ("ir_dro(r=1))", ")", "unmatched"),
        ("ir_dro(r==1)", "r==1)", ""),
        ("ir_dro(r 1)", "r 1)", ""),
        ("ir_dro(r=liner(1, 0.3, 100))", "liner(1, 0.3, 100))", "Did you mean linear?"),
        ("ir_dro(r=linear(1, 0.3, step=9))", "step=9))", "Did you mean steps?"),
        ("ir_dro(r=linear(1, 0, 9))", "ir_dro(r=linear(1, 0, 9))", "r as a finite temperature other than 0"),
        ("ir_dro(r=linear(1, -1, 9))", "linear(1, -1, 9))", "one side of 0"),
        ("linear(1, 0.3, 100)", "linear(1, 0.3, 100)", "the name of a rule"),
        ("chain(linear(1, 0.3, 100))", "chain(linear(1, 0.3, 100))", "rules[0] as a Rule"),
        ("ir_dro(kl=0.1, ess=0.5)", "ir_dro(kl=0.1, ess=0.5)", "one of r, kl and ess"),
        ("chain(uniform(), 'ir_dro()')", "chain(uniform(), 'ir_dro()')", "rules[1] as a Rule"),
    ],
)  # fmt: skip
def test_errors_point_at_the_column(text, at, says):
    error = refused(text)
    assert pointed_at(error) == at
    assert says in str(error)


def test_leading_space_is_not_counted():
    assert pointed_at(refused("   ir_dor()")) == "ir_dor()"


def test_columns_count_characters_and_not_bytes():
    assert pointed_at(refused("random_keep(share='éé', sead=1)")) == "sead=1)"


def test_the_caret_stands_under_the_line_at_fault():
    """Text from a configuration file may have several lines."""
    error = str(refused("chain(\n    uniform(),\n    foo(),\n)"))
    lines = error.split("\n")
    caret = next(k for k, line in enumerate(lines) if line.strip() == "^")
    assert lines[caret - 1][lines[caret].index("^") :].startswith("foo()")


def test_an_option_given_twice_is_an_error():
    """Never silently the last one."""
    refused("ir_dro(r=1, r=2)")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "__import__('os').system('true')", "uniform().init", "sw.uniform()", "rules.uniform()",
        "(lambda: uniform())()", "lambda: 1", "[uniform() for _ in range(3)]", "chain([uniform()])",
        "chain(x for x in [1])", "{uniform()}", "{'a': 1}", "f'{uniform()}'", "ir_dro(r=f'{1}')",
        "uniform() + uniform()", "ir_dro(r=2**3)", "ir_dro(r=not 1)", "ir_dro(r=~1)", "ir_dro(r=--1)",
        "ir_dro(r=1 if 1 else 2)", "ir_dro(r=1 < 2)", "chain(*[uniform()])", "chain(*(uniform(),))",
        "ir_dro(**{'r': 1})", "ir_dro(r=(x := 1))", "uniform()()", "uniform()[0]", "ir_dro(r=[1])", "ir_dro(r=(1,))",
        "ir_dro(r={})", "ir_dro(r=None)", "ir_dro(r=...)", "ir_dro(r=1j)", "ir_dro(r=b'1')", "ir_dro(r='1')",
        "ir_dro(r=True)", "ir_dro(r=-True)", "ir_dro(r=-'1')", "ir_dro(r=1e999)", "ir_dro(r=inf)", "await uniform()",
        "(yield)", "uniform(); uniform()", "x = uniform()", "import os", "uniform()\nuniform()",
        "parse_rule('uniform()')", "eval('1')", "1", "'uniform()'", "None", "", "   ", "\n", "#", "\0", "uniform()\0",
        "\ud800", "()", "(uniform(),)", "uniform(),",
    ],
)  # fmt: skip
def test_refused(text):
    refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "chain(" * 3000 + "uniform()" + ")" * 3000, "chain(" * 1000, "(" * 9000, "-" * 9000 + "1",
        "ir_dro(r=" + "-" * 5000 + "1)", "not " * 2400 + "1", "a" + ".b" * 4000, "1" + "+1" * 4000,
        "uniform" + "()" * 4000, "f'" + "{" * 3000, "uniform(" + "[" * 4000, "ir_dro(r=1" + "0" * 400 + ")",
        "clip_weights(1" + "0" * 400 + ")", "mid_ranking(0.5, 1" + "0" * 400 + ")", "ir_dro(r=0x" + "F" * 9000 + ")",
        "clip_weights(0x" + "F" * 9000 + ")", "random_keep(0x" + "F" * 9000 + ")", "ir_dro(r=" + "9" * 5000 + ")",
        " " * 20_000 + "uniform()", "uniform() #" + "x" * 10_000, "uniform()" * 2000,
    ],
    ids=lambda text: f"{text[:24]}…{len(text)}",
)  # fmt: skip
def test_very_long_or_deep_is_refused(text):
    refused(text)


def test_moderate_nesting_reads():
    text = "chain(uniform(), " * 30 + "ir_dro(r=1.0)" + ")" * 30
    assert repr(sw.parse_rule(text)) == text


@pytest.mark.parametrize("text", [None, 1, b"uniform()", ["uniform()"], sw.uniform(), float])
def test_what_is_not_text_is_refused(text):
    assert refused(text).argument == "rule"


# ---- random text ----

atoms = st.sampled_from(
    [*RULES, *SCHEDULES, "(", ")", ",", "=", ".", "r", "share", "0.5", "1", "-", "'x'", "**", "*", "[", "]", "{", "}",
     ":", "\n", " ", "lambda", "for", "in", "if", "not", "print", "exit", "open", "__import__", "os", "f'{", "#",
     "\\", "é", "\0", '"""']
)  # fmt: skip
calls = st.recursive(
    st.sampled_from(
        [
            "uniform()",
            "ir_dro(r=2)",
            "top_k(0.5)",
            "band(0.1, 0.2)",
            "ir_dro(r=0)",
            "top_k(2)",
            "x",
            "3",
            "ir_dro(kl=0.1)",
            "top_k(share=linear(0.9, 0.5, 7))",
            "linear(1, 2, 3)",
            "ir_dro(r=piecewise(1.0, 5, 0.5))",
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"chain({', '.join(parts)})"),
        inner.map(lambda part: f"warmup(2, {part})"),
    ),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(atoms, max_size=14).map("".join), calls))
def test_any_text_is_a_rule_or_the_one_error(text):
    with contextlib.suppress(SamplewiseError):
        rule = sw.parse_rule(text)
        assert isinstance(rule, Rule)
        assert repr(sw.parse_rule(repr(rule))) == repr(rule)


def test_nothing_is_executed(monkeypatch):
    """Names that Python would find are never looked up, whatever the text asks for."""
    called: list[str] = []
    monkeypatch.setattr(os, "system", lambda *_: called.append("system"))
    for name in ("eval", "exec", "print", "open", "input"):
        with monkeypatch.context() as patch:
            patch.setattr(builtins, name, lambda *_, name=name: called.append(name))
            errors = [_error(f"{name}('1')"), _error(f"ir_dro(r={name}('1'))"), _error(f"chain(uniform(), {name}())")]
        assert all(isinstance(error, SamplewiseError) for error in errors)
    refused("chain(__import__('os').system('true'))")
    refused("ir_dro(r=__import__('os').system('true'))")
    assert called == []


def _error(text: str) -> Exception | None:
    try:
        sw.parse_rule(text)
    except Exception as error:
        return error
    return None
