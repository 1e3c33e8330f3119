"""What goes through other processes arrives as itself: the one exception, rules, token rules and schedules."""

import copy
import multiprocessing
import pickle
from dataclasses import replace
from typing import Any

import datasets
import pytest
import torch
from torch.utils.data import DataLoader

import samplewise as sw
from samplewise.core.calls import called
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples, as_samples
from samplewise.rules import RULES, TOKEN_RULES, parse_token_rule, resolve
from samplewise.rules.base import make_rule

ERROR = sw.SamplewiseError("r", expected="a number other than 0", got=0, remedy="Use uniform() for no tilt.")
CALLS = [
    "uniform()", "column_weights()", "ir_dro(r=0.7)", "ir_dro(kl=0.1, lagged=True)", "ir_dro(r=1.0, ema=0.5)",
    "chi2_dro(rho=0.1)", "cvar(alpha=0.3)", "lin_upper(r=0.3)", "quadratic(r=1.0, window=3)", "extremes(r=2.0)",
    "focal(gamma=2.0)",
    "mid_ranking(frac=0.25, portion=1)", "band(drop_top=0.1, drop_bottom=0.2, window=4)", "top_k(share=0.1)",
    "threshold(high=3.0)", "random_keep(share=0.5, seed=3)", "sample_proportional(share=0.5)",
    "infobatch(share=0.3, anneal=0.1, seed=2)", 'infobatch(share=0.3, scope="epoch")', "group_dro(step_size=0.1)",
    "doremi(step_size=0.5, smoothing=0.01)", 'by("excess", top_k(0.5))', "by_length(3, band(0.25))",
    "chain(band(drop_top=0.25), ir_dro(r=linear(1.0, 0.3, 0.5)), clip_weights(3.0), mix_uniform(0.1))",
    "warmup(0.2, ir_dro(r=piecewise(1.0, 100, 0.5)))", "flow()", "flow(tau=1.5)", "truncate(share=0.1, warmup=0.25)",
    'by("learnability", top_k(0.5))', "chain(flow(), dft())",
]  # fmt: skip


