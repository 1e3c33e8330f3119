"""Text whose windows have losses from a scored corpus: they are what the models themselves give, or refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import transformers
import world
import yaml
from plans import write_plan

from samplewise.config import DataConfig, InstructionsConfig, ScoreConfig, ScoresConfig, load_config
from samplewise.core.errors import SamplewiseError
from samplewise.corpus import column
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.run.execute import run
from samplewise.evidence.run.instructions import prepare_instructions
from samplewise.evidence.run.prepare import prepare


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A model, another one, a corpus, and its scores with the other one's beside them."""
    folder = tmp_path_factory.mktemp("scored")
    world.save_model(folder / "model")
    world.save_corpus(folder / "corpus.jsonl", documents=60)
    tiny.model(vocab_size=64, max_position_embeddings=128, seed=9).save_pretrained(folder / "other")
    transformers.AutoTokenizer.from_pretrained(folder / "model").save_pretrained(folder / "other")
    common = ["--data", folder / "corpus.jsonl", "--out", folder / "scores", "--dtype", "float32"]
    sizes = ["--max-length", "32", "--min-tokens", "4"]
    for options in (["--model", folder / "model", *sizes], ["--model", folder / "other", "--as", "other"]):
        done = world.samplewise("score", *options, *common)
        assert done.returncode == 0, done.stderr
    return folder


def data(here: Path, **changes) -> dict:
    own = {"path": str(here / "corpus.jsonl"), "max_length": 32, "min_tokens": 4, "held_out": 0.15}
    return {**own, **changes}


def weights(
    here: Path, output: Path, rule: str, *, scores: dict | None = None, **changes
) -> dict[tuple[int, int], float]:
    """(step, id) -> weight, of a run that does not move."""
    path = world.write_run(
        output.with_suffix(".yaml"), here / "model", here / "corpus.jsonl", output, data=data(here, scores=scores),
        rule=rule, log_samples=str(output / "log"), **changes,
    )  # fmt: skip
    run(load_config(path, ["training.learning_rate=0.0", "training.max_steps=4"]), say=str)
    table = pq.read_table(output / "log").to_pylist()
    return {(row["step"], row["id"]): row["weight"] for row in table}


@pytest.mark.parametrize(
    ("rule", "scores", "with_scores", "without"),
    [
        ("band(drop_top=0.25)", {"stored_loss": "{here}/scores"}, {"loss_from": "stored"}, {}),
        ("by('excess', ir_dro(r=1))", {"reference_loss": {"folder": "{here}/scores", "column": "other"}}, {},
         {"reference_model": "{here}/other"}),
    ],
)  # fmt: skip
def test_losses_of_the_scores_are_those_of_the_model(here, tmp_path, rule, scores, with_scores, without):
    """With the model that was scored, which does not move, they weigh every sample as a forward does."""
    scores, without = (yaml.safe_load(yaml.safe_dump(each).replace("{here}", str(here))) for each in (scores, without))
    from_scores = weights(here, tmp_path / "scores", rule, scores=scores, **with_scores)
    from_model = weights(here, tmp_path / "model", rule, **without)
    assert len(from_scores) == 32
    assert from_scores == pytest.approx(from_model, rel=1e-4)
    assert len(set(from_scores.values())) > 1


def test_epochs_by_the_losses_of_the_scores(here, tmp_path):
    """One epoch is enough where the losses are known: what it leaves out is below their mean."""
    path = world.write_run(
        tmp_path / "run.yaml", here / "model", here / "corpus.jsonl", tmp_path / "out",
        data=data(here, scores={"stored_loss": str(here / "scores")}), log_samples=str(tmp_path / "log"),
        rule='infobatch(share=0.5, anneal=0.0, scope="epoch")',
    )  # fmt: skip
    run(load_config(path, ["training.max_steps=-1", "training.num_train_epochs=1"]), say=str)
    kept = {row["id"]: row["weight"] for row in pq.read_table(tmp_path / "log").to_pylist()}
    known = dict(zip(*map(list, column(here / "scores", "loss")), strict=True))
    windows = {row["sample_id"] for row in prepared(here).train}
    below = {id for id in windows if known[id] < sum(known[each] for each in windows) / len(windows)}
    assert windows - below < set(kept) < windows
    assert {weight for id, weight in kept.items() if id in below} == {2.0}
    assert {weight for id, weight in kept.items() if id not in below} == {1.0}


