"""Scoring a corpus: speed against two other ways, memory, and what bf16 changes.

    python bench/score.py speed --model MODEL --data TEXT --length 512     # and --length 64
    python bench/score.py packing --model MODEL --data TEXT --length 64
    python bench/score.py dtype --model MODEL --data TEXT
    PYTHONPATH=.:tests python bench/score.py memory

CPU time over all threads: where others use the machine too, only its ratios within one run can be trusted. The ways
take turns, and the median round counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from samplewise.corpus.losses import score_pieces
from samplewise.corpus.pieces import Cutting, Piece, text_pieces
from samplewise.data import read_documents
from samplewise.models import load_model


def first_pieces(data: str, tokenizer, length: int, count: int) -> list[Piece]:
    """The first window of each document, with all of its text."""
    documents = list(islice(read_documents(data, on_error="skip"), count))
    cutting = Cutting(max_length=length, characters=10**9)
    found = [piece for piece in text_pieces(documents, tokenizer, cutting) if isinstance(piece, Piece)]
    return [piece for piece in found if piece.window == 0]


def published(model, pieces: list[Piece]) -> np.ndarray:
    """One document a forward, logits, the model's own loss."""
    with torch.no_grad():
        rows = [torch.from_numpy(piece.ids).long()[None] for piece in pieces]
        return np.array([float(model(input_ids=ids, labels=ids).loss) for ids in rows])


