"""Work on local files and folders opens no connection and looks up no name; a name on the hub is the exception."""

import socket

import pytest
import world
import yaml
from plans import write_plan

EVALUATION = {"max_length": 32, "min_tokens": 4, "held_out": 0.15}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A model, a corpus, a run file, a plan, an evaluation file, and finished scores."""
    folder = tmp_path_factory.mktemp("local")
    plan = write_plan(folder, seeds=[0], budget={"steps": 1})
    plan.rename(folder / "compare.yaml")
    model, corpus = folder / "model", folder / "corpus.jsonl"
    small = {**yaml.safe_load(world.write_run(folder / "train.yaml", model, corpus, folder / "trained").read_text())}
    small["training"] |= {"max_steps": 1}
    (folder / "train.yaml").write_text(yaml.safe_dump(small))
    evaluated = {"model": str(model), "output": str(folder / "e.json"), "data": {"path": str(corpus), **EVALUATION}}
    (folder / "evaluate.yaml").write_text(yaml.safe_dump(evaluated))
    assert scored(folder, "scores").returncode == 0
    return folder


def scored(folder, out):
    words = ("--model", folder / "model", "--data", folder / "corpus.jsonl", "--limit", 20, "--max-length", 32)
    return world.samplewise("score", *words, "--out", folder / out)


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the network, which fails; the clients of the hub think that they may."""
    found: list[object] = []

    def refused(*given: object, **more: object) -> None:
        address = given[1] if isinstance(given[0], socket.socket) else given[0]
        if not isinstance(address, (str, bytes)) or not isinstance(given[0], socket.socket):  # a path: this machine
            found.append(address)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, refused)
    return found


WORDS = {
    "score": [],
    "select": ["scores", "--above", "1", "--out", "kept.jsonl"],
    "report": ["scores", "--out", "report.html"],
    "dedup": ["corpus.jsonl", "--out", "deduped.jsonl"],
    "train": ["train.yaml"],
    "compare": ["compare.yaml"],
    "evaluate": ["evaluate.yaml"],
}


@pytest.mark.parametrize("command", WORDS)
def test_what_lies_here_is_worked_on_without_a_network(here, asked, monkeypatch, command):
    monkeypatch.chdir(here)
    done = scored(here, "again") if command == "score" else world.samplewise(command, *WORDS[command])
    assert done.returncode == 0, done.stderr
    assert asked == []


def test_a_name_on_the_hub_is_asked_for(here, asked, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries
    done = world.samplewise("score", "--model", "a/b", "--data", here / "corpus.jsonl", "--out", here / "none")
    assert done.returncode == 1
    assert "huggingface.co" in {str(each) for each in asked}
