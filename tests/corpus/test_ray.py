"""Scoring on a Ray cluster of several workers, one of which is killed: the scores are those of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import world
from scoring import SMALL, score, table

from samplewise.corpus import open_scores

pytest.importorskip("ray", reason="ray is not installed")
pytestmark = pytest.mark.slow


def workers_of(driver: int) -> list[int]:
    """The processes of the actors that score, by the names that Ray gives them."""
    found, children = [], {}
    for each in Path("/proc").iterdir():
        try:
            if each.name.isdigit():
                children.setdefault(int((each / "stat").read_text().rpartition(")")[2].split()[1]), []).append(each)
        except OSError:  # it has ended
            continue
    below = [driver]
    while below:
        for each in children.get(below.pop(), []):
            below.append(int(each.name))
            try:
                if b"_Worker" in (each / "cmdline").read_bytes():
                    found.append(int(each.name))
            except OSError:
                continue
    return found


@pytest.mark.timeout(580)
def test_the_shards_of_a_killed_worker_are_scored_by_another(tiny_model, tmp_path):
    corpus = world.save_corpus(tmp_path / "corpus.jsonl", documents=3000)
    settings = {**SMALL, "shard_bytes": 5000}
    command = [
        sys.executable, "-m", "samplewise", "score", f"--model={tiny_model}", f"--data={corpus}",
        f"--out={tmp_path / 'out'}", "--dtype=float32", "--engine=ray", "--workers=3",
        *(f"--{key.replace('_', '-')}={value}" for key, value in settings.items()),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    parts, killed = tmp_path / "out" / ".parts", 0
    while run.poll() is None and not killed:
        time.sleep(0.05)
        if len(list(parts.glob("*.done.json"))) >= 3 and len(found := workers_of(run.pid)) == 3:
            os.kill(killed := found[0], signal.SIGKILL)
            done, every = len(list(parts.glob("*.done.json"))), len(list(parts.glob("*.mark.json")))
    said, _ = run.communicate(timeout=500)
    assert run.returncode == 0, said
    assert killed
    assert done < every - 3, "it died with work left"
    score(tiny_model, corpus, tmp_path / "one", **settings)
    losses = ["loss", "loss_q10", "loss_q50", "loss_q90", "loss_change"]
    ours, theirs = table(tmp_path / "out"), table(tmp_path / "one")
    assert ours.drop_columns(losses).equals(theirs.drop_columns(losses))
    assert ours["loss"].to_numpy() == pytest.approx(theirs["loss"].to_numpy(), abs=1e-5)
    assert open_scores(tmp_path / "out").manifest.rows_in == 3000
