"""What every rule costs: whole steps and memory as ratios to the plain `Trainer`'s, and the planning of a step alone.

    python bench/rules.py                              # 6.8 M parameters, 4 × 8 rows of 128 tokens; 5 rounds
    python bench/rules.py --model MODEL.gguf --rounds 5
    python bench/rules.py --only planning              # or: step, memory; the others are kept as they are in the file

The trainers take turns in one process, step by step, as in bench/step.py; memory is that of bench/memory.py, each rule
in a process of its own. Written to --out: cost.json and fig-cost.svg, which tools/results.py --take makes a page of.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memory import HighWater, peaks, second_step
from plan import milliseconds
from step import WARMUP, measure
from variants import SHAPES, VARIANTS, Maker, Shape, Weighted, make_trainers, ours

import torch  # isort: skip
import transformers  # isort: skip

import samplewise as sw
from samplewise.core.checkpoint import write_bytes
from samplewise.core.columns import FIELDS
from samplewise.core.rule import Rule
from samplewise.core.samples import Samples
from samplewise.models import load_model
from samplewise.report.style import BLUE, GREY, ORANGE, picture
from samplewise.rules import RULES, TOKEN_RULES, parse_token_rule

RULE: dict[str, list[str]] = {
    "uniform": ["uniform()"],
    "column_weights": ["column_weights()"],
    "ir_dro": ["ir_dro(r=1)", "ir_dro(kl=0.1)", "ir_dro(ess=0.5)"],
    "chi2_dro": ["chi2_dro(rho=0.5)"],
    "cvar": ["cvar(alpha=0.5)"],
    "lin_upper": ["lin_upper(r=1)"],
    "quadratic": ["quadratic(r=1)"],
    "extremes": ["extremes(r=1)"],
    "mid_ranking": ["mid_ranking(frac=0.25, portion=1)"],
    "band": ["band(drop_top=0.125)"],
    "top_k": ["top_k(share=0.5)"],
    "threshold": ["threshold(low=1, high=20)"],
    "random_keep": ["random_keep(share=0.5)"],
    "sample_proportional": ["sample_proportional(share=0.5)"],
    "infobatch": ["infobatch(share=0.5)"],
    "group_dro": ["group_dro()"],
    "doremi": ['by("excess", doremi())'],
    "by": ['by("excess", ir_dro(r=1))', 'by("excess", top_k(share=0.5))'],
    "by_length": ["by_length(4, top_k(share=0.5))"],
    "clip_weights": ["chain(ir_dro(r=1), clip_weights(2))"],
    "mix_uniform": ["chain(ir_dro(r=1), mix_uniform(0.5))"],
    "chain": ["chain(band(drop_top=0.125), ir_dro(r=1))"],
    "warmup": ["warmup(1, ir_dro(r=1))"],
}
"""Of each rule that text may name at least one expression; the table says at which numbers it was measured."""

TOKEN_RULE = {"rho1": ["rho1(keep=0.6)", "rho1(keep=0.6, scope='step')"], "random_tokens": ["random_tokens(keep=0.6)"]}
"""rho1 compares with a reference model, here one of the same size, whose forward is in the step."""

SIZES = (32, 1024, 65_536)
PARTS = ("step", "memory", "planning")


@dataclass(frozen=True)
class Loaded(Shape):
    """A model from a folder or file in place of random weights."""

    path: str = ""

    def model(self) -> Any:
        return load_model(self.path)[0].train()


def makers() -> dict[str, Maker]:
    """By expression a trainer of its rule; errors where a rule has none."""
    absent = {*RULES, *TOKEN_RULES} ^ {*RULE, *TOKEN_RULE}
    assert not absent, f"add {sorted(absent)} to bench/rules.py"
    found: dict[str, Maker] = {text: reading(text) for texts in RULE.values() for text in texts}
    return found | {text: over_tokens(text) for texts in TOKEN_RULE.values() for text in texts}


def reading(text: str) -> Maker:
    """Of a rule whose rows have the columns that it reads."""
    rule = sw.parse_rule(text)
    make = ours(rule)

    def made(*args: Any, train_dataset: Any, **kwargs: Any) -> Any:
        rows = [{**row, **columns_of(k, rule)} for k, row in enumerate(train_dataset)]
        return make(*args, train_dataset=rows, **kwargs)

    return made


def columns_of(row: int, rule: Rule) -> dict[str, float]:
    values = {"weight": 0.5 + row % 3, "group": row % 4, "reference": 8.0 + 0.1 * (row % 7)}
    return {column: values[field] for column, field in FIELDS.items() if field in rule.required_fields}


def over_tokens(token_rule: str) -> Maker:
    def make(model: Any, *args: Any, chunk_bytes: int | None, **kwargs: Any) -> Weighted:
        more: dict[str, Any] = {"token_rule": token_rule, "rule": "uniform()"}
        if parse_token_rule(token_rule).needs_reference:
            more["reference_model"] = copy.deepcopy(model).eval().requires_grad_(False)
        return Weighted(model, *args, backend="chunked", chunk_bytes=chunk_bytes, **more, **kwargs)

    return make


def steps(shape: Shape, bf16: bool, rounds: int) -> dict[str, Any]:
    """Medians of interleaved steps, as ratios to plain ones."""
    load, variants = os.getloadavg()[0], {"plain": VARIANTS["plain"], **makers()}
    options = {"bf16": bf16, "steps": WARMUP + rounds, "variants": variants}
    trainers: dict[str, Any] = make_trainers(shape, list(variants), **options)
    taken = measure(trainers, rounds)
    wall, cpu = ({name: statistics.median(t[k] for t in times) for name, times in taken.items()} for k in (0, 1))
    config = next(iter(trainers.values())).model.config
    ends = {name: trainer.engine.figures.last for name, trainer in trainers.items() if name != "plain"}
    found = {
        name: {
            "mode": last.mode, "kept": last.figures["kept"],
            "cpu_ratio": cpu[name] / cpu["plain"], "elapsed_ratio": wall[name] / wall["plain"],
            "spread": max(t[1] for t in taken[name]) / min(t[1] for t in taken[name]),
        }
        for name, last in ends.items()
    }  # fmt: skip
    return {
        "model": f"{config.model_type}, {trainers['plain'].model.num_parameters() / 1e6:.1f} M parameters, "
        f"{config.vocab_size:,} tokens",
        "rows": shape.rows, "accumulation": shape.accumulation, "length": shape.length,
        "dtype": "bf16" if bf16 else "fp32", "threads": torch.get_num_threads(), "rounds": rounds, "load": load,
        "cores": os.cpu_count(), "plain": {"elapsed": wall["plain"], "cpu": cpu["plain"]}, "rules": found,
    }  # fmt: skip


def memory() -> dict[str, Any]:
    """MB above the body's, by rule, and the plain step's own."""
    found = peaks(["body", "plain", *makers()])
    above = {name: peak - found["body"] for name, peak in found.items() if name != "body"}
    return {"body": found["body"], "plain": above.pop("plain"), "rules": above}


def planning() -> dict[str, Any]:
    """CPU milliseconds of `plan_step` on one thread, by rule and number of samples; every field is given."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {text: [] for texts in RULE.values() for text in texts}
    for size in SIZES:
        given = [samples_of(size) for _ in range(5 if size > 10_000 else 51)]
        base_weight = torch.ones(size, dtype=torch.float64)
        for text, taken in found.items():
            taken.append(milliseconds(sw.parse_rule(text), given, base_weight)[1])
    return {"sizes": list(SIZES), "milliseconds": found}


