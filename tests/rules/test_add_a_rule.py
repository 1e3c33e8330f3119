"""docs/add-a-rule.md: its example runs and keeps every law, and each of its touches is missed if left out."""

import doctest
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import test_docs
import test_laws
import torch

import samplewise as sw
from samplewise.rules import RULES

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-rule.md").read_text(encoding="utf-8")
CODE = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "def linear_rank" in block)
LAWS = {
    name: law
    for name, law in vars(test_laws).items()
    if name.startswith("test_") and "row" in inspect.signature(law).parameters and "needs_no_loss" not in name
}


@pytest.fixture
def module(tmp_path):
    """The page's new file."""
    path = tmp_path / "ranking.py"
    path.write_text(CODE)
    spec = importlib.util.spec_from_file_location("ranking", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def row(module, monkeypatch):
    """Its rule, registered, as the page's row of the table of laws."""
    monkeypatch.setitem(RULES, "linear_rank", module.linear_rank)
    monkeypatch.setattr(sw, "linear_rank", module.linear_rank, raising=False)
    assert "Row(sw.linear_rank(slope=0.5))" in PAGE
    return test_laws.Row(module.linear_rank(slope=0.5))


def test_the_files_own_example(module, monkeypatch):
    monkeypatch.setattr(sw, "linear_rank", module.linear_rank, raising=False)
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(module.linear_rank, "linear_rank", module, globs={}):
        runner.run(test)
    assert (runner.tries, runner.failures) == (2, 0)


def test_it_keeps_the_laws(row, tmp_path):
    assert len(LAWS) > 10
    for name, law in LAWS.items():
        options = {"dtype": torch.float64, "loss": [1.0, 2.0] * 6, "side": "left", "tmp_path": tmp_path / name}
        asked = {key: value for key, value in options.items() if key in inspect.signature(law).parameters}
        law(row=row, **asked)


def test_it_takes_schedules(row):
    assert repr(sw.parse_rule("linear_rank(linear(0.1, 0.9, 1000))")) == "linear_rank(slope=linear(0.1, 0.9, 1000))"


def test_forgotten_touches_are_named(row):
    with pytest.raises(AssertionError, match="add a row for linear_rank to TABLE"):
        test_laws.test_every_registered_rule_has_a_row_and_is_public("linear_rank")
    with pytest.raises(AssertionError, match=r"add a line for linear_rank to docs/rules\.md"):
        test_docs.test_every_rule_has_a_row("linear_rank")
    with pytest.raises(AssertionError):
        test_laws.test_every_public_function_that_makes_a_rule_is_registered()


def test_its_line_fits_the_table():
    (line,) = [line for line in PAGE.splitlines() if line.startswith("| `linear_rank(slope)`")]
    header = next(line for line in test_docs.PAGE.splitlines() if line.startswith("| rule | weight"))
    assert line.count("|") == header.count("|")
