"""One short run on an accelerator: is it right, and what do a step and scoring cost beside plain training and others?

    python bench/gpu.py --minutes 8 --out gpu.jsonl          # from a checkout, offline: models have random weights
    python bench/gpu.py --shapes llama-1b --rounds 9
    python bench/gpu.py --table gpu.jsonl                    # the table of a file, finished or not

Cells run in order of interest, and each is in the file before the next begins: correctness; Llama 3.2 1B at 8×2,048
and packed 1×16,384; Gemma 3 1B; scoring; Qwen3 4B with SGD and activation checkpointing. Out of memory is a result.
What is not installed (Liger, CCE, torch core's loss before 2.13) is a row "not available". After `--minutes` no cell
is begun, and the running one ends with its step.

Weights are bf16, without autocast; the optimizer is AdamW. Of each cell: the median of `--rounds` steps, from one end
of a step to the next; the highest memory of them above what was allocated before the trainer was made; the waits of
one more step. Needs torch 2.11, transformers 5.16, accelerate and pyarrow; neither trl nor datasets.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout that nobody installed

from gpu_ways import WAYS, Form, NotThereError, make_trainer

import torch  # isort: skip
from transformers import TrainerCallback  # isort: skip

from samplewise.core.exhausted import lacks_memory
from samplewise.corpus.batching import batches
from samplewise.corpus.device import measured
from samplewise.corpus.losses import _padded, score_pieces
from samplewise.evidence.doctor import examine, kernels, logits, speed, waits
from samplewise.evidence.doctor.checks import Check
from samplewise.evidence.doctor.in_dtypes import agreement_in_dtypes, vocabulary_of
from samplewise.evidence.doctor.machine import check_versions, describe, device_of
from samplewise.evidence.doctor.shapes import SHAPES, build

WARMUP = 2  # steps: a first one compiles, and that of one pass is one of two
SCORED = {"one text a forward, logits": 2**16, "batches, logits": 2**18, "ours": 2**20}  # tokens of each way
SLOW = "qwen-4b"
"""Trained with SGD and activation checkpointing, and after all else."""
FIGURES = ("seconds", "megabytes", "waits", "ours", "per_second")
Row = dict[str, Any]
Cell = tuple[Row, Callable[[], Row]]


class Watch(TrainerCallback):
    """Seconds from the end of a step to the end of the next; waits of the last step; stops when time is up."""

    def __init__(self, device: torch.device, rounds: int, deadline: float) -> None:
        self.device, self.rounds, self.deadline = device, rounds, deadline
        self.ends: list[float] = []
        self.waits: dict[str, int] | None = None
        self.losses: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.stack = ExitStack()
        if self.device.type == "cuda" and state.global_step == WARMUP + self.rounds:
            self.counting = self.stack.enter_context(waits.cuda_waits())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.stack.close()
        if hasattr(self, "counting"):
            self.waits = dict(self.counting)
        speed.synchronize(self.device)
        self.ends.append(time.perf_counter())
        if len(self.ends) == WARMUP:
            reset_peak(self.device)
        if self.ends[-1] > self.deadline:
            control.should_training_stop = True

    def figures(self) -> Row:
        taken = [end - start for start, end in zip(self.ends, self.ends[1:], strict=False)]
        timed = taken[WARMUP - 1 : WARMUP - 1 + self.rounds]
        if not timed:
            return {"result": "stopped: time is up"}
        ours = None if self.waits is None else sum(n for at, n in self.waits.items() if not at.startswith("elsewhere"))
        counted = {} if ours is None else {"waits": sum((self.waits or {}).values()), "ours": ours, "at": self.waits}
        return {"result": "ok", "seconds": statistics.median(timed), "rounds": len(timed), **counted}


class Run:
    """The clock, and the model that is loaded."""

    def __init__(self, given: argparse.Namespace, device: torch.device) -> None:
        self.given, self.device = given, device
        self.start = time.perf_counter()
        self.deadline = self.start + 60 * given.minutes
        self.name, self.model = "", None

    def write(self, row: Row) -> None:
        """At once, and through to the disk: the machine may be taken away."""
        with self.given.out.open("a") as file:
            file.write(json.dumps({**row, "minute": round((time.perf_counter() - self.start) / 60, 2)}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(line(row), flush=True)

    def do(self, row: Row, work: Callable[[], Row]) -> None:
        """One cell, whatever comes of it."""
        if time.perf_counter() > self.deadline:
            self.write({**row, "result": "not run: time is up"})
            return
        try:
            found = work()
        except NotThereError as error:
            found = {"result": f"not available: {error}"}
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            found = {"result": "out of memory" if lacks_memory(error) else f"error: {said}"}
        self.write({**row, **found})
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def shape(self, name: str) -> Any:
        """The model of these dimensions in bf16, built once while its cells run."""
        if self.name != name:
            self.model = None
            gc.collect()
            self.model, self.name = build(name, self.device, torch.bfloat16), name
        return self.model

    def train(self, name: str, form: Form, way: str) -> Row:
        model: Any = self.shape(name)
        model.requires_grad_(True)
        model.zero_grad(set_to_none=True)
        own = copy.deepcopy(model, {id(p): p for p in model.parameters()})  # what a trainer does to it is gone with it
        watch = Watch(self.device, self.given.rounds, self.deadline)
        before = reset_peak(self.device)
        options = {"sgd": name == SLOW, "checkpointing": name == SLOW}
        trainer = make_trainer(way, own, form, WARMUP + self.given.rounds + 1, **options)
        trainer.add_callback(watch)
        loss = trainer.train().training_loss
        return {**watch.figures(), **highest_since(before), "loss": loss}

    def score(self, name: str, way: str) -> Row:
        model: Any = self.shape(name)
        tokens = SCORED[way] if self.given.tokens is None else self.given.tokens
        pieces = speed.random_pieces(vocabulary_of(model), tokens, min(2048, tokens // 2))
        budget = 2**15 if self.device.type == "cuda" else 2**11
        own = measured(model, max(len(piece.ids) for piece in pieces)).tokens if self.device.type == "cuda" else budget
        before = reset_peak(self.device)
        work = {
            "ours": lambda: score_pieces(model, pieces, batch_tokens=own),
            "batches, logits": lambda: from_logits(model, pieces, budget),
            "one text a forward, logits": lambda: from_logits(model, pieces, 1),
        }[way]
        with torch.no_grad():
            score_pieces(model.eval(), pieces[:4], batch_tokens=budget)
            speed.synchronize(self.device)
            start = time.perf_counter()
            work()
            speed.synchronize(self.device)
            seconds = time.perf_counter() - start
        rate = sum(piece.n_tokens for piece in pieces) / seconds
        figures = {"per_second": rate, "seconds": seconds, "batch_tokens": own if way == "ours" else budget}
        return {"result": "ok", **figures, **highest_since(before)}


def reset_peak(device: torch.device) -> int | None:
    """Bytes that are allocated now, from which on the highest is counted; None where nobody counts."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def highest_since(before: int | None) -> Row:
    return {} if before is None else {"megabytes": (torch.cuda.max_memory_allocated() - before) / 1e6}