def prepared(here: Path, **changes):
    tokenizer = transformers.AutoTokenizer.from_pretrained(here / "model")
    return prepare(DataConfig(**data(here, **changes)), tokenizer)


def test_every_row_has_the_loss_of_its_window(here):
    scores = ScoresConfig(stored_loss=str(here / "scores"), reference_loss=ScoreConfig(str(here / "scores"), "other"))
    both = [dict(zip(*map(list, column(here / "scores", name)), strict=True)) for name in ("loss", "other")]
    found = prepared(here, scores=scores)
    assert any("stored_loss from" in line for line in found.lines)
    streamed = prepared(here, scores=scores, streaming=True, held_out_documents=4)
    for rows in (list(found.train), list(streamed.train)):
        assert len(rows) > 50
        for row in rows:
            own = [row["stored_loss"], row["reference_loss"]]
            assert own == pytest.approx([each[row["sample_id"]] for each in both])


@pytest.mark.parametrize(
    ("scores", "changes", "message"),
    [
        ({"stored_loss": "scores"}, {"max_length": 24}, "none for 30 of 147, the first corpus.jsonl, record 0"),
        ({"stored_loss": "scores"}, {"max_length": 48}, "as many predicted tokens as the run's"),
        ({"stored_loss": "scores"}, {"path": "{here}/new.jsonl"}, "none for .* the first new.jsonl, record 0"),
        ({"stored_loss": "nowhere"}, {}, "samplewise score has finished"),
        ({"reference_loss": ("scores", "reference")}, {}, "one of .*other"),
        ({"reference_loss": ("scores", "source")}, {}, "text or whole numbers"),
    ],
)
def test_scores_of_other_windows_are_refused(here, scores, changes, message):
    world.save_corpus(here / "new.jsonl", documents=30)
    changes = {key: str(value).format(here=here) if key == "path" else value for key, value in changes.items()}
    given = {
        name: str(here / each) if isinstance(each, str) else ScoreConfig(str(here / each[0]), each[1])
        for name, each in scores.items()
    }
    with pytest.raises(SamplewiseError, match=message):
        prepared(here, scores=ScoresConfig(**given), **changes)


def test_a_run_file_names_scores_by_known_columns(here, tmp_path):
    path = world.write_run(tmp_path / "run.yaml", here / "model", here / "corpus.jsonl", tmp_path / "out")
    scores = load_config(path, ["data.scores={stored_loss: a, reference_loss: {folder: b, column: c}}"]).data.scores
    assert scores == ScoresConfig("a", ScoreConfig("b", "c"))
    for override, message in (("{stored: a}", "Did you mean stored_loss"), ("{stored_loss: 3}", "text or")):
        with pytest.raises(SamplewiseError, match=message):
            load_config(path, [f"data.scores={override}"])
    given = load_config(path, ["data={kind: instructions, path: x, scores: {stored_loss: a}}"]).data
    assert given.scores == ScoresConfig("a")


@pytest.fixture(scope="module")
def rows(here):
    """Rows of instructions, and their scores with the answers' losses."""
    found = [
        {"instruction": f"w1 {word} w{i % 7}", "output": f"{word} w3 w{i % 5}"} for i, word in enumerate(world.WORDS)
    ]
    path = here / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    done = world.samplewise(
        "score", "--model", here / "model", "--data", path, "--out", here / "row-scores", "--dtype", "float32",
        "--kind", "instructions", "--template", "plain", "--max-length", "48",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return path


def instructions(rows: Path, **changes) -> InstructionsConfig:
    scores = ScoresConfig(stored_loss=str(rows.parent / "row-scores"))
    return InstructionsConfig(
        **{"path": str(rows), "chat_template": "plain", "max_length": 48, "scores": scores, **changes}
    )


def test_conversations_have_the_losses_of_their_answers(here, rows):
    tokenizer = transformers.AutoTokenizer.from_pretrained(here / "model")
    found = prepare_instructions(instructions(rows), tokenizer)
    known = dict(zip(*map(list, column(here / "row-scores", "completion_loss")), strict=True))
    assert len(found.train) > 40
    for row in found.train:
        assert row["stored_loss"] == pytest.approx(known[row["sample_id"]])
    assert any("stored_loss from" in line and line.endswith("60 conversations") for line in found.lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 9}, "conversations of as many predicted tokens as the run's"),
        ({"turns": True}, "expected data.turns: false"),
        ({"scores": ScoresConfig(stored_loss="{here}/scores")}, "expected scores of instructions, got those of text"),
        ({"chat_template": "{% for m in messages %}x{{ m.content }}y{% endfor %}"}, "got those by another template"),
    ],
)
def test_scores_of_other_conversations_are_refused(here, rows, changes, message):
    tokenizer = transformers.AutoTokenizer.from_pretrained(here / "model")
    if "scores" in changes:
        changes = {"scores": ScoresConfig(stored_loss=str(here / "scores"))}
    with pytest.raises(SamplewiseError, match=message):
        prepare_instructions(instructions(rows, **changes), tokenizer)


