"""A rule as it is called: by its samples, in a loop, in both of its forms, and by what it says of itself."""

import math
import re

import pytest
import torch

import samplewise as sw
from samplewise.core.samples import Samples, as_samples
from samplewise.engine.agreement import check_agreement, is_fp32
from samplewise.rules.base import make_rule

LOSS = torch.tensor([1.0, 2.5, 3.0, 4.0], dtype=torch.float64)


def by_forms(rule: sw.Rule, samples: Samples) -> None:
    """As a step in one pass compares them."""
    assert rule.factor is not None
    factor = rule.factor(samples, rule.init())
    apply = rule.apply(torch.ones_like(samples.loss), samples, rule.init())
    check_agreement(
        rule, factor / factor.sum(), apply / apply.sum(), samples.id, coarse=bool(is_fp32(factor)), raw=lambda: apply
    )


def two_forms(factor, apply) -> sw.Rule:
    return make_rule("mine()", lambda w, s, state: w * apply(s.loss), factor=lambda s, state: factor(s.loss))


@pytest.mark.parametrize(("off", "wrong"), [(0.0, False), (1e-8, False), (1e-5, True), (1e-2, True)])
def test_both_forms_of_a_rule_agree_to_one_in_a_million(off, wrong):
    rule = two_forms(lambda loss: 7 * torch.exp(loss) * (1 + off * loss), torch.exp)
    if wrong:
        with pytest.raises(sw.SamplewiseError, match=r"factor and apply.*for ids"):
            by_forms(rule, as_samples(LOSS))
    else:
        by_forms(rule, as_samples(LOSS))


def test_the_rounding_of_fp32_is_no_disagreement():
    narrow = lambda loss: torch.exp(loss.float() * 3).double()  # noqa: E731
    by_forms(two_forms(narrow, lambda loss: torch.exp(loss * 3)), as_samples(LOSS))
    by_forms(two_forms(lambda loss: torch.exp(loss * 3), narrow), as_samples(LOSS))
    with pytest.raises(sw.SamplewiseError):
        by_forms(two_forms(lambda loss: narrow(loss) * (1 + 1e-3 * loss), narrow), as_samples(LOSS))


def test_a_rule_is_called_with_samples():
    weights = sw.ir_dro(r=1.0)(as_samples(LOSS))
    assert torch.allclose(weights, 4 * torch.softmax(LOSS, 0))
    gone = sw.ir_dro(r=1.0)(as_samples([1.0, math.nan, 3.0, 4.0], [5, 5, 0, 5]))
    assert gone[[1, 2]].tolist() == [0.0, 0.0]
    assert float(gone.sum()) == pytest.approx(2.0)
    with pytest.raises(sw.SamplewiseError, match=r"^weight: "):
        sw.column_weights()([1.0, 2.0])


def test_a_loop_remembers(caplog):
    weigher = sw.Weigher(sw.warmup(2, sw.ir_dro(r=1.0)))
    steps = [weigher(LOSS).tolist() for _ in range(3)]
    assert steps[0] == steps[1] == [1.0] * 4
    assert steps[2] == pytest.approx((4 * torch.softmax(LOSS, 0)).tolist())
    assert weigher.steps == 3
    groups = sw.Weigher(sw.group_dro(step_size=0.5))
    first, second = (groups([1.0, 1.0, 3.0, 3.0], group=[0, 0, 1, 1]).tolist() for _ in range(2))
    assert first == [1.0] * 4
    assert second[2] / second[0] == pytest.approx(math.exp(0.5 * 2))
    drawn = sw.Weigher(sw.random_keep(share=0.5, seed=1))
    assert len({tuple(drawn([1.0] * 16).tolist()) for _ in range(5)}) > 1
    assert not caplog.records
    sw.weights(sw.warmup(7, sw.ir_dro(r=0.123)), LOSS)
    assert "Weigher" in caplog.text


def test_short_steps_of_a_loop_are_counted_and_said_once(caplog):
    weigher = sw.Weigher(sw.band(drop_top=0.25))
    for n in (3, 8, 2):
        weigher(torch.linspace(1, 2, n))
    assert weigher.no_effect == 2
    assert len(re.findall("at least 4 samples", caplog.text)) == 1


def test_a_rule_says_what_it_ranks_by():
    kept = sw.parse_rule("chain(band(drop_top=0.1, window=8), top_k(0.5))").ranks
    assert kept is not None
    assert [each.interval(100) for each in kept] == [(10, 100), (0, 50)]
    mine = make_rule("top_k(share=0.1)", lambda weights, samples, state: weights)
    assert mine.ranks is None, "whatever it prints as"
    assert sw.by("excess", sw.top_k(0.5)).ranks is None