def from_logits(model: Any, pieces: list, budget: int) -> list[float]:
    """The usual way: padded batches of like length, or one text a forward, and the model's logits in fp32."""
    found: list[float] = []
    for index in batches([len(piece.ids) for piece in pieces], budget):
        device = next(model.parameters()).device
        ids, labels = (each.to(device) for each in _padded([pieces[i] for i in index]))
        found += logits.row_losses(model, {"input_ids": ids, "labels": labels}).tolist()
    return found


def check_cells(run: Run) -> Iterator[tuple[str, Callable[[], Iterator[Check]]]]:
    """Correctness: the kernels alone, then whole steps of a tiny model and of the first shape, then their waits."""
    dtypes = [torch.float32, torch.bfloat16]
    yield "kernels", lambda: kernels.check_kernels(run.device, dtypes)
    for name in dict.fromkeys(["tiny", run.given.shapes[0]]):
        yield name, lambda name=name: agreement_in_dtypes(build(name, run.device), run.device, True)
    if run.device.type == "cuda":
        yield "waits", lambda: waits.check_waits(build("tiny", run.device), waits.cuda_waits, "")


def cells(run: Run) -> Iterator[Cell]:
    """Every cell and its work, in order of interest: what takes longest comes last."""
    rows, length = run.given.rows, run.given.length
    wide, packed = Form(rows, length, False), Form(max(2, rows * length // 1024), min(length, 1024), True)
    first, *others = run.given.shapes
    for name in [first, *(other for other in others if other != SLOW)]:
        yield from train_cells(run, name, wide)
        yield from train_cells(run, name, packed)
    for way in SCORED:
        yield {"kind": "score", "shape": first, "way": way}, partial(run.score, first, way)
    if SLOW in others:
        yield from train_cells(run, SLOW, wide)
        yield from train_cells(run, SLOW, packed)


def train_cells(run: Run, name: str, form: Form) -> Iterator[Cell]:
    for way in WAYS:
        row = {"kind": "train", "shape": name, "form": str(form), "way": way}
        yield row, partial(run.train, name, form, way)


def line(row: Row) -> str:
    where = ", ".join(str(row[key]) for key in ("kind", "shape", "form", "way") if key in row)
    told = {
        key: row[key] for key in ("seconds", "megabytes", "waits", "ours", "per_second") if row.get(key) is not None
    }
    return f"{where}: {row.get('result', '')} " + ", ".join(f"{key} {value:,.4g}" for key, value in told.items())


def table(rows: list[Row]) -> Iterator[str]:
    """Markdown: checks that did not pass, then a line for each cell, times as ratios to plain."""
    for row in rows:
        if row["kind"] == "machine":
            yield f"{row['device']}; {row['result']}\n"
    checks = [row for row in rows if row["kind"] == "check"]
    others = [row for row in checks if not row["result"].startswith("pass")]
    said = [f"{row['shape']}, {row['way']}: {row['result']}" for row in others]
    yield "; ".join([f"correctness: {len(checks) - len(others)} of {len(checks)} checks passed", *said]) + "\n"
    yield "| shape | step | way | ms | / plain | MB above the body | / plain | waits, ours of all |"
    yield "|---|---|---|---|---|---|---|---|"
    found = {(row["shape"], row["form"], row["way"]): row for row in rows if row["kind"] == "train"}
    for (shape, form, way), row in found.items():
        plain, body = (found.get((shape, form, each), {}) for each in ("plain", "body"))
        yield f"| {shape} | {form} | {way} | {_figures(row, plain, body)} |"
    yield "\n| shape | scoring | tokens/s | MB |\n|---|---|---|---|"
    for row in rows:
        if row["kind"] == "score":
            rate = f"{row['per_second']:,.0f}" if "per_second" in row else row["result"]
            memory = f"{row['megabytes']:,.0f}" if "megabytes" in row else "–"
            yield f"| {row['shape']} | {row['way']} | {rate} | {memory} |"


def _figures(row: Row, plain: Row, body: Row) -> str:
    if row["result"] != "ok":
        return f"{row['result']} | | | |"
    ratio = f"{row['seconds'] / plain['seconds']:.3f}" if "seconds" in plain else "–"
    above, beside = "–", "–"
    if "megabytes" in row and "megabytes" in body:
        above = f"{row['megabytes'] - body['megabytes']:,.0f}"
        if "megabytes" in plain:
            beside = f"{(row['megabytes'] - body['megabytes']) / (plain['megabytes'] - body['megabytes']):.2f}"
    counted = f"{row['ours']} of {row['waits']}" if "waits" in row else "–"
    return f"{1e3 * row['seconds']:,.1f} | {ratio} | {above} | {beside} | {counted}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["llama-1b", "gemma-1b", "qwen-4b"])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="a line for each cell is added to it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--tokens", type=int, help="to score in each way; default: as many as take some seconds")
    parser.add_argument("--device", help="default: the best there is")
    parser.add_argument("--table", type=Path, help="print the table of this file, and run nothing")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.table is None:
        device = device_of(given.device)
        run = Run(given, device)
        run.write({"kind": "machine", "device": describe(device), "result": check_versions(device).text})
        for name, make in check_cells(run):
            for check in examine.guarded(name, make):
                text = f"{check.outcome}: {check.text}"
                run.write({"kind": "check", "shape": name, "way": check.name, "result": text})
        for row, work in cells(run):
            run.do(row, work)
    rows = [json.loads(text) for text in (given.table or given.out).read_text().splitlines()]
    print("\n".join(["", *table(rows)]))


if __name__ == "__main__":
    main()
