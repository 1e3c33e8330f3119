"""Lightning Fabric in a loop of one's own, on the rows that every framework's test trains on."""

import os
import subprocess
import sys

import fabric_loop
import pytest
import same_rows
import torch
from fabric_loop import batches, train
from lightning.fabric import Fabric
from lightning_runs import Watched

from samplewise import SamplewiseError
from samplewise.trainers import WeightedStep


def cpu(**more):
    return Fabric(accelerator="cpu", devices=1, **more)


def flat(gradients):
    return torch.cat([each.flatten() for each in gradients])


def bare(rule, *, accumulate, lr=0.0, clip=0.0, bf16=False, **options):
    """The same loop on bare PyTorch."""
    model = same_rows.tiny_model().train()
    optimizer, step, own = Watched(model.parameters(), lr=lr), WeightedStep(model, rule, **options), batches()
    for k in range(0, len(own), accumulate):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
            for micro in step.plan(own[k : k + accumulate]):
                step.backward(micro)
        step.finish()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
    return optimizer.gradients


def close(got, want, tolerance=1e-6):
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert float((flat(one) - flat(other)).norm() / flat(other).norm()) <= tolerance


def test_the_gradient_is_the_one_of_every_framework():
    _, model, _, gradients = train(cpu(), same_rows.RULE, accumulate=8)
    names = [name for name, _ in model.module.named_parameters()]
    assert (off := same_rows.distance(dict(zip(names, gradients[0], strict=True)))) <= 1e-6, off


@pytest.mark.parametrize("rule", ["uniform()", "ir_dro(r=0.5)", "top_k(0.5)", "chain(band(drop_top=0.25), ir_dro())"])
@pytest.mark.parametrize("per", ["sample", "token"])
def test_every_step_is_the_bare_loops(rule, per):
    given = {"accumulate": 3, "lr": 1e-3, "clip": 0.5, "per": per}
    close(train(cpu(), rule, **given)[-1], bare(rule, **given))


def test_mixed_precision():
    got = train(cpu(precision="bf16-mixed"), "top_k(0.5)", accumulate=4)[-1]
    close(got, bare("top_k(0.5)", accumulate=4, bf16=True))


def test_the_state_is_saved_and_loaded_by_fabric(tmp_path):
    rule, fabric = "warmup(9, ir_dro(r=0.5))", cpu()
    step, model, optimizer, _ = train(fabric, rule, accumulate=4, lr=1e-2)
    fabric.save(tmp_path / "checkpoint.pt", {"model": model, "optimizer": optimizer, "step": step})
    step.engine.attach(model.module)
    fabric_loop.run(fabric, step, model, optimizer, accumulate=4)
    again = same_rows.tiny_model().train()
    again, other = fabric.setup(again, Watched(again.parameters(), lr=1e-2))
    resumed = WeightedStep(again, rule, fabric=fabric)
    fabric.load(tmp_path / "checkpoint.pt", {"model": again, "optimizer": other, "step": resumed})
    assert resumed.engine.steps == 2
    fabric_loop.run(fabric, resumed, again, other, accumulate=4)
    for one, two in zip(other.gradients, optimizer.gradients[2:], strict=True):
        assert torch.equal(flat(one), flat(two))


def test_two_processes_are_the_same_step(tmp_path):
    program = [sys.executable, fabric_loop.__file__, str(tmp_path), same_rows.RULE]
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(program, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (off := same_rows.distance(same_rows.caught_at(tmp_path / "gradient.safetensors"))) <= 1e-6, off


def test_what_does_not_hold_is_refused_by_name():
    fabric, model = cpu(), same_rows.tiny_model()
    with pytest.raises(SamplewiseError, match=r"^model: expected the model that fabric.setup\(…\) returns"):
        WeightedStep(model, same_rows.RULE, fabric=fabric)
    halved = cpu(precision="bf16-true")
    with pytest.raises(SamplewiseError, match=r"^precision: expected '32-true', '64-true' or 'bf16-mixed'"):
        WeightedStep(halved.setup(model), same_rows.RULE, fabric=halved)
    with pytest.raises(SamplewiseError, match=r"^fabric: expected none beside an accelerator"):
        WeightedStep(fabric.setup(model), same_rows.RULE, fabric=fabric, accelerator=object())
