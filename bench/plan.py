"""The time to plan a step of 4,096 samples, ms, median of 101: `python bench/plan.py`."""

from __future__ import annotations

import statistics
import time

import variants  # noqa: F401 - before torch: it says how threads wait

import torch  # isort: skip

from samplewise import Rule, band, chain, ir_dro  # isort: skip
from samplewise.engine.plan import plan_step  # isort: skip
from samplewise.core.samples import Samples  # isort: skip

N = 4096


def main() -> None:
    torch.manual_seed(0)
    loss, base_weight = 3 + 0.6 * torch.randn(N, dtype=torch.float64), torch.ones(N, dtype=torch.float64)
    steps = [Samples(loss[torch.randperm(N)], torch.randint(1, 2000, (N,)), torch.randint(2**62, (N,)))
             for _ in range(101)]  # fmt: skip
    for rule in (ir_dro(1.0), chain(band(drop_top=0.1), ir_dro(1.0))):
        report(rule, steps, base_weight)


def milliseconds(rule: Rule, steps: list[Samples], base_weight: torch.Tensor) -> tuple[float, float]:
    """Medians over the steps: elapsed, and CPU."""
    taken = []
    for samples in steps:
        start, cpu = time.perf_counter(), time.process_time()
        plan_step(rule, samples, rule.init(), base_weight=base_weight)
        taken.append((time.perf_counter() - start, time.process_time() - cpu))
    wall, cpu = (statistics.median(t[k] for t in taken) * 1e3 for k in (0, 1))
    return wall, cpu


def report(rule: Rule, steps: list[Samples], base_weight: torch.Tensor) -> None:
    wall, cpu = milliseconds(rule, steps, base_weight)
    print(f"{rule}: {cpu:.2f} ms CPU, {wall:.2f} ms elapsed")


if __name__ == "__main__":
    main()
