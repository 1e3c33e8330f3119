"""InfoBatch by epochs, as a rule: by hand, its expected gradient, and what its choice is a function of."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pruning import gradients

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Epoch, State
from samplewise.core.samples import Samples, as_samples
from samplewise.rules.base import uniforms

NAN = float("nan")


def begun(rule: sw.Rule, samples: Samples, number: int = 1, done: float | torch.Tensor = 0.5) -> State:
    assert rule.epochs is not None
    return rule.epochs.begin(Epoch(number, samples, torch.zeros(len(samples)) + done), rule.init())


def kept(rule: sw.Rule, samples: Samples, state: State) -> list[bool]:
    assert rule.epochs is not None
    return rule.epochs.keeps(samples.id, state).tolist()


def test_by_hand():
    """The mean of the known losses is 2.5: 1 and 2 stay or go by chance; what was never visited always stays."""
    rule, samples = sw.infobatch(share=0.5, anneal=0.0, scope="epoch"), as_samples([1.0, 2.0, 3.0, 4.0, NAN])
    seen = set()
    for number in range(1, 41):
        state = begun(rule, samples, number)
        weights = rule.apply(torch.ones(5), samples, state).tolist()
        assert weights[2:] == [1.0, 1.0, 1.0]
        assert [weight > 0 for weight in weights] == kept(rule, samples, state)
        seen.add(tuple(weights[:2]))
    assert seen == {(0.0, 0.0), (0.0, 2.0), (2.0, 0.0), (2.0, 2.0)}


def test_before_anything_is_known_nothing_is_dropped():
    rule, samples = sw.infobatch(share=0.9, scope="epoch"), as_samples([NAN] * 8)
    assert kept(rule, samples, rule.init()) == kept(rule, samples, begun(rule, samples, 0)) == [True] * 8


def test_the_expected_gradient_is_the_full_gradient():
    """2,500 draws of an epoch, of the samples that stay: within three standard errors; without weights it is not."""
    losses, rows = gradients()
    rule, samples = sw.infobatch(share=0.6, anneal=0.0, scope="epoch"), as_samples(losses)
    sums = {"weighted": [], "unweighted": []}
    for number in range(2500):
        state = begun(rule, samples, number)
        stays = torch.tensor(kept(rule, samples, state))
        assert rule.factor is not None
        weights = rule.factor(samples.select(stays), state)  # of the rows that the epoch has, as in its steps
        sums["weighted"].append(weights @ rows[stays])
        sums["unweighted"].append(rows[stays].sum(0))
    for name, each in sums.items():
        found = torch.stack(each)
        error = found.std(0) / len(found) ** 0.5
        assert (error > 0).all()
        within = (found.mean(0) - rows.sum(0)).abs() < 3 * error
        assert bool(within.all()) == (name == "weighted"), name


@settings(max_examples=40, deadline=None)
@given(
    losses=st.lists(st.one_of(st.just(NAN), st.floats(0.1, 9.0)), min_size=2, max_size=40),
    number=st.integers(0, 2**31), seed=st.integers(-5, 5), mix=st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_choice_is_a_function_of_seed_epoch_ids_and_losses(losses, number, seed, mix):
    """Against a loop over the paper's rule; in any order of the samples; of any subset of them, as ranks have."""
    rule = sw.infobatch(share=0.4, anneal=0.0, seed=seed, scope="epoch")
    ids = torch.tensor(mix.sample(range(10**12), len(losses)))
    samples = as_samples(losses, ids=ids)
    state = begun(rule, samples, number)
    mean = torch.tensor(losses, dtype=torch.float64).nanmean()
    chance = uniforms(ids, number, seed)
    for k, (loss, stays) in enumerate(zip(losses, kept(rule, samples, state), strict=True)):
        if abs(loss - mean) > 1e-9 or loss != loss:
            assert stays == (not (loss < mean and chance[k] < 0.4))
    order = torch.tensor(mix.sample(range(len(losses)), len(losses)))
    other = begun(rule, samples.select(order), number)
    torch.testing.assert_close(other, state, rtol=0, atol=0)
    some = order[: len(losses) // 2]
    assert rule.factor is not None
    assert rule.factor(samples.select(some), state).tolist() == rule.factor(samples, state)[some].tolist()


def test_the_end_of_the_run_drops_nothing():
    """From the sample on before which 1 − anneal of the run lies, wherever in an epoch that is."""
    rule, samples = sw.infobatch(share=0.9, anneal=0.25, scope="epoch"), as_samples([1.0] * 99 + [9.0])
    done = torch.linspace(0.5, 1.0, 100, dtype=torch.float64)
    state = begun(rule, samples, done=done)
    stays = torch.tensor(kept(rule, samples, state))
    assert 0 < int(stays[done < 0.75].sum()) < 20
    assert stays[done >= 0.75].all()
    assert rule.factor is not None
    assert rule.factor(samples, state)[done >= 0.75].tolist() == [1.0] * 50
    assert rule.epochs is not None
    assert rule.epochs.until == 0.75


def test_in_a_chain_and_from_text():
    text = 'chain(ir_dro(r=1.0), infobatch(share=0.5, anneal=0.1, seed=3, scope="epoch"), uniform())'
    rule, samples = sw.parse_rule(text), as_samples([1.0, 2.0, 3.0, 4.0])
    assert repr(rule) == text
    assert rule.norm == "sum"
    alone = sw.infobatch(0.5, 0.1, 3, "epoch")
    for number in range(8):
        state, own = begun(rule, samples, number), begun(alone, samples, number)
        assert kept(rule, samples, state) == kept(alone, samples, own)
        plan = sw.plan_step(rule, samples, state)
        assert (plan.weights > 0).tolist() == kept(rule, samples, state)
    both = sw.chain(alone, sw.infobatch(0.5, 0.3, 4, "epoch"))
    assert both.epochs is not None
    assert both.epochs.until == 0.9
    state = begun(both, samples)
    each = [kept(one, samples, begun(one, samples)) for one in (alone, sw.infobatch(0.5, 0.3, 4, "epoch"))]
    assert kept(both, samples, state) == [a and b for a, b in zip(*each, strict=True)]
    assert sw.chain(sw.uniform(), sw.ir_dro()).epochs is None


def test_a_random_drop_keeps_its_share_of_every_epoch_and_needs_no_losses():
    rule, ids = sw.random_keep(share=0.3, seed=5, scope="epoch"), torch.arange(4000)
    assert rule.epochs is not None
    samples = Samples(torch.full((4000,), NAN), torch.ones_like(ids), ids)
    kept = []
    for number in (0, 1):
        state = rule.epochs.begin(Epoch(number, samples, torch.zeros(4000)), rule.init())
        kept.append(rule.epochs.keeps(ids, state))
        assert kept[-1].double().mean() == pytest.approx(0.3, abs=0.03)
        stays = ids[kept[-1]][:10]
        own = Samples(torch.ones(10), torch.ones_like(stays), stays)
        assert sw.plan_step(rule, own, state).weights.tolist() == [1.0] * 10
    assert (kept[0] & kept[1]).double().mean() == pytest.approx(0.09, abs=0.02), "another choice in every epoch"
    assert not rule.epochs.needs_loss
    assert sw.parse_rule(str(rule)) == rule
    with pytest.raises(SamplewiseError, match="works step by step, with a number that changes"):
        sw.random_keep(share=sw.linear(0.5, 0.8, 4), scope="epoch")
    with pytest.raises(SamplewiseError, match="scope"):
        sw.random_keep(share=0.5, scope="run")


EPOCHS = 'infobatch(scope="epoch")'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('infobatch(scope="run")', "scope as \"step\" or \"epoch\""),
        ('infobatch(share=linear(0.5, 0.1, 9), scope="epoch")', "share as a number where scope is"),
        ('infobatch(share=1.0, scope="epoch")', "share as a share"),
        ('infobatch(anneal=1.0, scope="epoch")', "anneal as a share"),
        ('infobatch(seed=0.5, scope="epoch")', "seed as a whole number"),
        (f"warmup(2, {EPOCHS})", "rule as a rule that works step by step, in warmup"),
        (f'by("excess", {EPOCHS})', "step by step, in by"),
        (f"by_length(2, chain({EPOCHS}, ir_dro()))", "step by step, in by_length"),
    ],
)  # fmt: skip
def test_refused_by_name(text, says):
    with pytest.raises(SamplewiseError, match=says):
        sw.parse_rule(text)
