"""Weights below 0 in the data, and the divisor that keeps their size: gradients in fp64, however a step is split."""

from itertools import pairwise

import pytest
import tiny
import torch
from test_step_in_trainer import SPLITS, WeightedSplit, gradient_in_trainer

import samplewise as sw
from samplewise.engine.options import WeightingOptions
from samplewise.engine.step import Step
from samplewise.trainers import WeightedStep
from samplewise.trainers.collate import FieldsCollator

GIVEN = [1.0, -0.5, 2.0, 0.0, -1.5, 0.25, 1.0, -1.0]
SIGNED = {
    "weights alone": sw.column_weights(),
    "tilted": sw.chain(sw.column_weights(), sw.ir_dro(r=0.3)),
    "focal": sw.chain(sw.column_weights(), sw.focal(gamma=2.0)),
    "limits": sw.chain(sw.threshold(high=4.0), sw.column_weights()),
}
TOKENS = [[0.5 * ((i + t) % 4) for t in range(12)] for i in range(8)]


class Weighted(tiny.Rows):
    """Eight rows with weights of both signs, and where `tokens` is set weights of tokens, some of them 0."""

    def __init__(self, given=GIVEN, *, tokens=False):
        super().__init__(8)
        self.given, self.tokens = given, tokens

    def __getitem__(self, index):
        row = super().__getitem__(index) | {"sample_weight": self.given[index]}
        return row | {"token_weights": TOKENS[index][: len(row["input_ids"])]} if self.tokens else row


def by_hand(model, data, factor, *, per, norm="weights"):
    """Autograd over the whole step. factor: [8] losses -> [8] what multiplies the data's weight."""
    rows = [data[i] for i in range(8)]
    batch = tiny.collate(rows)
    model.train()
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
    token_loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:], reduction="none"
    )
    m = (batch["labels"][:, 1:] != -100).double()
    if data.tokens:
        for own, row in zip(m, rows, strict=True):
            own[: len(row["input_ids"]) - 1] *= torch.tensor(row["token_weights"][1:], dtype=torch.float64)
    loss = (token_loss * m).sum(1) / m.sum(1)
    w = torch.tensor(data.given, dtype=torch.float64) * factor(loss.detach())
    if per == "sample":
        objective = (w * loss).sum() / w.abs().sum()
    elif norm == "weights":
        objective = (w * m.sum(1) * loss).sum() / (w.abs() * m.sum(1)).sum()
    else:
        objective = (w[:, None] * m * token_loss).sum() / ((w[:, None] * m) != 0).sum()
    model.zero_grad()
    objective.backward()
    return torch.cat([p.grad.flatten().clone() for p in model.parameters()])


FACTORS = {
    "weights alone": torch.ones_like,
    "tilted": lambda loss: torch.exp(loss / 0.3 - 10),
    "focal": lambda loss: (1 - torch.exp(-loss)) ** 2,
    "limits": lambda loss: (loss <= 4.0).double(),
}


@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.parametrize("mode", ["one_pass", "two_pass"])
@pytest.mark.parametrize("name", SIGNED)
@pytest.mark.parametrize("split", ["1x8", "3+5"])
@pytest.mark.fast_cover(2)
def test_negative_weights_have_the_gradient_of_autograd(tmp_path, split, name, mode, per, monkeypatch):
    if mode == "two_pass":
        from samplewise.engine.modes import TwoPass

        monkeypatch.setattr("samplewise.engine.step.select_mode", lambda context, **kwargs: TwoPass(context))
    expected = by_hand(tiny.model("opt", dtype=torch.float64), Weighted(), FACTORS[name], per=per)
    got = gradient_in_trainer(
        tmp_path, tiny.model("opt", dtype=torch.float64), SIGNED[name], SPLITS[split], per, dataset=Weighted(),
        mode=mode, allow_negative=True,
    )  # fmt: skip
    assert (got - expected).norm() <= 1e-10 * expected.norm()


def test_a_sample_of_negative_weight_is_unlearned():
    """One step up along its gradient: its loss rises, that of the others falls."""
    model = tiny.model("opt", dtype=torch.float64)
    step = WeightedStep(model, "column_weights()", allow_negative=True)
    rows = [dict(Weighted([1.0] * 4 + [-1.0] * 4)[i], sample_id=i) for i in range(8)]
    batch = FieldsCollator(tiny.collate, negative=True)(rows)

    def losses():
        with torch.no_grad():
            step.detach()
            logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            return sw.sample_losses(logits, batch["labels"])[0]

    before = losses()
    step = WeightedStep(model, "column_weights()", allow_negative=True)
    for micro in step.plan([batch]):
        step.backward(micro)
    step.finish()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.05 * p.grad
    change = losses() - before
    assert change[:4].mean() < 0 < change[4:].mean()


