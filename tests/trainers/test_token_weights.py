"""Token rules beside sample rules against autograd by row in fp64, over splits and hosts; `dft()` against TRL's own."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch
from test_trl import conversations, trained
from trl import SFTTrainer

import samplewise as sw
from samplewise.trainers import WeightedStep, WeightedTrainer

N = 12
SPLITS = {"1x12": [12], "3x4": [4, 4, 4], "12x1": [1] * 12, "5+7": [5, 7]}
LIMIT = 3.55  # nats: about half of a random model's tokens of 37 words


def model(kind: str = "opt", **options):
    """In fp64 throughout, where Llama normalizes in fp32."""
    return tiny.model(kind, dtype=torch.float64, **options)


def row_losses(of, row):
    """[T − 1] token losses of one row alone, with history."""
    logits = of(row["input_ids"][None]).logits[0]
    return -logits[:-1].log_softmax(-1).gather(1, row["labels"][1:, None]).squeeze(1)


def plain(token, theirs):
    return token.mean(), token.mean(), len(token)


def by_probability(token, theirs):
    return token.mean(), (torch.exp(-token.detach()) * token).sum() / len(token), len(token)


def by_root(token, theirs):
    return token.mean(), (torch.exp(-token.detach() / 2) * token).sum() / len(token), len(token)


def below_limit(token, theirs):
    left = token[token.detach() <= LIMIT]
    return (left.mean(), left.mean(), len(left)) if len(left) else None


def below_limit_of_reference(token, theirs):
    left = token[theirs <= LIMIT]
    return (left.mean(), left.mean(), len(left)) if len(left) else None


def between(token, theirs):
    """Without the ⌊n/4⌋ highest and the ⌊n/4⌋ lowest."""
    cut = math.floor(len(token) / 4)
    order = token.detach().argsort()
    left = token[order[cut : len(token) - cut]]
    return left.mean(), left.mean(), len(left)


TOKEN_RULES = {
    "dft()": by_probability,
    "talr(tau=2.0)": by_root,
    f"token_threshold(max={LIMIT})": below_limit,
    f'token_threshold(max={LIMIT}, of="reference")': below_limit_of_reference,
    "token_band(drop_top=0.25, drop_bottom=0.25)": between,
}
"""Of each a function: token losses of a row -> (the loss a sample rule sees, the loss in the gradient, its tokens)."""
RULES = {
    "uniform()": lambda seen, stored: torch.ones_like(seen),
    "ir_dro(r=0.3)": lambda seen, stored: torch.exp(seen / 0.3),
    "top_k(0.5)": lambda seen, stored: (seen >= seen.sort().values[-math.floor(len(seen) / 2)]).double(),
    "flow(tau=1.5)": lambda seen, stored: torch.exp(-stored / 1.5),
    "flow()": lambda seen, stored: torch.exp(-stored / float(np.median(stored))),
    "chain(flow(tau=1.5), ir_dro(r=0.5))": lambda seen, stored: torch.exp(-stored / 1.5 + seen / 0.5),
}
STORED = [1.0 + (5 * i % 12) / 4 for i in range(N)]


def by_hand(rule, token_rule, per):
    """The gradient of the step, from one row after another."""
    own, other, rows = model(), model("gpt2", seed=7), tiny.Rows(N)
    found, stored = [], []
    for i in range(N):
        token = row_losses(own, rows[i])
        sample = TOKEN_RULES[token_rule](token, row_losses(other, rows[i]).detach())
        if sample is not None:
            found.append(sample)
            stored.append(STORED[i])
    seen, trained_on, tokens = (torch.stack([torch.as_tensor(each[k]) for each in found]) for k in range(3))
    weights = RULES[rule](seen.detach(), torch.tensor(stored, dtype=torch.float64))
    weights = weights * tokens if per == "token" else weights
    ((weights * trained_on).sum() / weights.sum()).backward()
    return torch.cat([p.grad.flatten() for p in own.parameters()])


def by_steps(rule, sizes, steps=1, token_rule=None, per="sample"):
    """The gradient of the last of `steps` steps on the same rows, in the bare loop."""
    own, rows, bounds = model(), tiny.Rows(N), [0]
    for size in sizes:
        bounds.append(bounds[-1] + size)
    needs = token_rule is not None and "reference" in token_rule
    step = WeightedStep(
        own, rule, token_rule=token_rule, per=per, reference_model=model("gpt2", seed=7) if needs else None
    )
    for _ in range(steps):
        own.zero_grad()
        batches = []
        for first, stop in pairwise(bounds):
            ids = range(first, stop)
            given = {"sample_id": torch.tensor(list(ids)), "stored_loss": torch.tensor([STORED[i] for i in ids])}
            batches.append(tiny.collate([rows[i] for i in ids]) | given)
        for micro in step.plan(batches):
            step.backward(micro)
        step.finish()
    mode = step.engine.figures.last.mode
    step.detach()
    return torch.cat([p.grad.flatten() for p in own.parameters()]), mode


def close(got, want, tolerance=1e-9):
    assert float(want.norm()) > 1e-4
    assert float((got - want).norm() / want.norm()) <= tolerance


@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.parametrize("rule", [rule for rule in RULES if "flow" not in rule])
@pytest.mark.parametrize("token_rule", TOKEN_RULES)
@pytest.mark.fast_cover(2)
def test_the_gradient_by_row(token_rule, rule, per):
    got, mode = by_steps(rule, [5, 7], steps=2, token_rule=token_rule, per=per)
    assert mode == ("two_pass" if rule == "top_k(0.5)" else "one_pass")
    close(got, by_hand(rule, token_rule, per))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("token_rule", ["dft()", f"token_threshold(max={LIMIT})"])
@pytest.mark.fast_cover(1)
def test_no_split_changes_it(token_rule, steps, split):
    got, _ = by_steps(f"chain(ir_dro(r=0.3), {token_rule})", SPLITS[split], steps=steps)
    close(got, by_hand("ir_dro(r=0.3)", token_rule, "sample"))


@pytest.mark.parametrize("rule", [rule for rule in RULES if "flow" in rule])
@pytest.mark.parametrize("token_rule", ["dft()", f"token_threshold(max={LIMIT})"])
@pytest.mark.parametrize("split", ["1x12", "5+7"])
@pytest.mark.fast_cover(1)
def test_the_starting_models_losses_and_token_weights_together(rule, token_rule, split):
    """`chain(flow(), dft())`: samples by stored losses, tokens by the model's own; in two passes, then in one."""
    for steps, mode in ((1, "one_pass" if "tau" in rule and "ir_dro" not in rule else "two_pass"), (2, "one_pass")):
        got, ran = by_steps(f"chain({rule}, {token_rule})", SPLITS[split], steps=steps)
        assert ran == mode
        close(got, by_hand(rule, token_rule, "sample"))


