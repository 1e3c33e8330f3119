"""A loop of one's own on `WeightedStep`, on one process, DDP, FSDP2 or accelerate, in forks.

    python tests/ranks/loops.py FOLDER WRAPPER:SPLIT:RULE:DTYPE:TASK…

SPLIT: rows of each rank's micro-batches, "8" for one rank and "3|2,3" for two. TASK: `gradients` of two steps without
an update, or `parameters` after five; both clipped. What rank 0 ends with goes to FOLDER/<the argument>.pt.
"""

import os
import sys
from itertools import accumulate, pairwise
from pathlib import Path

import tiny
import torch
from accelerate import Accelerator
from forks import forked
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from samplewise.trainers.loop import WeightedStep

ROWS = 8
CLIP = 0.2


def step_batches(split: str, rank: int, step: int) -> list[dict]:
    """This rank's micro-batches of a step of eight rows."""
    data = tiny.Rows(5 * ROWS)
    sizes = [[int(n) for n in part.split(",")] for part in split.split("|")]
    bounds = list(pairwise([0, *accumulate(n for part in sizes for n in part)]))
    first = sum(len(part) for part in sizes[:rank])
    chosen = [range(step * ROWS + a, step * ROWS + b) for a, b in bounds[first : first + len(sizes[rank])]]
    batches = [tiny.collate([data[i] for i in rows]) for rows in chosen]
    return [
        {**batch, "sample_id": torch.tensor(rows), "sample_weight": signed(rows)}
        for batch, rows in zip(batches, chosen, strict=True)
    ]


def signed(rows: range) -> torch.Tensor:
    """Weights of both signs, of which every fifth is 0: read by a rule that has column_weights()."""
    return torch.tensor([[1.0, -0.5, 2.0, 0.0, -1.5][row % 5] for row in rows], dtype=torch.float64)


def wrapped(wrapper: str, model, ranks: int):
    if wrapper == "ddp":
        return DistributedDataParallel(model)
    if wrapper.startswith("fsdp2"):
        mesh, decoder = init_device_mesh("cpu", (ranks,)), model.model.decoder
        for layer in decoder.layers:
            fully_shard(layer, mesh=mesh)
        if wrapper == "fsdp2+head":
            fully_shard(model.lm_head, mesh=mesh)
        if wrapper == "fsdp2+norm+head":
            fully_shard([decoder.final_layer_norm, model.lm_head], mesh=mesh)
        fully_shard(model, mesh=mesh)
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    return model


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def loop(case: str, out: Path, rank: int) -> None:
    wrapper, split, rule, dtype, task = case.split(":")
    ranks = split.count("|") + 1
    model = tiny.model("opt", dtype=getattr(torch, dtype), tie_word_embeddings=False)  # Llama's norm is fp32 always
    accelerator = Accelerator(cpu=True) if wrapper == "accelerate" else None
    if accelerator is None and ranks > 1:
        torch.distributed.init_process_group("gloo")
    model = wrapped(wrapper, model, ranks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3 if task == "parameters" else 0.0)
    if accelerator is not None:
        model, optimizer = accelerator.prepare(model, optimizer)
    step = WeightedStep(model, rule, accelerator=accelerator, allow_negative="column_weights" in rule)
    seen = []
    for number in range(5 if task == "parameters" else 2):
        for micro in step.plan(step_batches(split, rank, number)):
            step.backward(micro)
        passes = step.finish()["passes"]
        assert passes == (2 if number == 0 or "top_k" in rule else 1), passes
        if wrapper == "accelerate":
            accelerator.clip_grad_norm_(model.parameters(), CLIP)
        else:
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        seen.append(torch.cat([whole(parameter.grad).flatten() for parameter in model.parameters()]))
        optimizer.step()
        optimizer.zero_grad()
    end = {
        "gradients": seen, "parameters": torch.cat([whole(parameter).flatten() for parameter in model.parameters()]),
    }  # fmt: skip
    if rank == 0:
        torch.save(end[task], out / f"{case}.pt")
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


if __name__ == "__main__":
    os.environ["ACCELERATE_USE_CPU"] = "true"
    for case in sys.argv[2:]:
        codes = forked(case.count("|") + 1, lambda rank, case=case: loop(case, Path(sys.argv[1]), rank), patience=100)
        assert not any(codes), (case, codes)
