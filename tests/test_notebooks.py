"""The notebooks run from top to bottom on a tiny model, and show what they say."""

import json
import os
from pathlib import Path

import nbformat
import pytest
import world
from nbclient import NotebookClient

BOOKS = Path(__file__).parents[1] / "examples" / "notebooks"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def run(name: str, folder: Path, parameters: str) -> list[str]:
    """The outputs of each cell as text, after the cell of parameters is replaced."""
    book = nbformat.read(BOOKS / name, as_version=4)
    (cell,) = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source = parameters
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = []
    for cell in book.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            outputs.append(output.get("text", "") + data.get("text/html", data.get("text/plain", "")))
            outputs += ["picture"] * ("image/png" in data)
    return outputs


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(world.ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_the_sft_notebook(tmp_path):
    model = world.save_model(tmp_path / "model")
    rows = [{"prompt": f"w{i % 40} w3", "completion": f" w{i % 50} w{i % 7}"} for i in range(64)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = run(
        "weigh_an_sft_run.ipynb", tmp_path, f'MODEL, DATA, STEPS, RULE = "{model}", "train.jsonl", 3, "ir_dro(r=3.0)"'
    )
    whole = "\n".join(said)
    assert "polyline" in whole  # the rule's curve
    assert "samplewise/ess" in whole
    assert "picture" in said
    assert "step 3" in whole  # the last result


def test_the_corpus_notebook(tmp_path):
    model, _ = world.save_model(tmp_path / "model"), world.save_corpus(tmp_path / "corpus.jsonl", 60)
    parameters = f'MODEL, CORPUS, RULE = "{model}", "corpus.jsonl", "band(drop_top=0.1, drop_bottom=0.1)"'
    said = run("what_is_in_my_corpus.ipynb", tmp_path, parameters)
    whole = "\n".join(said)
    assert "80% of the windows are kept" in whole or "81% of the windows" in whole
    assert "picture" in said
    assert (tmp_path / "train.jsonl.gz").stat().st_size > 100
    assert (tmp_path / "random.jsonl.gz").stat().st_size > 100
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
