"""One table of every rule, and the laws that all of them keep."""

import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import samplewise as sw
from samplewise.core.checkpoint import load_state, mark_complete, save_state
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples, as_samples
from samplewise.rules import RULES, resolve
from samplewise.rules.base import uniforms


@dataclass(frozen=True)
class Row:
    """A rule, the least number of samples that it can work on, and whether it may leave nothing of a step."""

    rule: Rule
    min_samples: int = 1
    empty: bool = False


TABLE = [
    Row(sw.uniform()),
    Row(sw.column_weights()),
    Row(sw.chain(sw.column_weights(), sw.ir_dro(ess=0.5)), min_samples=2),
    Row(sw.ir_dro()),
    Row(sw.ir_dro(r=0.05)),
    Row(sw.ir_dro(r=-0.5)),
    Row(sw.ir_dro(kl=0.1), min_samples=2),
    Row(sw.ir_dro(ess=0.5), min_samples=2),
    Row(sw.ir_dro(kl=0.3, lagged=True), min_samples=2),
    Row(sw.ir_dro(ess=0.8, lagged=True), min_samples=2),
    Row(sw.ir_dro(r=0.7, ema=0.8)),
    Row(sw.chi2_dro(rho=0.05)),
    Row(sw.chi2_dro(rho=1.0)),
    Row(sw.cvar(alpha=0.3)),
    Row(sw.cvar(alpha=1.0)),
    Row(sw.lin_upper()),
    Row(sw.lin_upper(r=0.4)),
    Row(sw.quadratic(r=0.4)),
    Row(sw.lin_upper(r=0.4, window=2)),
    Row(sw.extremes(r=0.4)),
    Row(sw.flow(), min_samples=2),
    Row(sw.flow(tau=0.8)),
    Row(sw.chain(sw.random_keep(share=0.5), sw.flow(), sw.ir_dro(r=2.0)), min_samples=4),
    Row(sw.flow(tau=sw.linear(1.0, 0.5, 3))),
    Row(sw.by("excess", sw.flow(tau=2.0))),
    Row(sw.truncate(share=0.25, warmup=1)),
    Row(resolve(sw.truncate(share=0.4, warmup=0.5), 4)),
    Row(sw.truncate(share=0.3, warmup=0)),
    Row(sw.by("learnability", sw.top_k(share=0.5)), min_samples=2),
    Row(sw.by("learnability", sw.ir_dro(r=1.5))),
    Row(sw.focal(gamma=2.0), empty=True),
    Row(sw.focal(gamma=0.0)),
    Row(sw.mid_ranking(frac=0.25, portion=1), min_samples=4),
    Row(sw.mid_ranking(frac=0.3, portion=3), min_samples=4),
    Row(sw.mid_ranking(frac=1.0, portion=0)),
    Row(sw.band()),
    Row(sw.band(drop_top=0.125), min_samples=8),
    Row(sw.band(drop_top=0.5, drop_bottom=0.2), min_samples=5),
    Row(sw.top_k(share=0.3), min_samples=4),
    Row(sw.top_k(share=1.0)),
    Row(sw.random_keep(share=0.4), min_samples=3),
    Row(sw.random_keep(share=0.5, seed=-7), min_samples=2),
    Row(sw.sample_proportional(share=0.4), min_samples=3),
    Row(sw.chain(sw.sample_proportional(share=0.5, seed=2), sw.ir_dro(r=2.0)), min_samples=2),
    Row(sw.threshold(low=1.0, high=3.0), empty=True),
    Row(sw.threshold(high=sw.linear(3.0, 2.0, 3)), empty=True),
    Row(sw.infobatch(share=0.5, anneal=0.0)),
    Row(resolve(sw.infobatch(share=0.3, seed=4), 4)),
    Row(sw.infobatch(share=0.5, scope="epoch")),
    Row(sw.random_keep(share=0.5, scope="epoch"), empty=True),
    Row(sw.band(drop_top=0.25, drop_bottom=0.1, window=2), min_samples=5),
    Row(sw.top_k(share=sw.piecewise(0.4, 3, 0.6), window=2), min_samples=2),
    Row(sw.mid_ranking(frac=0.3, portion=1, window=2), min_samples=2),
    Row(sw.by("excess", sw.chain(sw.top_k(share=0.5, window=1), sw.ir_dro())), min_samples=2),
    Row(sw.group_dro(step_size=0.5)),
    Row(sw.chain(sw.group_dro(step_size=sw.linear(0.1, 0.5, 2)), sw.ir_dro(r=0.8))),
    Row(sw.doremi(step_size=0.7, smoothing=0.05)),
    Row(sw.chain(sw.ir_dro(r=2.0), sw.by("excess", sw.doremi()))),
    Row(sw.clip_weights(1.0)),
    Row(sw.clip_weights(1.5)),
    Row(sw.mix_uniform(0.25)),
    Row(sw.chain(sw.ir_dro(r=0.5))),
    Row(sw.chain(sw.band(drop_top=0.25), sw.ir_dro()), min_samples=4),
    Row(sw.chain(sw.ir_dro(r=0.3), sw.clip_weights(2.0), sw.mix_uniform(0.1))),
    Row(sw.chain(sw.ir_dro(), sw.chain(sw.uniform(), sw.ir_dro(r=3.0)))),
    Row(sw.chain(sw.random_keep(share=0.5, seed=1), sw.top_k(share=0.5)), min_samples=4),
    Row(sw.by("excess", sw.ir_dro(r=0.8))),
    Row(sw.by("ratio", sw.top_k(share=0.5)), min_samples=2),
    Row(sw.chain(sw.by("excess", sw.band(drop_top=0.25)), sw.ir_dro(kl=0.1, lagged=True)), min_samples=4),
    Row(sw.by_length(3, sw.band(drop_top=0.25, drop_bottom=0.25)), min_samples=4),
    Row(sw.by_length(2, sw.ir_dro(r=0.5))),
    Row(resolve(sw.warmup(0.2, sw.ir_dro(r=sw.linear(1.0, 0.5, 0.4))), 5)),
    Row(sw.warmup(0, sw.ir_dro(r=2.0))),
    Row(sw.warmup(2, sw.ir_dro(r=2.0))),
    Row(sw.chain(sw.warmup(1, sw.ir_dro()), sw.ir_dro(r=0.7))),
    Row(sw.warmup(1, sw.chain(sw.top_k(share=0.5), sw.ir_dro())), min_samples=2),
    Row(sw.warmup(2, sw.lin_upper(r=0.4))),
    Row(sw.chain(sw.ir_dro(r=0.7), sw.chi2_dro(rho=0.2), sw.cvar(alpha=0.6))),
    Row(sw.chain(sw.cvar(alpha=0.6), sw.ir_dro(kl=0.1)), min_samples=2),
    Row(sw.ir_dro(r=sw.linear(1.0, 0.3, 3))),
    Row(sw.ir_dro(kl=sw.cosine(0.05, 0.5, 2), lagged=True), min_samples=2),
    Row(sw.top_k(share=sw.piecewise(1.0, 1, 0.5)), min_samples=2),
    Row(sw.random_keep(share=sw.linear(0.5, 0.8, 4), seed=3), min_samples=2),
    Row(sw.warmup(1, sw.chain(sw.band(drop_top=sw.linear(0.5, 0.25, 2)), sw.ir_dro(r=sw.cosine(2.0, 1.0, 3)))),
        min_samples=4),
    Row(sw.chain(sw.quadratic(r=sw.piecewise(1.0, 2, 0.3)), sw.clip_weights(sw.linear(1.0, 2.0, 2)),
                 sw.mix_uniform(sw.linear(0.5, 0.0, 3)))),
]  # fmt: skip
SELECTING = [
    sw.band(drop_top=0.2),
    sw.band(drop_top=0.25, drop_bottom=0.25),
    sw.mid_ranking(frac=0.5, portion=1),
    sw.top_k(share=0.7),
    sw.random_keep(share=0.6, seed=5),
    sw.chain(sw.ir_dro(), sw.random_keep(share=0.7), sw.band(drop_bottom=0.2)),
]

