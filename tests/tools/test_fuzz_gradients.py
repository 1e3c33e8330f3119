"""A short attack on the gradients, and that the attack would see a fault."""

import pytest
from fuzz.gradients.attempt import Verdict, attempt
from fuzz.gradients.case import SIMPLEST, Case, draw
from fuzz.gradients.main import main
from fuzz.gradients.shrink import shrink

from samplewise.trainers.collate import FieldsCollator

CASES = [
    Case(1, "qwen3", "chain(band(drop_top=0.25), ir_dro(r=0.5))", form="packed", rows=5, size=2),
    Case(2, "gemma3", "cvar(alpha=0.55)", host="trainer", rows=6, size=4, tied=True, turns=True),
    Case(3, "granite", "ir_dro(kl=0.2, lagged=True)", "token", token_weights=True, size=2),
    Case(4, "llama", "chi2_dro(rho=0.3)", host="sft", form="packed", size=1, adapter="dora"),
    Case(5, "mixtral", "ir_dro(r=1.0)", host="trainer", router=True),
    Case(6, "opt", 'by("excess", top_k(0.5))', form="left", size=3, precision="float64"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_library_agrees_with_the_oracle(case):
    verdict = attempt(case)
    assert verdict.kind == "agrees", verdict.message


def test_a_wrong_factor_is_seen(monkeypatch):
    """A divisor that is 1% too large."""
    from samplewise.engine import plan

    right = plan.normalizer
    monkeypatch.setattr(plan, "normalizer", lambda *args: 1.01 * right(*args))
    verdict = attempt(Case(7, rule="top_k(0.5)"))
    assert verdict.failed
    assert "(0.9901 times as long)" in verdict.message


def test_a_shifted_mask_is_seen(monkeypatch):
    """Which labels are predicted, one place too far to the right."""
    right = FieldsCollator.__call__

    def shifted(self, features):
        batch = right(self, features)
        labels = batch["input_ids"].masked_fill(batch["labels"].roll(1, dims=1) == -100, -100)
        return {**batch, "labels": labels}

    monkeypatch.setattr(FieldsCollator, "__call__", shifted)
    assert attempt(Case(8)).failed


def test_a_failure_shrinks_to_what_it_needs(monkeypatch):
    from samplewise.engine import plan

    right = plan.normalizer
    monkeypatch.setattr(plan, "normalizer", lambda rule, *args: (1 + (rule.norm == "sum")) * right(rule, *args))
    failing = attempt(Case(9, "qwen2", "top_k(0.5)", "token", rows=5, size=2, tied=True))
    assert failing.failed
    small = shrink(failing).case
    assert small == Case(9, rule="top_k(0.5)", rows=2, size=2)


def test_a_seed_is_a_case():
    assert draw(11) == draw(11) != draw(12)
    drawn = [draw(seed) for seed in range(400)]
    for field in SIMPLEST:
        assert len({getattr(case, field) for case in drawn}) > 1, field


def test_the_command_counts_and_fails(monkeypatch, capsys):
    from samplewise.engine import plan

    monkeypatch.setattr("fuzz.gradients.main.draw", lambda number: Case(number, rule="top_k(0.5)"))
    assert main(["--count", "1", "--seed", "3"]) == 0
    right = plan.normalizer
    monkeypatch.setattr(plan, "normalizer", lambda *args: 2 * right(*args))
    assert main(["--count", "1", "--seed", "3", "--no-shrink"]) == 1
    said = capsys.readouterr().out
    assert "1 agrees in" in said
    assert "differs: seed=3, rule=top_k(0.5)" in said


def test_the_command_resumes_from_its_results(monkeypatch, tmp_path, capsys):
    tried = []

    def noted(case):
        tried.append(case.seed)
        return Verdict(case, "refused", "no such rule")

    monkeypatch.setattr("fuzz.gradients.main.attempt", noted)
    for count in (2, 3):
        assert main(["--count", str(count), "--seed", "5", "--results", str(tmp_path / "verdicts.jsonl")]) == 0
    assert tried == [5, 6, 7]
    said = capsys.readouterr().out.splitlines()
    assert said[-2] == "3 × refused: no such rule (seeds 5, 6, 7)"
    assert said[-1].startswith("3 refused in")
