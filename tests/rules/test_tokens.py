"""rho1 against a loop over plain floats, and the laws of every token rule."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.token_rule import TokenRule
from samplewise.rules import (
    TOKEN_RULES,
    dft,
    parse_token_rule,
    random_tokens,
    rho1,
    talr,
    token_band,
    token_threshold,
)

EXPRESSIONS = [
    'rho1(keep=0.6, scope="sample")', 'rho1(keep=0.3, scope="step")', 'rho1(keep=1.0, scope="sample")',
    'random_tokens(keep=0.6, scope="sample", seed=0)', 'random_tokens(keep=0.3, scope="step", seed=5)',
    'token_band(drop_top=0.2, drop_bottom=0.1, scope="sample")',
    'token_band(drop_top=0.2, drop_bottom=0.1, scope="step")',
    'token_threshold(max=4.0, of="live")', 'token_threshold(max=4.0, of="reference")', "dft()", "talr(tau=2.0)",
]  # fmt: skip


def loop(loss, reference, sample, keep, scope):
    """The weights, one scope after the other, by sorting."""
    excess = [a - b for a, b in zip(loss, reference, strict=True)]
    weights = [0.0] * len(loss)
    for owner in set(sample) if scope == "sample" else [None]:
        mine = [i for i in range(len(loss)) if owner is None or sample[i] == owner]
        ranked = sorted((excess[i] for i in mine), reverse=True)
        last = ranked[max(1, math.floor(keep * len(mine) + 1e-9)) - 1]
        for i in mine:
            weights[i] = 1.0 if excess[i] >= last else 0.0
    return weights


def tokens(n: int, samples: int, seed: int, *, ties: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    loss = torch.rand(n, generator=g, dtype=torch.float64) * 9
    reference = torch.rand(n, generator=g, dtype=torch.float64) * 9
    sample = torch.randint(samples, (n,), generator=g) * 3 + 1  # numbers with gaps, in no order
    return (loss.round(), reference.round(), sample) if ties else (loss, reference, sample)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 999), st.floats(0.01, 1.0), st.booleans(), st.booleans())
def test_equal_to_the_loop(n, samples, seed, keep, within, ties):
    scope = "sample" if within else "step"
    loss, reference, sample = tokens(n, samples, seed, ties=ties)
    got = rho1(keep, scope)(loss, reference, sample)
    assert got.tolist() == loop(loss.tolist(), reference.tolist(), sample.tolist(), keep, scope)


@pytest.mark.parametrize("n", range(1, 30))
@pytest.mark.parametrize("keep", [0.01, 0.29, 0.6, 1.0])
def test_how_many_are_kept(n, keep):
    loss, reference, _ = tokens(n, 1, n)
    for scope in ("sample", "step"):
        for rule in (rho1(keep, scope), random_tokens(keep, scope)):
            kept = rule(loss, reference, torch.zeros(n, dtype=torch.int64))
            assert int(kept.sum()) == max(1, math.floor(round(keep * n, 6)))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_order_of_tokens_and_the_numbers_of_samples_do_not_matter(expression):
    rule = parse_token_rule(expression)
    loss, reference, sample = tokens(60, 4, 7, ties=True)
    want = rule(loss, reference, sample)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rule(loss[order], reference[order], 100 - sample[order]), want[order])


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_scope_sample_is_the_same_on_any_samples(expression):
    rule = parse_token_rule(expression)
    loss, reference, sample = tokens(60, 4, 8)
    some = sample != sample[0]
    alone, together = rule(loss[some], reference[some], sample[some]), rule(loss, reference, sample)[some]
    assert torch.equal(alone, together) == (rule.scope == "sample")


@pytest.mark.parametrize("expression", [text for text in EXPRESSIONS if parse_token_rule(text).pointwise])
def test_a_pointwise_rule_is_the_same_on_any_tokens(expression):
    rule = parse_token_rule(expression)
    loss, reference, sample = tokens(60, 4, 8)
    some = torch.arange(60) % 3 != 0
    alone, together = rule(loss[some], reference[some], sample[some]), rule(loss, reference, sample)[some]
    assert torch.equal(alone, together)


@pytest.mark.parametrize("name", TOKEN_RULES)
def test_every_token_rule_has_a_row_and_is_public(name):
    assert any(text.startswith(f"{name}(") for text in EXPRESSIONS), f"add one to EXPRESSIONS for {name}"
    assert getattr(sw, name) is TOKEN_RULES[name]
    assert name in sw.__all__
    page = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text(encoding="utf-8")
    assert f"| `{name}(" in page, f"add a row for {name} to docs/tokens.md"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 30), min_size=1, max_size=20), st.floats(0.1, 50))
def test_weights_by_probability(losses, tau):
    loss, sample = torch.tensor(losses, dtype=torch.float64), torch.zeros(len(losses), dtype=torch.int64)
    for rule, power in ((dft(), 1.0), (talr(tau=tau), 1 / tau)):
        probability = [math.exp(-each) for each in losses]
        want = [each**power for each in probability]
        assert rule(loss, None, sample).tolist() == pytest.approx(want, rel=1e-12)
        assert rule.norm == "count"
        assert not rule.needs_reference


def test_by_hand():
    """Probabilities 1/2 and 1/4; their fourth roots."""
    loss, sample = torch.tensor([math.log(2), math.log(4)], dtype=torch.float64), torch.zeros(2)
    assert dft()(loss, None, sample).tolist() == pytest.approx([0.5, 0.25])
    assert talr(tau=4.0)(loss, None, sample).tolist() == pytest.approx([0.5**0.25, 0.25**0.25])
    assert token_threshold(max=1.0)(loss, None, sample).tolist() == [1.0, 0.0]
    assert token_threshold(max=1.0, of="reference")(loss, loss.flip(0), sample).tolist() == [0.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 999), st.sampled_from([0, 0.1, 0.25, 0.5]),
       st.sampled_from([0, 0.1, 0.3]), st.booleans())  # fmt: skip
def test_a_band_of_tokens(n, samples, seed, top, bottom, ties):
    loss, _, sample = tokens(n, samples, seed, ties=ties)
    for scope in ("sample", "step"):
        got = token_band(top, bottom, scope)(loss, None, sample).tolist()
        for owner in set(sample.tolist()) if scope == "sample" else [None]:
            mine = [i for i in range(n) if owner is None or int(sample[i]) == owner]
            ranked = sorted(float(loss[i]) for i in mine)
            low = ranked[math.floor(bottom * len(mine) + 1e-9)]
            high = ranked[len(mine) - 1 - math.floor(top * len(mine) + 1e-9)]
            assert [got[i] for i in mine] == [float(low <= float(loss[i]) <= high) for i in mine]


def test_a_rule_that_would_have_to_see_more_than_it_is_shown_is_refused():
    for options in ({"norm": "count"}, {"pointwise": True, "scope": "step"}):
        with pytest.raises(SamplewiseError, match=r"^TokenRule: expected norm=\"count\" with pointwise=True"):
            TokenRule(**{"expression": "mine()", "apply": lambda *each: each[0], "scope": "sample", **options})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_tokens_are_chosen_by_nothing(dtype):
    """Neither high nor low losses, whatever their spread; another seed, or another loss, is another choice."""
    loss = torch.randn(20_000, generator=torch.Generator().manual_seed(3), dtype=dtype) * 2 + 3
    owner = torch.arange(200).repeat_interleave(100)
    kept = random_tokens(0.3)(loss, None, owner) > 0
    assert kept.sum() == 6000
    assert abs(loss[kept].mean() - loss.mean()) < 4 * 2 / 6000**0.5
    ranks = loss.argsort().argsort()[kept].double() / 20_000
    assert abs(ranks.std() - 12**-0.5) < 0.01
    for other in (random_tokens(0.3, seed=1)(loss, None, owner), random_tokens(0.3)(loss + 0.01, None, owner)):
        assert abs(float(((other > 0) & kept).sum()) / 6000 - 0.3) < 0.03


def test_nothing_is_cut_between_equals():
    """Where the model is its own reference, rounding must not choose."""
    loss = torch.rand(10)
    assert rho1(0.3)(loss, loss, torch.zeros(10, dtype=torch.int64)).tolist() == [1.0] * 10


def test_a_loss_that_is_not_finite_stays_in_sight():
    loss, sample = torch.tensor([1.0, math.nan, 3.0, math.inf, 2.0]), torch.tensor([0, 0, 0, 1, 1])
    for rule in (rho1(0.5), random_tokens(0.5), token_band(drop_bottom=0.5), token_threshold(max=0.5)):
        kept = rule(loss, torch.zeros(5), sample)
        assert kept[1] == kept[3] == 1
        assert kept[0] == kept[4] == 0
    assert dft()(loss, None, sample)[1] == 1


def test_the_gradient_does_not_pass():
    loss, reference, sample = tokens(9, 2, 0)
    assert not rho1()(loss.requires_grad_(), reference, sample).requires_grad


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_printed_reads_back(expression):
    rule = parse_token_rule(expression)
    assert repr(rule) == expression
    assert parse_token_rule(f" {rule} ").scope == rule.scope


BAD_TEXT = {
    "rho2()": r"token rule, column 1: expected the name of a rule, got rho2\. Did you mean rho1\?",
    "rho1(kept=0.5)": "column 6.*Did you mean keep",
    "rho1(keep=0)": r"keep as a share in \(0, 1\]",
    "rho1(keep=linear(1.0, 0.3, steps=10))": r"keep as a share in \(0, 1\]",
    'rho1(scope="batch")': '"sample" or "step"',
    "ir_dro(r=1)": "Known: .*rho1",
    "random_tokens(seed=0.5)": "seed as a whole number",
    "talr(tau=0)": "tau as a finite number above 0",
    "token_threshold(max=-1)": "max as a finite loss of at least 0, in nats",
    'token_threshold(max=1, of="start")': 'of as "live" or "reference"',
    "token_band(drop_top=0.6, drop_bottom=0.4)": "shares that sum to less than 1",
    "rho1": r'For example "rho1\(keep=0\.6\)"',
    "": r'For example "rho1\(keep=0\.6\)"',
}


@pytest.mark.parametrize("text", BAD_TEXT)
def test_bad_text(text):
    with pytest.raises(SamplewiseError, match=f"(?s){BAD_TEXT[text]}"):
        parse_token_rule(text)


def test_bad_tokens():
    loss, reference, sample = tokens(6, 2, 0)
    with pytest.raises(SamplewiseError, match="Give reference_model"):
        rho1()(loss, None, sample)
    with pytest.raises(SamplewiseError, match=r"reference: .*\(6,\).*\(5,\)"):
        rho1()(loss, reference[:5], sample)
    with pytest.raises(SamplewiseError, match="finite"):
        rho1()(loss, reference.fill_(math.inf), sample)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_of_no_token_nothing_is_chosen(text):
    """A micro-batch in which nothing is predicted asks too."""
    rule, none = parse_token_rule(text), torch.empty(0)
    assert rule(none, none, torch.empty(0, dtype=torch.int64)).shape == (0,)
