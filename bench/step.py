"""Whole training steps, from one optimizer step to the next, through the real trainers, as ratios to the plain one.

    python bench/step.py llama6 bf16                   # medians of interleaved steps
    python bench/step.py llama6 bf16 --accumulation 2
    python bench/memory.py llama6 bf16                 # peak memory above the body
    python bench/plan.py                               # the time to plan a step

A step has everything: data, scoring, forward, backward, rescaling, clipping, AdamW. The trainers take turns in one
process, step by step. Where others use the machine too, only ratios of CPU time can be trusted.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from dataclasses import replace
from typing import Any

from variants import SHAPES, VARIANTS, make_trainers  # before torch: it says how threads wait

import torch  # isort: skip
from transformers import PrinterCallback, Trainer, TrainerCallback  # isort: skip

WARMUP = 1  # steps: the first includes the set-up, and that of one_pass is a two_pass one


class Turns(TrainerCallback):
    """`train()` in a thread of its own that stands still at the end of each step until it is called again."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.error: BaseException | None = None
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)
        self.thread = threading.Thread(target=self._train, daemon=True)
        self.thread.start()

    def _train(self) -> None:
        self.go.acquire()
        try:
            self.trainer.train()
        except BaseException as error:
            self.error = error
        self.done.release()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.done.release()
        self.go.acquire()

    def step(self) -> tuple[float, float]:
        """Seconds from the end of the last step to the end of this: elapsed, and CPU over all threads."""
        start, cpu = time.perf_counter(), time.process_time()
        self.go.release()
        self.done.acquire()
        if self.error:
            raise self.error
        return time.perf_counter() - start, time.process_time() - cpu

    def finish(self) -> None:
        self.go.release()
        self.thread.join()


def measure(trainers: dict[str, Trainer], rounds: int) -> dict[str, list[tuple[float, float]]]:
    turns = {name: Turns(trainer) for name, trainer in trainers.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    for k in range(WARMUP + rounds):
        for name, turn in turns.items():
            seconds = turn.step()
            if k >= WARMUP:
                taken[name].append(seconds)
    for turn in turns.values():
        turn.finish()
    return taken


def check_modes(trainers: dict[str, Any]) -> None:
    """Each of ours ran as it is called."""
    for name, trainer in trainers.items():
        if hasattr(trainer, "engine"):
            mode = "one_pass" if name == "torch core" else name.split(",")[0]
            last = trainer.engine.figures.last
            assert last is not None, name
            assert last.mode == mode, (name, last.mode)


def report(title: str, taken: dict[str, list[tuple[float, float]]]) -> None:
    wall, cpu = ({name: statistics.median(t[k] for t in times) for name, times in taken.items()} for k in (0, 1))
    spread = {name: max(t[1] for t in times) / min(t[1] for t in times) for name, times in taken.items()}
    rounds = len(taken["plain"])
    print(f"\n{title}, medians of {rounds}: plain {wall['plain']:.2f} s elapsed, {cpu['plain']:.2f} s CPU\n")
    print("| variant | CPU time / plain | elapsed / plain | CPU, largest / smallest |\n|---|---|---|---|")
    for name in taken:
        ratios = f"{cpu[name] / cpu['plain']:.3f} | {wall[name] / wall['plain']:.3f}"
        print(f"| {name} | {ratios} | {spread[name]:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("dtype", choices=["fp32", "bf16"], help="bf16: autocast")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accumulation", type=int, help="micro-batches a step")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: all that the shape has rows for")
    parser.add_argument("--chunk-bytes", type=int, help="budget of one chunk's logits")
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    if given.accumulation:
        shape = replace(shape, accumulation=given.accumulation)
    rows = shape.rows * shape.accumulation
    names = given.variants or [name for name in VARIANTS if name != "body" and (rows >= 4 or "1/4" not in name)]
    names = ["plain", *(name for name in names if name != "plain")]
    trainers = make_trainers(
        shape, names, bf16=given.dtype == "bf16", steps=WARMUP + given.rounds, chunk_bytes=given.chunk_bytes
    )
    taken = measure(trainers, given.rounds)
    check_modes(trainers)
    size = f"{shape.accumulation} × {shape.rows} × {shape.length}"
    report(f"{given.shape} ({size} tokens a step) {given.dtype}, {torch.get_num_threads()} threads", taken)


if __name__ == "__main__":
    main()
