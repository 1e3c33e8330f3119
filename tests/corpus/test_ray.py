"""Scoring on a Ray cluster of two actors, one of which is killed while it scores, or their node."""

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
ACTOR, NODE = "_Worker", "/raylet/raylet"
DOCUMENTS = 1500
ENVIRONMENT = {**world.ENVIRONMENT, "RAY_worker_niceness": "0"}  # Ray's 15 starves actors on a machine that is busy


def processes(driver: int, part: str) -> list[int]:
    """Those below the driver whose command line has a part: Ray gives actors names of their own there."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if part in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:  # it has ended
            continue
    return found


def done(out: Path) -> int:
    return len(list(out.glob(".parts/*.done.json")))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("killed", [ACTOR, NODE], ids=["actor", "node"])
def test_what_a_killed_process_had_in_hand_is_scored_by_another(killed, tiny_model, tmp_path):
    corpus = world.save_corpus(tmp_path / "corpus.jsonl", documents=DOCUMENTS)
    words = ["score", "--model", tiny_model, "--data", corpus, "--out", tmp_path / "out", "--dtype", "float32"]
    words += [word for key, value in SMALL.items() for word in (f"--{key.replace('_', '-')}", value)]
    command = [sys.executable, "-m", "samplewise", *map(str, words), "--engine", "ray", "--workers", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=world.ROOT, env=ENVIRONMENT
    )
    while process.poll() is None and not (done(tmp_path / "out") and len(processes(process.pid, ACTOR)) == 2):
        time.sleep(0.02)
    os.kill(processes(process.pid, killed)[0], signal.SIGKILL)
    left = len(list((tmp_path / "out").glob(".parts/*.mark.json"))) - done(tmp_path / "out")
    said, _ = process.communicate(timeout=550)
    assert process.returncode == 0, said
    assert left > 4, "it died when there was nothing left to do"
    assert score(tiny_model, corpus, tmp_path / "one").rows_in == DOCUMENTS
    assert digests(tmp_path / "out") == digests(tmp_path / "one")
