"""Every feature in every host: a table whose cells run the same laws. A new host adds a column.

The laws of a cell: the gradients of all steps are those of the plain loop, figures and losses too, and they differ from
those without the feature, so that the option does something.
"""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import hosts
import pytest
import tiny
import torch
from hosts import HOSTS, MICRO, SIZE, STEPS

import samplewise as sw

RULE = "ir_dro(r=0.3)"
N = STEPS * MICRO * SIZE
TOKENS = [[1.0 + (i + t) % 3 for t in range(6 + i % 7)] for i in range(N)]


@dataclass
class Feature:
    """options: of the weighting; columns: of the data; form: of the batches. without: what to compare with."""

    options: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    form: str = "padded"
    answers: int = 1
    without: dict[str, Any] | None = None
    n: int = N


def reference() -> Any:
    return tiny.model("opt", seed=7)


FEATURES = {
    "one pass": Feature({"rule": RULE}, without={"rule": "uniform()"}),
    "two passes": Feature({"rule": "chain(band(drop_top=0.25), ir_dro(r=0.3))"}, without={"rule": RULE}),
    "no loss needed": Feature({"rule": "random_keep(0.5)"}, without={"rule": "uniform()"}),
    "per token": Feature({"rule": RULE, "per": "token"}, without={"rule": RULE}),
    "pool": Feature({"rule": "top_k(0.5)", "pool": 2}, n=2 * N, without={"rule": "top_k(0.5)"}),
    "turns": Feature({"rule": RULE, "turns": True}, answers=2, without={"rule": RULE}),
    "token rule": Feature(
        {"rule": RULE, "token_rule": "rho1(0.6)", "reference_model": reference}, without={"rule": RULE}
    ),
    "token rule over the step": Feature(
        {"rule": RULE, "token_rule": 'rho1(0.6, scope="step")', "reference_model": reference}, without={"rule": RULE}
    ),
    "random tokens, per token": Feature(
        {"rule": RULE, "token_rule": "random_tokens(0.5)", "per": "token"}, without={"rule": RULE, "per": "token"}
    ),
    "tokens weighed by their probability": Feature({"rule": f"chain({RULE}, dft())"}, without={"rule": RULE}),
    "tokens weighed, two passes, per token": Feature(
        {"rule": "chain(top_k(0.5), talr(tau=2.0))", "per": "token"}, without={"rule": "top_k(0.5)", "per": "token"}
    ),
    "tokens weighed, no loss needed, packed": Feature(
        {"rule": "random_keep(0.5)", "token_rule": "dft()"}, form="flat", without={"rule": "random_keep(0.5)"}
    ),
    "tokens below a limit": Feature({"rule": RULE, "token_rule": "token_threshold(max=3.6)"}, without={"rule": RULE}),
    "tokens below a limit of the reference model": Feature(
        {"rule": RULE, "token_rule": 'token_threshold(max=3.6, of="reference")', "reference_model": reference},
        without={"rule": RULE},
    ),
    "tokens of a band": Feature({"rule": RULE, "token_rule": "token_band(drop_top=0.3)"}, without={"rule": RULE}),
    "reference model": Feature(
        {"rule": 'by("excess", ir_dro(r=0.3))', "reference_model": reference}, without={"rule": RULE}
    ),
    "reference losses in the data": Feature(
        {"rule": 'by("excess", ir_dro(r=0.3))'}, {"reference_loss": [2.0 + (i % 5) / 5 for i in range(N)]},
        without={"rule": RULE},
    ),
    "weights of the data": Feature(
        {"rule": "chain(column_weights(), ir_dro(r=0.3))"}, {"sample_weight": [1.0 + i % 3 for i in range(N)]},
        without={"rule": RULE},
    ),
    "weights of the data below 0": Feature(
        {"rule": "chain(column_weights(), ir_dro(r=0.3))", "allow_negative": True},
        {"sample_weight": [[1.0, -0.5, 2.0, 0.0][i % 4] for i in range(N)]}, without={"rule": RULE},
    ),
    "divided by the tokens of a weight": Feature(
        {"rule": "column_weights()", "per": "token", "norm": "nonzero_tokens"},
        {"sample_weight": [[0.5, 0.25, 0.0][i % 3] for i in range(N)]}, without={"rule": "uniform()", "per": "token"},
    ),
    "groups": Feature({"rule": "group_dro(step_size=2.0)"}, {"group": [i % 3 for i in range(N)]},
                      without={"rule": "uniform()"}),
    "token weights": Feature({"rule": RULE}, {"token_weights": TOKENS}, without={"rule": RULE}),
    "stored losses of the data": Feature(
        {"rule": "top_k(0.5)", "loss_from": "stored", "min_stored_corr": -1.0},
        {"stored_loss": [float((7 * i) % N) for i in range(N)]}, without={"rule": "top_k(0.5)"},
    ),
    "the starting model's losses": Feature(
        {"rule": "flow(tau=1.5)"}, {"stored_loss": [1.0 + (5 * i % N) / 4 for i in range(N)]},
        without={"rule": "uniform()"},
    ),
    "the losses of the first visit, packed": Feature({"rule": "flow()"}, form="flat", without={"rule": "uniform()"}),
    "the starting model's losses and tokens weighed, packed": Feature(
        {"rule": "chain(flow(tau=1.5), dft())"}, {"stored_loss": [1.0 + (5 * i % N) / 4 for i in range(N)]},
        form="flat", without={"rule": "chain(flow(tau=1.5), uniform())"},
    ),
    "high losses truncated": Feature({"rule": "truncate(share=0.25, warmup=1)"}, without={"rule": "uniform()"}),
    "learnability in the data": Feature(
        {"rule": 'by("learnability", top_k(0.5))'},
        {"stored_loss": [float((7 * i) % N) for i in range(N)], "reference_loss": [1.0] * N},
        without={"rule": "top_k(0.5)"},
    ),
    "left padding": Feature({"rule": RULE, "per": "token"}, form="left", without={"rule": RULE}),
    "packed": Feature({"rule": RULE}, form="flat", without={"rule": "uniform()"}),
    "packed, two passes": Feature({"rule": "top_k(0.5)"}, form="flat", without={"rule": RULE}),
    "a mask that numbers samples": Feature({"rule": RULE}, form="numbered", without={"rule": "uniform()"}),
    "from logits": Feature({"rule": RULE, "logits": "allow"}, without={"rule": "uniform()"}),
    "per micro-batch": Feature({"rule": RULE, "normalize": "micro"}, without={"rule": RULE}),
}  # fmt: skip
NOT_THERE = {
    ("SFTTrainer", "left padding"): "TRL's collator pads on the right",
    ("SFTTrainer", "a mask that numbers samples"): "TRL's collator packs by positions",
}
CELLS = [each for each in product([host for host in HOSTS if host != "loop"], FEATURES) if each not in NOT_THERE]


