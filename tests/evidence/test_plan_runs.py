"""Plans that are run: budgets, the order of the data, resumption, results that a check accepts."""

import json
import signal
from pathlib import Path

import pytest
import torch
import world
from plans import write_plan
from watching import OnStep

from samplewise.core.errors import SamplewiseError
from samplewise.evidence import arm_run
from samplewise.evidence.budget import Budget
from samplewise.evidence.check import check_results
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.run.execute import Stopped
from samplewise.evidence.run.trainer import Recorder
from samplewise.losses.attach import Attached
from samplewise.models import load
from samplewise.report.plan_table import plan_table


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return tmp_path_factory.mktemp("plans")


@pytest.fixture
def watched(monkeypatch):
    """What passes the trainer: predicted tokens of forwards with and without gradient, ids and rates of every step."""
    seen = {"scored": 0, "trained": 0, "ids": [], "rates": [], "unspent": []}
    make = arm_run.make_trainer

    def watching(model, *args, **kwargs):
        def count(module, given, inputs):
            tokens = int(inputs["attention_mask"].sum()) - len(inputs["attention_mask"])
            seen["trained" if torch.is_grad_enabled() else "scored"] += 0 if seen.get("evaluating") else tokens

        model.model.register_forward_pre_hook(count, with_kwargs=True)
        trainer = make(model, *args, **kwargs)

        def closing(result):
            seen["ids"].append(sorted(result.samples.id.tolist()))
            seen["rates"].append(trainer.optimizer.param_groups[0]["lr"])
            seen["unspent"].append(trainer.budget.amount - trainer.spent)

        trainer.engine.added.insert(0, OnStep(closing))  # before the step is added to what is spent
        return trainer

    def unseen(function):
        """Evaluations, and the look that a trainer takes at its model, are no part of training."""

        def called(*args, **kwargs):
            seen["evaluating"] = True
            try:
                return function(*args, **kwargs)
            finally:
                seen["evaluating"] = False

        return called

    monkeypatch.setattr(arm_run, "make_trainer", watching)
    monkeypatch.setattr(arm_run, "_measured", unseen(arm_run._measured))
    monkeypatch.setattr(Attached, "check", unseen(Attached.check))
    return seen


def one_arm(here: Path, output: Path, rule: str, budget: dict, **training) -> dict:
    plan = load_plan(write_plan(here), [
        "arms={}", f"arms.uniform='{rule}'", f"budget={json.dumps(budget)}", "seeds=[0]", f"output={output}",
        "evaluations=2", *(f"training.{key}={value}" for key, value in training.items()),
    ])  # fmt: skip
    run_plan(plan, say=str)
    return json.loads((output / "runs" / "uniform-0.json").read_text())


TILTED_BAND = "chain(band(drop_top=0.25), ir_dro(r=1))"


@pytest.mark.parametrize(
    ("rule", "budget"),
    [
        ("uniform()", {"compute": 4000}),
        ("random_keep(share=0.5)", {"compute": 4000}),
        ("ir_dro(r=1)", {"compute": 4000}),
        (TILTED_BAND, {"compute": 4000}),
        (TILTED_BAND, {"tokens": 900}),
        (TILTED_BAND, {"steps": 3}),
    ],
)
@pytest.mark.fast_cases("uniform()-budget0", "chain(band(drop_top=0.25), ir_dro(r=1))-budget3")
def test_budgets_are_kept_to_within_one_step(here, tmp_path, watched, rule, budget):
    """Counted by the forwards that the model really runs, scoring included."""
    run = one_arm(here, tmp_path / "out", rule, budget)
    units = watched["scored"] + 3 * watched["trained"]
    assert run["history"]["units"] == units
    assert run["history"]["tokens"] == watched["trained"]
    assert watched["scored"] > 0 or "random" in rule or rule in ("uniform()", "ir_dro(r=1)")
    assert min(watched["unspent"]) > 0, "no step begins without something left"
    kind = next(iter(budget))
    spent = {"steps": len(watched["ids"]), "tokens": watched["trained"], "compute": units}[kind]
    assert run["spent"] == spent >= budget[kind]
    assert [each["spent"] >= budget[kind] * k / 3 for k, each in enumerate(run["during"], 1)] == [True, True]


