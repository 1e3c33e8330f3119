"""An arm's own training text holds nothing of what the plan holds out: no window, no copy."""

import json
import random

import plans
import pytest
import world

from samplewise.data import Document, cut_windows, document_id, read_documents
from samplewise.data.near_duplicates import without_copies
from samplewise.evidence.arm_run import PlanContext
from samplewise.evidence.evaluation_suite import open_data
from samplewise.evidence.initial_model import open_initial_model
from samplewise.evidence.plan_file import load_plan


@pytest.fixture(scope="module", params=["share", "path"])
def plan_context(tmp_path_factory, request):
    """A corpus of 40 texts and near-duplicates of half of them, of which some documents are held out."""
    here, draw = tmp_path_factory.mktemp("own"), random.Random(0)
    texts = [" ".join(draw.choices(world.WORDS, k=60)) for _ in range(40)]
    write(here / "texts.jsonl", [{"text": text} for text in texts + [f"{text} w0 w1" for text in texts[::2]]])
    write(here / "held.jsonl", [{"text": text} for text in texts[:8]])
    data = {"path": str(here / "texts.jsonl"), "max_length": 32, "min_tokens": 4, "duplicates": "keep"}
    held = {"held_out": 0.2} if request.param == "share" else {"held_out_from": str(here / "held.jsonl")}
    plan = load_plan(plans.write_plan(here, data=data | held | {"held_out_documents": 3}))
    initial = open_initial_model(plan.model)
    own, suite = open_data(plan, initial)
    return PlanContext(plan, initial, suite, {None: own}, here)


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def places(windows) -> set[int]:
    return {window.row for window in windows}


def of_the_corpus(plan_context) -> tuple[list[Document], set[int]]:
    """Its documents, and which of them are held out, evaluated or not, or repeat one."""
    every = list(read_documents(plan_context.plan.data.path))
    others = {each.row for each in without_copies(every, plan_context.data[None].held_out_documents).kept}
    assert others >= places(plan_context.data[None].train.windows)
    assert len(every) - len(others) > 5
    return every, {each.row for each in every} - others


def test_windows_of_held_out_documents_are_not_selected(plan_context):
    every, away = of_the_corpus(plan_context)
    windows = list(cut_windows(every, plan_context.initial.tokenizer, max_length=32, min_tokens=4))
    assert len(windows) > len(every)
    texts = {each.row: each.text for each in every}
    records = [
        {"text": texts[window.row][slice(*window.span)], "doc_id": window.doc_id, "source": window.source}
        for window in windows
    ]
    write(plan_context.folder / "selected.jsonl", records)
    found = plan_context.training_text(str(plan_context.folder / "selected.jsonl"))
    assert places(found.train.windows) == {i for i, window in enumerate(windows) if window.row not in away}
    assert [window.id for window in found.held_out] == [window.id for window in plan_context.data[None].held_out]


def test_texts_that_name_no_document_are_compared(plan_context):
    every, away = of_the_corpus(plan_context)
    write(plan_context.folder / "rewritten.jsonl", [{"text": each.text.upper() + " W2"} for each in every])
    found = plan_context.training_text(str(plan_context.folder / "rewritten.jsonl"))
    rows = {each.row for each in every}
    assert places(found.train.windows) <= rows - away
    assert len(rows - away - places(found.train.windows)) < 4, "a copy of a copy may be unlike the first"
    assert document_id("texts.jsonl", min(away)) in plan_context.held_out_set.names