def run(host: str, feature: Feature, folder: Any, options: dict[str, Any] | None = None, **more: Any) -> hosts.Run:
    chosen = {k: v() if callable(v) else v for k, v in (feature.options if options is None else options).items()}
    model = tiny.model("llama", attn_implementation="eager")
    data = hosts.rows(
        feature.n, answers=feature.answers, sample_id=list(range(100, 100 + feature.n)), **feature.columns
    )
    return HOSTS[host](model, data, feature.form, chosen, folder, **more)


def close(got: list[torch.Tensor], want: list[torch.Tensor], tolerance: float = 2e-5) -> None:
    assert len(got) == len(want) == STEPS
    for a, b in zip(got, want, strict=True):
        assert float(b.norm()) > 1e-3
        assert float((a - b).norm() / b.norm()) <= tolerance


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Runs in the bare loop, each once."""
    found: dict[str, hosts.Run] = {}

    def of(name: str) -> hosts.Run:
        if name not in found:
            found[name] = run("loop", FEATURES[name], tmp_path_factory.mktemp("plain"))
        return found[name]

    return of


@pytest.mark.parametrize(("host", "name"), CELLS)
@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.fast_cover(1)
def test_a_feature_is_the_same_in_every_host(host, name, plain, tmp_path):
    got, want = run(host, FEATURES[name], tmp_path), plain(name)
    close(got.gradients, want.gradients)
    for a, b in zip(got.results, want.results, strict=True):
        assert (a.step, a.mode, a.weighed) == (b.step, b.mode, b.weighed)
        assert a.figures == pytest.approx(b.figures, rel=1e-4, abs=1e-6)
        order, other = a.samples.id.argsort(), b.samples.id.argsort()
        assert torch.equal(a.samples.id[order], b.samples.id[other])
        torch.testing.assert_close(a.weights[order], b.weights[other], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_does_something(name, plain, tmp_path):
    feature = FEATURES[name]
    other = run("loop", Feature(form="padded", answers=feature.answers, n=N), tmp_path, feature.without)
    pairs = zip(plain(name).gradients, other.gradients, strict=True)
    assert max(float((a - b).norm() / b.norm()) for a, b in pairs) > 1e-3


@pytest.mark.parametrize("host", HOSTS)
def test_every_sample_is_logged(host, tmp_path):
    import pyarrow.parquet

    found = run(host, FEATURES["one pass"], tmp_path / "out", {"rule": RULE, "log_samples": tmp_path / "log"})
    table = pyarrow.parquet.read_table(tmp_path / "log").sort_by([("step", "ascending"), ("id", "ascending")])
    for number, result in enumerate(found.results, start=1):
        own = table.filter(pyarrow.compute.field("step") == number)
        order = result.samples.id.argsort()
        assert own["id"].to_pylist() == result.samples.id[order].tolist()
        assert own["weight"].to_pylist() == pytest.approx(result.weights[order].tolist(), rel=1e-6)
        assert own["loss"].to_pylist() == pytest.approx(result.samples.loss[order].tolist(), rel=1e-6)


@pytest.mark.parametrize("host", HOSTS)
def test_a_run_is_diagnosed_while_it_goes_on(host, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("samplewise.engine.diagnosis.PATIENCE", 2)
    monkeypatch.setattr("samplewise.engine.diagnosis.MIN_ESS", 0.2)
    run(host, FEATURES["one pass"], tmp_path, {"rule": "ir_dro(r=0.001)"})
    assert "step 2: the effective sample size is below 20% of the samples for 2 steps" in caplog.text


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("rule", ["warmup(2, ir_dro(r=0.3))", "group_dro(step_size=2.0)"])
@pytest.mark.fast_cover(1)
def test_a_rule_with_state_resumes(host, rule, tmp_path):
    n = 3 * MICRO * SIZE
    feature = Feature({"rule": rule}, {"group": [i % 3 for i in range(n)]}, n=n)
    whole = run(host, feature, tmp_path, save=True, steps=3)
    again = run(host, feature, tmp_path, resume=str(tmp_path / "checkpoint-2"), steps=3)
    assert len(again.gradients) == 1
    assert torch.equal(again.gradients[0], whole.gradients[2])
    assert again.results[0].step == 3
    assert again.results[0].state == whole.results[2].state


@pytest.mark.parametrize("host", HOSTS)
def test_the_loss_history_resumes(host, tmp_path):
    """The third step meets the samples of the first again, and takes their losses from the history."""
    first = hosts.rows(MICRO * SIZE, sample_id=list(range(MICRO * SIZE)))
    import datasets

    data = datasets.concatenate_datasets(
        [first, hosts.rows(MICRO * SIZE, seed=2, sample_id=list(range(50, 58))), first]
    )
    options = {"rule": "top_k(0.5)", "loss_from": "stored", "min_stored_corr": -1.0}
    model = tiny.model("llama", attn_implementation="eager")
    whole = HOSTS[host](model, data, "padded", options, tmp_path, save=True, steps=3)
    again = HOSTS[host](model, data, "padded", options, tmp_path, resume=str(tmp_path / "checkpoint-2"), steps=3)
    assert torch.equal(again.gradients[0], whole.gradients[2])
    assert whole.results[2].units < whole.results[1].units, "no sample had to be scored but a few to compare"


@pytest.mark.parametrize("host", HOSTS)
def test_a_loss_that_is_not_finite_goes_the_one_way_back(host, tmp_path):
    model = tiny.model("llama", attn_implementation="eager", tie_word_embeddings=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[36] = float("nan")
    data = hosts.rows(N, sample_id=list(range(N)))
    clean = [[t if t != 36 else 4 for t in row] for row in data["input_ids"]]
    clean[MICRO * SIZE + 1] = [36, *clean[MICRO * SIZE + 1][1:]]
    data = data.remove_columns("input_ids").add_column("input_ids", clean)
    labels = [[-100, *row[1:]] for row in clean]
    data = data.remove_columns("labels").add_column("labels", labels)
    found = HOSTS[host](model, data, "padded", {"rule": RULE, "max_nonfinite": 0.2}, tmp_path)
    assert [each.retried for each in found.results] == [False, True]
    assert found.results[1].nonfinite == [MICRO * SIZE + 1]
    assert all(bool(gradient.isfinite().all()) for gradient in found.gradients)


# ---- losses of one's own ----


class Classifier(torch.nn.Module):
    """Two layers, as far from a language model as can be."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))

    def forward(self, x=None, **kwargs):
        return self.layers(x)


