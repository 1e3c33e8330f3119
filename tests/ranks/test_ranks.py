"""The same step on several processes: DDP through torchrun, gradients against one process with all micro-batches."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import preloaded
import pytest
import torch
from preloaded import ENVIRONMENT

WORKER = Path(__file__).with_name("worker.py")
GROUP = Path(__file__).with_name("group.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(
    folder: Path, rule: str, split: str, *, per="sample", dtype="float64", steps=2, more=(), launcher="forks"
) -> tuple[dict, list]:
    """What the optimizer saw on rank 0, and what was logged."""
    out = folder / split.replace("|", "+")
    arguments = [str(out), rule, per, split, dtype, str(steps), *more]
    if launcher == "forks":
        done = preloaded.run(GROUP, split.count("|") + 1, *arguments)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        print(done.stdout)
    else:
        launched([str(WORKER), *arguments], launcher, split.count("|") + 1)
    return torch.load(out / "tensors.pt", weights_only=True), json.loads((out / "history.json").read_text())


def launched(program: list[str], launcher: str, processes: int) -> None:
    """Run a program on so many ranks by a launcher of torch or accelerate, and wait for it."""
    groups = [
        subprocess.Popen(
            [sys.executable, *options, *program], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )
        for options in launchers(launcher, processes)
    ]  # fmt: skip
    for group in groups:
        said, _ = group.communicate(timeout=240)
        assert group.returncode == 0, said[-5000:]
        print(said)


def launchers(name: str, processes: int) -> list[list[str]]:
    """The options of each command that together start so many processes."""
    port = ["--master_port", str(free_port())]
    torchrun = ["-m", "torch.distributed.run"]
    return {  # with --cpu and without MPI, accelerate starts one process whatever is asked for
        "torchrun": [[*torchrun, "--nproc_per_node", str(processes), *port]],
        "accelerate": [[
            "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes),
            "--num_machines", "1", "--main_process_port", port[1], "--mixed_precision", "no",
        ]],
        "two machines": [
            [*torchrun, "--nnodes", "2", "--node_rank", node, "--nproc_per_node", str(processes // 2),
             "--master_addr", "127.0.0.1", *port]
            for node in "01"
        ],
    }[name]  # fmt: skip


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


@pytest.mark.slow
def test_kept_rows_are_shared_evenly(tmp_path, capfd):
    """All four kept rows stand on the first rank; each rank trains on two of them, in one micro-batch."""
    rule = "chain(top_k(0.5), ir_dro(r=0.5))"
    alone, _ = launch(tmp_path, rule, "4,4", steps=1, more=["sorted"])
    together, _ = launch(tmp_path, rule, "2,2|2,2", steps=1, more=["sorted"])
    for got, expected in zip(together["gradients"], alone["gradients"], strict=True):
        assert (got - expected).norm() <= 1e-10 * expected.norm()
    printed = capfd.readouterr().out
    assert "rank 0, local rank 0, trained on micro-batches of [2]" in printed
    assert "rank 1, local rank 1, trained on micro-batches of [2]" in printed


@pytest.mark.slow
def test_all_ranks_take_the_one_way_back_together(tmp_path):
    """A row on the second rank has a loss that is not finite: both redo the step, and no one waits for ever."""
    alone, _ = launch(tmp_path, "ir_dro(r=0.3)", "4,4", steps=3, more=["bad"])
    together, logged = launch(tmp_path, "ir_dro(r=0.3)", "2,2|2,2", steps=3, more=["bad"])
    assert [entry.get("samplewise/retried") for entry in logged] == [None, 1, 1]
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "split"), [("torchrun", "2,2|2,2"), ("accelerate", "3|5"), ("two machines", "2|1|3|2")]
)
@pytest.mark.parametrize("rule", ["ir_dro(r=0.3)", "chain(top_k(0.5), ir_dro(r=0.5))"])
def test_other_launchers_and_ranks_that_are_not_local_ones(tmp_path, capfd, launcher, split, rule):
    alone, _ = launch(tmp_path, rule, "4,4")
    together, _ = launch(tmp_path, rule, split, launcher=launcher)
    for got, expected in zip(together["gradients"], alone["gradients"], strict=True):
        assert (got - expected).norm() <= 1e-10 * expected.norm()
    assert launcher != "two machines" or "rank 3, local rank 1, trained" in capfd.readouterr().out
