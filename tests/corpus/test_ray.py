"""Scoring on a Ray cluster of two actors, one of which is killed while it scores."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import world
from scoring import SMALL, digests, score

pytest.importorskip("ray", reason="ray is not installed")
pytestmark = pytest.mark.slow
DOCUMENTS = 1500
ENVIRONMENT = {**world.ENVIRONMENT, "RAY_worker_niceness": "0"}  # Ray's 15 starves actors on a machine that is busy


def actors_of(driver: int) -> list[int]:
    """The processes of the actors that score, by the name that Ray gives them."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if "_Worker" in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:  # it has ended
            continue
    return found


def done(out: Path) -> int:
    return len(list(out.glob(".parts/*.done.json")))


@pytest.mark.timeout(580)
def test_the_shards_of_a_killed_actor_are_scored_by_another(tiny_model, tmp_path):
    corpus = world.save_corpus(tmp_path / "corpus.jsonl", documents=DOCUMENTS)
    words = ["score", "--model", tiny_model, "--data", corpus, "--out", tmp_path / "out", "--dtype", "float32"]
    words += [word for key, value in SMALL.items() for word in (f"--{key.replace('_', '-')}", value)]
    command = [sys.executable, "-m", "samplewise", *map(str, words), "--engine", "ray", "--workers", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=world.ROOT, env=ENVIRONMENT
    )
    found = []
    while process.poll() is None and not (done(tmp_path / "out") and len(found := actors_of(process.pid)) == 2):
        time.sleep(0.02)
    for actor in found[:1]:
        os.kill(actor, signal.SIGKILL)
    left = len(list((tmp_path / "out").glob(".parts/*.mark.json"))) - done(tmp_path / "out")
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    assert len(found) == 2
    assert left > 4, "it died when there was nothing left to do"
    assert score(tiny_model, corpus, tmp_path / "one").rows_in == DOCUMENTS
    assert digests(tmp_path / "out") == digests(tmp_path / "one")