def classified(model, micro):
    logits = model(**micro.inputs)
    loss = torch.nn.functional.cross_entropy(logits, micro.inputs["y"], reduction="none")
    return loss, torch.ones_like(micro.inputs["y"])


def regressed(model, micro):
    error = (model(**micro.inputs)[:, 0] - micro.inputs["y"]) ** 2
    return error, torch.ones_like(error, dtype=torch.int64)


@pytest.mark.parametrize("task", [classified, regressed])
@pytest.mark.parametrize("rule", [RULE, "chain(band(drop_top=0.25), ir_dro(r=0.3))", "random_keep(0.5)"])
@pytest.mark.parametrize("accelerated", [False, True])
def test_a_loss_of_ones_own_is_weighed_by_the_same_rules(task, rule, accelerated):
    """Two steps against autograd on the whole step with the plan's coefficients."""
    from accelerate import Accelerator

    from samplewise.trainers import WeightedStep

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 5, generator=generator)
    y = torch.randint(0, 3, (16,), generator=generator) if task is classified else torch.randn(16, generator=generator)
    model, by_hand, parsed = Classifier(), Classifier(), sw.parse_rule(rule)
    step = WeightedStep(model, rule, losses=task, accelerator=Accelerator(cpu=True) if accelerated else None)
    state = parsed.init()
    for _ in range(2):
        batches = [{"x": x[k : k + 4], "y": y[k : k + 4], "sample_id": torch.arange(k, k + 4)} for k in range(0, 16, 4)]
        model.zero_grad()
        for micro in step.plan(batches):
            step.backward(micro)
        figures = step.finish()
        from samplewise.core.micro_batch import read_micro_batch

        loss, tokens = task(by_hand, read_micro_batch({"x": x, "y": y, "sample_id": torch.arange(16)}))
        plan = sw.plan_step(parsed, sw.Samples(loss.detach().double(), tokens, torch.arange(16)), state)
        state = plan.state
        by_hand.zero_grad()
        (plan.coefficients.to(loss) * loss).sum().backward()
        want = torch.cat([p.grad.flatten() for p in by_hand.parameters()])
        assert float((hosts.flat(model) - want).norm() / want.norm()) <= 1e-6
        if "random" not in rule:
            assert figures["loss"] == pytest.approx(float(loss.detach().mean()), rel=1e-6)


