"""Schedules by hand, the rule of a step as the rule with that step's number, and errors before the first step."""

import inspect
import math

import pytest
import torch

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import Samples, as_samples
from samplewise.rules import RULES, resolve
from samplewise.rules.schedules import Schedule


def values(schedule: Schedule, *steps: int) -> list[float]:
    return [schedule.at(step) for step in steps]


def test_by_hand():
    assert values(sw.linear(1.0, 0.3, 100), 0, 50, 100, 10**9) == pytest.approx([1.0, 0.65, 0.3, 0.3])
    assert values(sw.cosine(1.0, 0.0, 100), 0, 25, 50, 100, 101) == pytest.approx(
        [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, 0.0, 0.0]
    )
    assert values(sw.piecewise(1.0, 2, 0.5, 4, 2.0), 0, 1, 2, 3, 4, 99) == [1.0, 1.0, 0.5, 0.5, 2.0, 2.0]
    assert values(sw.piecewise(3), 0, 7) == [3.0, 3.0]
    assert values(sw.linear(0.1, 0.3, 3), 3) == [0.3], "the end is met exactly"


def made(step: int, n: int = 12) -> Samples:
    loss = torch.rand(n, generator=torch.Generator().manual_seed(step), dtype=torch.float64) * 4
    return as_samples(loss)


@pytest.mark.parametrize(
    ("rule", "plain"),
    [
        (sw.ir_dro(r=sw.linear(1.0, 0.2, 4)), lambda s: sw.ir_dro(r=sw.linear(1.0, 0.2, 4).at(s))),
        (sw.ir_dro(sw.piecewise(1.0, 2, 0.5)), lambda s: sw.ir_dro(1.0 if s < 2 else 0.5)),
        (sw.ir_dro(kl=sw.cosine(0.1, 0.4, 3)), lambda s: sw.ir_dro(kl=sw.cosine(0.1, 0.4, 3).at(s))),
        (sw.ir_dro(ess=sw.linear(0.9, 0.4, 3)), lambda s: sw.ir_dro(ess=sw.linear(0.9, 0.4, 3).at(s))),
        (sw.chi2_dro(sw.linear(0.1, 1.0, 3)), lambda s: sw.chi2_dro(sw.linear(0.1, 1.0, 3).at(s))),
        (sw.cvar(sw.linear(1.0, 0.5, 3)), lambda s: sw.cvar(sw.linear(1.0, 0.5, 3).at(s))),
        (sw.quadratic(sw.linear(1.0, 0.5, 3)), lambda s: sw.quadratic(sw.linear(1.0, 0.5, 3).at(s))),
        (sw.top_k(sw.piecewise(1.0, 3, 0.5)), lambda s: sw.top_k(1.0 if s < 3 else 0.5)),
        (sw.clip_weights(sw.linear(1.0, 3.0, 3)), lambda s: sw.clip_weights(sw.linear(1.0, 3.0, 3).at(s))),
        (sw.mid_ranking(sw.piecewise(0.5, 3, 0.25), 1), lambda s: sw.mid_ranking(0.5 if s < 3 else 0.25, portion=1)),
        (sw.band(sw.linear(0.1, 0.3, 3), drop_bottom=0.2), lambda s: sw.band(sw.linear(0.1, 0.3, 3).at(s), 0.2)),
    ],
    ids=lambda value: repr(value) if isinstance(value, sw.Rule) else "",
)
def test_a_step_is_that_of_the_rule_with_its_number(rule, plain):
    state = rule.init()
    for step in range(7):
        plan = sw.plan_step(rule, made(step), state)
        expected = sw.plan_step(plain(step), made(step), plain(step).init())
        torch.testing.assert_close(plan.weights, expected.weights, rtol=1e-12, atol=0)
        assert rule.pointwise == plain(step).pointwise
        state = plan.state
    assert state["step"] == 7


def test_a_random_choice_goes_on_counting_its_steps():
    changing, constant = sw.random_keep(sw.piecewise(0.5, 3, 0.5)), sw.random_keep(0.5)
    a, b = changing.init(), constant.init()
    for step in range(6):
        p, q = sw.plan_step(changing, made(step), a), sw.plan_step(constant, made(step), b)
        assert torch.equal(p.weights, q.weights)
        a, b = p.state, q.state


