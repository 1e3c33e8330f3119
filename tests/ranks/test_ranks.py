"""The same step on several processes: DDP through torchrun, gradients against one process with all micro-batches."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name("worker.py")
FOLDERS = os.pathsep.join(str(folder) for folder in Path(__file__).parents[1:3])
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": FOLDERS,
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(
    folder: Path, rule: str, split: str, *, per="sample", dtype="float64", steps=2, more=()
) -> tuple[dict, list]:
    """What the optimizer saw on rank 0, and what was logged."""
    processes = split.count("|") + 1
    out = folder / split.replace("|", "+")
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", str(free_port())]
    command = [sys.executable, *(launcher if processes > 1 else []), str(WORKER)]
    arguments = [str(out), rule, per, split, dtype, str(steps), *more]
    done = subprocess.run([*command, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    print(done.stdout)
    return torch.load(out / "tensors.pt", weights_only=True), json.loads((out / "history.json").read_text())


CASES = [
    ("ir_dro(r=0.3)", "token", "3|5"),
    ("chain(top_k(0.25), ir_dro(r=0.5))", "sample", "2,2|2,2"),
    pytest.param("uniform()", "token", "4|4", marks=pytest.mark.slow),
    pytest.param("random_keep(0.5)", "sample", "3|5", marks=pytest.mark.slow),
    pytest.param("ir_dro(r=0.3)", "sample", "2,2|2,2", marks=pytest.mark.slow),
    pytest.param("ir_dro(r=0.3)", "token", "2|2|2|2", marks=pytest.mark.slow),
    pytest.param("band(drop_top=0.25)", "token", "3|5", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("rule", "per", "split"), CASES)
def test_ranks_change_nothing(tmp_path, rule, per, split):
    """The first step, and the second: one pass for a tilt."""
    alone, logged_alone = launch(tmp_path, rule, "4,4", per=per)
    together, logged = launch(tmp_path, rule, split, per=per)
    for got, expected in zip(together["gradients"], alone["gradients"], strict=True):
        assert (got - expected).norm() <= 1e-10 * expected.norm()
    for key in ("loss", "samplewise/weighted_loss", "samplewise/ess", "samplewise/kept", "samplewise/mode"):
        assert [entry[key] for entry in logged] == pytest.approx([entry[key] for entry in logged_alone], rel=1e-6)


def test_kept_rows_are_shared_evenly(tmp_path, capfd):
    """All four kept rows stand on the first rank; each rank trains on two of them, in one micro-batch."""
    rule = "chain(top_k(0.5), ir_dro(r=0.5))"
    alone, _ = launch(tmp_path, rule, "4,4", steps=1, more=["sorted"])
    together, _ = launch(tmp_path, rule, "2,2|2,2", steps=1, more=["sorted"])
    for got, expected in zip(together["gradients"], alone["gradients"], strict=True):
        assert (got - expected).norm() <= 1e-10 * expected.norm()
    printed = capfd.readouterr().out
    assert "rank 0 trained on micro-batches of [2]" in printed
    assert "rank 1 trained on micro-batches of [2]" in printed


def test_all_ranks_take_the_one_way_back_together(tmp_path):
    """A row on the second rank has a loss that is not finite: both redo the step, and no one waits for ever."""
    alone, _ = launch(tmp_path, "ir_dro(r=0.3)", "4,4", steps=3, more=["bad"])
    together, logged = launch(tmp_path, "ir_dro(r=0.3)", "2,2|2,2", steps=3, more=["bad"])
    assert [entry.get("samplewise/redone") for entry in logged] == [None, 1, 1]
    for got, expected in zip(together["gradients"], alone["gradients"], strict=True):
        assert (got - expected).norm() <= 1e-10 * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 2e-5)])
@pytest.mark.parametrize("rule", ["ir_dro(r=0.3)", "top_k(0.5)"])
def test_five_clipped_adamw_steps(tmp_path, rule, dtype, tolerance):
    alone, _ = launch(tmp_path, rule, "4,4", dtype=dtype, steps=5, more=["train"])
    together, _ = launch(tmp_path, rule, "3|5", dtype=dtype, steps=5, more=["train"])
    for got, expected in zip(together["parameters"], alone["parameters"], strict=True):
        assert (got - expected).abs().max() <= tolerance
