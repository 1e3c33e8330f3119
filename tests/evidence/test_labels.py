"""Labels of documents: what each got is what the rule gave, in runs that are killed too; no rule sees labels."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import world
from plans import write_plan
from watching import OnStep

from samplewise.core.errors import SamplewiseError
from samplewise.data import Window, WindowDataset, document_id, instruction_id, window_id
from samplewise.data.near_duplicates import fingerprint
from samplewise.evidence.budget import BudgetTrainer
from samplewise.evidence.check import check_results
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.labels import LabelledCorpus, Labels, shares
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.run.trainer import Recorder


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The small world with a corrupted corpus and its labels; documents to hold out are clean."""
    folder = tmp_path_factory.mktemp("labels")
    write_plan(folder)
    done = world.samplewise(
        "corrupt", folder / "corpus.jsonl", folder / "noisy.jsonl", folder / "labels.json", "--share", "0.4"
    )
    assert done.returncode == 0, done.stderr
    return folder


def plan_of(here: Path, output: Path, *overrides: str, corpus: str = "noisy.jsonl", **changes):
    data = {"path": str(here / corpus), "max_length": 24, "min_tokens": 4, "held_out": 0.15}
    path = write_plan(here, **{"data": data, "labels": str(here / "labels.json"), **changes})
    return load_plan(path, [*overrides, f"output={output}"])


def kinds_of(here: Path) -> dict[int, str]:
    rows = json.loads((here / "labels.json").read_text())["rows"]
    return {document_id("noisy.jsonl", int(row)): kind for row, kind in rows.items()}


def texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def lines(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def watched(monkeypatch):
    """(document of a window, weight, predicted tokens) of every sample of every step, in one list for each run."""
    runs: list[list[tuple[int, float, int]]] = []
    make, train = BudgetTrainer.__init__, BudgetTrainer.train

    def training(self, *args, **kwargs):
        runs.append([])
        return train(self, *args, **kwargs)

    def made(self, *args, **kwargs):
        make(self, *args, **kwargs)

        def closing(result):
            windows = {window.id: window for window in self.train_dataset.windows}
            for name, weight in zip(result.samples.id.tolist(), result.weights.tolist(), strict=True):
                runs[-1].append((windows[name].doc_id, weight, windows[name].tokens))

        self.engine.added.append(OnStep(closing))

    monkeypatch.setattr(BudgetTrainer, "train", training)
    monkeypatch.setattr(BudgetTrainer, "__init__", made)
    return runs


def recounted(seen: list[tuple[int, float, int]], kinds: dict[int, str], per: str) -> dict[str, list[float]]:
    found = {kind: [0.0, 0.0, 0.0] for kind in {kinds.get(document, "clean") for document, _, _ in seen}}
    for document, weight, tokens in seen:
        own = found[kinds.get(document, "clean")]
        own[0] += weight * (tokens if per == "token" else 1)
        own[1] += 1
        own[2] += tokens * (weight > 0)
    totals = [sum(column) for column in zip(*found.values(), strict=True)]
    return {kind: [value / total for value, total in zip(own, totals, strict=True)] for kind, own in found.items()}


ARMS = {
    "one pass": {"rule": "ir_dro(r=1)"},
    "two passes": {"rule": "chain(band(drop_top=0.25), ir_dro(r=1))"},
    "free": {"rule": "random_keep(share=0.5)"},
    "by tokens": {"rule": "ir_dro(r=1)", "per": "token"},
    "micro": {"rule": "ir_dro(r=1)", "normalize": "micro"},
}


@pytest.mark.slow
def test_shares_are_those_of_what_was_trained_on(here, tmp_path, watched):
    plan = plan_of(here, tmp_path / "out", "budget.steps=4", arms=ARMS, control="one pass")
    arms = {arm["name"]: arm["ran"]["labels"] for arm in run_plan(plan, say=str)["arms"]}
    kinds, each = kinds_of(here), iter(watched)
    for seed in ("0", "1"):
        for name, found in arms.items():
            own, expected = found["by_seed"][seed], recounted(next(each), kinds, ARMS[name].get("per", "sample"))
            assert own.keys() == {*expected, "labelled"}
            for kind, values in expected.items():
                assert [own[kind][key] for key in ("weight", "samples", "tokens")] == pytest.approx(values, abs=1e-9)
            assert own["labelled"]["weight"] == pytest.approx(1 - own["clean"]["weight"])
    for found in arms.values():
        for key, value in found["mean"]["labelled"].items():
            assert value == pytest.approx(sum(own["labelled"][key] for own in found["by_seed"].values()) / 2)


def test_a_rule_does_not_see_labels(here, tmp_path):
    seen = {}
    for name, labels in (("with", str(here / "labels.json")), ("without", None)):
        run_plan(plan_of(here, tmp_path / name, "seeds=[0]", "budget.steps=2", labels=labels), say=str)
        seen[name] = (tmp_path / name / "values.json").read_bytes()
    assert seen["with"] == seen["without"]


@pytest.mark.slow
def test_killed_and_resumed_counts_the_same(here, tmp_path, monkeypatch):
    overrides = ["arms.tilt='ir_dro(r=1)'", "seeds=[0]"]
    run_plan(plan_of(here, tmp_path / "whole", *overrides), say=str)
    record, steps = Recorder.on_step, []

    def killed(self, result):
        steps.append(result.step)
        record(self, result)
        if len(steps) in (5, 12):  # after a checkpoint was saved, and within another arm
            raise SystemExit

    monkeypatch.setattr(Recorder, "on_step", killed)
    broken, said = plan_of(here, tmp_path / "broken", *overrides), []
    for _ in range(2):
        with pytest.raises(SystemExit):
            run_plan(broken, say=said.append)
    run_plan(broken, say=said.append)
    assert any("resuming" in line for line in said)
    assert (tmp_path / "broken" / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()


def test_the_command_shows_what_labels_got(here, tmp_path):
    plan_of(here, tmp_path / "out")
    done = world.samplewise("compare", here / "plan.yaml", f"output={tmp_path / 'out'}", "budget.steps=2", "seeds=[0]")
    assert done.returncode == 0, done.stderr
    assert "documents trained on: " in done.stdout
    header, band = (line for line in done.stdout.splitlines() if re.match(r" .*labelled   diff|band +\d", line))
    share = check_results(tmp_path / "out")["arms"][1]["ran"]["labels"]["mean"]["labelled"]["weight"]
    assert f"{share:.1%}" == band.split()[7], header
    page = (tmp_path / "out" / "report.html").read_text()
    assert "samples seen, labelled" in page
    assert "weight, clean" in page


# ---- text of an arm's own ----


def test_an_arms_own_text_is_labelled_by_its_documents(here, tmp_path):
    """By the document that a record names, else by its text; what neither tells is unknown."""
    noisy, clean, kinds = texts(here / "noisy.jsonl"), texts(here / "corpus.jsonl"), kinds_of(here)
    by_row = {row: kinds.get(document_id("noisy.jsonl", row), "clean") for row in range(len(noisy))}
    changed = {row for row in by_row if fingerprint(noisy[row]) != fingerprint(clean[row])}
    starts = [" ".join(text.split()[:9]) for text in noisy]
    cases = {
        "named": [{"text": text, "doc_id": document_id("noisy.jsonl", row)} for row, text in enumerate(starts)],
        "text": [{"text": text} for text in reversed(noisy)],
        "clean": [{"text": text} for text in clean],
    }  # fmt: skip
    expected = {"named": Counter(by_row.values()), "text": Counter(by_row.values())}
    expected["clean"] = Counter("unknown" if row in changed else kind for row, kind in by_row.items())
    corpus = LabelledCorpus(str(here / "labels.json"), plan_of(here, tmp_path).data)
    for name, records in cases.items():
        path = lines(tmp_path / f"{name}.jsonl", records)
        windows = [
            Window(torch.zeros(5).int().numpy(), window_id(path.name, row, i), document_id(path.name, row), path.name,
                   row, i, (0, 1), 1)
            for row in range(len(records)) for i in range(2)
        ]  # fmt: skip
        labels = corpus.of(WindowDataset(windows), str(path))
        assert labels.documents == expected[name]
        assert Counter(labels.kinds.values()) == {kind: 2 * count for kind, count in expected[name].items()}


def test_an_arm_on_a_selection_is_counted(here, tmp_path):
    noisy = texts(here / "noisy.jsonl")
    chosen = lines(tmp_path / "chosen.jsonl", [{"text": text} for text in noisy[::2]])
    plan = plan_of(here, tmp_path / "out", "seeds=[0]", f"arms.chosen={{data: {chosen}}}")
    ran = {arm["name"]: arm["ran"]["labels"] for arm in run_plan(plan, say=str)["arms"]}
    assert sum(ran["chosen"]["documents"].values()) < 0.7 * sum(ran["uniform"]["documents"].values())
    assert ran["chosen"]["mean"]["labelled"]["weight"] > 0


def test_text_of_another_corpus_is_unknown_and_said_to_be(here, tmp_path):
    strange = lines(tmp_path / "strange.jsonl", [{"text": f"w1 w{i} w3 w4 w{i} w6 w7"} for i in range(30)])
    said: list[str] = []
    plan = plan_of(here, tmp_path / "out", "seeds=[0]", f"arms.strange={{data: {strange}}}")
    ran = {arm["name"]: arm["ran"]["labels"] for arm in run_plan(plan, say=said.append)["arms"]}
    assert f"labels     {strange}: none of 30 documents trained on is of the labelled corpus" in said
    assert ran["strange"]["documents"] == {"unknown": 30}
    assert ran["strange"]["mean"]["unknown"]["weight"] == pytest.approx(1.0)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("labels", "override", "message"),
    [
        ({"rows": {"3": "odd"}, "sha256": "0"}, "", "another sha256"),
        ({"rows": {"500": "odd"}}, "", "1 of others, the first 500"),
        ({"rows": {"3": "clean"}}, "", "names that are not reserved, got clean"),
        ({"rows": ["odd"]}, "", '"rows"'),
        ({"documents": {}}, "", "KeyError"),
        ("", "", "a JSON file with labels"),
        ({"rows": {}}, "data.streaming=true", r"data\.streaming: .*not to be a stream"),
        ({"rows": {}}, "data.path={folder}/*.jsonl", "one file at data.path"),
    ],
)
def test_labels_that_do_not_fit_are_refused(here, tmp_path, labels, override, message):
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(labels) if labels else "no JSON")
    plan = plan_of(here, tmp_path / "out", *([override.format(folder=here)] if override else []), labels=str(file))
    with pytest.raises(SamplewiseError, match=message):
        LabelledCorpus(str(file), plan.data)


