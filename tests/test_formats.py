"""What version 0.1.0 of 2026-11 wrote is read: its runs resume, its scores are selected from, its results checked.

To `HERE`, the rounding of sums in another order, where this machine rounds as the one that wrote the files, and to
`ELSEWHERE` on others.
"""

import json
import shutil
from pathlib import Path

import kept_formats as kept
import pyarrow.parquet as pq
import pytest
import torch
import world
from safetensors.torch import load_file

HERE = {torch.float64: 1e-12, torch.float32: 1e-6}
ELSEWHERE = {torch.float64: 1e-9, torch.float32: 1e-4}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A copy of all that was written, as the working directory."""
    shutil.copytree(kept.FIXTURES, tmp_path / "formats")
    monkeypatch.chdir(tmp_path / "formats")
    return Path()


@pytest.fixture(scope="module")
def same_machine(tmp_path_factory):
    """Whether the plain Trainer's steps have the bits that they had where the files were written."""
    folder = tmp_path_factory.mktemp("arithmetic")
    shutil.copy(kept.FIXTURES / "checkpoint" / "rows.json", folder)
    return kept.arithmetic(folder / "plain") == (kept.FIXTURES / "checkpoint" / "arithmetic.txt").read_text()


def assert_equal(found: torch.Tensor, expected: torch.Tensor, same_machine: bool) -> None:
    close = (HERE if same_machine else ELSEWHERE).get(expected.dtype, 0)
    torch.testing.assert_close(found, expected, rtol=close, atol=close)


def assert_same(found: object, expected: object, same_machine: bool, place: str = "") -> None:
    """JSON values: the keys that were there, and their numbers."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert expected.keys() <= found.keys(), place
        for key in expected:
            assert_same(found[key], expected[key], same_machine, f"{place}.{key}")
    elif isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected), place
        for k, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, same_machine, f"{place}[{k}]")
    elif isinstance(expected, float):
        rel, close = (1e-4, 1e-6) if same_machine else (1e-2, 1e-3)
        assert found == pytest.approx(expected, rel=rel, abs=close, nan_ok=True), place
    elif same_machine or not isinstance(expected, str):  # sentences are made of rounded numbers
        assert found == expected, place


def read(path: Path):
    return json.loads(path.read_text())


def lines(path: Path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def done(*arguments: object) -> str:
    found = world.samplewise(*arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


# ---- checkpoints ----


@pytest.mark.parametrize("name", kept.TRAINERS)
def test_a_trainer_resumes(here, same_machine, caplog, name):
    folder = here / "checkpoint" / name
    saved = folder / f"checkpoint-{kept.SAVED}"
    found = kept.trained(folder, kept.TRAINERS[name], checkpoint=saved)
    expected = load_file(folder / "later" / "model.safetensors")
    assert found.keys() == expected.keys() == {"5", "8"}
    for step in expected:
        assert_equal(found[step], expected[step], same_machine)
    assert "from its initial state" not in caplog.text
    state = folder / f"checkpoint-{kept.STEPS}" / "samplewise"  # what the next resumption would begin with
    one, other = (load_file(place / "state.safetensors") for place in (state, folder / "later"))
    assert one.keys() == other.keys()
    for key in other:
        assert_equal(one[key], other[key], same_machine)
    numbers = [read(place / "state.json")["numbers"] for place in (state, folder / "later")]
    assert_same(*numbers, same_machine)


@pytest.mark.parametrize("name", kept.TRAINERS)
def test_the_saved_state_counts(here, name):
    """A resumption from the rule's first state would be seen."""
    folder = here / "checkpoint" / name
    saved = folder / f"checkpoint-{kept.SAVED}"
    shutil.rmtree(saved / "samplewise")
    found = kept.trained(folder, kept.TRAINERS[name], checkpoint=saved)
    difference = (found["8"] - load_file(folder / "later" / "model.safetensors")["8"]).abs().max()
    assert difference > 1e-6


def test_a_loop_resumes(here, same_machine):
    folder = here / "checkpoint"
    found = kept.looped(folder / "loop", first=kept.SAVED + 1, last=8)
    assert_equal(found, load_file(folder / "loop.safetensors")["8"], same_machine)


# ---- scores ----


@pytest.mark.parametrize("name", kept.SELECTIONS)
def test_scores_are_selected_from(here, name):
    done("select", here / "scores" / "finished", *kept.SELECTIONS[name], "--ids", "--out", "ids.txt")
    found = sorted(int(line) for line in (here / "ids.txt").read_text().split())
    assert found == read(here / "scores" / "selected.json")[name]


