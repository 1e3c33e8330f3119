"""What several ranks add to a step: the gather, the plan, and the exchange of kept rows, without any model.

    OMP_NUM_THREADS=1 python bench/ranks.py                 # N = 1,024 and 65,536 on 1, 2 and 4 gloo processes
    OMP_NUM_THREADS=1 python bench/ranks.py --sizes 1024 --ranks 2 --model    # and as a share of a SmolLM2-135M step

A step's phase `rule` of two passes, from known losses to the micro-batches to train on, rows of 128 tokens: median of
the rounds, seconds of rank 0. "moved": all kept rows stand on the first ranks, so that half of them move.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import time
from typing import Any

import variants

import torch  # isort: skip
import torch.distributed as dist  # isort: skip
import torch.multiprocessing as mp  # isort: skip

from samplewise import parse_rule  # isort: skip
from samplewise.core.clock import Clock  # isort: skip
from samplewise.engine.modes import Setting, TwoPass  # isort: skip
from samplewise.engine.plan import plan_step  # isort: skip
from samplewise.core.samples import Samples  # isort: skip

ROWS, LENGTH = 8, 128
CASES = {
    "gather and plan, all kept": ("ir_dro(r=1.0)", False),
    "top half kept, spread evenly": ("chain(top_k(0.5), ir_dro(r=1.0))", False),
    "top half kept, moved": ("chain(top_k(0.5), ir_dro(r=1.0))", True),
}


class Known:
    """Losses that need no forward."""

    def losses(self, model: Any, batch: dict, differentiable: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        return batch["known"], torch.full((len(batch["known"]),), LENGTH - 1)


def micro_batches(n: int, rank: int, ranks: int, ordered: bool) -> list[dict[str, torch.Tensor]]:
    loss = 3 + 0.6 * torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = loss.sort(descending=True).values if ordered else loss
    mine = range(rank * n // ranks, (rank + 1) * n // ranks)
    whole = {
        "input_ids": torch.randint(49152, (len(mine), LENGTH)), "labels": torch.randint(49152, (len(mine), LENGTH)),
        "attention_mask": torch.ones(len(mine), LENGTH, dtype=torch.int64), "sample_id": torch.tensor(mine),
        "samplewise_mass": torch.ones(len(mine), dtype=torch.float64), "known": loss[mine.start : mine.stop],
    }  # fmt: skip
    return [{key: value[i : i + ROWS] for key, value in whole.items()} for i in range(0, len(mine), ROWS)]


def seconds(n: int, rank: int, ranks: int, rule: str, ordered: bool, rounds: int) -> float:
    parsed, taken = parse_rule(rule), []
    batches = micro_batches(n, rank, ranks, ordered)
    for _ in range(rounds):
        clock = Clock()
        setting = Setting(parsed, parsed.init(), Known(), torch.device("cpu"), ROWS, clock=clock)  # pyright: ignore
        TwoPass(setting).begin(torch.nn.Identity(), [dict(batch) for batch in batches])
        taken.append(clock["rule"])
    return statistics.median(taken)


def plan_alone(n: int, rounds: int) -> float:
    """The part of it that every rank does for all N samples."""
    rule, taken = parse_rule("ir_dro(r=1.0)"), []
    loss = 3 + 0.6 * torch.randn(n, dtype=torch.float64)
    samples = Samples(loss, torch.full((n,), LENGTH - 1), torch.randperm(n))
    for _ in range(rounds):
        start = time.perf_counter()
        plan_step(rule, samples, rule.init())
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def process(rank: int, ranks: int, port: int, sizes: list[int], rounds: int, step: float) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    for n in sizes:
        repeats = max(3, rounds // (n // 1024))
        for name, (rule, ordered) in CASES.items():
            taken = seconds(n, rank, ranks, rule, ordered, repeats)
            if rank == 0:
                share = f", {taken / (step * n / ROWS / ranks):.3%} of a step" if step else ""
                print(f"{ranks} ranks, N = {n:,}, {name}: {taken * 1e3:.1f} ms{share}", flush=True)
        if rank == 0:
            print(f"{ranks} ranks, N = {n:,}, of which the plan: {plan_alone(n, repeats) * 1e3:.2f} ms", flush=True)
    if ranks > 1:
        dist.barrier()
        os._exit(0)


def micro_batch_seconds() -> float:
    """Forward and backward of one micro-batch of 8×128 of SmolLM2-135M's dimensions, fp32, one thread."""
    torch.set_num_threads(1)
    model, taken = variants.SHAPES["smollm2"].model(), []
    ids = torch.randint(49152, (ROWS, LENGTH))
    for _ in range(3):
        start = time.perf_counter()
        model(ids, labels=ids).loss.backward()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 65536])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=51)
    parser.add_argument("--model", action="store_true")
    options = parser.parse_args()
    step = micro_batch_seconds() if options.model else 0.0
    if step:
        print(f"a micro-batch of {ROWS}×{LENGTH}, forward and backward: {step:.2f} s")
    for ranks in options.ranks:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if ranks == 1:
            process(0, 1, port, options.sizes, options.rounds, step)
        else:
            mp.start_processes(  # pyright: ignore[reportPrivateImportUsage]
                process, (ranks, port, options.sizes, options.rounds, step), nprocs=ranks, start_method="spawn"
            )


if __name__ == "__main__":
    main()