def test_a_tilt_stays_one_pass_while_r_changes():
    """The shift is the last step's, learned under its r: factors stay moderate, and in proportion to the weights."""
    rule = sw.ir_dro(r=sw.linear(1.0, 0.1, 20))
    state = rule.init()
    assert not rule.factor_ready(state)
    assert rule.factor is not None
    for step in range(25):
        samples = made(step, 256)
        if step:
            assert rule.factor_ready(state)
            factor = rule.factor(samples, state)
            assert 1e-3 < float(factor.max()) < 1e6
            weights = sw.plan_step(rule, samples, state).weights
            torch.testing.assert_close(factor / factor.mean(), weights, rtol=1e-10, atol=0)
        state = sw.plan_step(rule, samples, state).state


def test_steps_count_through_a_warmup():
    rule = sw.warmup(3, sw.ir_dro(r=sw.piecewise(1.0, 4, 0.5)))
    state = rule.init()
    expected = [sw.uniform()] * 3 + [sw.ir_dro(1.0), sw.ir_dro(0.5), sw.ir_dro(0.5)]
    for step, plain in enumerate(expected):
        plan = sw.plan_step(rule, made(step), state)
        torch.testing.assert_close(plan.weights, sw.weights(plain, made(step).loss))
        state = plan.state


def test_every_number_of_every_rule_may_be_a_schedule():
    """What is annotated as a number that may change takes a schedule, prints it and reads it back."""
    least = {"max": 2.0}
    others = {"portion": 0}
    seen = set()
    for name, make in RULES.items():
        parameters = inspect.signature(make).parameters
        for argument, parameter in parameters.items():
            if "Number" not in str(parameter.annotation):
                continue
            schedule = sw.linear(least.get(argument, 0.5), least.get(argument, 0.5), 2)
            rest = {key: value for key, value in others.items() if key in parameters}
            rule = make(**{argument: schedule}, **rest)
            assert f"{argument}={schedule!r}" in repr(rule)
            assert repr(sw.parse_rule(repr(rule))) == repr(rule)
            seen.add(f"{name}.{argument}")
    assert len(seen) >= 15
    assert "float" not in str([inspect.signature(make) for make in RULES.values()]), "float would take no schedule"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: sw.linear(1.0, math.inf, 3), "end: expected a finite number"),
        (lambda: sw.linear("1", 2.0, 3), "start: expected a finite number"),  # pyright: ignore
        (lambda: sw.linear(1.0, 2.0, 0), "steps: expected a whole number above 0"),
        (lambda: sw.cosine(1.0, 2.0, 2.5), "steps: expected a whole number above 0"),  # pyright: ignore
        (lambda: sw.cosine(1.0, 2.0, True), "steps: expected a whole number above 0"),
        (lambda: sw.linear(1.0, -1.0, 3), "one side of 0"),
        (lambda: sw.piecewise(), "value, step, value"),
        (lambda: sw.piecewise(1.0, 3), "value, step, value"),
        (lambda: sw.piecewise(1.0, 3, 2.0, 3, 1.0), "whole number above 3"),
        (lambda: sw.piecewise(1.0, 0, 2.0), "whole number above 0"),
        (lambda: sw.piecewise(1.0, 3, -2.0), "one side of 0"),
        (lambda: sw.ir_dro(r=sw.linear(1.0, 0.0, 1000)), "^r: expected a finite temperature other than 0"),
        (lambda: sw.top_k(sw.linear(0.5, 1.5, 1000)), "^share: expected a share"),
        (lambda: sw.clip_weights(sw.linear(2.0, 0.5, 1000)), "^max: expected"),
        (lambda: sw.band(sw.linear(0.1, 0.6, 9), sw.piecewise(0.1, 5, 0.5)), "^drop_top, drop_bottom: expected"),
        (lambda: sw.ir_dro(kl=sw.piecewise(0.1, 5, 0.0)), "^kl: expected"),
        (lambda: sw.random_keep(0.5, seed=sw.linear(1.0, 2.0, 3)), "^seed: expected a whole number"),  # pyright: ignore
        (lambda: sw.warmup(sw.linear(1.0, 2.0, 3), sw.uniform()), "^steps: expected a whole number"),  # pyright: ignore
        (lambda: sw.chain(sw.linear(1.0, 2.0, 3)), r"^rules\[0\]: expected a Rule"),  # pyright: ignore
    ],
)  # fmt: skip
def test_errors_come_before_the_first_step(make, says):
    with pytest.raises(SamplewiseError, match=says):
        make()