def samples_of(size: int) -> Samples:
    loss = 3 + 0.6 * torch.randn(size, dtype=torch.float64)
    ids = torch.randint(2**62, (size,)).sort().values  # as in every plan
    return Samples(
        loss, torch.randint(1, 2000, (size,)), ids, 0.5 + torch.rand(size, dtype=torch.float64),
        loss + 0.3 * torch.randn(size, dtype=torch.float64), torch.randint(4, (size,)),
    )  # fmt: skip


def draw(path: Path, found: Mapping[str, Any]) -> None:
    """Bars of CPU time and of memory, ratios to plain, by rule."""
    step, peak = found["step"]["rules"], found["memory"]
    names = list(step)
    with picture(path, 9.6, 1.2 + 0.26 * len(names), ncols=2, sharey=True) as (_, (time, space)):
        places = range(len(names), 0, -1)
        colours = [BLUE if step[name]["mode"] == "one_pass" else ORANGE for name in names]
        time.barh(places, [step[name]["cpu_ratio"] for name in names], color=colours)
        time.set_yticks(places, names, family="DejaVu Sans Mono", fontsize=8)
        time.set_title("CPU time / plain (blue: one pass, orange: two)", fontsize=10)
        space.barh(places, [peak["rules"][name] / peak["plain"] for name in names], color=colours)
        space.set_title("memory above the body / plain", fontsize=10)
        for axes in (time, space):
            axes.axvline(1, color=GREY, linestyle="--")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or a .gguf file; default: random weights, 6.8 M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="bf16: autocast")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("runs/cost"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    shape = Loaded(0, 0, 0, path=given.model) if given.model else SHAPES["small"]
    shape = replace(shape, rows=given.rows, accumulation=given.accumulation, length=given.length)
    if given.one:
        options = {"bf16": given.dtype == "bf16", "variants": {**VARIANTS, **makers()}}
        print(second_step(HighWater(), shape, given.one, **options))
        return
    file = given.out / "cost.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    found["versions"] = f"torch {torch.__version__}, transformers {transformers.__version__}"
    measured = (lambda: steps(shape, given.dtype == "bf16", given.rounds), memory, planning)
    for name, measure_part in zip(PARTS, measured, strict=True):
        if name in given.only:
            found[name] = measure_part()
            given.out.mkdir(parents=True, exist_ok=True)
            write_bytes(file, json.dumps(found, indent=1).encode())
            print(f"{name:<10}{file}", flush=True)
    if {"step", "memory"} <= found.keys():
        draw(given.out / "fig-cost.svg", found)
        print(f"{'picture':<10}{given.out / 'fig-cost.svg'}")


if __name__ == "__main__":
    main()
