"""Stored losses against a dict, through a checkpoint, with many ids; ranks against scipy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from samplewise.core.checkpoint import load_state, mark_complete, save_state
from samplewise.core.errors import SamplewiseError
from samplewise.core.statistics import rank_correlation
from samplewise.engine.loss_memory import LossMemory
from samplewise.engine.staleness import MAX_PAIRS, Staleness

ids = st.sampled_from([0, 1, 2, 7, 2**53, 2**53 + 1, 2**62, 2**63 - 1])
visits = st.lists(st.lists(st.tuples(ids, st.one_of(st.floats(0, 20), st.just(math.nan))), max_size=8), max_size=6)


@settings(max_examples=80, deadline=None)
@given(visits)
def test_it_is_a_dict(steps):
    memory, known = LossMemory(), {}
    for step, samples in enumerate(steps):
        names, losses = [name for name, _ in samples], [loss for _, loss in samples]
        memory.store(torch.tensor(names, dtype=torch.int64), torch.tensor(losses, dtype=torch.float64), step)
        known |= {name: (loss, step) for name, loss in samples if not math.isnan(loss)}
    asked = [2**62, 5, 2**53 + 1, 0, 0, 2**63 - 1, 2**53, 1]
    losses, at = memory.look_up(torch.tensor(asked))
    for name, loss, step in zip(asked, losses.tolist(), at.tolist(), strict=True):
        expected = known.get(name, (math.nan, -1))
        assert step == expected[1]
        assert loss == expected[0] or (math.isnan(loss) and math.isnan(expected[0]))
    assert len(memory) == len(known)


def test_many_ids_through_a_checkpoint(tmp_path):
    generator = torch.Generator().manual_seed(0)
    names = torch.randperm(400_000, generator=generator)[:200_000] * 2**41 + 1
    losses = torch.rand(200_000, generator=generator)
    memory = LossMemory()
    memory.store(names[:120_000], losses[:120_000], 3)
    memory.store(names[100_000:], losses[100_000:], 4)
    save_state(tmp_path, memory.state(), {})
    mark_complete(tmp_path)
    loaded = load_state(tmp_path)
    assert loaded is not None
    again = LossMemory.from_state(loaded[0])
    found, steps = again.look_up(names)
    torch.testing.assert_close(found, losses.double(), rtol=0, atol=0)
    assert (steps == 3).sum() == 100_000
    assert torch.isnan(again.look_up(names + 1)[0]).all()


@pytest.mark.parametrize(
    "state", [{}, {"ids": torch.tensor([2, 1]), "losses": torch.zeros(2), "steps": torch.zeros(2)},
              {"ids": torch.tensor([1, 2]), "losses": torch.zeros(1), "steps": torch.zeros(2)}]
)  # fmt: skip
def test_what_is_no_memory_is_refused(state):
    with pytest.raises(SamplewiseError, match=r"^state: expected ids, losses and steps"):
        LossMemory.from_state(state)


# ---- staleness ----


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, 3.5]), st.floats(0, 5)), min_size=3, max_size=40))
def test_rank_correlation_is_spearmans(pairs):
    x, y = (torch.tensor(part, dtype=torch.float64) for part in zip(*pairs, strict=True))
    if len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2:
        assert rank_correlation(x, y) == 0
        return
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x.numpy(), y.numpy()).statistic, abs=1e-12)


def test_the_probe_is_a_twentieth_and_the_same_in_any_split():
    names = torch.arange(20_000) * 7
    chosen = Staleness.probe(names, 5)
    assert float(chosen.double().mean()) == pytest.approx(0.05, abs=0.006)
    order = torch.randperm(20_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Staleness.probe(names[order], 5), chosen[order])
    assert not torch.equal(Staleness.probe(names, 6), chosen)


def test_staleness_is_measured_over_the_latest_pairs():
    staleness, generator = Staleness(), torch.Generator().manual_seed(1)
    assert math.isnan(staleness.figures["stored_corr"])
    assert not staleness.stale(), "nothing is known yet"
    for step in range(60):
        fresh = torch.rand(8, generator=generator)
        noise = 0.02 if step < 20 else 20.0
        stored = fresh + noise * torch.rand(8, generator=generator)
        staleness.add(
            torch.cat([stored, torch.tensor([math.nan])]), torch.cat([fresh, torch.ones(1)]), torch.full((9,), step)
        )
        if step == 19:
            assert staleness.figures["stored_corr"] > 0.99
            assert not staleness.stale()
    assert len(staleness.stored) == MAX_PAIRS
    assert staleness.stale(0.7)
    assert staleness.figures["stored_age"] == pytest.approx(sum(range(28, 60)) / 32)
    again = Staleness.from_state(staleness.state())
    assert again.figures == staleness.figures
