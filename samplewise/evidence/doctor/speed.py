"""Time of a step as a ratio to plain training, and of scoring: reported, never judged."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from samplewise.corpus.losses import score_pieces
from samplewise.corpus.pieces import Piece
from samplewise.evidence.doctor.checks import Check
from samplewise.evidence.doctor.memory import plain_step
from samplewise.trainers import WeightedStep

WARMUP, ROUNDS = 2, 7
"""The first step of one pass is one of two passes, and a device compiles and measures in its first."""
RULES = {"one pass": "ir_dro(r=1.0)", "two passes, half kept": "top_k(0.5)"}


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def take_turns(ways: dict[str, Callable[[], object]], device: torch.device, rounds: int) -> dict[str, float]:
    """Median elapsed seconds of each way; they take turns, so that what slows the machine slows all of them."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(WARMUP + rounds):
        for name, work in ways.items():
            synchronize(device)
            start = time.perf_counter()
            work()
            synchronize(device)
            if number >= WARMUP:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def one_step(model: nn.Module, step: WeightedStep, batches: list[dict[str, Tensor]]) -> None:
    """A step of `WeightedStep`, without an optimizer."""
    model.zero_grad(set_to_none=True)
    for micro in step.plan(batches):
        step.backward(micro)
    step.finish()


def numbered(batch: dict[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """The batch as `parts` micro-batches, whose samples have numbers."""
    rows = len(batch["input_ids"])
    pieces = torch.arange(rows).tensor_split(parts)
    return [
        {**{key: value[piece.to(value.device)] for key, value in batch.items()}, "sample_id": piece} for piece in pieces
    ]


def check_step_time(model: nn.Module, batch: dict[str, Tensor], device: torch.device, rounds: int = ROUNDS) -> Check:
    """Forward and backward of two micro-batches and the division of the gradient, without an optimizer."""
    batches = numbered(batch, 2)

    def plain() -> None:
        model.zero_grad(set_to_none=True)
        for each in batches:
            plain_step(model, {key: each[key] for key in ("input_ids", "labels")})

    seconds: dict[str, float] = {}
    for name, rule in RULES.items():
        step = WeightedStep(model, rule)  # only one at a time: each answers for the model's losses
        ways: dict[str, Callable[[], object]] = {
            "plain": plain, "ours": lambda step=step: one_step(model, step, batches)
        }  # fmt: skip
        try:
            found = take_turns(ways, device, rounds)
        finally:
            step.detach()
        seconds |= {f"plain, beside {name}": found["plain"], name: found["ours"]}
    ratios = {name: seconds[name] / seconds[f"plain, beside {name}"] for name in RULES}
    rows, length = batch["input_ids"].shape
    text = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    text = f"{text} of plain; 2 × {rows // 2} × {length} tokens, median of {rounds}"
    return Check("step time", "info", text, {"seconds": seconds, "ratios": ratios})


def random_pieces(vocabulary: int, tokens: int, longest: int) -> list[Piece]:
    """Pieces of many lengths, most of them far below `longest`, about `tokens` in all."""
    draw = np.random.default_rng(0)
    pieces: list[Piece] = []
    left = tokens
    while left > 0:
        length = int(min(longest, max(16, draw.lognormal(np.log(longest / 4), 0.8))))
        ids = draw.integers(3, vocabulary, length, dtype=np.int32)
        pieces.append(
            Piece(ids=ids, start=1, id=len(pieces), doc_id=0, source="", row=len(pieces), window=0, n_bytes=0, text="")
        )
        left -= length
    return pieces


def check_scoring(model: nn.Module, tokens: int, longest: int, budget: int, device: torch.device) -> Check:
    """Predicted tokens a second of `samplewise score`'s inner loop: bucketed batches, no logits."""
    pieces = random_pieces(model.get_output_embeddings().weight.shape[0], tokens, longest)  # pyright: ignore
    with torch.no_grad():
        score_pieces(model, pieces[:8], batch_tokens=budget)
        synchronize(device)
        start = time.perf_counter()
        found = score_pieces(model, pieces, batch_tokens=budget)["loss"]
        seconds = time.perf_counter() - start
    predicted = sum(piece.n_tokens for piece in pieces)
    finite = bool(np.isfinite(found).all())
    text = f"{predicted / seconds:,.0f} tokens/s, {len(pieces)} texts of at most {longest} tokens, {budget:,} a batch"
    if not finite:
        return Check("scoring", "fail", f"losses that are not finite; {text}")
    return Check("scoring", "info", text, {"tokens": predicted, "seconds": seconds, "per_second": predicted / seconds})
