"""docs/rules.md: a row and a picture for every rule, and numbers that are so."""

import re
from pathlib import Path

import pytest

import samplewise as sw
from samplewise.rules import RULES
from samplewise.rules.schedules import SCHEDULES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "rules.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_a_row(name):
    assert any(row[0].startswith(f"`{name}(") for row in ROWS), f"add a line for {name} to docs/rules.md"


def test_every_picture_is_there():
    shown = re.findall(r"\(rules/(\w+)\.png\)", PAGE)
    assert len(shown) >= 15
    assert [name for name in shown if not (DOCS / "rules" / f"{name}.png").exists()] == []


def test_every_schedule_has_a_row():
    assert all(f"| `{name}(" in PAGE for name in SCHEDULES)


def test_the_numbers_of_the_page():
    rows = [row for row in ROWS if len(row) == 5 and re.fullmatch(r"[.0-9]+", row[1])]
    assert len(rows) == 9
    for expression, *numbers in rows:
        weights = sw.weights(sw.parse_rule(expression.strip("`")), [1.0, 2.0, 3.0, 4.0]) / 4
        assert weights.tolist() == pytest.approx([float(number) for number in numbers], abs=6e-4), expression


def test_what_runs_in_one_pass():
    """Where the page writes a rule out in full. What needs no loss is one pass, pointwise or not."""
    marks = {row[0].strip("`"): row[3] for row in ROWS if len(row) == 8}
    written = [text for text in marks if "=" in text and "share" not in text and "portion" not in text]
    written = [text for text in written if marks[text] != "yes, and needs no losses"]
    assert len(written) >= 10
    for text in written:
        assert marks[text].startswith("yes") == sw.parse_rule(text).pointwise, text
    assert marks["random_keep(share, seed=0)"] == "yes, and needs no losses"


def test_what_a_step_divides_by():
    """The column norm, for the rules that have no rule inside."""
    marks = {row[0].strip("`"): row[4] for row in ROWS if len(row) == 8}
    counted = {text.split("(")[0] for text, mark in marks.items() if mark == "count"}
    assert counted == {"infobatch", "ir_dro", "random_keep"}, "of epochs, and with ema"
    assert sw.infobatch().norm == "count"