def test_what_was_spent_before_counts(here, tmp_path, watched):
    plan = load_plan(write_plan(here), [
        "budget={compute: 4000}", "seeds=[0]", f"output={tmp_path / 'out'}",
        "arms={later: {rule: uniform(), prior: {scored: 700, trained: 500}}}",
    ])  # fmt: skip
    run_plan(plan, say=str)
    run = json.loads((tmp_path / "out" / "runs" / "later-0.json").read_text())
    assert run["prior"] == 700 + 3 * 500
    assert run["spent"] == run["history"]["units"] + run["prior"]
    assert 4000 <= run["spent"] < 4000 + 3 * 8 * 31
    with pytest.raises(SamplewiseError, match="less than the budget"):
        run_plan(load_plan(write_plan(here), [
            "budget={compute: 2000}", f"output={tmp_path / 'none'}",
            "arms={later: {rule: uniform(), prior: {trained: 700}}}",
        ]), say=str)  # fmt: skip


def test_flops_are_counted_by_each_models_own_size(here, tmp_path, watched):
    """A reference model of twice the layers: every forward that really runs, at its own price."""
    small, large = here / "model", world.save_model(tmp_path / "large", layers=4)
    plan = load_plan(write_plan(here), [
        "budget={flops: 60e6}", "seeds=[0]", f"output={tmp_path / 'out'}", "evaluations=2", "controls={random: false}",
        f"arms={{excess: {{rule: 'by(\"excess\", top_k(share=0.5))', reference_model: {large},"
        f" prior: {{scored: 300, scorer: {small}, trained: 100}}}}}}",
    ])  # fmt: skip
    found = run_plan(plan, say=str)
    run = json.loads((tmp_path / "out" / "runs" / "excess-0.json").read_text())
    prices, history = run["prices"], run["history"]
    assert prices["reference"] == pytest.approx(2 * prices["trained"] - 2 * 64 * 16, rel=0.1), "one head, two bodies"
    assert prices["prior"] == pytest.approx(300 * prices["trained"] + 3 * 100 * prices["reference"])
    own = history["units"] - history["reference"]
    assert history["reference"] > 0
    spent = own * prices["trained"] + history["reference"] * prices["reference"] + prices["prior"]
    assert run["spent"] == pytest.approx(spent, abs=1)
    assert 60e6 <= run["spent"] < 60e6 + 8 * 31 * (3 * prices["trained"] + prices["reference"] + prices["trained"])
    uniform = json.loads((tmp_path / "out" / "runs" / "uniform-0.json").read_text())
    assert uniform["history"]["units"] > 1.5 * history["units"], "what scores less trains more"
    assert found["budget"]["kind"] == "flops"
    assert "each model by its own size" in plan_table(found)
    check_results(tmp_path / "out")


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.fast_cases("cosine")
def test_the_learning_rate_follows_the_fraction_spent(here, tmp_path, watched, kind):
    one_arm(here, tmp_path / "a", "uniform()", {"steps": 8}, lr_scheduler_type=kind, warmup_steps=0.25)
    by_steps = watched["rates"][:]
    watched["rates"].clear()
    watched["unspent"].clear()
    one_arm(here, tmp_path / "b", "uniform()", {"tokens": 2000}, lr_scheduler_type=kind, warmup_steps=0.25)
    fractions = [1 - left / 2000 for left in watched["unspent"]]
    expected = [1e-2 * min(f / 0.25, (1 - f) / 0.75 if kind == "linear" else 1) for f in fractions]
    if kind == "linear":
        assert watched["rates"] == pytest.approx(expected, rel=1e-6)
        assert by_steps == pytest.approx([1e-2 * min(k / 2, (8 - k) / 6) for k in range(8)])
    assert watched["rates"][0] == 0
    assert watched["rates"][-1] < 0.25 * max(watched["rates"])


