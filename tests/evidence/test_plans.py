"""Plan files, default controls, sentences, and the check of results: no model is trained here."""

import json
from pathlib import Path

import numpy as np
import plans
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samplewise import band, chain, ir_dro, mid_ranking, random_keep, uniform, warmup
from samplewise.core.errors import SamplewiseError
from samplewise.data import Document
from samplewise.evidence.budget import Budget
from samplewise.evidence.check import check_results
from samplewise.evidence.controls import all_arms, kept_share
from samplewise.evidence.crossed import crossed
from samplewise.evidence.differences import differences
from samplewise.evidence.initial_model import open_initial_model, train_tokenizer
from samplewise.evidence.metrics import bits_per_byte, metrics_for, worst_decile
from samplewise.evidence.outcome import SCHEMA
from samplewise.evidence.plan import PlanConfig
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.plan_parts import ScratchConfig
from samplewise.evidence.sentences import verdicts
from samplewise.evidence.stability import stability


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return tmp_path_factory.mktemp("plans")


# ---- plan files ----


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget={}", "one of epochs, steps, tokens, compute and flops"),
        ("budget={steps: 5, tokens: 5}", "one of epochs, steps, tokens, compute and flops"),
        ("budget={flops: 1e12}, arms.band={prior: {scored: 5}}", r"arms\.band\.prior\.scorer: expected the model that"),
        ("budget={flops: 1e12}, arms.band={prior: {trained: 5}}", r"arms\.band\.prior\.learner: expected the model"),
        ("budget={steps: 0}", "above 0"),
        ("seeds=[1, 1]", "different whole numbers"),
        ("seeds=[]", "different whole numbers"),
        ("training.seed=3", "seeds and budget set it"),
        ("training.max_steps=3", "seeds and budget set it"),
        ("arms={}", "at least one"),
        ("arms.band='bnad(drop_top=0.1)'", "Did you mean band"),
        ("arms.band={rul: uniform()}", "Did you mean rule"),
        ("arms.band={rule: uniform(), prior: {scord: 3}}", "Did you mean scored"),
        ("arms.band={token_rule: rho2()}", r"arms\.band: token rule, .*Did you mean rho1"),
        ("arms.band={token_rule: rho1()}", r"arms\.band\.reference_model: expected a second model, which rho1"),
        ("arms.band={rule: 'by(\"excess\", ir_dro(r=1))'}", "a second model, which by"),
        ("arms.band={reference_model: x}", "a rule that reads it, got uniform"),
        (
            "data={path: x, scores: {reference_loss: y}}, arms.band={rule: 'by(\"excess\", ir_dro(r=1))', data: z}",
            "a second model, which by",
        ),
        (
            "data={path: x, scores: {reference_loss: y}}, arms.band={rule: 'by(\"excess\", ir_dro(r=1))',"
            " reference_model: z}",
            r"which reads data\.scores\.reference_loss",
        ),
        ("arms.band={token_rule: random_tokens(), reference_model: x}", "a rule that reads it"),
        ("arms.band={rule: random_keep(share=0.5), loss_from: stored}", r"loss_from: expected 'fresh'"),
        ("domains.held_out={path: x}", "not held_out"),
        ("sweep={rule: ir_dro(r=1), values: {r: [1]}}", "in the rule"),
        ("model={tokenizer: x}", "model.config"),
        ("seeds=[1.5]", "a whole number"),
    ],
)
def test_a_wrong_plan_is_refused_by_name(here, override, message):
    with pytest.raises(SamplewiseError, match=message):
        load_plan(plans.write_plan(here), override.replace(", arms.", "\narms.").split("\n"))