def sent(value: Any) -> Any:
    """What another process gets."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


def fail(row: object) -> object:
    raise ERROR


class Failing(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        raise ERROR


def arrived(error: BaseException) -> None:
    assert isinstance(error, sw.SamplewiseError)
    assert str(ERROR) in str(error)


def test_the_exception_is_itself_again():
    found = sent(ERROR)
    assert type(found) is sw.SamplewiseError
    assert (str(found), found.argument, found.expected, found.got, found.remedy) == (
        str(ERROR), "r", "a number other than 0", 0, "Use uniform() for no tilt.",
    )  # fmt: skip
    assert str(copy.deepcopy(ERROR)) == str(ERROR)
    odd = sw.SamplewiseError("rule", expected="a Rule", got=lambda: 0, remedy="…")
    odd.add_note("while reading")
    found = sent(odd)
    assert str(found) == str(odd)
    assert found.__notes__ == ["while reading"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_exception_through_a_pool(method):
    with multiprocessing.get_context(method).Pool(1) as pool, pytest.raises(sw.SamplewiseError) as caught:
        pool.apply_async(fail, (1,)).get(timeout=60)
    arrived(caught.value)


def test_the_exception_through_loader_workers():
    with pytest.raises(sw.SamplewiseError) as caught:
        list(DataLoader(Failing(), num_workers=1))
    arrived(caught.value)


def test_the_exception_through_two_processes_of_datasets():
    data = datasets.Dataset.from_dict({"x": list(range(4))})
    with pytest.raises(sw.SamplewiseError) as caught:
        data.map(fail, num_proc=2)
    arrived(caught.value)


@pytest.mark.slow  # half a minute to start a cluster
def test_the_exception_through_ray():
    def fails() -> None:  # by value: its workers do not find this file
        raise sw.SamplewiseError("r", expected="a number other than 0", got=0, remedy="Use uniform() for no tilt.")

    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(sw.SamplewiseError) as caught:
            ray.get(ray.remote(fails).remote())
        arrived(caught.value)
    finally:
        ray.shutdown()


def test_every_rule_is_here():
    assert set(RULES) <= {text.partition("(")[0] for text in CALLS} | {"clip_weights", "mix_uniform"}


@pytest.mark.parametrize("text", CALLS)
def test_a_rule_is_its_expression(text):
    rule = sw.parse_rule(text)
    again = sw.parse_rule(repr(rule))
    assert rule == again
    assert hash(rule) == hash(again)
    assert len({rule, again}) == 1
    found = sent(rule)
    assert found == rule
    assert (repr(found), hash(found), found.required_fields, found.norm) == (
        repr(rule),
        hash(rule),
        rule.required_fields,
        rule.norm,
    )
    assert copy.deepcopy(rule) == rule
    assert rule.name == text.partition("(")[0]
    assert rule != sw.ir_dro(r=123.0)
    if rule.for_run_length is not None:
        assert resolve(rule, 100) == resolve(found, 100) == sent(resolve(rule, 100))
        rule, found = resolve(rule, 100), resolve(found, 100)
    loss = torch.rand(16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples = replace(as_samples(loss), weight=loss + 1, reference=loss.flip(0), group=torch.arange(16) % 3,
                      stored_loss=loss + 2)  # fmt: skip
    one, other = (sw.plan_step(each, samples, each.init()) for each in (rule, found))
    assert torch.equal(one.weights, other.weights)


def test_defaults_and_their_values_are_one_rule():
    assert sw.ir_dro() == sw.ir_dro(r=1) == sw.ir_dro(1.0)
    assert sw.ir_dro(r=1.0) != sw.ir_dro(r=2.0)
    assert sw.chain(sw.top_k(0.5)) == sw.top_k(0.5)
    assert resolve(sw.ir_dro(r=sw.linear(1.0, 0.3, 0.5)), 1000) == sw.ir_dro(r=sw.linear(1.0, 0.3, 500))
    assert sw.linear(1.0, 0.3, 5) != sw.cosine(1.0, 0.3, 5)


def test_a_rule_knows_its_parts():
    band, tilt = sw.band(drop_top=0.1), sw.ir_dro(r=sw.linear(1.0, 0.3, 10))
    rule = sw.chain(band, tilt)
    assert rule.children == (band, tilt)
    assert tilt.children == (sw.linear(1.0, 0.3, 10),)
    assert dict(band.arguments) == {"drop_top": 0.1, "drop_bottom": 0.0, "window": None}


@pytest.mark.parametrize(
    "text",
    [
        'rho1(keep=0.6, scope="step")',
        "random_tokens(keep=0.3, seed=5)",
        "dft()",
        "talr(tau=2.0)",
        'token_threshold(max=1.0, of="reference")',
        "token_band(drop_top=0.1)",
    ],
)
def test_a_token_rule_is_its_expression(text):
    rule = parse_token_rule(text)
    assert text.partition("(")[0] in TOKEN_RULES
    found = sent(rule)
    assert found == rule == parse_token_rule(repr(rule))
    assert hash(found) == hash(rule)


@pytest.mark.parametrize(
    "schedule",
    [sw.linear(1.0, 0.3, 10), sw.cosine(1.0, 0.3, 0.5), sw.piecewise(1.0, 3, 0.5), sw.piecewise(1.0, 0.5, 2.0)],
)
def test_a_schedule_is_its_expression(schedule):
    found = sent(schedule)
    assert found == schedule
    assert hash(found) == hash(schedule)
    assert [found.at(0), found.corners] == [schedule.at(0), schedule.corners]


def as_they_are(weights: torch.Tensor, samples: Samples, state: State) -> torch.Tensor:
    return weights


def in_halves(weights: torch.Tensor, samples: Samples, state: State) -> torch.Tensor:
    return weights / 2


@called
def stranger(scale: float) -> Rule:
    return make_rule(f"stranger({scale})", lambda weights, samples, state: weights * samples.loss**scale)


def test_a_strangers_rule():
    rule = stranger(2.0)
    found = sent(rule)
    assert found == rule
    assert found([1.0, 3.0]).tolist() == pytest.approx([0.2, 1.8])
    assert make_rule("mine()", as_they_are) == sent(make_rule("mine()", as_they_are))


def test_the_same_text_of_other_functions_is_another_rule():
    mine = make_rule("top_k(share=0.1)", as_they_are)
    assert mine != sw.top_k(share=0.1)
    assert mine != make_rule("top_k(share=0.1)", in_halves)
    changed = replace(sw.top_k(share=0.1), apply=as_they_are)
    assert changed != sw.top_k(share=0.1)
    assert sent(mine)([1.0, 2.0]).tolist() == [1.0, 1.0]
