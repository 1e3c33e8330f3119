"""What a rule sees instead of the loss: excess and ratio against numpy, ranks within lengths against a loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import Samples, as_samples
from samplewise.rules import resolve

LOSS = [1.0, 2.0, 3.0, 4.0]
REFERENCE = [0.5, 2.0, 1.0, 3.9]
RULES = [sw.ir_dro(r=0.7), sw.top_k(0.5), sw.band(0.25, 0.25), sw.cvar(0.6), sw.quadratic(), sw.ir_dro(kl=0.1),
         sw.chain(sw.band(0.25), sw.ir_dro())]  # fmt: skip


def step(seed: int, n: int = 12) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    loss, reference = torch.rand(2, n, generator=generator, dtype=torch.float64) * 4
    return as_samples(loss, torch.randint(1, 9, (n,), generator=generator), reference=reference)


def test_by_hand():
    """Excess 0.5, 0, 2, 0.1 and ratio 2, 1, 3, 1.03: RHO-LOSS keeps the first and the third."""
    assert sw.weights(sw.by("excess", sw.top_k(0.5)), LOSS, reference=REFERENCE).tolist() == [2.0, 0.0, 2.0, 0.0]
    assert sw.weights(sw.by("ratio", sw.top_k(0.25)), LOSS, reference=REFERENCE).tolist() == [0.0, 0.0, 4.0, 0.0]
    tilt = sw.weights(sw.by("excess", sw.ir_dro(r=2.0)), LOSS, reference=REFERENCE).numpy()
    expected = np.exp((np.array(LOSS) - REFERENCE) / 2)
    np.testing.assert_allclose(tilt, 4 * expected / expected.sum())


def test_learnability_by_hand():
    """Early minus late: 3 − 1, 2 − 2, 4 − 1; this model's own loss does not matter, and need not be known."""
    early, late = [3.0, 2.0, 4.0], [1.0, 2.0, 1.0]
    rule = sw.by("learnability", sw.top_k(1 / 3))
    for own in ([0.0, 9.0, 0.0], [1.0, 1.0, 1.0]):
        assert sw.weights(rule, own, reference=late, stored_loss=early).tolist() == [0.0, 0.0, 3.0]
    tilt = sw.weights(sw.by("learnability", sw.ir_dro(r=2.0)), early, reference=late, stored_loss=early).numpy()
    expected = np.exp(np.array([1.0, 0.0, 1.5]))
    np.testing.assert_allclose(tilt, 3 * expected / expected.sum())
    assert not rule.needs_loss
    assert rule.required_fields == {"reference", "stored_loss"}
    with pytest.raises(SamplewiseError, match=r"^stored_loss: expected samples with this field.*column stored_loss"):
        sw.weights(rule, early, reference=late)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("kind", ["excess", "ratio"])
def test_it_is_the_rule_on_those_losses(rule, kind):
    """Weights, state and factors, step after step."""
    wrapped = sw.by(kind, rule)
    assert wrapped.pointwise == rule.pointwise
    assert wrapped.required_fields == {"reference"}
    a, b = wrapped.init(), rule.init()
    for seed in range(4):
        samples = step(seed)
        assert samples.reference is not None
        loss, reference = samples.loss.numpy(), samples.reference.numpy()
        plain = as_samples(loss - reference if kind == "excess" else loss / np.maximum(reference, 0.01), samples.tokens)
        p, q = sw.plan_step(wrapped, samples, a), sw.plan_step(rule, plain, b)
        assert torch.equal(p.weights, q.weights)
        assert p.state == q.state
        assert p.figures["loss"] == pytest.approx(loss.mean()), "what is reported is the loss itself"
        if wrapped.factor is not None and rule.factor is not None and rule.factor_ready(b):
            assert torch.equal(wrapped.factor(samples, a), rule.factor(plain, b))
        a, b = p.state, q.state