def test_figures_are_of_the_sizes_of_weights():
    samples = sw.Samples(
        torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64), torch.tensor([1, 2, 3, 4]), torch.arange(4),
        weight=torch.tensor([1.0, -1.0, -2.0, 0.0], dtype=torch.float64),
    )  # fmt: skip
    plan = sw.plan_step(sw.column_weights(), samples, {}, allow_negative=True)
    assert plan.weights.tolist() == [1.0, -1.0, -2.0, 0.0]
    assert plan.coefficients.tolist() == [0.25, -0.25, -0.5, 0.0]
    figures = plan.figures
    assert figures["loss"] == 2.5
    assert figures["weighted_loss"] == pytest.approx(0.25 * 1 - 0.25 * 2 - 0.5 * 3)
    assert figures["ess"] == pytest.approx(4**2 / 6 / 4)
    assert (figures["max_weight"], figures["kept"], figures["negative"]) == (2.0, 0.75, 0.75)
    p = torch.tensor([0.25, 0.25, 0.5])
    assert figures["kl"] == pytest.approx(float((p * (p * 4).log()).sum()))


def test_the_share_of_negative_weight_is_logged(tmp_path):
    trainer = WeightedSplit(
        tiny.model(), tiny.arguments(tmp_path, max_steps=1), train_dataset=Weighted(), data_collator=tiny.collate,
        rule="column_weights()", allow_negative=True,
    )  # fmt: skip
    trainer.sizes = [4, 4]
    trainer.train()
    want = sum(-w for w in GIVEN if w < 0) / sum(map(abs, GIVEN))
    assert trainer.state.log_history[0]["samplewise/negative"] == pytest.approx(want)
    assert trainer.state.log_history[0]["samplewise/kept"] == 7 / 8


def test_equal_sizes_of_two_signs_are_no_rule_without_effect():
    from samplewise.engine.diagnosis import PATIENCE, Watch

    flat = {"ess": 1.0, "kept": 1.0, "samples": 8.0, "loss": 1.0}
    watch, other = Watch(sw.column_weights()), Watch(sw.column_weights())
    found = [watch.step(step, flat | {"negative": 0.5}, seconds={}) for step in range(PATIENCE)]
    assert not any(found)
    assert any(other.step(step, flat | {"negative": 0.0}, seconds={}) for step in range(PATIENCE))


REFUSED = [
    ("top_k(0.5)", "top_k(share=0.5)"),
    ("chain(column_weights(), band(drop_top=0.25))", "band(drop_top=0.25, drop_bottom=0.0)"),
    ("chain(column_weights(), ir_dro(kl=0.1))", "ir_dro(kl=0.1)"),
    ("chain(column_weights(), ir_dro(r=1.0, ema=0.9))", "ir_dro(r=1.0, ema=0.9)"),
    ("chain(column_weights(), lin_upper(r=1.0))", "lin_upper(r=1.0)"),
    ("chain(column_weights(), clip_weights(2.0))", "clip_weights(2.0)"),
    ("chain(column_weights(), random_keep(0.5))", "random_keep(share=0.5, seed=0)"),
    ("warmup(3, chi2_dro(1.0))", "chi2_dro(rho=1.0)"),
]


@pytest.mark.parametrize(("rule", "named"), REFUSED)
def test_every_other_rule_refuses_by_name(rule, named):
    with pytest.raises(sw.SamplewiseError, match=r"^allow_negative: expected column_weights\(\), and rules") as found:
        WeightingOptions(rule=rule, allow_negative=True)
    assert f"got {named}." in str(found.value)


def test_a_rule_of_ones_own_that_sees_negative_weights_refuses_by_name():
    """Where no option has looked: the rule itself."""
    samples = sw.Samples(
        torch.ones(2), torch.ones(2, dtype=torch.int64), torch.arange(2), weight=torch.tensor([1.0, -1.0])
    )
    rule = sw.chain(sw.column_weights(), sw.top_k(0.5))
    with pytest.raises(sw.SamplewiseError, match=r"^allow_negative: .*got top_k\(share=0.5\)"):
        sw.plan_step(rule, samples, rule.init(), allow_negative=True)


def test_without_the_option_a_negative_weight_is_the_error_it_was(tmp_path):
    with pytest.raises(sw.SamplewiseError, match=r"^sample_weight: expected finite numbers of 0 or more, got -0.5 in"):
        gradient_in_trainer(tmp_path, tiny.model(), sw.column_weights(), [4, 4], dataset=Weighted())
    with pytest.raises(sw.SamplewiseError, match=r"^weight: expected finite numbers of at least 0"):
        sw.weights(sw.column_weights(), [1.0, 2.0], weight=[1.0, -1.0])


