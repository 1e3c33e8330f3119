"""Arms with a second model and token rules: what they cost, and what is refused before any of them trains."""

import json

import pytest
import tiny
import torch
import transformers
import world
from plans import write_plan

from samplewise import models
from samplewise.core.errors import SamplewiseError
from samplewise.evidence import arm_run
from samplewise.evidence.check import check_results
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.plan_file import load_plan
from samplewise.losses.attach import Attached


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The small world, and a second model for each of two seeds."""
    folder = tmp_path_factory.mktemp("references")
    write_plan(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    for seed in (0, 1):
        other = tiny.model(vocab_size=64, max_position_embeddings=128, seed=9 + seed)
        other.save_pretrained(folder / f"reference-{seed}")
        tokenizer.save_pretrained(folder / f"reference-{seed}")
    return folder


@pytest.fixture
def watched(monkeypatch):
    """By run, predicted tokens of forwards: of the second model, and of the trained one without and with gradient."""
    runs, names, quiet = [], [], []
    make, load = arm_run.make_trainer, models.load_model

    def watch(model, name):
        def count(module, given, inputs):
            tokens = int(inputs["attention_mask"].sum()) - len(inputs["attention_mask"])
            runs[-1][name or ("trained" if torch.is_grad_enabled() else "scored")] += 0 if quiet else tokens

        model.model.register_forward_pre_hook(count, with_kwargs=True)

    def making(model, *args, **kwargs):
        runs.append({"reference": 0, "scored": 0, "trained": 0})
        watch(model, None)
        return make(model, *args, **kwargs)

    def referring(name):
        loaded = load(name)
        names.append(name)
        watch(loaded[0], "reference")
        return loaded

    def unseen(function):
        """Evaluations, and the look that a trainer takes at its model, are no part of training."""

        def called(*args, **kwargs):
            quiet.append(True)
            try:
                return function(*args, **kwargs)
            finally:
                quiet.pop()

        return called

    monkeypatch.setattr(arm_run, "make_trainer", making)
    monkeypatch.setattr(models, "load_model", referring)
    monkeypatch.setattr(arm_run, "_measured", unseen(arm_run._measured))
    monkeypatch.setattr(Attached, "check", unseen(Attached.check))
    return runs, names


EXCESS = 'by("excess", ir_dro(r=1))'
CHOSEN = 'by("excess", band(drop_top=0.25))'


def first_run(here, output, arm: dict, *overrides: str, seed: int = 0) -> dict:
    plan = load_plan(write_plan(here, arms={"uniform": arm}), [
        f"seeds=[{seed}]", "evaluations=0", f"output={output}", *overrides,
    ])  # fmt: skip
    run_plan(plan, say=str)
    return json.loads((output / "runs" / f"uniform-{seed}.json").read_text())


@pytest.mark.parametrize(
    ("rule", "token_rule", "refers"),
    [
        (EXCESS, None, True),
        (CHOSEN, None, True),
        ("uniform()", "rho1(keep=0.6)", True),
        (CHOSEN, 'rho1(keep=0.6, scope="step")', True),
        ("random_keep(share=0.5, seed={seed})", "random_tokens(keep=0.6, seed={seed})", False),
    ],
)
def test_every_forward_is_counted(here, tmp_path, watched, rule, token_rule, refers):
    arm = {"rule": rule, "token_rule": token_rule, "reference_model": f"{here}/reference-{{seed}}" if refers else None,
           "prior": {"trained": 100}}  # fmt: skip
    run = first_run(here, tmp_path / "out", arm, "budget={compute: 5000}", seed=1)
    (spent,), names = watched
    assert run["history"]["units"] == spent["reference"] + spent["scored"] + 3 * spent["trained"]
    assert 5000 <= run["spent"] == run["history"]["units"] + 300 < 5000 + 5 * 8 * 31
    assert (spent["reference"] > 0) == refers
    assert names == ([f"{here}/reference-1"] if refers else [])
    assert (run["history"]["tokens"] < 0.7 * spent["trained"]) == (token_rule is not None), "those that are left"
    assert f"seed={1}" in run["rule"] or "random" not in rule


@pytest.mark.slow
def test_shares_of_the_run_know_the_price_of_a_second_model(here, tmp_path):
    rule = 'warmup(0.5, by("excess", band(drop_top=0.25)))'
    arm = {"rule": rule, "reference_model": f"{here}/reference-0"}
    kept = first_run(here, tmp_path / "out", arm, "budget={compute: 12000}")["history"]["curves"]["kept"]
    assert len(kept) / 2 - 1.5 <= kept.index(0.75) <= len(kept) / 2 + 1.5


@pytest.mark.slow
def test_stored_losses_in_an_arm_spare_the_scoring(here, tmp_path):
    units = {}
    for loss_from in ("fresh", "stored"):
        arm = {"rule": "band(drop_top=0.25)", "loss_from": loss_from}
        overrides = ["budget={steps: 40}", "training.learning_rate=1e-5"]
        history = first_run(here, tmp_path / loss_from, arm, *overrides)["history"]
        units[loss_from] = history["units"] / history["tokens"]
        assert history["left_out"] / history["samples"] == pytest.approx(0.25, abs=0.02)
    assert units["fresh"] == pytest.approx(3 + 1 / 0.75, abs=0.1)
    assert units["stored"] < 0.95 * units["fresh"]


def test_a_second_model_of_another_tokenizer_is_refused_before_training(here, tmp_path):
    transformers.AutoTokenizer.from_pretrained(here / "model").save_pretrained(tmp_path / "other")
    tiny.model(vocab_size=64).save_pretrained(tmp_path / "other")
    text = (tmp_path / "other" / "tokenizer.json").read_text()
    (tmp_path / "other" / "tokenizer.json").write_text(text.replace('"w59"', '"x59"'))
    with pytest.raises(SamplewiseError, match="reference_model: expected a model with the tokenizer"):
        first_run(here, tmp_path / "out", {"rule": EXCESS, "reference_model": str(tmp_path / "other")})
    assert not list((tmp_path / "out").rglob("runs/*"))


@pytest.mark.slow
def test_the_command_runs_such_arms_beside_their_controls(here, tmp_path):
    arms = {"rho": {"token_rule": "rho1(keep=0.6)", "reference_model": f"{here}/reference-0"}}
    path = write_plan(here, arms=arms, controls={"rates": [], "random": True}, seeds=[0], budget={"steps": 2})
    done = world.samplewise("compare", path, "evaluations=0", f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    roles = {(row["arm"], row["control"], row["role"]) for row in check_results(tmp_path / "out")["differences"]}
    assert ("rho", "random 1 of samples, 0.6 of tokens", "random") in roles