def test_a_rule_by_epochs_has_a_random_control_by_epochs(here):
    path = plans.write_plan(here, controls={"rates": []}, arms={"drop": 'infobatch(share=0.5, scope="epoch")'})
    known = {arm.name: arm for arm in all_arms(load_plan(path, ["budget={epochs: 4}"]))}
    left_out = 0.5 * 0.5 * (1 - 1 / 4 - 1 / 8)  # half of those below the mean, not in the first epoch nor at the end
    assert known["drop"].kept == pytest.approx(1 - left_out, abs=0.01)
    control = known[str(known["drop"].of)]
    assert control.name.endswith(" of every epoch")
    assert control.config.rule == f'random_keep(share={control.kept:.12g}, seed={{seed}}, scope="epoch")'
    unknown = all_arms(load_plan(path, ["budget={tokens: 4000}"]))[-1]
    assert unknown.kept == pytest.approx(1 - 0.5 * 0.5 * 7 / 8, abs=0.01)


def test_default_controls(here):
    path = plans.write_plan(here, controls={})
    plan = load_plan(path, [
        "arms.tilt='ir_dro(r=1)'", "arms.also='mid_ranking(frac=0.75, portion=0)'", "arms.few='top_k(share=0.25)'",
        "arms.lucky='random_keep(share=0.5)'", "arms.pool={rule: 'top_k(share=0.25)', pool: 4}",
    ])  # fmt: skip
    arms = {arm.name: arm for arm in all_arms(plan)}
    assert list(arms)[:3] == ["uniform", "uniform at 0.5× the learning rate", "uniform at 2× the learning rate"]
    assert arms["band"].of == arms["also"].of == "random 0.75", "one control for arms of one share"
    assert arms["few"].of == "random 0.25"
    assert arms["pool"].of not in (None, "random 0.25"), "another number of candidates is another control"
    assert arms["tilt"].of is None
    assert arms["lucky"].of is None, "a random selection is its own control"
    assert arms["random 0.75"].config.rule == "random_keep(share=0.75, seed={seed})"
    assert arms[str(arms["pool"].of)].config.pool == 4


def test_the_control_of_chosen_tokens_chooses_them_by_chance(here):
    path = plans.write_plan(here, controls={"rates": []})
    plan = load_plan(path, [
        "arms.rho={token_rule: rho1(keep=0.6), reference_model: x, prior: {trained: 9}}",
        "arms.both={rule: 'by(\"excess\", band(drop_top=0.25))', token_rule: rho1(keep=0.6), reference_model: x}",
        "arms.lucky={token_rule: 'random_tokens(keep=0.6, seed={seed})'}",
        "arms.excess={rule: 'by(\"excess\", ir_dro(r=1))', reference_model: x}",
        "arms.stored={rule: band(drop_top=0.25), loss_from: stored}",
    ])  # fmt: skip
    arms = {arm.name: arm for arm in all_arms(plan)}
    assert {name: arms[name].of for name in ("rho", "both", "lucky", "excess")} == {
        "rho": "random 1 of samples, 0.6 of tokens", "both": "random 0.75 of samples, 0.6 of tokens",
        "lucky": None, "excess": None,
    }  # fmt: skip
    assert arms["stored"].of == arms["band"].of == "random 0.75", "by chance nothing is looked up"
    control = arms[str(arms["both"].of)].config
    assert control.rule == "random_keep(share=0.75, seed={seed})"
    assert control.token_rule == "random_tokens(keep=0.6, seed={seed})"
    assert (control.reference_model, control.prior.units, control.loss_from) == (None, 0, "fresh")
    assert arms[str(arms["rho"].of)].config.rule == "uniform()"
    assert control.under(7).token_rule == "random_tokens(keep=0.6, seed=7)"


@given(st.integers(2, 97), st.integers(1, 96))
def test_the_random_control_keeps_exactly_as_many(samples, kept):
    share = min(kept, samples - 1) / samples
    arm = mid_ranking(frac=share, portion=0)
    found = kept_share(arm, samples, steps=1)
    assert kept_share(random_keep(share=float(f"{found:.12g}")), samples, steps=1) == found