def test_labels_of_conversations(tmp_path):
    rows = [{"instruction": f"w{i} w2", "output": f"w3 w{i}"} for i in range(9)]
    path = lines(tmp_path / "rows.jsonl", rows)
    (tmp_path / "labels.json").write_text(json.dumps({"rows": {"2": "swapped", "5": "swapped"}}))
    data = {"kind": "instructions", "path": str(path), "chat_template": "plain"}
    plan = load_plan(write_plan(tmp_path, data=data, labels=str(tmp_path / "labels.json")))
    corpus = LabelledCorpus(str(tmp_path / "labels.json"), plan.data)
    names = [instruction_id("rows.jsonl", row) for row in range(9)]
    assert corpus.of({"sample_id": names}).documents == {"clean": 7, "swapped": 2}
    own = lines(tmp_path / "own.jsonl", rows[4:])
    names = [instruction_id("own.jsonl", row) for row in range(5)]
    labels = corpus.of({"sample_id": names}, str(own))
    assert labels.kinds == {name: "swapped" if row == 1 else "clean" for row, name in enumerate(names)}
    turns = load_plan(tmp_path / "plan.yaml", ["data.turns=true"])
    with pytest.raises(SamplewiseError, match=r"data\.turns: .*not their turns"):
        LabelledCorpus(str(tmp_path / "labels.json"), turns.data)


def test_no_label_in_the_training_text_is_a_share_of_none():
    labels = Labels({1: "clean", 2: "clean"}, {"clean": 2})
    tally = labels.tally(torch.tensor([1, 2]), torch.tensor([0.5, 1.5]), torch.tensor([4, 6]), "sample")
    assert shares(tally) == {
        "labelled": {"weight": 0.0, "samples": 0.0, "tokens": 0.0},
        "clean": {"weight": 1.0, "samples": 1.0, "tokens": 1.0},
    }