def test_shares_of_the_run_are_shares_of_the_budget(here, tmp_path, watched):
    run = one_arm(here, tmp_path / "out", "warmup(0.5, band(drop_top=0.25))", {"tokens": 1500})
    kept = run["history"]["curves"]["kept"]
    assert len(kept) / 2 - 1.5 <= kept.index(0.75) <= len(kept) / 2 + 1.5
    assert run["rule"].startswith("warmup(")


def test_a_warm_up_in_steps_needs_a_budget_of_steps(here, tmp_path):
    with pytest.raises(SamplewiseError, match="a share below 1"):
        one_arm(here, tmp_path / "a", "uniform()", {"tokens": 900}, warmup_steps=2)


def test_arms_of_a_seed_see_the_same_data_in_the_same_order(here, tmp_path, watched):
    plan = load_plan(write_plan(here), [f"output={tmp_path / 'out'}", "budget.steps=16"])
    run_plan(plan, say=str)
    orders = [watched["ids"][16 * k : 16 * (k + 1)] for k in range(4)]
    assert orders[0] == orders[1], "uniform and band under seed 0"
    assert orders[2] == orders[3]
    assert orders[0] != orders[2]
    assert orders[0][:4] != orders[0][13:], "another order in the next epoch"


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("results.json", "values.json")}


@pytest.mark.slow
def test_killed_within_an_arm_and_resumed_gives_the_same_files(here, tmp_path, monkeypatch):
    overrides = ["arms.tilt='ir_dro(r=1)'", "budget={compute: 6000}", "evaluations=2"]
    whole = load_plan(write_plan(here), [*overrides, f"output={tmp_path / 'whole'}"])
    run_plan(whole, say=str)
    broken = load_plan(write_plan(here), [*overrides, f"output={tmp_path / 'broken'}"])
    record, steps = Recorder.on_step, []

    def killed(self, result):
        steps.append(result.step)
        if len(steps) in (4, 24):  # within the first arm before its second checkpoint, and within another
            raise SystemExit
        record(self, result)

    monkeypatch.setattr(Recorder, "on_step", killed)
    partial = None
    for _ in range(2):
        with pytest.raises(SystemExit):
            run_plan(broken, say=str)
        partial = tmp_path / "broken" / "results.json"
    assert partial.exists()
    found = check_results(tmp_path / "broken")
    assert not found["complete"]
    assert found["missing"]
    table = world.samplewise("compare", "--check", tmp_path / "broken")
    assert table.returncode == 0
    said = []
    run_plan(broken, say=said.append)
    assert any("resuming" in line for line in said)
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
    assert not list((tmp_path / "broken" / "runs").glob("*/checkpoint-*"))
    run_plan(broken, say=lambda text: pytest.fail(f"nothing was left to do: {text}"))


def precisions(here: Path, output: Path, seeds: list[int], monkeypatch, in_bfloat16: bool) -> list[bool]:
    """Whether each arm that is run trains in bf16, on a machine that would choose it or not; the plan asks for none."""
    monkeypatch.setattr(load, "native_bfloat16", lambda: in_bfloat16)
    make, found = arm_run.make_trainer, []

    def seen(*args, **kwargs):
        trainer = make(*args, **kwargs)
        found.append(trainer.args.bf16)
        return trainer

    training = {"per_device_train_batch_size": 4, "use_cpu": True}
    path = write_plan(here, seeds=seeds, budget={"steps": 1}, output=str(output), training=training)
    with monkeypatch.context() as patched:
        patched.setattr(arm_run, "make_trainer", seen)
        run_plan(load_plan(path), say=str)
    return found


def test_a_plan_goes_on_in_the_precision_that_it_began_in(here, tmp_path, monkeypatch):
    for name, begun in (("in bf16", True), ("in fp32", False)):
        assert precisions(here, tmp_path / name, [0], monkeypatch, begun) == [begun] * 2
        assert precisions(here, tmp_path / name, [0, 1], monkeypatch, not begun) == [begun] * 2
        precisions(here, tmp_path / name, [0, 1], monkeypatch, not begun)
        assert load_plan(tmp_path / name / "plan.yaml").training["bf16"] is begun


