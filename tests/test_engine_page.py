"""docs/engine.md: its blocks run as they stand, and do what the page says."""

import re
from pathlib import Path

import tiny
import torch

from samplewise.trainers import WeightedStep

PAGE = (Path(__file__).parents[1] / "docs" / "engine.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def steps(count: int = 3) -> list[list[dict]]:
    data = tiny.Rows(8 * count)
    rows = [range(first, first + 4) for first in range(0, 8 * count, 4)]
    batches = [{**tiny.collate([data[i] for i in own]), "sample_id": torch.tensor(own)} for own in rows]
    return [batches[k : k + 2] for k in range(0, len(batches), 2)]


def test_a_host_of_ones_own_trains_as_the_loop_does():
    (block,) = [block for block in BLOCKS if "step.prepare" in block]
    model, other = tiny.model(), tiny.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    exec(block, {"model": model, "optimizer": optimizer, "steps": steps(), "device": torch.device("cpu")})
    loop, optimizer = WeightedStep(other, "ir_dro(r=3.0)"), torch.optim.SGD(other.parameters(), lr=0.1)
    for batches in steps():
        for micro in loop.plan(batches):
            loop.backward(micro)
        loop.finish()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(model.parameters(), tiny.model().parameters(), strict=True))


def test_an_observer_of_ones_own_sees_every_step():
    (block,) = [block for block in BLOCKS if "class Heaviest" in block]
    names: dict = {}
    exec(block, names)
    heaviest = names["Heaviest"]()
    step = WeightedStep(tiny.model(), "top_k(share=0.125)", observers=[heaviest])
    for batches in steps():
        for micro in step.plan(batches):
            step.backward(micro)
        step.finish()
        step.model.zero_grad()
    assert [number // 8 for number in heaviest.ids] == [0, 1, 2]


def test_a_loss_of_ones_own_runs():
    (block,) = [block for block in BLOCKS if "def cross_entropy" in block]
    names: dict = {}
    exec(block, names)
    model = torch.nn.Linear(4, 3)
    step = WeightedStep(model, "top_k(share=0.5)", losses=names["cross_entropy"])
    x, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    for micro in step.plan(
        [{"x": x[k : k + 4], "y": y[k : k + 4], "sample_id": torch.arange(k, k + 4)} for k in (0, 4)]
    ):
        step.backward(micro)
    figures = step.finish()
    loss = torch.nn.functional.cross_entropy(
        torch.nn.functional.linear(x, model.weight, model.bias), y, reduction="none"
    )
    hardest = loss.detach().argsort(descending=True)[:4]
    want = torch.autograd.grad(loss[hardest].mean(), model.weight)[0]
    torch.testing.assert_close(model.weight.grad, want)
    assert figures["kept"] == 0.5