def lm_eval_rolling(model, tokenizer, pieces: list[Piece]) -> np.ndarray:
    """lm-eval's rolling log-likelihood of the same texts in batches of 8."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    length = max(len(piece.ids) for piece in pieces)
    judge = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", device="cpu", batch_size=8, max_length=length)
    asked = [Instance("loglikelihood_rolling", {}, (piece.text,), i) for i, piece in enumerate(pieces)]
    total = np.array(judge.loglikelihood_rolling(asked, disable_tqdm=True))
    return -total / np.array([piece.n_tokens for piece in pieces])


def packed(model, pieces: list[Piece], budget: int) -> np.ndarray:
    """Several texts to a row with position_ids that start anew: what the scorer does not do."""
    from samplewise.losses.request import Request, attach_objective

    detach, found, row = attach_objective(model), [], []
    with torch.no_grad():
        for piece in [*pieces, None]:
            if piece is None or sum(len(each.ids) for each in row) + len(piece.ids) > budget:
                ids = torch.from_numpy(np.concatenate([each.ids for each in row])).long()[None]
                position = torch.cat([torch.arange(len(each.ids)) for each in row])[None]
                segments = torch.cat([torch.full((len(each.ids),), i) for i, each in enumerate(row)])[None]
                request = Request(ids, segments=segments)
                found.append(model(input_ids=ids, position_ids=position, samplewise=request).loss.float())
                row = []
            row.append(piece)
    detach()
    return torch.cat(found).numpy()


def take_turns(ways: dict[str, Callable[[], np.ndarray]], rounds: int) -> tuple[dict, dict]:
    """Median (elapsed, CPU) seconds of each way, and the losses it gives."""
    taken: dict[str, list] = {name: [] for name in ways}
    losses = {}
    for _ in range(rounds):
        for name, way in ways.items():
            start, cpu = time.perf_counter(), time.process_time()
            losses[name] = way()
            taken[name].append((time.perf_counter() - start, time.process_time() - cpu))
    median = {name: [statistics.median(t[k] for t in times) for k in (0, 1)] for name, times in taken.items()}
    return median, losses


def table(title: str, ways: dict[str, Callable[[], np.ndarray]], tokens: int, rounds: int, base: str) -> None:
    seconds, losses = take_turns(ways, rounds)
    print(f"\n{title}, {tokens:,} tokens, {torch.get_num_threads()} threads, median of {rounds}\n")
    print(f"| way | tokens per CPU-second | ratio to {base} | elapsed ratio | largest difference of a loss |")
    print("|---|---|---|---|---|")
    for name, (elapsed, cpu) in seconds.items():
        ratio, wall = seconds[base][1] / cpu, seconds[base][0] / elapsed
        off = np.abs(losses[name] - losses[base]).max()
        print(f"| {name} | {tokens / cpu:,.0f} | {ratio:.2f} | {wall:.2f} | {off:.1e} |", flush=True)


def speed(given: argparse.Namespace) -> None:
    fp32, tokenizer, _ = load_model(given.model)
    bf16 = load_model(given.model, dtype="bfloat16")[0]
    pieces = first_pieces(given.data, tokenizer, given.length, given.documents)

    def ours(model) -> np.ndarray:
        return score_pieces(model, pieces, batch_tokens=given.batch_tokens)["loss"]

    ways = {
        "published (fp32, one a forward)": lambda: published(fp32, pieces),
        "the same in bf16": lambda: published(bf16, pieces),
        "lm-eval, batch 8, bf16": lambda: lm_eval_rolling(bf16, tokenizer, pieces),
        "samplewise, fp32": lambda: ours(fp32),
        "**samplewise, bf16**": lambda: ours(bf16),
    }
    tokens = sum(piece.n_tokens for piece in pieces)
    table(f"{len(pieces)} documents cut at {given.length}", ways, tokens, given.rounds, next(iter(ways)))


def packing(given: argparse.Namespace) -> None:
    model, tokenizer, _ = load_model(given.model, dtype="bfloat16")
    pieces = first_pieces(given.data, tokenizer, given.length, given.documents)
    ways = {
        "batches": lambda: score_pieces(model, pieces, batch_tokens=given.batch_tokens)["loss"],
        "packed rows of 512": lambda: packed(model, pieces, 512),
        "packed rows of the batch's budget": lambda: packed(model, pieces, given.batch_tokens),
    }
    table(f"{len(pieces)} texts cut at {given.length}", ways, sum(p.n_tokens for p in pieces), given.rounds, "batches")


def dtype(given: argparse.Namespace) -> None:
    from scipy.stats import spearmanr

    fp32, tokenizer, _ = load_model(given.model)
    pieces = first_pieces(given.data, tokenizer, given.length, given.documents)
    exact = score_pieces(fp32, pieces, batch_tokens=given.batch_tokens)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        autocast = score_pieces(fp32, pieces, batch_tokens=given.batch_tokens)["loss"]
    whole = score_pieces(fp32.to(torch.bfloat16), pieces, batch_tokens=given.batch_tokens)["loss"]
    print(f"\n{len(pieces)} documents cut at {given.length}, against fp32\n")
    print("| | Spearman | largest difference | mean difference |\n|---|---|---|---|")
    for name, found in (("weights in bf16", whole), ("autocast to bf16", autocast)):
        off = found - exact
        rank = spearmanr(found, exact).statistic
        print(f"| {name} | {rank:.5f} | {np.abs(off).max():.4f} | {off.mean():+.5f} |")


def peak(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """(MB at most resident, elapsed seconds, CPU seconds) of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **environment})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 1024, time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def memory(given: argparse.Namespace) -> None:
    import world  # of the tests

    print("| documents | peak memory, MB | CPU seconds |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        model = world.save_model(Path(folder) / "model")
        for count in (10**4, given.rows or 10**6):
            data = Path(folder) / f"{count}.jsonl"
            draw = random.Random(0)
            with data.open("w") as file:
                for _ in range(count):
                    file.write(json.dumps({"text": " ".join(draw.choices(world.WORDS, k=12))}) + "\n")
            out = str(Path(folder) / f"out{count}")
            command = [
                sys.executable,
                "-m",
                "samplewise",
                "score",
                f"--model={model}",
                f"--data={data}",
                f"--out={out}",
            ]
            command += ["--max-length=64", "--batch-tokens=16384", "--dtype=float32"]
            megabytes, _, cpu = peak(command, {"OMP_NUM_THREADS": "1"})
            print(f"| {count:,} | {megabytes:.0f} | {cpu:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "packing", "dtype", "memory"])
    parser.add_argument("--model", help="a folder, hub id or .gguf file")
    parser.add_argument("--data", help="text, such as web documents in .jsonl")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--documents", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--rows", type=int)
    given = parser.parse_args()
    {"speed": speed, "packing": packing, "dtype": dtype, "memory": memory}[given.what](given)


if __name__ == "__main__":
    main()