def test_a_loss_of_ones_own_that_returns_another_number_of_samples_is_named():
    from samplewise.trainers import WeightedStep

    step = WeightedStep(Classifier(), RULE, losses=lambda model, micro: (model(**micro.inputs).sum(), 1))
    with pytest.raises(sw.SamplewiseError, match=r"^losses: expected losses \[n\] of the micro-batch's 4 samples"):
        list(step.plan([{"x": torch.zeros(4, 5), "sample_id": torch.arange(4)}]))


@pytest.mark.parametrize("rule", ["uniform()", RULE, "top_k(0.5)"])
def test_a_loss_of_ones_own_without_token_labels_is_not_averaged_over_tokens(rule):
    """How many tokens a sample has is known to that loss alone: all would count the same, as per sample."""
    from samplewise.trainers import WeightedStep

    def by_length(model, micro):
        loss = model(**micro.inputs).square().mean(1)
        return loss, micro.inputs["length"]

    batch = {"x": torch.randn(4, 5), "length": torch.tensor([1, 2, 3, 90]), "sample_id": torch.arange(4)}
    step = WeightedStep(Classifier(), rule, losses=by_length, per="token")
    with pytest.raises(sw.SamplewiseError, match=r"^per: expected 'sample' for a loss of your own .*column_weights"):
        list(step.plan([batch]))
