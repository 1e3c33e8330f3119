"""Attacks on run files, rule texts and command lines."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import yaml

from fuzz.inputs import corrupt
from fuzz.inputs.attack import Attack, Ground
from fuzz.inputs.world import SMALL, run_file

RULES = [
    "chain(band(drop_top=0.1), ir_dro(r=1.0))", "ir_dro(kl=0.1, lagged=True)", "chi2_dro(rho=0.1)", "cvar(alpha=0.3)",
    'by("excess", top_k(0.5))', "warmup(10, ir_dro(r=linear(1.0, 0.1, 0.5)))", "by_length(2, band(drop_top=0.25))",
    "infobatch(share=0.5)", "group_dro(step_size=0.1)", "chain(column_weights(), clip_weights(2.0))",
    "mid_ranking(0.5, 1)", "band(drop_top=0.1, window=4)", "threshold(low=1.0, high=2.0)", "mix_uniform(0.2)",
    "random_keep(0.5, seed=3)",
]  # fmt: skip
NUMBERS = ["nan", "inf", "-inf", "1e-300", "1e300", "-1", "0", "-0.0", "1", "10**9", "1_0", "0x10", "None", "True",
           "'a'", "[]", "{}", "1j", "1e999", "9" * 400, "uniform()", "linear(1, 2)", "lambda: 1",
           "__import__('os')"]  # fmt: skip


def rule_text(ground: Ground) -> Attack:
    """A rule with other numbers, or with its text corrupted, on losses as odd."""
    dice = ground.dice
    rule = dice.choice(RULES)
    if dice.random() < 0.6:
        numbers = sorted(set(re.findall(r"\d+\.?\d*", rule)))
        rule = rule.replace(dice.choice(numbers or ["("]), dice.choice(NUMBERS), 1)
    else:
        rule = corrupt.text(dice, rule, dice.randint(1, 3))
    losses = dice.choice(
        ["1,2,3,4", "1,2,3,4", "1", "nan,1", "inf,1,2", "-5,-5,-5", "1e308,1e308,0", "", ",", "a", "1;2"]
    )
    words = ["weights", "--rule", rule, "--losses", losses]
    for option in ("--reference", "--group", "--weight"):
        if dice.random() < 0.4:
            words += [
                option,
                dice.choice(["1,2,3,4", "1,1,2,2", "0,0,0,0", "1", "nan,1,1,1", "-1,2,3,4", "x", "9" * 30]),
            ]
    return Attack(words, f"a rule: {rule[:300]!r} on losses {losses!r}")


def run_file_corrupted(ground: Ground) -> Attack:
    """A run file with wrong values, wrong keys, or wrong YAML."""
    dice = ground.dice
    settings = run_file(ground.world, instructions=dice.random() < 0.4)
    path = ground.folder / "run.yaml"
    if dice.random() < 0.75:
        settings = corrupt.structure(dice, settings, dice.choice([1, 1, 2]))
        text = yaml.safe_dump(settings, allow_unicode=True) if dice.random() < 0.5 else json.dumps(settings)
    else:
        text = corrupt.text(dice, yaml.safe_dump(settings), dice.randint(1, 3))
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    words = ["train", str(path)]
    if dice.random() < 0.3:
        words.append(_override(ground))
    if dice.random() < 0.15:
        words.append("--resume")
    return Attack([*words, "training.max_steps=1"], f"a run file: {text[:1500]}")


def _override(ground: Ground) -> str:
    dice = ground.dice
    key = dice.choice(
        ["data.max_length", "rule", "per", "pool", "data", "training.seed", "lora.r", "model", "x.y", "", "."]
    )
    equals, value = dice.choice(["=", "=", "==", ""]), dice.choice([*map(str, corrupt.VALUES), "[", "{a: }"])[:200]
    return f"{key}{equals}{value}".replace("\x00", "0")


def plan_corrupted(ground: Ground) -> Attack:
    """The files of the other commands, with wrong values."""
    dice = ground.dice
    run = run_file(ground.world)
    common: dict[str, Any] = {"model": run["model"], "data": run["data"], "training": run["training"], "output": "out"}
    kind = dice.choice(["compare", "evaluate", "probe"])
    files: dict[str, dict[str, Any]] = {
        "compare": {**common, "arms": {"a": {"rule": "ir_dro(r=1.0)"}}, "seeds": [1, 2], "budget": {"steps": 1}},
        "evaluate": {"model": run["model"], "data": run["data"], "output": "out.json"},
        "probe": {"model": run["model"], "data": run["data"], "output": "out", "samples": 8},
    }
    settings = corrupt.structure(dice, files[kind], dice.choice([1, 2]))
    settings = {**settings, "model": "no/such"} if isinstance(settings, dict) else settings  # nothing may run for long
    path = ground.folder / "plan.yaml"
    path.write_bytes(json.dumps(settings).encode("utf-8", "surrogatepass"))
    return Attack([kind, str(path)], f"{kind}: {json.dumps(settings)[:1500]}", hopeless=True)


def command_line(ground: Ground) -> Attack:
    """Good commands with other options, places that are not what they should be, and odd values."""
    dice, world = ground.dice, ground.world
    fifo = ground.folder / "pipe.jsonl"
    os.mkfifo(fifo)
    places = [str(world.corpus), str(world.model), str(world.scores), str(fifo), str(ground.folder), "/dev/null", "",
              ".", "no/such", "*.jsonl", "[", "s3x://a/b", "http://", "file://x", "a\nb", "x" * 300,
              "~x/y"]  # fmt: skip
    base = dice.choice([
        ["score", "--model", str(world.model), "--data", str(world.corpus), "--out", "out", *SMALL],
        ["select", str(world.scores), "--rule", "band(drop_top=0.1)", "--out", "out.jsonl"],
        ["report", str(world.scores), "--out", "out.html"],
        ["weights", "--rule", "ir_dro()", "--losses", "1,2"],
        ["corrupt", str(world.corpus), "out.jsonl", "labels.json"],
        ["diagnose", str(ground.folder)],
    ])  # fmt: skip
    options = {
        "score": ["--limit", "--max-length", "--min-tokens", "--stride", "--text", "--batch-tokens", "--shard-bytes",
                  "--dtype", "--kind", "--as", "--text-field", "--engine"],
        "select": ["--above", "--below", "--tokens", "--take", "--by", "--within", "--unit", "--seed", "--memory",
                   "--control", "--data"],
        "report": ["--memory", "--title"], "weights": ["--group", "--weight", "--reference"],
        "corrupt": ["--share", "--seed", "--text-field"], "diagnose": [],
    }[base[0]]  # fmt: skip
    words = list(base)
    if dice.random() < 0.4:
        words[dice.randrange(1, len(words))] = dice.choice(places)
    for _ in range(dice.choice([0, 1, 1, 2])):
        if options:
            words += [dice.choice(options), str(corrupt.value(dice))[:300].replace("\x00", "0")]
    words = [word.encode("utf-8", "replace").decode() for word in words]
    return Attack(words, f"a command: {words}")