def test_a_plan_ends_with_the_same_files_each_time(here, tmp_path):
    found = []
    for name in ("first", "second"):
        path = write_plan(here, seeds=[0], budget={"steps": 2}, output=str(tmp_path / name))
        run_plan(load_plan(path), say=str)
        found.append(files(tmp_path / name))
    assert found[0] == found[1]


def test_a_signal_in_the_last_step_of_a_run_stops_before_the_next_run(here, tmp_path, monkeypatch):
    arms = ["arms={}", "arms.a='uniform()'", "arms.b='ir_dro(r=1)'", "controls={rates: [], random: false}"]
    plan = load_plan(write_plan(here), [*arms, "budget={steps: 2}", "seeds=[0]", f"output={tmp_path / 'out'}"])
    record = Recorder.on_step

    def asked(self, result):
        record(self, result)
        if result.step == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Recorder, "on_step", asked)
    with pytest.raises(Stopped, match="this run, which is finished"):
        run_plan(plan, say=str)
    finished = {path.name: path.read_bytes() for path in (tmp_path / "out" / "runs").glob("*-0.json")}
    assert len(finished) == 1
    monkeypatch.undo()
    assert run_plan(plan, say=str)["complete"]
    assert {name: (tmp_path / "out" / "runs" / name).read_bytes() for name in finished} == finished