@pytest.mark.parametrize("form", ["padded", "padding-free", "bfd"])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.fast_cases("2-padded", "1-bfd")
def test_dft_is_trls(form, accumulation, tmp_path):
    """TRL's own loss divides by the number of tokens of the step: `uniform()` per token."""
    kwargs = {"data": conversations(), "accumulation": accumulation}
    _, want = trained(tmp_path / "a", form, None, cls=SFTTrainer, loss_type="dft", **kwargs)
    _, nll = trained(tmp_path / "b", form, None, cls=SFTTrainer, **kwargs)
    _, got = trained(tmp_path / "c", form, "uniform()", token_rule="dft()", per="token", **kwargs)
    for a, b, c in zip(got, want, nll, strict=True):
        assert float((a - b).norm() / b.norm()) <= 1e-6
        assert float((b - c).norm() / b.norm()) > 1e-2, "the weights do something"


def test_the_log_shows_the_plain_loss(tmp_path):
    data, collate = tiny.Rows(8), {"data_collator": tiny.collate}
    logs = []
    for token_rule in (None, "dft()"):
        args = tiny.arguments(tmp_path, max_steps=1, learning_rate=0.0)
        trainer = WeightedTrainer(
            tiny.model(), args, train_dataset=data, rule="ir_dro(r=0.5)", token_rule=token_rule, **collate
        )
        trainer.train()
        logs.append(trainer.state.log_history[0])
    assert logs[1]["loss"] == pytest.approx(logs[0]["loss"], rel=1e-6)
    assert logs[1]["grad_norm"] < 0.5 * logs[0]["grad_norm"]


@pytest.mark.filterwarnings("ignore:.*")
def test_from_logits_it_is_the_same(monkeypatch):
    want, _ = by_steps("chain(ir_dro(r=0.3), dft())", [12], steps=2)
    tiny.without_plain_head(monkeypatch)
    own, rows = model(), tiny.Rows(N)
    step = WeightedStep(own, "chain(ir_dro(r=0.3), dft())", logits="allow")
    for _ in range(2):
        own.zero_grad()
        for micro in step.plan([tiny.collate([rows[i] for i in range(N)]) | {"sample_id": torch.arange(N)}]):
            step.backward(micro)
        step.finish()
    close(torch.cat([p.grad.flatten() for p in own.parameters()]), want)


def test_a_token_rule_stands_in_the_chain_or_beside_it_but_once():
    inside = sw.parse_rule("chain(ir_dro(r=0.3), dft())")
    assert inside.token_rule == sw.dft()
    assert inside == sw.chain(sw.ir_dro(r=0.3), sw.dft())
    assert repr(sw.chain(sw.dft())) == "chain(dft())"
    assert sw.weights(sw.chain(sw.ir_dro(r=0.3), sw.dft()), [1.0, 2.0]).tolist() == (
        sw.weights(sw.ir_dro(r=0.3), [1.0, 2.0]).tolist()
    )
    with pytest.raises(
        sw.SamplewiseError, match=r"^token_rule: expected none beside dft\(\), which stands in the rule"
    ):
        WeightedStep(model(), inside, token_rule="rho1(0.5)")
    with pytest.raises(sw.SamplewiseError, match=r"^rules: expected one token rule in a chain"):
        sw.chain(sw.dft(), sw.chain(sw.ir_dro(), sw.talr(tau=2.0)))
    with pytest.raises(sw.SamplewiseError, match=r"token_rule"):
        sw.parse_rule("dft()")


@pytest.mark.parametrize("inside", ["warmup(3, {})", 'by("excess", {})', "by_length(2, {})"])
def test_where_nothing_would_run_a_token_rule_it_is_refused(inside):
    with pytest.raises(sw.SamplewiseError, match="a rule over samples alone"):
        sw.parse_rule(inside.format("chain(ir_dro(r=1), dft())"))
    with pytest.raises(sw.SamplewiseError, match="a rule over samples alone, where losses of samples are given"):
        sw.Weigher(sw.chain(sw.ir_dro(), sw.dft()))


def test_a_step_whose_tokens_are_all_left_out_is_named():
    with pytest.raises(sw.SamplewiseError, match=r"at least one predicted token in a step"):
        by_steps("uniform()", [12], token_rule="token_threshold(max=0.001)")


def test_a_share_of_the_run_beside_a_token_rule_becomes_steps():
    rule = sw.rules.resolve(sw.parse_rule("chain(ir_dro(r=linear(1.0, 0.3, 0.5)), dft())"), 10)
    assert repr(rule) == "chain(ir_dro(r=linear(1.0, 0.3, 5)), dft())"
    assert rule.token_rule == sw.dft()
