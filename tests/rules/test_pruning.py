"""InfoBatch: by hand, against a loop over the paper's rule, and its expected gradient."""

import math
from dataclasses import replace

import pytest
import torch

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import State
from samplewise.core.samples import as_samples
from samplewise.rules import resolve
from samplewise.rules.base import uniforms


def test_by_hand():
    """The mean of the first step is 2.5: in the second 1 and 2 stay or go by chance, and weigh 2 if they stay."""
    rule, samples = sw.infobatch(share=0.5, anneal=0.0), as_samples([1.0, 2.0, 3.0, 4.0])
    first = sw.plan_step(rule, samples, rule.init())
    assert first.weights.tolist() == [1.0] * 4, "nothing is known yet"
    state, seen = first.state, set()
    for _ in range(40):
        plan = sw.plan_step(rule, samples, state)
        assert plan.weights[2:].tolist() == [1.0, 1.0]
        assert plan.coefficients.tolist() == pytest.approx([w / 4 for w in plan.weights.tolist()])
        seen.add(tuple(plan.weights[:2].tolist()))
        state = plan.state
    assert seen == {(0.0, 0.0), (0.0, 2.0), (2.0, 0.0), (2.0, 2.0)}


def test_a_loop_over_the_rule():
    """Drop with probability r below the mean of past steps, scale those like it by 1 / (1 − r)."""
    rule, share, seed = sw.infobatch(share=0.3, anneal=0.0, seed=9), 0.3, 9
    state, mean = rule.init(), math.nan
    for step in range(8):
        loss = torch.rand(20, generator=torch.Generator().manual_seed(step), dtype=torch.float64) * 4
        samples = as_samples(loss, ids=torch.arange(20) * 7)
        u = uniforms(samples.id, step, seed).tolist()
        expected = [
            1.0 if not x < mean else 0.0 if chance < share else 1 / 0.7
            for x, chance in zip(loss.tolist(), u, strict=True)
        ]
        plan = sw.plan_step(rule, samples, state)
        assert plan.weights.tolist() == pytest.approx(expected)
        here = sum(loss.tolist()) / 20
        mean = here if step == 0 else 0.9 * mean + 0.1 * here
        state = plan.state
    assert state["rule.mean"] == pytest.approx(mean)


def gradients(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """([N] losses, [N, P] the gradient of each) of a small network."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1)).double()
    x, y = torch.randn(n, 3).double(), torch.randn(n).double()
    losses = (net(x).squeeze(1) - y) ** 2
    rows = [torch.autograd.grad(loss, list(net.parameters()), retain_graph=True) for loss in losses]
    return losses.detach(), torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def drawn(rule: sw.Rule, state: State, draws: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(mean step gradient, its standard error, the gradient of all samples), each [P]; a draw is a step."""
    losses, rows = gradients()
    samples, base_weight = as_samples(losses), torch.arange(1, 13).double()
    steps = []
    for step in range(draws):
        plan = sw.plan_step(rule, samples, {**state, "step": step, "rule.step": step}, base_weight=base_weight)
        steps.append(plan.coefficients @ rows)
    found = torch.stack(steps)
    return found.mean(0), found.std(0) / draws**0.5, (base_weight / base_weight.sum()) @ rows


def test_the_expected_gradient_is_the_full_gradient():
    """2,500 draws, within three standard errors; divided by the sum of weights instead, it is not."""
    rule = sw.infobatch(share=0.6, anneal=0.0)
    state = rule.update(as_samples([0.8]), torch.ones(1), rule.init())
    mean, error, full = drawn(rule, state, 2500)
    assert (error > 0).all()
    assert ((mean - full).abs() < 3 * error).all()
    biased, error, _ = drawn(replace(rule, norm="sum"), state, 1000)
    assert ((biased - full).abs() > 6 * error).any(), "the instrument sees a bias where there is one"


def test_the_last_part_of_the_run_drops_nothing():
    rule = resolve(sw.infobatch(share=0.5), 16)
    assert repr(rule) == "infobatch(share=piecewise(0.5, 14, 0.0), seed=0)"
    state, samples = rule.init(), as_samples(torch.arange(40.0))
    kept = []
    for _ in range(18):
        plan = sw.plan_step(rule, samples, state)
        kept.append(plan.figures["kept"])
        state = plan.state
    assert kept[0] == 1
    assert max(kept[1:14]) < 1
    assert kept[14:] == [1.0] * 4


def test_it_is_told_how_long_the_run_is():
    rule, samples = sw.infobatch(0.5), as_samples([1.0, 2.0])
    state = sw.plan_step(rule, samples, rule.init()).state
    with pytest.raises(SamplewiseError, match=r"^steps: .*infobatch.*resolve"):
        sw.plan_step(rule, samples, state)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: sw.infobatch(share=1.0), "share"), (lambda: sw.infobatch(share=-0.1), "share"),
        (lambda: sw.infobatch(share="half"), "share"),  # pyright: ignore
        (lambda: sw.infobatch(anneal=1.0), "anneal"), (lambda: sw.infobatch(anneal=math.nan), "anneal"),
        (lambda: sw.infobatch(sw.linear(0.5, 0.1, 9), anneal=0.1), "anneal"),
        (lambda: sw.infobatch(seed=0.5), "seed"),  # pyright: ignore
    ],
)  # fmt: skip
def test_bad_arguments_are_named(make, argument):
    with pytest.raises(SamplewiseError, match=rf"^{argument}: expected "):
        make()
