"""A loop on Lightning Fabric, weighted. As a program: the first step on two processes.

python tests/frameworks/fabric_loop.py FOLDER RULE  # writes FOLDER/gradient.safetensors on the first rank
"""

import sys
from pathlib import Path
from typing import Any

import same_rows
import torch
from lightning.fabric import Fabric
from lightning_runs import MICRO, ROWS, Watched, pad
from safetensors.torch import save_file

from samplewise.trainers import WeightedStep


def batches(rank: int = 0, ranks: int = 1) -> list[dict[str, torch.Tensor]]:
    own = ROWS[rank::ranks]
    return [pad(own[k : k + MICRO]) for k in range(0, len(own), MICRO)]


def train(fabric: Fabric, rule: str, *, accumulate: int, lr: float = 0.0, clip: float = 0.0, **options: Any) -> Any:
    """One epoch. (step, model, optimizer, gradients as the optimizer sees them)."""
    model = same_rows.tiny_model().train()
    model, optimizer = fabric.setup(model, Watched(model.parameters(), lr=lr))
    step = WeightedStep(model, rule, fabric=fabric, **options)
    run(fabric, step, model, optimizer, accumulate=accumulate, clip=clip)
    step.detach()
    return step, model, optimizer, optimizer.gradients


def run(fabric: Fabric, step: WeightedStep, model: Any, optimizer: Any, *, accumulate: int, clip: float = 0.0) -> None:
    own = batches(fabric.global_rank, fabric.world_size)
    for k in range(0, len(own), accumulate):
        for micro in step.plan(own[k : k + accumulate]):
            step.backward(micro)
        step.finish()
        if clip:
            fabric.clip_gradients(model, optimizer, max_norm=clip)
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    _, model, _, gradients = train(fabric, sys.argv[2], accumulate=4)
    if fabric.global_rank == 0:
        names = [name for name, _ in model.module.named_parameters()]
        save_file(dict(zip(names, gradients[0], strict=True)), Path(sys.argv[1]) / "gradient.safetensors")


if __name__ == "__main__":
    main()
