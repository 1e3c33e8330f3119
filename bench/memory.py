"""Memory of one training step, forward to clipping, each variant in a process of its own.

    python bench/memory.py llama6 bf16                 # the highest resident memory, above that of the body alone
    python bench/memory.py gemma fp32 --allocations    # every allocation above 1/8 of the logits' size
    python bench/memory.py gemma fp32 --allocations --frozen-head

Shapes other than `long` are measured at 8 × 256 tokens. The kernel's own high-water mark is read (Linux), so that no
peak is missed; it is set back at the end of the first step. It moves by tens of MB from process to process, as the
allocator happens to give memory back: so medians of several.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from variants import SHAPES, VARIANTS, Shape, make_trainers  # before torch: it says how threads wait

from torch.profiler import profile  # isort: skip
from transformers import PrinterCallback, TrainerCallback  # isort: skip

SHARE = 8  # allocations above 1/8 of the logits' size are counted


class HighWater(TrainerCallback):
    """MB of resident memory, the most of the second step: parameters, AdamW's state and Python included."""

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the mark becomes what is resident now

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        self.result = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


class Allocations(TrainerCallback):
    """Sizes in bytes of all allocations of the second step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            self.profile = profile(profile_memory=True)
            self.profile.start()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            self.profile.stop()
            events = self.profile.profiler.kineto_results.events()  # pyright: ignore
            self.result = [e.nbytes() for e in events if e.name() == "[memory]" and e.nbytes() > 0]


def second_step(watch: Any, shape: Shape, variant: str, **options: Any) -> Any:
    """Two steps; what `watch` saw in the second, for the first of `one_pass` is a two_pass one."""
    trainer = make_trainers(shape, [variant], steps=2, **options)[variant]
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(watch)
    trainer.train()
    return watch.result


def peaks(variants: Sequence[str], processes: int) -> dict[str, float]:
    """Median MB by variant, of several processes each: this script once more, with `--one`, all variants in turn."""
    found: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(processes):
        for variant, taken in found.items():
            command = [sys.executable, *sys.argv, "--one", variant]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            taken.append(float(done.stdout.split()[-1]))
    return {variant: statistics.median(taken) for variant, taken in found.items()}


def options_of(given: argparse.Namespace) -> dict[str, Any]:
    return {"bf16": given.dtype == "bf16", "chunk_bytes": given.chunk_bytes, "frozen_head": given.frozen_head}


def report_peaks(given: argparse.Namespace) -> None:
    found = peaks(["body", *given.variants], given.processes)
    print(f"\n{given.shape} {given.dtype}, the body alone: {found['body']:.0f} MB\n")
    print("| variant | MB above the body | / plain |\n|---|---|---|")
    for variant in given.variants:
        above = found[variant] - found["body"]
        print(f"| {variant} | {above:.0f} | {above / (found['plain'] - found['body']):.3f} |", flush=True)


def report_allocations(shape: Shape, given: argparse.Namespace) -> None:
    size = 2 if given.dtype == "bf16" else 4
    limit = shape.rows * shape.length * shape.model().config.vocab_size * size / SHARE
    print(f"\n{given.shape} {given.dtype}, allocations above {limit / 1e6:.0f} MB, those of the body left out:")
    body = Counter(second_step(Allocations(), shape, "body", **options_of(given)))
    for variant in given.variants:
        beyond = Counter(second_step(Allocations(), shape, variant, **options_of(given))) - body
        large = sorted((n for n in beyond.elements() if n > limit), reverse=True)
        print(f"{variant}: {[round(n / 1e6) for n in large] or 'none'} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("dtype", choices=["fp32", "bf16"], help="bf16: autocast")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS)
    parser.add_argument("--allocations", action="store_true")
    parser.add_argument("--frozen-head", action="store_true", help="with tied embeddings those too")
    parser.add_argument("--chunk-bytes", type=int, help="budget of one chunk's logits")
    parser.add_argument("--processes", type=int, default=5, help="of each variant; their median is printed")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    shape = SHAPES[given.shape] if given.shape == "long" else replace(SHAPES[given.shape], length=256)
    if given.one:
        print(second_step(HighWater(), shape, given.one, **options_of(given)))
    elif given.allocations:
        given.variants = given.variants or ["one_pass"]
        report_allocations(shape, given)
    else:
        given.variants = given.variants or ["plain", "published", "one_pass"]
        report_peaks(given)


if __name__ == "__main__":
    main()
