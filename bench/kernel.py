"""Body, head and loss, forward and backward: the plain step against the objective without logits.

    python bench/kernel.py                      # interleaved medians as ratios to plain: elapsed (CPU time)
    python bench/kernel.py --memory             # peak memory above the body, every variant in a process of its own

Llama shape of 6 layers, V 49,152, D 576 (SmolLM2-135M's width and vocabulary), tied embeddings, random weights.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from samplewise.head import Request, with_objective

SHAPES = {"8x128": (8, 128), "1x4096": (1, 4096), "8x256": (8, 256)}


def make_model(layers: int = 6) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=8192,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def tilt(loss, tokens, index):
    return torch.exp(loss - 10.8)


def step(model, ids, variant: str, chunk_bytes: int | None) -> None:
    if variant == "plain":
        model(ids, labels=ids).loss.backward()
    elif variant == "body":
        model.model(ids, use_cache=False).last_hidden_state.sum().backward()
    else:
        factors = tilt if variant == "asked" else torch.ones(len(ids)) / len(ids)
        model(ids, samplewise=Request(ids, factors=factors, chunk_bytes=chunk_bytes)).value.backward()


def seconds(model, ids, variant: str, bf16: bool, chunk_bytes: int | None) -> tuple[float, float]:
    """(elapsed, CPU over all threads): where others use the machine too, only the second can be compared."""
    model.zero_grad(set_to_none=True)
    start, cpu = time.perf_counter(), time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        step(model, ids, variant, chunk_bytes)
    return time.perf_counter() - start, time.process_time() - cpu


def compare(shape: str, bf16: bool, rounds: int, chunk_bytes: int | None) -> None:
    model, ids = make_model(), torch.randint(49152, SHAPES[shape])
    variants = ["plain", "asked", "given", "body"]
    taken: dict[str, list[tuple[float, float]]] = {v: [] for v in variants}
    with with_objective(model):
        for i in range(rounds + 1):
            for v in variants:
                times = seconds(model, ids, v, bf16, chunk_bytes)
                if i:
                    taken[v].append(times)
    wall, cpu = ({v: statistics.median(t[k] for t in taken[v]) for v in variants} for k in (0, 1))
    ratios = "  ".join(f"{v} {wall[v] / wall['plain']:.3f} ({cpu[v] / cpu['plain']:.3f})" for v in variants[1:])
    print(f"{shape:>7} {'bf16' if bf16 else 'fp32'}  plain {wall['plain'] * 1e3:6.0f} ms  {ratios}", flush=True)


def resident() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak(variant: str, shape: str, bf16: bool, chunk_bytes: int | None) -> float:
    """MB above the model's own memory, at the highest of readings 1 ms apart, over one step."""
    model, ids = make_model(), torch.randint(49152, SHAPES[shape])
    readings, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            readings.append(resident())
            time.sleep(0.001)

    with with_objective(model):
        before = resident()
        thread = threading.Thread(target=watch)
        thread.start()
        seconds(model, ids, variant, bf16, chunk_bytes)
        done.set()
        thread.join()
    return (max(readings) - before) / 1e6


def memory(shape: str, bf16: bool, chunk_bytes: int | None) -> None:
    found = {}
    for v in ("body", "plain", "asked"):
        options = ["--one", v, "--shape", shape, *(["--bf16"] if bf16 else []), *_budget(chunk_bytes)]
        done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
        found[v] = float(done.stdout)
    above = {v: found[v] - found["body"] for v in ("plain", "asked")}
    name = f"{shape:>7} {'bf16' if bf16 else 'fp32'}"
    print(f"{name}  above the body: plain {above['plain']:.0f} MB, objective {above['asked']:.0f} MB,"
          f" ratio {above['asked'] / above['plain']:.3f}", flush=True)  # fmt: skip


def _budget(chunk_bytes: int | None) -> list[str]:
    return [] if chunk_bytes is None else ["--chunk-bytes", str(chunk_bytes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast only")
    parser.add_argument("--fp32", action="store_true", help="fp32 only")
    parser.add_argument("--chunk-bytes", type=int)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(peak(given.one, given.shape, given.bf16, given.chunk_bytes))
        return
    dtypes = [True] if given.bf16 else [False] if given.fp32 else [True, False]
    for shape in [given.shape] if given.shape else (["8x256", "1x4096"] if given.memory else ["8x128", "1x4096"]):
        for bf16 in dtypes:
            if given.memory:
                memory(shape, bf16, given.chunk_bytes)
            else:
                compare(shape, bf16, given.rounds, given.chunk_bytes)


if __name__ == "__main__":
    main()