def test_kept_shares():
    assert kept_share(uniform(), 16) == kept_share(ir_dro(r=1.0), 16) == 1.0
    assert kept_share(chain(band(drop_top=0.25), mid_ranking(frac=0.5, portion=0)), 16) == pytest.approx(6 / 16)
    assert kept_share(warmup(0.25, band(drop_top=0.5)), 16) == pytest.approx(0.625)
    assert kept_share(warmup(32, band(drop_top=0.5)), 16) == pytest.approx(0.75)


def test_a_budget_pays_for_about_so_many_steps():
    assert Budget("steps", 7).nominal_steps(100, 0.5, True, 0) == 7
    assert Budget("tokens", 1000).nominal_steps(100, 0.5, True, 0) == 20
    assert Budget("tokens", 1000).nominal_steps(100, 0.5, 2.0, 0, chosen=0.5) == 40
    assert Budget("compute", 1300).nominal_steps(100, 0.5, 1.75, 0, chosen=0.5) == 4, "tokens left out still run"
    assert Budget("compute", 1300).nominal_steps(100, 0.5, True, 300) == 4
    assert Budget("compute", 1300).nominal_steps(100, 0.5, False, 100) == 8


# ---- starts ----


def test_random_starts_follow_the_seed_alone(tmp_path):
    texts = [Document(f"the cat number {i} sat on the mat\n" * 5, "a", i) for i in range(50)]
    made = train_tokenizer(texts, 300, tmp_path / "bpe")
    again = train_tokenizer(texts, 300, tmp_path / "again")
    assert len(made) == 300
    assert made("the cat déjà")["input_ids"] == again("the cat déjà")["input_ids"]
    assert made.decode(made("the cat déjà 猫")["input_ids"]) == "the cat déjà 猫"
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    initial = open_initial_model(ScratchConfig({"model_type": "llama", **sizes}, str(tmp_path / "bpe")))
    state = torch.get_rng_state()
    a, b, c = (initial.fresh(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)
    assert initial.seeded
    assert a["lm_head.weight"].shape[0] == 300
    with pytest.raises(SamplewiseError, match=r"model\.config"):
        open_initial_model(ScratchConfig({"model_type": "lama"}, str(tmp_path / "bpe")))
    with pytest.raises(SamplewiseError, match=r"model\.tokenizer"):
        open_initial_model(ScratchConfig({"model_type": "llama"}, str(tmp_path / "none")))
    with pytest.raises(SamplewiseError, match=r"^size: expected 258"):
        train_tokenizer(texts, 100, tmp_path / "small")


# ---- metrics ----


@given(st.integers(2, 60), st.integers(1, 4))
def test_metrics_are_the_figures_of_an_evaluation(count, seeds):
    x = np.random.default_rng(count).normal(3, 1, (seeds, count))
    tail = [np.sort(row)[-int(np.ceil(count / 10)) :].mean() for row in x]
    assert worst_decile(x, []).mean(1) == pytest.approx(tail)
    own = [{"tokens": 10 + i, "bytes": 7 * i + 30} for i in range(count)]
    nats = x @ [each["tokens"] for each in own]
    assert bits_per_byte(x, own).mean(1) == pytest.approx(nats / np.log(2) / sum(each["bytes"] for each in own))


@pytest.mark.parametrize(("seeds", "documents"), [(1, 10), (1, 20), (2, 40), (1, 51), (2, 200), (3, 10), (3, 30)])
def test_equal_arms_are_not_told_apart_by_their_tails(seeds, documents):
    """False alarms at 5%: where the worst decile is compared, at most 8% of 1,000 (over 5 standard errors above)."""
    draw = np.random.default_rng(documents)
    false = compared = 0
    for _ in range(1000):
        level = draw.normal(3, 0.5, documents)
        arm, control = (level + 0.02 * draw.normal(size=(seeds, documents)) for _ in range(2))
        for metric in metrics_for(documents, over_seeds=seeds >= 3):
            if metric == "worst_decile":
                compared += 1
                false += crossed(worst_decile(arm, []) - worst_decile(control, [])).p < 0.05
    assert compared == (1000 if seeds >= 3 or documents > 50 else 0)
    assert false <= 80


def test_stability_counts_spikes_and_spread():
    calm = [1.0] * 90 + [2.0] * 10
    found = stability([calm, calm], [[3.0, 3.1] * 20, [3.0, 3.1] * 10 + [9.0] + [3.0, 3.1] * 9 + [3.0]])
    assert found["gradient_norm"] == {"median": 1.0, "p95_over_median": pytest.approx(2.0)}
    assert found["spikes_per_100_steps"] == pytest.approx(100 / 80)


# ---- what is said ----

ARMS = [
    plans.arm("uniform", "control"), plans.arm("fast", "rate"), plans.arm("random 0.5", "random"),
    plans.arm("good", of="random 0.5"), plans.arm("bad"), plans.arm("same"),
]  # fmt: skip


def said(shifts: dict[str, float], min_effect: float = 0.005, **options) -> tuple[list[dict], dict[str, dict]]:
    given = plans.values({"uniform": 0.0, "fast": 0.0, "random 0.5": 0.0, **shifts}, **options)
    rows = differences(ARMS, "uniform", plans.documents(options.get("count", 100)), given, min_effect)
    return rows, verdicts(rows, min_effect)


def test_arms_are_better_worse_or_not_told_apart():
    rows, found = said({"good": -0.02, "bad": 0.02, "same": 0.0})
    assert {name: each["verdict"] for name, each in found.items() if name in ("good", "bad", "same")} == {
        "good": "better", "bad": "worse", "same": "none",
    }  # fmt: skip
    assert "2.0% of what uniform gained" in found["good"]["sentence"]
    assert "It is better than a random selection of the same size" in found["good"]["sentence"]
    assert "at one rate only" not in found["good"]["sentence"]
    assert "no difference from uniform is shown at this budget" in found["same"]["sentence"]
    main = {row["arm"]: row for row in rows if (row["metric"], row["role"]) == ("loss", "uniform")}
    assert main["good"]["family"] == 3, "Holm over the arms; the controls are a family of their own"
    assert main["good"]["p_holm"] == pytest.approx(3 * main["good"]["p"], rel=0.5)
    assert main["good"]["share_of_gain"] == pytest.approx(0.02, abs=0.003)


def test_a_win_that_a_control_explains_is_said_to():
    _, found = said({"good": -0.02, "bad": 0.0, "same": 0.0, "fast": -0.02, "random 0.5": -0.02})
    assert "It is not shown to differ from a random selection of the same size" in found["good"]["sentence"]
    assert "It does not beat fast" in found["good"]["sentence"]
    assert "the win is at one rate only" in found["good"]["sentence"]


def test_what_more_it_takes_is_said():
    _, narrow = said({"good": -0.02, "bad": 0.0, "same": 0.0}, min_effect=0.05)
    assert "if there is one, it is below 0.05" in narrow["same"]["sentence"]
    _, few = said({"good": -0.02, "bad": 0.0, "same": 0.0}, seeds=2)
    assert "fewer than 3 seeds: the interval covers documents only" in few["same"]["sentence"]
    rows, wide = said({"good": 0.0, "bad": 0.0, "same": 0.0}, seeds=3, noise=0.01)
    needed = next(r for r in rows if (r["arm"], r["metric"], r["role"]) == ("same", "loss", "uniform"))["seeds_needed"]
    assert needed > 3
    assert f"takes about {needed} seeds" in wide["same"]["sentence"]


def test_the_worst_group_is_the_controls():
    given = plans.values({"uniform": 0.0, "good": 0.0}, count=40)
    for losses in (*given["after"]["uniform"].values(), *given["after"]["good"].values()):
        losses["held_out"] = [x + 2 * (i % 2) for i, x in enumerate(losses["held_out"])]
    for losses in given["after"]["good"].values():
        losses["held_out"] = [x - 0.5 * (i % 2) for i, x in enumerate(losses["held_out"])]
    arms = [plans.arm("uniform", "control"), plans.arm("good")]
    rows = differences(arms, "uniform", plans.documents(40, groups=2), given, 0.005)
    row = next(row for row in rows if row["metric"] == "worst_group")
    assert (row["group"], row["documents"]) == ("g1", 20)
    assert row["mean"] == pytest.approx(-0.5, abs=0.02)


# ---- the check ----


@pytest.fixture
def folder(tmp_path):
    given = plans.values({"uniform": 0.0, "fast": 0.0, "random 0.5": 0.0, "good": -0.02, "bad": 0.02, "same": 0.0})
    documents = plans.documents(100, groups=2)
    rows = differences(ARMS, "uniform", documents, given, 0.005)
    results = {
        "schema": SCHEMA, "complete": True, "missing": [], "failed": [], "seeds": [0, 1, 2, 3, 4], "control": "uniform",
        "budget": {"kind": "steps", "amount": 5, "spent": {}}, "min_effect": 0.005, "arms": ARMS,
        "documents": documents, "differences": rows, "verdicts": verdicts(rows, 0.005),
    }  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "values.json").write_text(json.dumps(given))
    return tmp_path


