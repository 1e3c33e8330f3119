"""`bench/gpu.py` on a CPU with tiny shapes: every cell is in the file, whatever becomes of the one before it."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "bench"))
import gpu
import gpu_ways

from samplewise.evidence.doctor import kernels, shapes

TINY = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
SMALL = ["--device", "cpu", "--shapes", "tiny", "--rows", "4", "--length", "16", "--rounds", "1", "--tokens", "64"]
pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the program, and gives the rows of its file."""
    monkeypatch.setitem(shapes.SHAPES, "tiny", {**shapes.SHAPES["tiny"], **TINY})
    monkeypatch.setattr(gpu, "WARMUP", 1)
    monkeypatch.setattr(gpu, "check_cells", lambda run: [("kernels", few_checks)])

    def few_checks():
        return [next(kernels.check_kernels(torch.device("cpu"), [torch.float32]))]

    def go(*more):
        out = tmp_path / "gpu.jsonl"
        monkeypatch.setattr(sys, "argv", ["gpu.py", *SMALL, "--out", str(out), *more])
        gpu.main()
        return [json.loads(line) for line in out.read_text().splitlines()]

    return go


def measured(row) -> bool:
    return row["result"] == "ok" and row["seconds"] > 0 and row.get("rounds", 1) == 1


@pytest.mark.slow
def test_a_cell_is_measured_or_says_why_not(run, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    ways = {name: gpu_ways.WAYS[name] for name in ("plain", "ours, one pass", "Liger")}
    monkeypatch.setattr(gpu, "WAYS", {"CCE": full, **ways})
    monkeypatch.setattr(gpu_ways, "WAYS", gpu.WAYS)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.fused_linear_cross_entropy", None)
    found = {(row["kind"], row.get("form"), row.get("way")): row for row in run()}
    assert found["machine", None, None]["device"].startswith("cpu")
    assert found["check", None, "kernel chunked, float32"]["result"].startswith("pass: losses and gradients off by ")
    for form in ("4×16", "packed 1×32"):
        plain, ours = (found["train", form, way] for way in ("plain", "ours, one pass"))
        assert measured(plain)
        assert measured(ours)
        assert ours["loss"] == pytest.approx(plain["loss"], 1e-2)
        assert found["train", form, "Liger"]["result"].startswith("not available: liger-kernel")
        assert found["train", form, "CCE"]["result"] == "out of memory"
    assert all(measured(found["score", None, way]) for way in gpu.SCORED)
    said = capsys.readouterr().out
    assert "correctness: 1 of 1 checks passed" in said
    assert "| tiny | 4×16 | CCE | out of memory | | | | |" in said


@pytest.mark.slow
def test_every_way_runs(run):
    here = [name for name in gpu_ways.WAYS if name not in ("Liger", "CCE", "torch core")]
    rows = [row for row in run() if row["kind"] == "train" and row["way"] in here]
    assert len(rows) == 2 * len(here)
    assert all(measured(row) for row in rows), rows


def test_it_stops_when_time_is_up(run):
    rows = run("--minutes", "0")
    assert [row["result"] for row in rows if row["kind"] in ("train", "score")] == ["not run: time is up"] * 19


def test_a_running_cell_ends_with_its_step():
    watch = gpu.Watch(torch.device("cpu"), rounds=3, deadline=0.0)

    class Control:
        should_training_stop = False

    control = Control()
    watch.on_step_begin(None, type("State", (), {"global_step": 0}), control)
    watch.on_step_end(None, None, control)
    assert control.should_training_stop
    assert watch.figures() == {"result": "stopped: time is up"}


def test_the_table_has_ratios_to_plain_and_memory_above_the_body():
    form = {"kind": "train", "shape": "llama-1b", "form": "8×2048", "result": "ok"}
    rows = [
        {**form, "way": "body", "seconds": 0.1, "megabytes": 1000.0},
        {**form, "way": "plain", "seconds": 0.4, "megabytes": 5000.0, "waits": 3, "ours": 0},
        {**form, "way": "ours, one pass", "seconds": 0.3, "megabytes": 1800.0, "waits": 9, "ours": 5},
    ]
    assert list(gpu.table(rows))[-2].startswith(
        "| llama-1b | 8×2048 | ours, one pass | 300.0 | 0.750 | 800 | 0.20 | 5 of 9 |"
    )