def test_a_ratio_to_next_to_nothing_is_bounded():
    weights = sw.weights(sw.by("ratio", sw.chi2_dro(0.1)), [0.5, 0.5, 1.0], reference=[0.0, 1e-9, 0.01])
    assert weights[0] == weights[1]
    assert weights[2] == weights.max()


def test_a_reference_that_is_not_there_or_not_a_number():
    rule = sw.chain(sw.band(drop_top=1 / 3), sw.by("excess", sw.ir_dro()))
    with pytest.raises(SamplewiseError, match=r"^reference: .*by\(\"excess\".*reference_loss"):
        sw.weights(rule, LOSS)
    with pytest.raises(SamplewiseError, match=r"^reference: expected finite numbers.*for ids \[2\]"):
        sw.weights(rule, LOSS, reference=[1.0, 1.0, math.nan, 1.0])
    assert sw.weights(rule, LOSS, [1, 1, 0, 1], reference=[1.0, 1.0, math.nan, 1.0])[2] == 0, "no sample, no fault"


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: sw.by("excss", sw.top_k(0.5)), "kind"), (lambda: sw.by(1, sw.top_k(0.5)), "kind"),  # pyright: ignore
        (lambda: sw.by("excess", "top_k(0.5)"), "rule"),  # pyright: ignore
        (lambda: sw.by_length(0, sw.top_k(0.5)), "buckets"),
        (lambda: sw.by_length(2.0, sw.top_k(0.5)), "buckets"),  # pyright: ignore
        (lambda: sw.by_length(True, sw.top_k(0.5)), "buckets"),
        (lambda: sw.by_length(2, sw.linear(1.0, 2.0, 3)), "rule"),  # pyright: ignore
    ],
)  # fmt: skip
def test_bad_arguments_are_named(make, argument):
    with pytest.raises(SamplewiseError, match=rf"^{argument}: expected "):
        make()


# ---- ranks within lengths ----


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.5, 1.0, 2.0, 3.0, 9.0]), st.integers(1, 12)), min_size=1, max_size=30),
       st.integers(1, 5))  # fmt: skip
def test_the_rank_is_that_among_like_lengths(samples, buckets):
    """What the rule sees, from a loop over pairs; read off a rule whose weight is what it sees."""
    n = len(samples)
    group = [sum(t < tokens for _, t in samples) * buckets // n for _, tokens in samples]
    expected = []
    for (loss, _), g in zip(samples, group, strict=True):
        peers = [x for (x, _), h in zip(samples, group, strict=True) if h == g]
        lower, equal = sum(x < loss for x in peers), sum(x == loss for x in peers)
        expected.append((lower + (equal + 1) / 2 - 0.5) / len(peers))
    tilt = sw.weights(sw.by_length(buckets, sw.ir_dro(r=1.0)), [x for x, _ in samples], [t for _, t in samples])
    u = np.exp(np.array(expected))
    np.testing.assert_allclose(tilt.numpy(), n * u / u.sum(), rtol=1e-9)


def test_every_length_has_its_share_of_the_kept():
    """Short samples are noisier: over all, the top half is mostly theirs; within lengths it is a half of each."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.tensor([4] * 50 + [400] * 50)
    loss = 3 + torch.randn(100, generator=generator) / tokens**0.5
    plain, fair = sw.top_k(0.2), sw.by_length(2, sw.top_k(0.2))
    short = [int((sw.weights(rule, loss, tokens)[:50] > 0).sum()) for rule in (plain, fair)]
    assert short[0] >= 18
    assert short[1] == 10


def test_samples_of_one_length_are_ranked_together():
    samples = torch.rand(32, generator=torch.Generator().manual_seed(1))
    for rule in (sw.band(0.25), sw.mid_ranking(0.25, 1)):
        assert torch.equal(sw.weights(sw.by_length(8, rule), samples), sw.weights(rule, samples))


def test_shares_of_the_run_are_found_inside():
    rule = sw.by("excess", sw.by_length(4, sw.band(drop_top=sw.linear(0.5, 0.25, 0.1))))
    assert repr(resolve(rule, 200)).count("linear(0.5, 0.25, 20)") == 1
