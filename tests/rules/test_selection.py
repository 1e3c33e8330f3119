"""Selections by hand with exact fractions; clipping against a search; mixing; warm-up."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.core.samples import Samples, as_samples

quick = settings(max_examples=150, deadline=None)
FRACTIONS = ["1/12", "1/10", "1/9", "1/8", "1/7", "1/6", "1/5", "1/4", "29/100", "3/10", "1/3", "2/5", "3/7", "1/2",
             "29/50", "2/3", "7/10", "3/4", "9/10", "11/12", "1"]  # fmt: skip


def shuffled(n: int) -> Samples:
    """Distinct losses in no order."""
    loss = torch.randperm(n, generator=torch.Generator().manual_seed(n)).double() / 7
    return as_samples(loss, ids=torch.arange(n) * 3)


def kept(rule: Rule, samples: Samples) -> set[int]:
    weights = sw.plan_step(rule, samples, rule.init()).weights
    assert len(weights[weights > 0].unique()) == 1
    return set(samples.id[weights > 0].tolist())


def ranked(samples: Samples) -> list[int]:
    """Ids from the highest loss down, ties by id."""
    pairs = zip((-samples.loss).tolist(), samples.id.tolist(), strict=True)
    return [name for _, name in sorted(pairs)]


def test_mid_ranking_is_the_slice_by_hand():
    """Every share of the grid × every portion × every N up to 12: ranks [portion·cap, (portion + 1)·cap)."""
    slices = 0
    for text in FRACTIONS:
        frac = Fraction(text)
        for portion in range(math.ceil(1 / frac)):
            rule = sw.mid_ranking(frac=float(frac), portion=portion)
            for n in range(1, 13):
                cap = math.floor(frac * n)
                if cap == 0:
                    with pytest.raises(SamplewiseError, match=rf"at least {math.ceil(1 / frac)} samples"):
                        kept(rule, shuffled(n))
                    continue
                samples = shuffled(n)
                assert kept(rule, samples) == set(ranked(samples)[portion * cap : (portion + 1) * cap]), (frac, n)
                slices += 1
        with pytest.raises(SamplewiseError, match="portion"):
            sw.mid_ranking(frac=float(frac), portion=math.ceil(1 / frac))
    assert slices > 300


def test_the_portions_of_a_divisor_part_the_step():
    samples = shuffled(12)
    for parts in (2, 3, 4, 6, 12):
        slices = [kept(sw.mid_ranking(frac=1 / parts, portion=k), samples) for k in range(parts)]
        assert set.union(*slices) == set(samples.id.tolist())
        assert sum(map(len, slices)) == 12


def test_band_by_hand():
    drops = [Fraction(0), *(Fraction(text) for text in FRACTIONS[:-1])]
    for top in drops:
        for bottom in drops:
            if top + bottom >= 1:
                with pytest.raises(SamplewiseError, match="drop_top, drop_bottom"):
                    sw.band(drop_top=float(top), drop_bottom=float(bottom))
                continue
            rule = sw.band(drop_top=float(top), drop_bottom=float(bottom))
            for n in (1, 5, 10, 12, 100):
                high, low = math.floor(top * n), math.floor(bottom * n)
                plan = sw.plan_step(rule, shuffled(n), rule.init())
                assert set(shuffled(n).id[plan.weights > 0].tolist()) == set(ranked(shuffled(n))[high : n - low])
                if (top and not high) or (bottom and not low):
                    short = min(share for share in (top, bottom) if share)
                    assert f"at least {math.ceil(1 / short)} samples" in str(plan.shortfall)
                else:
                    assert plan.shortfall is None


@pytest.mark.parametrize("sizes", [(8, 3), (3, 8), (3, 3)])
def test_a_band_that_drops_nothing_is_counted_at_whatever_step(sizes):
    """Whether a short step comes first is chance, and must not decide whether a run goes on."""
    rule = sw.band(drop_top=0.25)
    state = rule.init()
    for n in sizes:
        plan = sw.plan_step(rule, shuffled(n), state)
        state = plan.state
        assert plan.figures["no_effect"] == (n < 4)
        assert plan.figures["kept"] == (1.0 if n < 4 else 0.75)
        assert (plan.shortfall is None) == (n >= 4)


def test_a_step_alone_is_the_largest_there_is():
    with pytest.raises(SamplewiseError, match=r"^drop_top: .* at least 4 samples.*got 3 samples"):
        sw.weights(sw.band(drop_top=0.25), [1.0, 2.0, 3.0])


@pytest.mark.parametrize("share", FRACTIONS)
def test_top_k_by_hand(share):
    for n in (1, 3, 10, 12, 100):
        count = math.floor(Fraction(share) * n)
        if count:
            assert kept(sw.top_k(float(Fraction(share))), shuffled(n)) == set(ranked(shuffled(n))[:count])
        else:
            with pytest.raises(SamplewiseError, match=r"^share: expected a step of at least"):
                kept(sw.top_k(float(Fraction(share))), shuffled(n))


def test_top_k_is_the_first_slice_and_the_complement_of_a_band():
    samples = shuffled(20)
    assert kept(sw.top_k(0.25), samples) == kept(sw.mid_ranking(0.25, 0), samples)
    assert kept(sw.top_k(0.25), samples) == kept(sw.band(drop_bottom=0.75), samples)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: sw.mid_ranking(frac=0, portion=0), "frac"), (lambda: sw.mid_ranking(frac=1.5, portion=0), "frac"),
        (lambda: sw.mid_ranking(frac=0.5, portion=-1), "portion"),
        (lambda: sw.mid_ranking(frac=0.5, portion=0.0), "portion"),  # pyright: ignore
        (lambda: sw.mid_ranking(frac=0.5, portion=True), "portion"),
        (lambda: sw.mid_ranking(frac=0.5, portion=10**400), "portion"),
        (lambda: sw.band(drop_top=-0.1), "drop_top"), (lambda: sw.band(drop_top=1.0), "drop_top"),
        (lambda: sw.band(drop_bottom=math.nan), "drop_bottom"), (lambda: sw.top_k(share=0.0), "share"),
        (lambda: sw.top_k(share=12.5), "share"), (lambda: sw.top_k(share="half"), "share"),  # pyright: ignore
        (lambda: sw.top_k(share=True), "share"), (lambda: sw.random_keep(share=0.0), "share"),
        (lambda: sw.random_keep(share=0.5, seed=0.5), "seed"),  # pyright: ignore
        (lambda: sw.random_keep(share=0.5, seed=True), "seed"),
        (lambda: sw.clip_weights(0.99), "max"), (lambda: sw.clip_weights(math.inf), "max"),
        (lambda: sw.clip_weights(math.nan), "max"), (lambda: sw.clip_weights(10**400), "max"),
        (lambda: sw.mix_uniform(-0.1), "share"), (lambda: sw.mix_uniform(1.1), "share"),
        (lambda: sw.warmup(-1, sw.uniform()), "steps"), (lambda: sw.warmup(1.0, sw.uniform()), "steps"),  # pyright: ignore
        (lambda: sw.warmup(1, "uniform()"), "rule"),  # pyright: ignore
        (lambda: sw.chain(), "rules"), (lambda: sw.chain(sw.uniform(), None), r"rules\[1\]"),  # pyright: ignore
    ],
)  # fmt: skip
def test_bad_arguments_are_named(make, argument):
    with pytest.raises(SamplewiseError, match=rf"^{argument}: expected "):
        make()


# ---- clipping ----


def searched(weights: list[float], limit: float) -> list[float]:
    """min(c·w, limit) of mean 1, c by bisection: what clipping means, without the closed form."""
    low, high = 0.0, 1.0
    largest = max(weights)
    w = [x / largest for x in weights]
    while sum(min(high * x, limit) for x in w) < len(w) and high < 1e300:
        high *= 2
    for _ in range(300):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(min(middle * x, limit) for x in w) < len(w) else (low, middle)
    return [min(high * x, limit) for x in w]


def clipped(weights: list[float], limit: float) -> Tensor:
    out = sw.clip_weights(limit).apply(torch.tensor(weights, dtype=torch.float64), as_samples([0.0] * len(weights)), {})
    return out / out.mean()


@quick
@given(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=15),
    st.one_of(st.sampled_from([1.0, 1.0 + 1e-9, 1.5, 2.0, 3.0, 50.0]), st.floats(1.0, 6.0)),
)
def test_clip_weights_is_the_fixed_point(weights, limit):
    out = clipped(weights, limit)
    assert out.mean() == pytest.approx(1)
    assert out.max() <= limit * (1 + 1e-9)
    order = torch.tensor(weights).double().argsort()
    assert (out[order].diff() >= -1e-12).all(), "order is kept"
    torch.testing.assert_close(out, torch.tensor(searched(weights, limit)).double(), rtol=1e-6, atol=1e-9)


def test_clip_weights_far_apart():
    """One sample takes all but nothing: the limit holds, and the rest goes to the others in proportion."""
    for small in (1e-12, 1e-100, 1e-300):
        assert clipped([1.0, small], 1.5).tolist() == pytest.approx([1.5, 0.5])
        assert clipped([1.0, 3 * small, small], 2.0).tolist() == pytest.approx([2.0, 0.75, 0.25])


def test_clip_weights_of_denormal_weights():
    """A tilt of exp(−720): its smallest weights are below the least normal number, yet present."""
    rule = sw.chain(sw.ir_dro(r=1 / 720), sw.clip_weights(1.5))
    assert sw.weights(rule, torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist() == pytest.approx([0.5, 1.5])


def test_clip_weights_within_the_limit_changes_nothing():
    loss = torch.tensor([1.0, 1.1, 0.9], dtype=torch.float64)
    tilt = sw.weights(sw.ir_dro(), loss)
    torch.testing.assert_close(sw.weights(sw.chain(sw.ir_dro(), sw.clip_weights(2.0)), loss), tilt)


# ---- mixing, warm-up ----


@quick
@given(st.lists(st.floats(0, 5), min_size=1, max_size=12), st.floats(0, 1))
def test_mix_uniform_is_the_mixture_of_the_normalized(loss, share):
    losses = torch.tensor(loss, dtype=torch.float64)
    tilt = sw.weights(sw.ir_dro(), losses)
    mixed = sw.weights(sw.chain(sw.ir_dro(), sw.mix_uniform(share)), losses)
    torch.testing.assert_close(mixed, (1 - share) * tilt + share)
    assert mixed.min() >= share * (1 - 1e-9)


def test_warmup_is_truly_uniform_and_learns_meanwhile():
    inner = sw.chain(sw.top_k(0.5), sw.ir_dro(r=0.5))
    rule, alone = sw.warmup(3, inner), inner.init()
    state = rule.init()
    for step in range(6):
        samples = as_samples(torch.rand(8, generator=torch.Generator().manual_seed(step), dtype=torch.float64) * 3)
        plan, reference = sw.plan_step(rule, samples, state), sw.plan_step(inner, samples, alone)
        if step < 3:
            assert plan.weights.tolist() == [1.0] * 8
            assert plan.figures["ess"] == 1.0
            assert plan.figures["kl"] == 0.0
        else:
            assert torch.equal(plan.weights, reference.weights)
        state, alone = plan.state, reference.state
        assert {key: value for key, value in state.items() if key != "step"} == {
            f"rule.{key}": value for key, value in alone.items()
        }


def test_warmup_counts_steps_in_which_it_sees_few_samples_too():
    rule = sw.warmup(2, sw.ir_dro())
    state = rule.init()
    for n in (8, 1):
        state = sw.plan_step(rule, shuffled(n), state).state
    assert sw.plan_step(rule, shuffled(8), state).figures["ess"] < 1


def test_a_band_inside_a_warmup_still_says_that_it_drops_nothing():
    """The warm-up must not hide a share that is too small for the step."""
    rule = sw.warmup(2, sw.band(drop_top=0.1))

    state = rule.init()
    for _ in range(4):
        plan = sw.plan_step(rule, shuffled(4), state)
        assert "at least 10 samples" in str(plan.shortfall)
        state = plan.state


def test_a_band_behind_another_rule_counts_what_that_leaves_in():
    rule = sw.chain(sw.top_k(share=0.5), sw.band(drop_top=0.25), sw.ir_dro(r=1.0))
    for n, short in ((6, True), (8, False)):
        plan = sw.plan_step(rule, shuffled(n), rule.init())
        assert (plan.shortfall is not None) == short
        assert not short or "got 3 samples" in str(plan.shortfall)