# ---- shares of the run ----


@pytest.mark.parametrize(
    ("share", "steps"),
    [
        (sw.ir_dro(r=sw.linear(1.0, 0.3, 0.5)), sw.ir_dro(r=sw.linear(1.0, 0.3, 100))),
        (sw.top_k(sw.cosine(1.0, 0.5, 1.0)), sw.top_k(sw.cosine(1.0, 0.5, 200))),
        (sw.ir_dro(kl=sw.piecewise(0.1, 0.25, 0.2, 0.75, 0.3)), sw.ir_dro(kl=sw.piecewise(0.1, 50, 0.2, 150, 0.3))),
        (sw.warmup(0.1, sw.uniform()), sw.warmup(20, sw.uniform())),
        (sw.warmup(3, sw.ir_dro(sw.linear(1.0, 2.0, 0.001))), sw.warmup(3, sw.ir_dro(sw.linear(1.0, 2.0, 1)))),
        (sw.chain(sw.uniform(), sw.band(sw.linear(0.1, 0.2, 7), drop_bottom=sw.linear(0.1, 0.2, 0.5))),
         sw.chain(sw.uniform(), sw.band(sw.linear(0.1, 0.2, 7), drop_bottom=sw.linear(0.1, 0.2, 100)))),
        (sw.ir_dro(r=sw.linear(1.0, 0.3, 9)), sw.ir_dro(r=sw.linear(1.0, 0.3, 9))),
    ],
)  # fmt: skip
def test_shares_of_a_run_of_200_steps(share, steps):
    assert repr(resolve(share, 200)) == repr(steps)
    assert repr(resolve(sw.parse_rule(repr(share)), 200)) == repr(steps)
    assert repr(resolve(steps, 7)) == repr(steps), "steps are what they are"
    a, b = resolve(share, 200), steps
    p, q = a.init(), b.init()
    for step in range(3):
        plan, expected = sw.plan_step(a, made(step), p), sw.plan_step(b, made(step), q)
        assert torch.equal(plan.weights, expected.weights)
        p, q = plan.state, expected.state


@pytest.mark.parametrize("rule", [sw.ir_dro(r=sw.linear(1.0, 0.3, 0.5)), sw.warmup(0.5, sw.ir_dro(r=1.0))], ids=repr)
def test_a_rule_that_was_not_told_has_its_first_step_only(rule):
    plan = sw.plan_step(rule, made(0), rule.init())
    assert torch.equal(plan.weights, sw.plan_step(resolve(rule, 9), made(0), rule.init()).weights)
    with pytest.raises(SamplewiseError, match=r"^steps: .*resolve\(rule, total_steps\)"):
        sw.plan_step(rule, made(1), plan.state)
    with pytest.raises(SamplewiseError, match=r"^steps: "):
        rule.factor_ready(plan.state)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: sw.linear(1.0, 0.3, 1.5), "steps: expected a whole number above 0, or a share"),
        (lambda: sw.piecewise(1.0, 1.0, 0.3), "steps: expected"),
        (lambda: sw.piecewise(1.0, 0.5, 0.3, 0.4, 0.2), "steps: expected a whole number above 0.5, or a share"),
        (lambda: sw.piecewise(1.0, 0.5, 0.3, 40, 0.2), "whole numbers only, or shares only"),
        (lambda: sw.warmup(1.0, sw.uniform()), "steps: expected a whole number of steps, or a share"),
        (lambda: sw.top_k(sw.linear(0.5, 1.5, 0.1)), "^share: expected a share"),
        (lambda: resolve(sw.warmup(0.1, sw.uniform()), 0), "total_steps: expected the number of steps"),
        (lambda: resolve(sw.warmup(0.1, sw.uniform()), -1), "total_steps: .*in steps"),
        (lambda: resolve(sw.warmup(0.1, sw.uniform()), None), "total_steps: "),  # pyright: ignore
    ],
)
def test_bad_shares(make, says):
    with pytest.raises(SamplewiseError, match=says):
        make()
