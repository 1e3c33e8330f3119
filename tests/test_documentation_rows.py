"""The rows that the examples make of reStructuredText: titles, depths, what is cleaned away, and no row twice."""

import importlib
import sys
from pathlib import Path

import pytest

EXAMPLES = str(Path(__file__).parent.parent / "examples")

TEXT = """\
======
Models
======

.. module:: django.db.models

Each model is a Python class that subclasses :class:`django.db.models.Model`, and
:doc:`every one </topics/one>` of its ``fields`` maps to a column of `a table <https://x.org>`_.

.. _fields:

Fields
======

The most important part. The only required part of a model.

``null``
--------

.. attribute:: Field.null

If ``True``, as in ``__init__()``:

.. code-block:: python

    class Person(models.Model):
        name = models.CharField(null=True)

.. versionadded:: 5.0

    This is left out.

.. note::

    Avoid it for :class:`~django.db.models.CharField`\\ s.

Other things
============

.. _Sentry: https://x.org
"""


@pytest.fixture(scope="module")
def rows():
    sys.path.insert(0, EXAMPLES)
    try:
        yield importlib.import_module("documentation_rows")
    finally:
        sys.path.remove(EXAMPLES)


def test_sections_know_the_titles_above_them(rows):
    found = list(rows.sections(TEXT))
    assert [section.titles for section in found] == [
        ("Models",), ("Models", "Fields"), ("Models", "Fields", "``null``"), ("Models", "Other things"),
    ]  # fmt: skip
    assert "important" in found[1].text
    assert "null" not in found[1].text
    assert rows.question(found[2].titles).endswith('under "Fields", what does it say about "null"?')


def test_what_only_tools_read_is_left_out(rows):
    texts = [rows.plain(section.text) for section in rows.sections(TEXT)]
    assert texts[0] == (
        "Each model is a Python class that subclasses django.db.models.Model, and\n"
        "every one of its `fields` maps to a column of a table."
    )
    assert texts[2] == (
        "Field.null\n\nIf `True`, as in `__init__()`:\n\n    class Person(models.Model):\n"
        "        name = models.CharField(null=True)\n\nNote:\n\n    Avoid it for CharFields."
    )
    assert texts[3] == ""


def test_rows_are_bounded_and_in_order(rows, tmp_path):
    (tmp_path / "b").mkdir()
    paragraphs = "\n\n".join(f"Paragraph {i}: " + "words, words " * 20 + "end" for i in range(12))
    (tmp_path / "b" / "a.txt").write_text(f"Title\n=====\n\n{paragraphs}\n\nShort\n-----\n\nToo short.\n")
    (tmp_path / "a.txt").write_text(f"First\n=====\n\n{paragraphs[:1000]}\n")
    (found, second) = rows.documentation_rows(tmp_path)
    assert (found["group"], second["group"]) == ("top", "b")
    assert rows.SHORTEST <= len(second["output"]) <= rows.LONGEST
    assert second["output"] == paragraphs[: len(second["output"])]
    assert list(rows.documentation_rows(tmp_path)) == [found, second]


def test_no_question_and_no_answer_comes_twice(rows):
    def row(question, answer):
        return {"instruction": question, "output": answer, "group": "a"}

    answer = " ".join(f"word{i}" for i in range(200)) + " "
    given = [row("What?", answer), row("what?", "other"), row("Why?", answer.upper()), row("What?", answer + "now")]
    given += [row("Where?", "over there, behind the house"), row("What is it?", answer + "today")]
    kept, left_out = rows.unique(given)
    assert kept == [given[0], given[4]]
    assert left_out == {"instruction": 2, "output": 1, "near": 1, "exact": 0}
