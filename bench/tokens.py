"""CPU time of one micro-batch through the head, tokens selected or not: `python bench/tokens.py`.

SmolLM2-135M's dimensions, random values; median of --rounds, in random turns. "again" is the same twice: the noise.
"in one pass" is `select` within the objective, "known" the second pass of scope="step", "scored" its first. "rules"
compares rules without a reference: `dft()`, a limit that keeps nine in ten, a band that keeps as many.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from functools import partial

import variants  # noqa: F401 - before torch: it says how threads wait

import torch  # isort: skip

from samplewise.losses.kernels import objective, score  # isort: skip
from samplewise.losses.token_losses import select_tokens  # isort: skip
from samplewise.rules import dft, rho1, token_band, token_threshold  # isort: skip

VOCABULARY, SIZE = 49152, 576


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--only", choices=["reference", "rules"], default=None)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default=None)
    options = parser.parse_args()
    for dtype in (torch.bfloat16, torch.float32) if options.dtype is None else (getattr(torch, options.dtype),):
        report(dtype, options.rows, options.length, options.rounds, options.only)


def report(dtype: torch.dtype, rows: int, length: int, rounds: int, only: str | None) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(rows, length, SIZE).to(dtype).requires_grad_()
    head = torch.randn(VOCABULARY, SIZE).mul_(0.04).to(dtype).requires_grad_()
    labels, reference = torch.randint(VOCABULARY, (rows, length)), torch.rand(rows, length) * 12
    train = partial(objective, hidden, head, labels, lambda loss, tokens, index: torch.ones_like(loss))
    token_loss = score(hidden.detach(), head.detach(), labels, token_losses=True).token_loss
    assert token_loss is not None
    ways = {"every token": train, "every token, again": train}
    if only != "reference":
        limit = float(token_loss[token_loss > 0].quantile(0.9))
        ways |= {str(rule): partial(train, select=rule) for rule in (dft(), token_threshold(limit), token_band(0.1))}
    if only != "rules":
        ways["scored"] = None
    for keep in (0.6, 0.3) if only != "rules" else ():
        weights = select_tokens(rho1(keep), token_loss, labels, reference)
        ways[f"{keep} in one pass"] = partial(train, select=rho1(keep), reference=reference)
        ways[f"{keep} known"] = partial(train, token_weights=weights)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    turns = random.Random(0)
    for _ in range(rounds + 1):
        for name, way in turns.sample(list(ways.items()), len(ways)):
            start = time.process_time()
            if way is None:
                score(hidden.detach(), head.detach(), labels, token_losses=True)
            else:
                way().value.backward()
            taken[name].append(time.process_time() - start)
            hidden.grad = head.grad = None
    plain = statistics.median(taken["every token"][1:])
    print(f"{dtype}, {rows}x{length}: every token {plain:.2f} s CPU")
    for name, seconds in taken.items():
        print(f"  {name}: {statistics.median(seconds[1:]) / plain:.2f}")


if __name__ == "__main__":
    main()