rows = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.rule.expression)
quick = settings.get_profile("laws")
steps_of_losses = st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.25, 3.0, 5.0]), min_size=10, max_size=24)


def made(n: int = 12, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Samples:
    """A step with two tied losses, unordered large ids, and token counts of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    loss = torch.rand(n, generator=generator, dtype=torch.float64) * 4
    loss[-1] = loss[0]
    ids = torch.randperm(1000, generator=generator)[:n] * 2**50 + 3
    return filled(Samples(loss.to(dtype), torch.randint(1, 90, (n,), generator=generator), ids))


def filled(samples: Samples) -> Samples:
    """The same samples with every optional field: functions of the id, so that they move with it."""
    u = [uniforms(samples.id, 0, seed) for seed in range(4)]
    return replace(samples, weight=0.5 + u[0], reference=0.2 + 3 * u[1], group=(3 * u[2]).long(),
                   stored_loss=0.2 + 3 * u[3])  # fmt: skip


def stepped(losses: Any, ids: Any = None) -> Samples:
    """A step of these losses."""
    return filled(as_samples(losses, ids=ids))


def incoming(n: int, seed: int = 0) -> Tensor:
    """Weights that rules before this one might have left, zeros among them."""
    weights = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    weights[1::6] = 0
    return weights


def evolved(rule: Rule, steps: int) -> State:
    """The state after `steps` steps of different samples."""
    state = rule.init()
    for seed in range(steps):
        state = sw.plan_step(rule, made(seed=100 + seed), state).state
    return state


def same(a: State, b: State) -> None:
    """Two states are equal to the last bit."""
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def first(rule: Rule, samples: Samples) -> Tensor:
    return rule.apply(torch.ones_like(samples.loss), samples, rule.init())


# ---- the table itself ----


@pytest.mark.parametrize("name", RULES)
def test_every_registered_rule_has_a_row_and_is_public(name):
    outermost = {row.rule.expression.split("(")[0] for row in TABLE}
    assert name in outermost, f"add a row for {name} to TABLE"
    assert getattr(sw, name) is RULES[name]
    assert name in sw.__all__


def test_every_public_function_that_makes_a_rule_is_registered():
    annotated = {
        name for name in sw.__all__ if getattr(getattr(sw, name), "__annotations__", {}).get("return") == "Rule"
    }
    assert annotated - {"parse_rule", "make_rule"} == set(RULES)


# ---- shapes, types, extremes ----


@rows
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype(row, dtype):
    samples = made(dtype=dtype)
    out = first(row.rule, samples)
    assert out.shape == (12,)
    assert out.dtype == dtype
    plan = sw.plan_step(row.rule, samples, row.rule.init())
    assert plan.weights.dtype == plan.coefficients.dtype == dtype


EXTREMES = {
    "ties": [1.0, 2.0] * 6,
    "equal": [0.7] * 12,
    "zero": [0.0] * 12,
    "large": [1e4 + k for k in range(12)],
    "far apart": [1e4 * k for k in range(12)],
    "small": [1e-6 * (k + 1) for k in range(12)],
    "large and small": [1e4, 1e-6] * 6,
}


@rows
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_and_not_negative(row, dtype):
    for name, loss in EXTREMES.items():
        samples, state = stepped(torch.tensor(loss, dtype=dtype)), row.rule.init()
        for _ in range(3):
            if row.empty and not (row.rule.apply(torch.ones_like(samples.loss), samples, state) > 0).any():
                break
            plan = sw.plan_step(row.rule, samples, state)
            assert torch.isfinite(plan.weights).all(), name
            assert (plan.weights >= 0).all(), name
            if row.rule.norm == "sum":
                assert plan.weights.mean() == pytest.approx(1, rel=1e-5), name
                assert plan.figures["kept"] > 0, name
            state = plan.state


@rows
def test_equal_losses_leave_only_zero_or_one_common_weight(row):
    ones = torch.ones(12, dtype=torch.float64)
    samples = as_samples(1.3 * ones, weight=ones, reference=ones, group=torch.zeros(12), stored_loss=ones)
    out = first(row.rule, samples)
    assert len(out[out > 0].unique()) == 1


@rows
def test_the_least_number_of_samples(row):
    """It works on `least` samples; on fewer, the error says how many it takes, or the step counts as without effect."""

    def three_steps(n: int) -> list[str]:
        state, said = row.rule.init(), []
        for seed in range(3):
            plan = sw.plan_step(row.rule, made(n, seed=seed), state)
            assert plan.figures["no_effect"] == (plan.shortfall is not None)
            state, said = plan.state, said + [str(plan.shortfall)] * (plan.shortfall is not None)
        return said

    if row.empty:
        return
    assert not three_steps(row.min_samples)
    for n in range(1, row.min_samples):
        try:
            said = three_steps(n)
        except SamplewiseError as error:
            said = [str(error)]
        assert said, n
        assert all(re.search(r"at least \d+ samples", each) or "window of" in each for each in said)


@pytest.mark.parametrize(
    ("rule", "least"),
    [
        (sw.band(drop_top=0.1), 10), (sw.band(drop_bottom=0.29), 4), (sw.top_k(share=0.125), 8),
        (sw.mid_ranking(frac=1 / 3, portion=1), 3), (sw.random_keep(share=0.05), 20),
    ],
)  # fmt: skip
def test_the_error_names_the_least_number(rule, least):
    with pytest.raises(SamplewiseError, match=rf"at least {least} samples.*got 1 samples"):
        sw.weights(rule, [1.0])
    with pytest.raises(SamplewiseError, match=rf"at least {least} samples"):
        sw.weights(rule, [1.0] * (least - 1))
    assert sw.weights(rule, [1.0] * least).mean() == pytest.approx(1)


# ---- order, gradient, purity ----


@rows
@quick
@given(loss=steps_of_losses, data=st.data())
def test_permutation_equivariance(row, loss, data):
    n = len(loss)
    ids = data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=n, max_size=n, unique=True))
    order = torch.tensor(data.draw(st.permutations(range(n))))
    samples, given_weights = stepped(torch.tensor(loss, dtype=torch.float64), ids), incoming(n)
    state = evolved(row.rule, data.draw(st.integers(0, 2)))
    whole = row.rule.apply(given_weights, samples, state)
    moved = row.rule.apply(given_weights[order], samples.select(order), state)
    torch.testing.assert_close(moved, whole[order], rtol=1e-12, atol=0)
    assert torch.equal(moved == 0, whole[order] == 0)
    assert (whole[given_weights == 0] == 0).all(), "no rule revives a sample"


def test_ties_go_by_id_and_not_by_position():
    for rule in (sw.top_k(share=0.5), sw.mid_ranking(frac=0.5, portion=0)):
        samples = as_samples([1.0, 1.0, 1.0, 1.0], ids=[40, 10, 30, 20])
        assert samples.id[first(rule, samples) > 0].tolist() == [10, 20], "of equal losses the smaller id ranks higher"


@rows
def test_no_gradient_and_nothing_written(row):
    samples = made()
    loss = samples.loss.clone().requires_grad_()
    taken = replace(samples, loss=loss)
    weights, state = incoming(12).requires_grad_(), row.rule.init()
    before = dict(state)
    out = row.rule.apply(weights, taken, state)
    new = row.rule.update(taken, weights, state)
    assert not out.requires_grad
    assert not any(isinstance(value, Tensor) and value.requires_grad for value in new.values())
    plan = sw.plan_step(row.rule, taken, row.rule.init())
    assert not plan.coefficients.requires_grad
    same(state, before)
    assert torch.equal(weights, incoming(12))
    assert torch.equal(loss, samples.loss)


@rows
def test_no_global_randomness(row):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    evolved(row.rule, 3)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("row", [row for row in TABLE if not row.rule.needs_loss], ids=lambda row: repr(row.rule))
def test_a_rule_that_needs_no_loss_does_not_look_at_it(row):
    for steps in range(3):
        state, samples, weights = evolved(row.rule, steps), made(), incoming(12)
        other = replace(samples, loss=samples.loss.flip(0) ** 2)
        assert torch.equal(row.rule.apply(weights, samples, state), row.rule.apply(weights, other, state))


def test_which_rules_need_losses():
    silent = {row.rule.expression.split("(")[0] for row in TABLE if not (row.rule.needs_loss or row.rule.epochs)}
    assert not sw.infobatch(scope="epoch").needs_loss, "it chooses before the epoch, by stored losses"
    assert silent == {
        "uniform",
        "column_weights",
        "random_keep",
        "group_dro",
        "doremi",
        "clip_weights",
        "mix_uniform",
        "by",
    }, "by: of learnability"
    assert sw.chain(sw.random_keep(0.5), sw.ir_dro()).needs_loss
    assert not sw.chain(sw.random_keep(0.5), sw.uniform()).needs_loss


# ---- state ----


@rows
def test_state_through_a_checkpoint_gives_the_same_next_steps(row, tmp_path):
    state = evolved(row.rule, 3)
    save_state(tmp_path, state, {"rule": repr(row.rule)})
    mark_complete(tmp_path)
    loaded = load_state(tmp_path)
    assert loaded is not None
    restored, facts = loaded
    rule = sw.parse_rule(facts["rule"])
    for seed in range(3):
        a, b = sw.plan_step(row.rule, made(seed=seed), state), sw.plan_step(rule, made(seed=seed), restored)
        assert torch.equal(a.weights, b.weights)
        same(a.state, b.state)
        state, restored = a.state, b.state


@rows
def test_a_fresh_state_survives_a_checkpoint_too(row, tmp_path):
    """It may hold NaN (nothing learned yet), which JSON does not know."""
    save_state(tmp_path, row.rule.init(), {})
    mark_complete(tmp_path)
    loaded = load_state(tmp_path)
    assert loaded is not None
    torch.testing.assert_close(loaded[0], row.rule.init(), rtol=0, atol=0, equal_nan=True)


@rows
@pytest.mark.parametrize("side", ["left", "right"])
def test_uniform_is_the_identity_of_chain(row, side):
    rule = row.rule
    both = sw.chain(sw.uniform(), rule) if side == "left" else sw.chain(rule, sw.uniform())
    prefix = "1." if side == "left" else "0."
    alone, chained = rule.init(), both.init()
    for seed in range(5):
        samples = made(seed=seed)
        assert rule.factor_ready(alone) == both.factor_ready(chained)
        assert rule.pointwise == both.pointwise
        a, b = sw.plan_step(rule, samples, alone), sw.plan_step(both, samples, chained)
        assert torch.equal(a.weights, b.weights)
        assert both.norm == rule.norm
        same({prefix + key: value for key, value in a.state.items()}, b.state)
        if rule.factor is not None and both.factor is not None and rule.factor_ready(alone):
            assert torch.equal(rule.factor(samples, alone), both.factor(samples, chained))
        alone, chained = a.state, b.state


# ---- zero is absent ----


@rows
@quick
@given(select=st.sampled_from(SELECTING), loss=steps_of_losses, seed=st.integers(0, 99))
def test_a_sample_of_weight_zero_is_absent(row, select, loss, seed):
    """`chain(select, rule)` on N samples is `rule` on those kept, in weights, state and errors, step after step."""
    both, rule = sw.chain(select, row.rule), row.rule
    state, selecting, alone = both.init(), select.init(), rule.init()
    for step in range(3):
        samples = stepped(torch.tensor(loss, dtype=torch.float64).roll(step), torch.arange(len(loss)) + seed)
        ones = torch.ones_like(samples.loss)
        left = select.apply(ones, samples, selecting)
        kept = left > 0
        subset = samples.select(kept)
        out, error = outcome(both, ones, samples, state)
        expected, expected_error = outcome(rule, left[kept], subset, alone)
        assert error == expected_error
        if out is None or expected is None:
            return
        assert torch.equal(out[kept], expected)
        assert (out[~kept] == 0).all()
        state, selecting = both.update(samples, ones, state), select.update(samples, ones, selecting)
        alone = rule.update(subset, left[kept], alone)
        same({key[2:]: value for key, value in state.items() if key.startswith("1.")}, alone)


def outcome(rule: Rule, weights: Tensor, samples: Samples, state: State) -> tuple[Tensor | None, str]:
    """What a rule makes of these weights, or what it says against them."""
    try:
        rule.update(samples, weights, state)
        return rule.apply(weights, samples, state), ""
    except SamplewiseError as error:
        return None, str(error)


# ---- text ----


@rows
def test_what_a_rule_prints_reads_back_as_that_rule(row):
    again = sw.parse_rule(repr(row.rule))
    assert repr(again) == repr(row.rule)
    a, b = row.rule.init(), again.init()
    for seed in range(4):
        p, q = sw.plan_step(row.rule, made(seed=seed), a), sw.plan_step(again, made(seed=seed), b)
        assert torch.equal(p.weights, q.weights)
        a, b = p.state, q.state


# ---- factors ----


@rows
@quick
@given(data=st.data())
def test_a_factor_is_proportional_to_the_weights_and_the_same_on_any_subset(row, data):
    if row.rule.factor is None:
        assert not row.rule.pointwise
        return
    state = evolved(row.rule, data.draw(st.integers(1, 4)))
    if not row.rule.factor_ready(state):
        late = row.rule.expression.startswith("warmup("), "window=" in row.rule.expression
        assert any(late), "a rule after the warm-up that has no factor, or a window that is not full"
        return
    samples = made(20, seed=data.draw(st.integers(0, 50)))
    whole = row.rule.factor(samples, state)
    exact = row.rule.apply(torch.ones_like(samples.loss), samples, state)
    torch.testing.assert_close(whole * exact.sum(), exact * whole.sum(), rtol=1e-12, atol=0)
    if row.rule.norm == "count":
        torch.testing.assert_close(whole, exact, rtol=1e-14, atol=0)
    subset = torch.tensor(data.draw(st.lists(st.integers(0, 19), min_size=1, max_size=20, unique=True)))
    torch.testing.assert_close(row.rule.factor(samples.select(subset), state), whole[subset], rtol=1e-14, atol=0)


def test_which_rules_are_pointwise():
    pointwise = {row.rule.expression.split("(")[0] for row in TABLE if row.rule.pointwise}
    pointwise -= {row.rule.expression.split("(")[0] for row in TABLE if "window=" in row.rule.expression}
    assert {"uniform", "ir_dro", "column_weights", "threshold"} <= pointwise
    assert pointwise.isdisjoint({"mid_ranking", "band", "top_k", "clip_weights", "mix_uniform"})
    assert not sw.random_keep(0.5).pointwise, "of a step; of an epoch it is"
    assert not sw.chain(sw.ir_dro(), sw.band(0.1)).pointwise
    assert sw.chain(sw.ir_dro(), sw.uniform()).pointwise


def test_a_tilt_is_ready_once_it_has_seen_a_step():
    for rule in (sw.ir_dro(), sw.chain(sw.uniform(), sw.ir_dro()), sw.warmup(0, sw.ir_dro())):
        assert not rule.factor_ready(rule.init())
        assert rule.factor_ready(evolved(rule, 1))
    selecting = sw.warmup(2, sw.top_k(0.5))
    assert [selecting.factor_ready(evolved(selecting, steps)) for steps in range(4)] == [True, True, False, False]


# ---- randomness ----


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 64), share=st.sampled_from([0.5, 0.6, 0.75, 0.99, 1.0]), seed=st.integers(-(2**70), 2**70))
def test_a_random_choice_is_a_function_of_seed_step_and_id(n, share, seed):
    rule, samples = sw.random_keep(share=share, seed=seed), made(n)
    state = evolved(rule, 2)
    chosen = set(samples.id[rule.apply(torch.ones(n), samples, state) > 0].tolist())
    assert len(chosen) == int(share * n + 1e-9)
    for order in (torch.arange(n).flip(0), torch.randperm(n, generator=torch.Generator().manual_seed(n))):
        moved = samples.select(order)
        assert set(moved.id[rule.apply(torch.ones(n), moved, state) > 0].tolist()) == chosen


def test_random_choices_differ_between_steps_and_seeds():
    samples = made(40)

    def choice(seed: int, steps: int) -> tuple[float, ...]:
        rule = sw.random_keep(0.5, seed=seed)
        return tuple(sw.plan_step(rule, samples, evolved(rule, steps)).weights.tolist())

    choices = {choice(seed, steps) for seed in range(6) for steps in range(6)}
    assert len(choices) == 36


def test_random_choices_are_fair():
    """Every sample is kept about as often: 30% of 600 steps, within five standard deviations."""
    rule, samples = sw.random_keep(share=0.3), as_samples(torch.zeros(20))
    state, kept = rule.init(), torch.zeros(20)
    for _ in range(600):
        kept += rule.apply(torch.ones(20), samples, state) > 0
        state = rule.update(samples, torch.ones(20), state)
    assert kept.sum() == 6 * 600
    assert (kept - 180).abs().max() < 5 * (600 * 0.3 * 0.7) ** 0.5