@pytest.mark.parametrize("split", [[8], [4, 4]])
@pytest.mark.parametrize("rule", [sw.column_weights(), SIGNED["tilted"]])
def test_a_step_whose_weights_are_all_0_is_an_error_that_says_which(tmp_path, rule, split):
    with pytest.raises(sw.SamplewiseError, match="a weight other than 0, got none of 8") as found:
        gradient_in_trainer(
            tmp_path, tiny.model(), rule, split, dataset=Weighted([0.0] * 8), allow_negative=True
        )  # fmt: skip
    assert "optimizer step 1" in " ".join(found.value.__notes__)


# ---- the divisor that keeps the size of weights ----

SCALED = {"weights alone": SIGNED["weights alone"], "focal": SIGNED["focal"], "limits": SIGNED["limits"]}


@pytest.mark.parametrize("tokens", [False, True], ids=["samples", "tokens too"])
@pytest.mark.parametrize("mode", ["one_pass", "two_pass"])
@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("split", ["1x8", "3+5"])
@pytest.mark.fast_cover(2)
def test_nonzero_tokens_divides_by_the_tokens_of_a_weight(tmp_path, split, name, mode, tokens, monkeypatch):
    if mode == "two_pass":
        from samplewise.engine.modes import TwoPass

        monkeypatch.setattr("samplewise.engine.step.select_mode", lambda context, **kwargs: TwoPass(context))
    data = Weighted(tokens=tokens)
    model = tiny.model("opt", dtype=torch.float64)
    expected = by_hand(model, data, FACTORS[name], per="token", norm="nonzero_tokens")
    assert (expected - by_hand(model, data, FACTORS[name], per="token")).norm() > 0.01 * expected.norm()
    got = gradient_in_trainer(
        tmp_path, tiny.model("opt", dtype=torch.float64), SCALED[name], SPLITS[split], "token", dataset=data,
        mode=mode, allow_negative=True, norm="nonzero_tokens",
    )  # fmt: skip
    assert (got - expected).norm() <= 1e-10 * expected.norm()


def test_half_the_weight_is_half_the_gradient(tmp_path):
    def gradient(given, norm):
        return gradient_in_trainer(
            tmp_path, tiny.model("opt", dtype=torch.float64), sw.column_weights(), [4, 4], "token",
            dataset=Weighted(given), norm=norm,
        )  # fmt: skip

    whole, half = [1.0, 2.0, 0.5, 0.0] * 2, [0.5, 1.0, 0.25, 0.0] * 2
    torch.testing.assert_close(gradient(half, "nonzero_tokens"), gradient(whole, "nonzero_tokens") / 2)
    torch.testing.assert_close(gradient(half, "weights"), gradient(whole, "weights"))


@pytest.mark.parametrize("rule", [sw.uniform(), sw.top_k(0.5), sw.random_keep(0.5)])
def test_of_a_selection_both_divisors_are_one(tmp_path, rule):
    def gradient(norm):
        model = tiny.model("opt", dtype=torch.float64)
        return gradient_in_trainer(tmp_path, model, rule, [4, 4], "token", norm=norm)

    torch.testing.assert_close(gradient("nonzero_tokens"), gradient("weights"), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rule": "column_weights()"}, "expected 'weights' with per='sample', got 'nonzero_tokens'"),
        (
            {"rule": "chain(column_weights(), ir_dro(r=1.0))", "per": "token"},
            r"got 'nonzero_tokens' with ir_dro\(r=1.0\)",
        ),
        ({"rule": "infobatch(share=0.5)", "per": "token"}, "got 'nonzero_tokens' with infobatch"),
    ],
)
def test_nonzero_tokens_is_refused_where_it_says_nothing(options, says):
    with pytest.raises(sw.SamplewiseError, match=f"^norm: .*{says}"):
        WeightingOptions(norm="nonzero_tokens", **options)


def test_nonzero_tokens_is_refused_where_means_are_of_micro_batches():
    from samplewise.engine.base_weights import TokenMean

    model = tiny.model()
    step = Step(WeightingOptions(rule="uniform()", per="token", norm="nonzero_tokens"), torch.device("cpu"))
    step.attach(model)
    rows = [dict(tiny.Rows(8)[i], sample_id=i) for i in range(8)]
    batches = [FieldsCollator(tiny.collate)(rows[a:b]) for a, b in pairwise((0, 4, 8))]
    with pytest.raises(sw.SamplewiseError, match=r"^norm: expected 'weights' where means of tokens are averaged over"):
        step.prepare(model, batches, mean=TokenMean("micro_batch"))


def test_a_stream_may_hold_weights_below_0_where_it_is_allowed():
    from samplewise.trainers.identify import identified

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from ({"input_ids": [5, 6], "sample_weight": weight} for weight in (1.0, -0.5))

    columns = frozenset({"sample_weight"})
    assert [row["sample_weight"] for row in identified(Stream(), columns, negative=True)] == [1.0, -0.5]
    with pytest.raises(sw.SamplewiseError, match=r"^sample_weight: .*got -0.5 in row 1 of the stream"):
        list(identified(Stream(), columns))
