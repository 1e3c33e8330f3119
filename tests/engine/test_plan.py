"""A step's plan: normalized once, the same for every order and split, and the samples that are not there."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.core.samples import Samples, as_samples
from samplewise.rules.base import make_rule

quick = settings(max_examples=50, deadline=None)
RULES = [
    sw.uniform(),
    sw.ir_dro(r=0.7),
    sw.chain(sw.band(drop_top=0.25), sw.ir_dro()),
    sw.chain(sw.ir_dro(r=0.3), sw.clip_weights(2.0), sw.mix_uniform(0.1)),
    sw.random_keep(share=0.5, seed=3),
    sw.mid_ranking(frac=0.25, portion=1),
    sw.sample_proportional(share=0.5, seed=3),
]
rules = pytest.mark.parametrize("rule", RULES, ids=repr)


def made(n: int = 16, seed: int = 0, dtype: torch.dtype = torch.float64) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    loss = torch.rand(n, generator=generator, dtype=torch.float64) * 3
    ids = torch.randperm(10 * n, generator=generator)[:n]
    return Samples(loss.to(dtype), torch.randint(1, 50, (n,), generator=generator), ids)


def plan(rule: Rule, samples: Samples, **options) -> sw.Plan:
    return sw.plan_step(rule, samples, rule.init(), **options)


def figures_equal(a: dict[str, float], b: dict[str, float]) -> bool:
    return a.keys() == b.keys() and all(a[key] == b[key] for key in a)


# ---- normalization ----


@rules
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coefficients_sum_to_one_and_weights_have_mean_one(rule, dtype):
    for base_weight in (None, made().tokens):
        out = plan(rule, made(dtype=dtype), base_weight=base_weight)
        assert float(out.coefficients.sum()) == pytest.approx(1, rel=1e-6)
        assert float(out.weights.mean()) == pytest.approx(1, rel=1e-6)
        assert torch.equal(out.weights == 0, out.coefficients == 0)


@rules
def test_token_mass_is_the_weighted_mean_over_tokens(rule):
    samples = made()
    weights = plan(rule, samples).weights.numpy()
    loss, n = samples.loss.numpy(), samples.tokens.numpy()
    out = plan(rule, samples, base_weight=samples.tokens)
    objective = float((out.coefficients * samples.loss).sum())
    assert objective == pytest.approx((weights * n * loss).sum() / (weights * n).sum(), rel=1e-12)
    assert np.allclose(out.weights.numpy(), weights), "what a sample counts does not change how the rule weighs it"


def test_uniform_per_token_is_the_mean_over_all_tokens():
    samples = made()
    out = plan(sw.uniform(), samples, base_weight=samples.tokens)
    assert float((out.coefficients * samples.loss).sum()) == pytest.approx(
        np.average(samples.loss.numpy(), weights=samples.tokens.numpy())
    )
    assert out.figures["loss"] == pytest.approx(out.figures["weighted_loss"])


def test_norm_count_divides_by_the_samples_and_not_by_the_weights():
    rule = replace(make_rule("thirds()", lambda w, samples, state: w * (samples.id % 3).to(w)), norm="count")
    samples = as_samples([1.0, 2.0, 3.0, 4.0], [1, 2, 3, 0], ids=[1, 2, 3, 4])  # the last has no token: not there
    out = plan(rule, samples)
    assert out.weights.tolist() == [1.0, 2.0, 0.0, 0.0]
    assert out.coefficients.tolist() == pytest.approx([1 / 3, 2 / 3, 0, 0])
    assert plan(rule, samples, base_weight=samples.tokens).coefficients.tolist() == pytest.approx([1 / 6, 4 / 6, 0, 0])
    assert plan(replace(rule, norm="sum"), samples, base_weight=samples.tokens).coefficients.tolist() == pytest.approx(
        [1 / 5, 4 / 5, 0, 0]
    )


def test_a_chain_counts_if_all_of_it_does():
    count, total = sw.infobatch(0.5, anneal=0.0), sw.ir_dro()
    assert sw.chain(count, sw.uniform()).norm == sw.chain(sw.uniform(), sw.chain(count)).norm == "count"
    assert sw.by("excess", count).norm == sw.warmup(3, count).norm == sw.by_length(2, count).norm == "count"
    assert sw.chain(count, total).norm == sw.chain(total, sw.uniform()).norm == "sum"


@pytest.mark.parametrize("dropped", [0.0, 1e-300])
def test_a_counted_step_may_lose_every_sample_and_another_may_not(dropped):
    """Chance has dropped them all: a gradient of 0 is part of an unbiased mean."""
    rule = make_rule("none()", lambda weights, samples, state: weights * dropped)
    if dropped:
        assert plan(rule, made(4)).weights.tolist() == [1.0] * 4
        return
    out = plan(replace(rule, norm="count"), made(4))
    assert out.coefficients.tolist() == [0.0] * 4
    assert (out.figures["kept"], out.figures["ess"], out.figures["kl"]) == (0.0, 0.0, 0.0)
    with pytest.raises(SamplewiseError, match="at least one sample"):
        plan(rule, made(4))


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e300])
def test_a_common_factor_of_the_rule_is_nothing(scale):
    """Nor does a sum of huge or tiny weights overflow or vanish."""

    def scaled_tilt(weights: Tensor, samples: Samples, state: object) -> Tensor:
        return torch.exp(samples.loss - 3) * scale

    rule = make_rule("scaled()", scaled_tilt)
    torch.testing.assert_close(plan(rule, made(100)).weights, plan(sw.ir_dro(), made(100)).weights)


# ---- order and split ----


@rules
@quick
@given(seed=st.integers(0, 1000), n=st.integers(4, 40), data=st.data())
def test_the_order_of_samples_changes_no_bit(rule, seed, n, data):
    samples = made(n, seed)
    order = torch.tensor(data.draw(st.permutations(range(n))))
    a, b = (
        plan(rule, samples, base_weight=samples.tokens),
        plan(rule, samples.select(order), base_weight=samples.tokens[order]),
    )
    assert torch.equal(a.weights[order], b.weights)
    assert torch.equal(a.coefficients[order], b.coefficients)
    assert figures_equal(a.figures, b.figures)
    assert a.state == b.state


@rules
def test_dealing_samples_to_ranks_and_back_changes_no_bit(rule):
    """Rank by rank, micro-batch by micro-batch: whatever the split, the plan is that of the step."""
    samples = made(24)
    whole = plan(rule, samples)
    for ranks in (2, 3, 5):
        dealt = torch.cat([torch.arange(rank, 24, ranks) for rank in range(ranks)])
        out = plan(rule, samples.select(dealt))
        assert torch.equal(out.coefficients, whole.coefficients[dealt])


def test_a_plan_per_micro_batch_is_another_estimator():
    """What this library is for: normalizing per micro-batch gives other weights."""
    samples = made(16)
    whole = plan(sw.ir_dro(r=0.3), samples).coefficients
    parts = [plan(sw.ir_dro(r=0.3), samples.select(torch.arange(k, k + 2))).coefficients / 8 for k in range(0, 16, 2)]
    assert float((whole - torch.cat(parts)).abs().sum() / 2) > 0.15


# ---- samples that are not there ----


def with_extra(samples: Samples, loss: float, tokens: int, at: int, name: int = 10_000) -> Samples:
    """One sample more, in the midst of the others."""

    def put(values: Tensor, value: float) -> Tensor:
        return torch.cat([values[:at], torch.tensor([value], dtype=values.dtype), values[at:]])

    return Samples(put(samples.loss, loss), put(samples.tokens, tokens), put(samples.id, name))


@rules
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_sample_is_as_absent(rule, bad):
    samples = made()
    more = with_extra(with_extra(samples, bad, 7, at=3), bad, 2, at=9, name=0)
    index = torch.tensor([k for k in range(18) if k not in (3, 9)])
    there, without = plan(rule, more, max_nonfinite=0.2), plan(rule, samples)
    assert torch.equal(there.weights[index], without.weights)
    assert torch.equal(there.coefficients[index], without.coefficients)
    assert there.weights[[3, 9]].tolist() == there.coefficients[[3, 9]].tolist() == [0.0, 0.0]
    assert sorted(there.nonfinite) == [0, 10_000]
    assert there.state == without.state
    assert figures_equal(there.figures, without.figures | {"nonfinite": 2.0})


def test_too_many_non_finite_losses_are_an_error():
    samples = made(99)
    one = with_extra(samples, math.nan, 1, at=50)
    assert plan(sw.ir_dro(), one).nonfinite == [10_000], "one in a hundred is the limit, and within it"
    two = with_extra(one, math.inf, 1, at=0, name=20_000)
    with pytest.raises(SamplewiseError, match=r"^loss: expected at most 1\.000%.*got 2 of 101, ids \[10000, 20000\]"):
        plan(sw.ir_dro(), two)
    assert len(plan(sw.ir_dro(), two, max_nonfinite=0.02).nonfinite) == 2
    with pytest.raises(SamplewiseError, match=r"^loss: "):
        plan(sw.ir_dro(), as_samples([math.nan, math.nan]))


def test_a_step_without_a_finite_loss_has_no_weights():
    with pytest.raises(SamplewiseError):
        plan(sw.ir_dro(), as_samples([math.nan, math.nan]), max_nonfinite=1.0)


@rules
@pytest.mark.parametrize("loss", [0.0, 1e9, math.nan])
def test_a_sample_without_a_token_is_no_sample(rule, loss):
    samples = made()
    more = with_extra(samples, loss, 0, at=5)
    index = torch.tensor([k for k in range(17) if k != 5])
    there, without = plan(rule, more, base_weight=more.tokens), plan(rule, samples, base_weight=samples.tokens)
    assert torch.equal(there.coefficients[index], without.coefficients)
    assert there.weights[5] == there.coefficients[5] == 0
    assert there.nonfinite == []
    assert figures_equal(there.figures, without.figures | {"empty": 1.0})


def test_a_step_without_any_token_is_an_error():
    with pytest.raises(SamplewiseError, match=r"^labels: expected at least one predicted token"):
        plan(sw.uniform(), as_samples([1.0, 2.0], [0, 0]))
    with pytest.raises(SamplewiseError, match=r"^labels: "):
        plan(sw.uniform(), as_samples([]))


# ---- rules that are wrong ----


@pytest.mark.parametrize(
    ("says", "made_of"),
    [
        ("finite weights of at least 0", lambda w: w - 2),
        ("finite weights of at least 0", lambda w: w * math.nan),
        ("finite weights of at least 0", lambda w: torch.where(torch.arange(len(w)) == 1, math.inf, w)),
        ("finite weights of at least 0", lambda w: w[:-1]),
        ("finite weights of at least 0", lambda w: w[:, None]),
        ("finite weights of at least 0", lambda w: w.sum()),
        ("at least one sample with a weight other than 0", torch.zeros_like),
    ],
)
def test_a_rule_that_returns_nonsense_is_refused(says, made_of):
    rule = make_rule("mine()", lambda weights, samples, state: made_of(weights))
    with pytest.raises(SamplewiseError, match=rf"^rule: expected .*{says}.*mine\(\)"):
        plan(rule, made(4))


# ---- figures ----


@rules
@pytest.mark.parametrize("per_token", [False, True])
def test_figures_against_numpy(rule, per_token):
    samples = made(20)
    out = plan(rule, samples, base_weight=samples.tokens if per_token else None)
    w, L, n = out.weights.numpy(), samples.loss.numpy(), samples.tokens.numpy()
    q = n if per_token else np.ones(20)
    p = w / w.sum()
    positive = p[p > 0]
    expected = {
        "loss": (q * L).sum() / q.sum(),
        "weighted_loss": (w * q * L).sum() / (w * q).sum(),
        "ess": w.sum() ** 2 / (w**2).sum() / 20,
        "max_weight": w.max(),
        "kl": (positive * np.log(positive * 20)).sum(),
        "kept": (w > 0).mean(),
        "length_corr": 0.0 if np.ptp(w) < 1e-12 else np.corrcoef(w, n)[0, 1],
        "samples": 20.0,
        "empty": 0.0,
        "nonfinite": 0.0,
        "no_effect": 0.0,
    }
    assert out.figures == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert all(type(value) is float for value in out.figures.values())


def test_the_state_moves_on_and_the_old_one_stays():
    rule = sw.chain(sw.random_keep(0.5), sw.ir_dro())
    old = rule.init()
    first = sw.plan_step(rule, made(), old)
    assert old["0.step"] == 0
    assert first.state["0.step"] == 1
    assert math.isfinite(first.state["1.shift"])
    again = sw.plan_step(rule, made(), old)
    assert torch.equal(first.weights, again.weights), "a pure function of its arguments"


def test_a_large_step():
    samples = made(4096)
    out = plan(sw.chain(sw.band(0.1, 0.1), sw.ir_dro(), sw.clip_weights(3)), samples)
    assert out.figures["kept"] == pytest.approx(1 - 2 * 409 / 4096)
    assert out.figures["max_weight"] <= 3 * 4096 / (4096 - 2 * 409) * (1 + 1e-9)


# ---- weights() ----


@rules
def test_weights_is_the_first_step_on_positions(rule):
    loss = made().loss
    expected = plan(rule, as_samples(loss)).weights
    assert torch.equal(sw.weights(rule, loss), expected)
    assert sw.weights(rule, loss.tolist()).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    torch.testing.assert_close(sw.weights(rule, loss.numpy()), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("dtype", "out"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32),
     (torch.float16, torch.float32), (torch.int64, torch.float64)],
)  # fmt: skip
def test_weights_keep_the_precision_that_was_given(dtype, out):
    assert sw.weights(sw.ir_dro(), torch.tensor([1, 2, 3], dtype=dtype)).dtype == out


def test_weights_leaves_out_the_empty():
    assert sw.weights(sw.uniform(), [1.0, math.nan, 3.0, 4.0], [1, 0, 0, 5]).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_weights_takes_what_a_rule_is_written_as():
    losses = [1.0, 2.0, 3.0, 4.0]
    assert torch.equal(sw.weights("ir_dro(r=2.0)", losses), sw.weights(sw.ir_dro(r=2.0), losses))
    assert torch.equal(sw.Weigher("top_k(share=0.5)")(losses), sw.weights(sw.top_k(share=0.5), losses))


def test_weights_takes_the_columns_of_data_frames():
    import pandas as pd
    import polars as pl

    want = sw.weights(sw.ir_dro(), [1.0, 2.0], [3, 4])
    for frame in (pd.DataFrame({"loss": [1.0, 2.0], "n": [3, 4]}), pl.DataFrame({"loss": [1.0, 2.0], "n": [3, 4]})):
        assert torch.equal(sw.weights(sw.ir_dro(), frame["loss"], frame["n"]), want)


def test_weights_names_the_first_loss_that_is_not_finite():
    with pytest.raises(SamplewiseError, match=r"^losses: expected finite numbers, got nan at position 1 and 1 more\."):
        sw.weights(sw.uniform(), [1.0, math.nan, 3.0, math.inf])


def test_weights_takes_losses_that_require_grad():
    loss = torch.tensor([1.0, 2.0], requires_grad=True)
    assert not sw.weights(sw.ir_dro(), loss).requires_grad


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: sw.weights("ir_dr()", [1.0]), "rule, column 1"),
        (lambda: sw.weights(sw.ir_dro(), ["a"]), "losses"),
        (lambda: sw.weights(sw.ir_dro(), [1.0, 2.0], weight=[None, 1.0]), "weight"),
        (lambda: sw.weights(sw.ir_dro, [1.0]), "rule"),  # pyright: ignore
        (lambda: sw.weights(sw.ir_dro(), [[1.0]]), "losses"),
        (lambda: sw.weights(sw.ir_dro(), 1.0), "losses"),
        (lambda: sw.weights(sw.ir_dro(), [1.0, 2.0], [1]), "tokens"),
        (lambda: sw.weights(sw.ir_dro(), []), "losses"),
    ],
)
def test_bad_arguments_are_named(make, argument):
    with pytest.raises(SamplewiseError, match=rf"^{argument}: expected "):
        make()


def test_ids_are_never_floats():
    """Two ids that a float64 cannot tell apart are two samples."""
    near = 2**62
    samples = as_samples([1.0, 1.0, 1.0, 1.0], ids=[near + 1, near, near + 3, near + 2])
    kept = plan(sw.top_k(0.5), samples).weights > 0
    assert samples.id[kept].tolist() == [near + 1, near]
    moved = plan(sw.top_k(0.5), replace(samples, id=samples.id.flip(0))).weights > 0
    assert moved.tolist() == [False, False, True, True]
