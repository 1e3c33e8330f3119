"""Attacks on folders: scores with damaged files, models with damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fuzz.inputs import corrupt
from fuzz.inputs.attack import Attack, Ground
from fuzz.inputs.world import SMALL

HUGE = {
    "num_hidden_layers": 10**9, "hidden_size": 2**40, "vocab_size": 10**12, "num_attention_heads": 0, "dtype": "x",
    "model_type": "no_such", "architectures": ["BertModel"], "rope_theta": -1, "max_position_embeddings": 0,
}  # fmt: skip
"""What a configuration cannot mean."""


def scores(ground: Ground) -> Attack:
    """A folder of scores, of which the manifest or another file is corrupted."""
    dice, folder = ground.dice, ground.folder / "scores"
    shutil.copytree(ground.world.scores, folder)
    manifest = folder / "manifest.json"
    if dice.random() < 0.7:
        values = corrupt.structure(dice, json.loads(manifest.read_text()), dice.choice([1, 1, 2]))
        text = json.dumps(values)
        raw = text.encode("utf-8", "surrogatepass") if dice.random() < 0.7 else corrupt.data(dice, text.encode())
        manifest.write_bytes(raw)
        what = f"a manifest: {raw[:1800].decode('utf-8', 'backslashreplace')}"
    else:
        what = _corrupted_file(ground, folder)
    command = dice.choice(["select", "select", "report", "score", "train"])
    if command == "select":
        how = dice.choice([["--rule", "band(drop_top=0.1)"], ["--tokens", "50"], ["--below", "4"]])
        words = ["select", str(folder), *how, "--out", dice.choice(["out.jsonl", "out.parquet", "out.jsonl.zst"])]
    elif command == "report":
        words = ["report", str(folder), "--out", "out.html"]
    elif command == "score":
        world = ground.world
        words = ["score", "--model", str(world.model), "--data", str(world.corpus), "--out", str(folder), *SMALL]
        words += dice.choice([[], ["--as", "again"]])
    else:
        words = ["train", str(_run_on(ground, folder)), "training.max_steps=1"]
    return Attack(words, f"{command}, {what}")


def _run_on(ground: Ground, folder: Path) -> Path:
    from fuzz.inputs.world import run_file

    settings = run_file(ground.world)
    settings["data"]["scores"] = {"reference_loss": str(folder)}
    settings["rule"] = 'by("excess", ir_dro(r=1.0))'
    path = ground.folder / "run.yaml"
    path.write_text(json.dumps(settings))
    return path


def _corrupted_file(ground: Ground, folder: Path) -> str:
    dice = ground.dice
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = dice.choice(files)
    deed = dice.random()
    if deed < 0.2:
        path.unlink()
        path.mkdir() if dice.random() < 0.5 else None
        return f"{path.name} gone"
    if deed < 0.3:
        shutil.copy(dice.choice([file for file in files if file != path]), path) if len(files) > 1 else None
        return f"{path.name} is another file"
    path.write_bytes(corrupt.data(dice, path.read_bytes()))
    return f"{path.name} damaged, now {path.stat().st_size} bytes"


def model(ground: Ground) -> Attack:
    """A model's folder with a wrong configuration, or a damaged file."""
    dice, folder = ground.dice, ground.folder / "model"
    shutil.copytree(ground.world.model, folder)
    if dice.random() < 0.6:
        name = dice.choice(
            ["config.json", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
        )
        path = folder / name
        path = path if path.exists() else folder / "config.json"
        values = json.loads(path.read_text())
        if path.name == "config.json" and dice.random() < 0.5:
            key = dice.choice(list(HUGE))
            values[key] = HUGE[key]
        else:
            values = corrupt.structure(dice, values, dice.choice([1, 2]))
        text = json.dumps(values)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        what = f"{path.name}: {text[:1200]}"
    else:
        what = _corrupted_file(ground, folder)
    words = ["score", "--model", str(folder), "--data", str(ground.world.corpus), "--out", "out", *SMALL]
    return Attack(words, f"a model's {what}")
