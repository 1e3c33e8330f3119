"""Evaluations: rows of like length in full batches, collated once for all arms; and the time that a plan will take."""

import json
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import plans
import pytest
import tiny
import world
from hypothesis import given
from hypothesis import strategies as st

from samplewise.evidence import batches, evaluate
from samplewise.evidence.batches import batches_of
from samplewise.evidence.expected import Expected
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.plan_file import load_plan


def windows(lengths: list[int]) -> list:
    draw = np.random.default_rng(0)
    rows = [draw.integers(3, 37, length).astype(np.int32) for length in lengths]
    return [
        SimpleNamespace(input_ids=ids, labels=ids, doc_id=i, source="a", row=i, tokens=len(ids) - 1, size=4 * len(ids))
        for i, ids in enumerate(rows)
    ]


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(1, 6))
def test_batches_are_full_and_hold_every_row_once(lengths, size):
    found = batches_of(windows(lengths), pad_token_id=0, batch_size=size)
    assert sorted(row for batch in found for row in batch.rows) == list(range(len(lengths)))
    most = size * max(lengths)
    sizes = [batch.tensors["input_ids"].numel() for batch in found]
    assert max(sizes) <= most
    for batch, following in pairwise(found):
        assert (len(batch.rows) + 1) * lengths[following.rows[0]] > most, "another row would not have fitted"


def test_short_rows_share_batches_and_losses_stay_what_they_are():
    model, some = tiny.model("llama"), windows([4] * 60 + [40] * 4)
    assert len(batches_of(some, pad_token_id=0, batch_size=4)) == 3
    alone = evaluate(model, some, batch_size=1).losses
    assert evaluate(model, some, batch_size=4).losses == pytest.approx(alone, abs=1e-6)


def test_a_plan_collates_its_text_once_and_says_how_long_it_takes(tmp_path, monkeypatch):
    made: list[int] = []
    real = batches.batches_of

    def counting(rows, **options):
        made.append(len(rows))
        return real(rows, **options)

    monkeypatch.setattr("samplewise.evidence.run.execute.batches_of", counting)
    domain = json.dumps({"web": {"path": str(world.save_corpus(tmp_path / "other.jsonl", 12, 21, 70))}})
    options = ["seeds=[0]", "budget={steps: 2}", f"domains={domain}", "arms.half={budget_share: 0.5}"]
    said: list[str] = []
    run_plan(load_plan(plans.write_plan(tmp_path), options), say=said.append)
    assert len(made) == 2, "the held-out documents and the domain, for three arms before, during and after"
    told = [line for line in said if line.startswith("expected")]
    assert [line.split("left: ")[1] for line in told] == ["1.5 budgets, after 1", "0.5 budgets, after 2"]


def test_the_expected_time_is_in_proportion():
    expected = Expected(5.0, started=time.monotonic() - 60)
    expected.add(0.5)
    assert "about 9 min" in expected.line()
    expected.add(4.5)
    assert expected.line() == ""
