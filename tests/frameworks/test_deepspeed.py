"""DeepSpeed's ZeRO stages 1, 2 and 3, on one process and on two: gradients and parameters are those without it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import deepspeed_worker as worker
import pytest
import same_rows
from safetensors.torch import load_file
from transformers import Trainer

from samplewise.trainers import WeightedTrainer

CASES = {
    world: [f"{stage}-trainer-{rule}" for stage in (1, 2, 3) for rule in worker.RULES]
    + [f"{stage}-loop-{rule}" for stage in (1, 2, 3) for rule in ("ir_dro", "band")]
    + more
    for world, more in {
        1: ["3-tied-ir_dro", "3-lora-ir_dro"],
        2: ["3-tied-ir_dro", "3-lora-band"],
    }.items()
}
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the workers wrote, a folder for each number of processes."""
    found = tmp_path_factory.mktemp("deepspeed")
    for world, cases in CASES.items():
        (found / str(world)).mkdir()
        run(world, [str(found / str(world)), *cases])
    return found


def run(world: int, arguments: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parent, HERE.parent.parent))), "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, str(HERE / "deepspeed_worker.py"), *arguments]
    workers = [
        subprocess.Popen(
            command, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        outputs = [each.communicate(timeout=550)[0] for each in workers]
    finally:
        for each in workers:
            each.kill()
    for each, output in zip(workers, outputs, strict=True):
        assert each.returncode == 0, output[-4000:]


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """Parameters and evaluation loss after the same steps without DeepSpeed; of `uniform`, the plain Trainer's."""
    known = {}

    def of(kind: str, rule: str):
        if (kind, rule) not in known:
            args = worker.arguments(tmp_path_factory.mktemp("without"), 1)
            data = {"train_dataset": same_rows.rows(), "eval_dataset": same_rows.rows()}
            model, options = worker.model_for(kind), worker.RULES[rule]
            cls, options = (Trainer, {}) if rule == "uniform" else (WeightedTrainer, options)
            trainer = cls(model, args, data_collator=worker.collate, **data, **options)
            trainer.train()
            parameters = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
            known[kind, rule] = parameters, trainer.evaluate()["eval_loss"]
        return known[kind, rule]

    return of


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("world", "case"), [(world, case) for world, cases in CASES.items() for case in cases])
def test_stages(world, case, folder, without):
    _, host, rule = case.split("-")
    kind = host if host in ("tied", "lora") else "untied"
    found = load_file(folder / str(world) / f"{case}.safetensors")
    want, loss = without(kind, rule)
    assert {n for n in found if n.startswith("parameter.")} == {f"parameter.{n}" for n in want}
    for name, value in want.items():
        off = float((found[f"parameter.{name}"] - value).abs().max())
        assert off <= 1e-6, (name, off)
    if world == 1 and host != "loop":  # of two, the Trainer averages the means of other batches
        assert float(found["eval_loss"]) == pytest.approx(loss, abs=1e-5)
    if kind == "untied" and rule == "ir_dro":
        gradient = {n.removeprefix("gradient."): v for n, v in found.items() if n.startswith("gradient.")}
        assert (off := same_rows.distance(gradient)) <= 1e-6, off