def test_flow_weighs_conversations_by_their_stored_losses(here, rows, tmp_path):
    """e^(−L/tau) of the scores, tau their median, over every step, which leave the model as it is."""
    data = {"kind": "instructions", "path": str(rows), "chat_template": "plain", "max_length": 48, "held_out": 0.1,
            "scores": {"stored_loss": str(here / "row-scores")}}  # fmt: skip
    path = world.write_run(
        tmp_path / "run.yaml", here / "model", rows, tmp_path / "out", data=data, rule="flow()",
        log_samples=str(tmp_path / "log"),
    )  # fmt: skip
    run(load_config(path, ["training.learning_rate=0.0", "training.max_steps=3"]), say=str)
    known = dict(zip(*map(list, column(here / "row-scores", "completion_loss")), strict=True))
    found = pq.read_table(tmp_path / "log").to_pylist()
    tokenizer = transformers.AutoTokenizer.from_pretrained(here / "model")
    own = InstructionsConfig(path=str(rows), chat_template="plain", max_length=48, held_out=0.1)
    trained = [known[row["sample_id"]] for row in prepare_instructions(own, tokenizer).train]
    tau = float(np.median(trained))
    for step in {row["step"] for row in found}:
        rows_here = [row for row in found if row["step"] == step]
        wanted = np.exp([-known[row["id"]] / tau for row in rows_here])
        wanted *= len(wanted) / wanted.sum()
        assert [row["weight"] for row in rows_here] == pytest.approx(wanted.tolist(), rel=1e-3)


def test_an_arm_with_conversations_of_its_own_has_no_scores(here, rows, tmp_path):
    (tmp_path / "own.jsonl").write_text("".join(rows.read_text().splitlines(keepends=True)[:45]))
    data = {"kind": "instructions", "path": str(rows), "chat_template": "plain", "max_length": 48, "held_out": 0.2,
            "scores": {"stored_loss": str(here / "row-scores")}}  # fmt: skip
    arms = {"flow": "flow()", "own": {"rule": "uniform()", "data": str(tmp_path / "own.jsonl")}}
    plan = load_plan(write_plan(here, data=data, arms=arms), [
        "seeds=[0]", "evaluations=0", "budget={steps: 2}", "controls={random: false, rates: []}",
        "training.activation_checkpointing=false", f"output={tmp_path / 'out'}",
    ])  # fmt: skip
    ran = {arm["name"]: arm["ran"]["steps"] for arm in run_plan(plan, say=str)["arms"]}
    assert ran == {"uniform": 2, "flow": 2, "own": 2}


@pytest.mark.slow
def test_arms_use_scores_without_a_second_model(here, tmp_path):
    """Their units are those of no forward but the step's own, and of the 5% that are compared."""
    scores = {
        "stored_loss": str(here / "scores"),
        "reference_loss": {"folder": str(here / "scores"), "column": "other"},
    }
    texts = (here / "corpus.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "half.jsonl").write_text("".join(texts[:45]))
    arms = {
        "stored": {"rule": "band(drop_top=0.25)", "loss_from": "stored", "prior": {"scored": 100}},
        "excess": "by('excess', band(drop_top=0.25))",
        "own": {"rule": "uniform()", "data": str(tmp_path / "half.jsonl")},
    }
    plan = load_plan(write_plan(here, data=data(here, scores=scores), arms=arms), [
        "seeds=[0]", "evaluations=0", "budget={steps: 8}", f"output={tmp_path / 'out'}",
    ])  # fmt: skip
    ran = {arm["name"]: arm["ran"] for arm in run_plan(plan, say=str)["arms"]}
    price = {name: ran[name]["units"] / ran[name]["tokens"] for name in ran}
    assert price["uniform"] == price["own"] == 3
    assert 3 < price["stored"] < 3.4
    assert price["excess"] == pytest.approx(3 + 1 / 0.75, abs=0.3)