def test_a_folder_holds_one_plan(here, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text("{}")
    with pytest.raises(SamplewiseError, match=r"with results\.json"):
        run_plan(load_plan(write_plan(here), [f"output={tmp_path / 'out'}"]), say=str)


def unmarked(folder: Path) -> dict[str, object]:
    """The results without the marks of arms that were added later."""
    results = json.loads((folder / "results.json").read_text())
    for arm in results["arms"]:
        arm.pop("later", None)
    for each in results["verdicts"].values():
        each["sentence"] = each["sentence"].removesuffix(" It was added after runs of other arms were finished.")
    return {"values": (folder / "values.json").read_bytes(), **results}


@pytest.mark.slow
def test_a_plan_that_grew_ends_where_the_whole_one_does(here, tmp_path):
    """Arms, controls and seeds are added; what is there is kept, and taken for no other arm's."""
    path = write_plan(here, arms={"band": "band(drop_top=0.25)"}, budget={"steps": 2}, evaluations=0, seeds=[1])
    longer = ["arms={tilt: ir_dro(r=1), band: band(drop_top=0.25)}", "seeds=[0, 1]", "controls={rates: [2.0]}"]
    said: list[str] = []
    run_plan(load_plan(path, [f"output={tmp_path / 'grown'}", "controls={rates: []}"]), say=str)
    run_plan(load_plan(path, [f"output={tmp_path / 'grown'}", *longer]), say=said.append)
    run_plan(load_plan(path, [f"output={tmp_path / 'whole'}", *longer]), say=str)
    assert sum("run " in line for line in said) == 5 * 2 - 3
    assert unmarked(tmp_path / "grown") == unmarked(tmp_path / "whole")
    later = [arm["name"] for arm in check_results(tmp_path / "grown")["arms"] if arm.get("later")]
    assert later == ["uniform at 2× the learning rate", "tilt"], "what came after others had been seen is marked"
    for changes, message in [
        ([*longer[:-1]], "rate"), (["arms={band: band(drop_top=0.25)}", *longer[1:]], "'tilt' is another arm, or one"),
        (["arms={tilt: ir_dro(r=2), band: band(drop_top=0.25)}", *longer[1:]], "'tilt' is another arm"),
        ([longer[0], "seeds=[0, 2]", longer[2]], "seed 1 as well"),
    ]:  # fmt: skip
        with pytest.raises(SamplewiseError, match=message):
            run_plan(load_plan(path, [f"output={tmp_path / 'grown'}", "controls={rates: []}", *changes]), say=str)


def test_an_arm_that_diverges_is_named_and_the_others_go_on(here, tmp_path):
    plan = load_plan(write_plan(here), [
        f"output={tmp_path / 'out'}", "seeds=[0]", "arms.wild={rule: uniform(), training: {learning_rate: 1e+38}}",
    ])  # fmt: skip
    found = run_plan(plan, say=str)
    assert [each["arm"] for each in found["failed"]] == ["wild"]
    assert found["complete"]
    assert {row["arm"] for row in found["differences"]} == {"band"}
    check_results(tmp_path / "out")


def test_the_command_prints_the_table_and_checks_itself(here, tmp_path):
    path = write_plan(here, controls={"rates": [2.0], "random": True}, seeds=[0], budget={"steps": 2}, evaluations=0)
    domain = json.dumps({"other": {"path": str(world.save_corpus(tmp_path / "other.jsonl", 12, 21, 70))}})
    done = world.samplewise("compare", path, f"output={tmp_path / 'out'}", f"domains={domain}")
    assert done.returncode == 0, done.stderr
    for word in (
        "uniform at 2× the learning rate",
        "random 0.75",
        "band",
        "bits_per_byte",
        "loss on other",
        "documents only",
    ):
        assert word in done.stdout
    assert "Begun 20" in done.stdout
    assert "before the first arm; plan SHA-256" in (tmp_path / "out" / "report.html").read_text()
    found = check_results(tmp_path / "out")
    assert set(found["documents"]) == {"held_out", "other"}
    roles = {(row["arm"], row["control"], row["role"]) for row in found["differences"]}
    assert ("band", "random 0.75", "random") in roles
    assert ("band", "uniform at 2× the learning rate", "rate") in roles
    again = world.samplewise("compare", path, f"output={tmp_path / 'out'}", f"domains={domain}", "budget.steps=3")
    assert "of one with another budget" in again.stderr
    again = world.samplewise("compare", path, f"output={tmp_path / 'out'}", "primary=[band, uniform, loss, held_out]")
    assert "as it was fixed before the first arm ran" in again.stderr


def test_instructions_with_benchmarks_and_written_answers(here, tmp_path):
    words = world.WORDS
    rows = [
        {
            "instruction": f"{words[i % 45]} {words[(7 * i) % 60]} {words[i // 45]}",
            "output": f"{words[i % 9]} {words[3]}",
        }
        for i in range(80)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = [{"query": f"{words[i]} w2", "choices": ["w3 w4", "w5"], "gold": i % 2} for i in range(6)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    data = {"kind": "instructions", "path": str(tmp_path / "rows.jsonl"), "max_length": 48, "chat_template": "plain",
            "held_out": 0.2}  # fmt: skip
    plan = load_plan(write_plan(here, data=data), [
        f"output={tmp_path / 'out'}", "seeds=[0]", "budget={compute: 900}", "evaluations=0",
        "training.activation_checkpointing=false",
        f"tasks=[{{name: choice, file: {tmp_path / 'items.jsonl'}, query: query, delimiter: ' '}}]",
        f"answers={{path: {tmp_path / 'rows.jsonl'}, held_out: 0.2, rows: 4, template: plain, max_new_tokens: 3}}",
    ])  # fmt: skip
    found = run_plan(plan, say=str)
    assert set(found["documents"]) == {
        "held_out",
        "choice/acc",
        "choice/acc_norm",
        "answers/exact_match",
        "answers/rouge_l",
    }
    assert "answers/rouge_l" in found["higher_is_better"]
    row = next(row for row in found["differences"] if row["set"] == "answers/rouge_l")
    assert (row["metric"], row["documents"], row["seeds_needed"]) == ("rouge_l", 4, None)
    assert 900 <= found["budget"]["spent"]["band"]["0"] < 900 + 4 * 8 * 48
    check_results(tmp_path / "out")


def test_the_epochs_of_a_budget_are_counted_in_the_tokens_of_answers(here, tmp_path):
    """A rule by epochs ran where the budget had two of them, and was refused: rows were taken to be full."""
    rows = [{"instruction": f"w1 {word}", "output": f"{word} w3"} for word in world.WORDS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"kind": "instructions", "path": str(tmp_path / "rows.jsonl"), "max_length": 48, "chat_template": "plain",
            "held_out": 0.2}  # fmt: skip
    path = write_plan(here, data=data, arms={"drop": 'infobatch(share=0.5, scope="epoch")'})
    given = ["seeds=[0]", "evaluations=0", "training.activation_checkpointing=false", "controls={rates: []}"]

    def run(tokens: int, name: str) -> None:
        run_plan(load_plan(path, [*given, f"budget={{compute: {3 * tokens}}}", f"output={tmp_path / name}"]), say=str)

    run(300, "out")
    history = json.loads((tmp_path / "out/runs/uniform-0.json").read_text())["history"]
    own = history["tokens"] / history["samples"]
    assert own < 8, "rows are short"
    assert history["samples"] > 1.2 * 0.8 * len(rows), "more than an epoch"
    with pytest.raises(SamplewiseError, match="a budget of more than one epoch"):
        run(round(own * 0.8 * len(rows) / 2), "half")


def test_a_budget_sets_the_length_of_a_run():
    assert Budget("steps", 5).length == {"max_steps": 5}
    assert Budget("tokens", 5).length["max_steps"] > 10**8
    assert Budget("epochs", 2.5).length == {"max_steps": -1, "num_train_epochs": 2.5}


DROP = 'infobatch(share=0.9, anneal=0.0, scope="epoch")'


@pytest.fixture
def small(here):
    data = {"path": str(here / "corpus.jsonl"), "max_length": 32, "min_tokens": 4, "held_out": 0.8}
    return write_plan(here, data=data, arms={"drop": DROP}, seeds=[0], controls={"rates": []}, evaluations=1)


def test_epochs_are_a_budget_and_what_a_rule_leaves_out_is_not_spent(small, tmp_path, watched):
    found = run_plan(load_plan(small, ["budget={epochs: 3}", f"output={tmp_path / 'out'}"]), say=str)
    own = {arm["name"]: arm["ran"] for arm in found["arms"]}
    rows = len({name for step in watched["ids"] for name in step})
    assert own["uniform"]["samples"] == 3 * rows
    assert own["drop"]["units"] < 0.85 * own["uniform"]["units"]
    random = next(arm for arm in found["arms"] if arm["role"] == "random")
    assert random["ran"]["samples"] == pytest.approx(own["drop"]["samples"], rel=0.2)
    assert {each["0"] for each in found["budget"]["spent"].values()} == {3.0}
    uniform = json.loads((tmp_path / "out" / "runs" / "uniform-0.json").read_text())
    assert uniform["during"][0]["spent"] == pytest.approx(1.5, abs=8 / rows)
    check_results(tmp_path / "out")


@pytest.mark.parametrize("budget", [{"tokens": 3000}, {"flops": 150e6}])
@pytest.mark.fast_cases("budget1")
def test_a_rule_by_epochs_has_its_share_of_any_budget(small, tmp_path, watched, budget):
    drop = "arms.drop='infobatch(share=0.9, anneal=0.4, scope=\"epoch\")'"
    overrides = ["controls={random: false, rates: []}", drop]
    run_plan(load_plan(small, [*overrides, f"budget={json.dumps(budget)}", f"output={tmp_path / 'out'}"]), say=str)
    run = json.loads((tmp_path / "out" / "runs" / "drop-0.json").read_text())
    kind, amount = next(iter(budget.items()))
    assert amount <= run["spent"] < 1.2 * amount
    whole = json.loads((tmp_path / "out" / "runs" / "uniform-0.json").read_text())["history"]["samples"]
    assert run["history"]["samples"] == pytest.approx(whole, rel=0.25), "what is left out costs nothing"
    steps = watched["ids"][-len(run["history"]["curves"]["loss"]) :]
    rows = len({name for step in steps for name in step})
    last = [name for step in steps[-rows // 8 :] for name in step]
    assert len(set(last)) > 0.6 * rows, "nothing is left out at the end"
    short = [f"budget={json.dumps({kind: amount / 8 if kind == 'flops' else amount // 8})}", f"output={tmp_path / 'b'}"]
    with pytest.raises(SamplewiseError, match="a budget of more than one epoch"):
        run_plan(load_plan(small, [*overrides, *short]), say=str)