def test_selected_texts_are_found_in_their_corpus(here):
    done("select", here / "scores" / "finished", "--rule", "band(drop_top=0.2)", "--out", "kept.jsonl")
    documents = [row["text"] for row in lines(here / "scores" / "corpus.jsonl") if "text" in row]
    selected = [row["text"] for row in lines(here / "kept.jsonl")]
    assert len(selected) == 99  # of 123 windows
    assert all(any(text in document for document in documents) for text in selected)


def test_scores_are_reported(here):
    done("report", here / "scores" / "finished", "--out", "page.html")
    page = (here / "page.html").read_text()
    for fact in ("123", "2,890", "missing field"):
        assert fact in page


def test_finished_scores_stay_as_they_are(here):
    before = (here / "scores/finished/manifest.json").read_bytes()
    done("score", "--model", "model", "--data", "scores/corpus.jsonl", "--out", "scores/finished", "--dtype", "float32")
    assert (here / "scores/finished/manifest.json").read_bytes() == before


def test_a_run_reads_scores_of_its_text(here):
    file = world.write_run(
        here / "run.yaml", Path("model"), Path("scores/corpus.jsonl"), Path("scored"), loss_from="stored",
        data={"path": "scores/corpus.jsonl", "max_length": 32, "min_tokens": 4, "held_out": 0.1, "on_error": "skip",
              "scores": {"stored_loss": "scores/finished"}},
    )  # fmt: skip
    done("train", file, "training.max_steps=1", "training.save_strategy='no'")
    assert read(here / "scored/results.json")["training"]["steps"] == 1


# ---- comparisons ----


def test_comparisons_are_checked(here):
    for name, count in (("finished", 4), ("stopped", 0)):
        assert f"{count} differences" in done("compare", "--check", here / "compare" / name)


def test_a_comparison_is_finished(here, same_machine):
    """The arm that was not finished resumes within its run; the finished one is not run again."""
    finished, stopped = here / "compare" / "finished", here / "compare" / "stopped"
    before = (stopped / "runs" / "uniform-0.json").read_bytes()
    out = done("compare", stopped / "plan.yaml")
    assert "window, seed 0: resuming" in out
    assert (stopped / "runs" / "uniform-0.json").read_bytes() == before
    for name in ("results.json", "values.json"):
        assert_same(read(stopped / name), read(finished / name), same_machine)
    done("compare", "--check", stopped)
    assert (stopped / "report.html").exists()


def test_nothing_of_a_finished_comparison_is_run_again(here):
    folder = here / "compare" / "finished"
    before = {path: json.loads(path.read_bytes()) for path in folder.rglob("*.json")}
    done("compare", folder / "plan.yaml")
    for path, old in before.items():
        assert_holds(old, json.loads(path.read_bytes()), path.name)


def assert_holds(old, new, place):
    """Everything that was there is there, and the same; a newer version says more beside it."""
    if isinstance(old, dict):
        for key in old:
            assert_holds(old[key], new[key], f"{place}/{key}")
    elif isinstance(old, list):
        assert len(old) == len(new), place
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            assert_holds(one, other, f"{place}/{number}")
    else:
        assert old == new, place


# ---- runs ----


def test_a_run_is_finished(here, same_machine):
    stopped, finished = here / "run" / "stopped", here / "run" / "finished"
    done("train", "--resume", stopped / "run.yaml")
    found, expected = read(stopped / "results.json"), read(finished / "results.json")
    for part in ("held_out", "documents", "training", "data", "rule", "per", "normalize", "kind"):
        assert_same(found[part], expected[part], same_machine, part)
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (stopped, finished))
    for name in other:
        assert_equal(one[name], other[name], same_machine)
    assert not (stopped / ".fingerprints.json").exists()
    logs = [pq.read_table(here / "run" / f"samples-{name}").to_pydict() for name in ("stopped", "finished")]
    assert_same(*logs, same_machine)


def test_changed_data_of_a_run_is_seen(here):
    """The fingerprints that were written are compared."""
    with (here / "corpus.jsonl").open("a") as file:
        file.write(json.dumps({"text": " ".join(world.WORDS)}) + "\n")
    found = world.samplewise("train", "--resume", here / "run" / "stopped" / "run.yaml")
    assert found.returncode == 1
    assert "training" in found.stderr


@pytest.mark.parametrize(("name", "steps"), [("stopped", 5), ("finished", 10)])
def test_runs_are_diagnosed(here, name, steps):
    assert f"{steps} steps" in done("diagnose", here / "run" / name)


def test_the_model_of_a_run_is_evaluated(here):
    """The folder that a run saves is a model to other commands."""
    done("score", "--model", "run/finished/model", "--data", "corpus.jsonl", "--out", "again", "--limit", "3")