def test_whole_results_pass(folder):
    assert check_results(folder)["control"] == "uniform"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("results.json", lambda r: r["differences"][0].update(mean=0.5), "mean: expected"),
        ("results.json", lambda r: r["differences"][3].update(p_holm=0.5), "p_holm"),
        ("results.json", lambda r: r["differences"][3].update(seeds=[0, 1]), "seeds"),
        ("results.json", lambda r: r["differences"].pop(), "as the values give"),
        ("results.json", lambda r: r["verdicts"]["same"].update(verdict="better"), "verdicts"),
        ("results.json", lambda r: r.pop("budget"), "budget"),
        ("results.json", lambda r: r.update(seeds="3"), "seeds"),
        ("results.json", lambda r: r.update(schema="other"), "schema"),
        ("values.json", lambda v: v["after"]["good"]["0"]["held_out"].__setitem__(0, 9.0), "as the values give"),
        ("values.json", lambda v: v["after"]["good"]["0"]["held_out"].pop(), "100 finite values"),
    ],
)
def test_every_change_is_found(folder, name, change, message):
    plans.changed(folder, name, change)
    with pytest.raises(SamplewiseError, match=message):
        check_results(folder)


def test_no_results_are_an_error(tmp_path):
    with pytest.raises(SamplewiseError, match=r"results\.json"):
        check_results(tmp_path)


def test_the_example_of_unseen_domains_reads():
    plan = load_plan(Path(__file__).parents[2] / "examples" / "unseen_domains.yaml")
    assert [arm.name for arm in all_arms(plan)] == ["uniform", "tilt"]


def test_the_example_of_a_target_domain_reads():
    plan = load_plan(Path(__file__).parents[2] / "examples" / "target_domain.yaml")
    assert [arm.name for arm in all_arms(plan)] == ["uniform", "like the target", "a random tenth"]


def test_the_example_is_complete_and_reads():
    path = Path(__file__).parents[2] / "examples" / "plan.yaml"
    plan = load_plan(path)
    assert [arm.name for arm in all_arms(plan)][-3:] == ["random 0.875", "band", "band + tilt"]
    named = path.read_text().replace("# ", "")
    for name in set(PlanConfig.__dataclass_fields__) - {
        "sweep",
        "max_nonfinite",
        "logits",
        "pool",
        "allow_negative",
        "norm",
        "backend",
    }:
        assert f"{name}:" in named, f"{name} is missing from the example"
