"""What a run was begun with changes under its feet, between a kill and the resume: refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

from fuzz.inputs.judge import fault_of
from fuzz.inputs.world import World

from faults.outcome import Clean, Outcome
from faults.server import run
from faults.shim import KILL, Strike
from faults.trainings import training
from faults.victims import Victim


def _data(world: World) -> None:
    rows = [json.loads(line) for line in world.corpus.read_text().splitlines()]
    for row in rows:
        row["text"] = " ".join(reversed(row["text"].split()))
    world.corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _model(world: World) -> None:
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(world.model)
    with torch.no_grad():
        next(model.parameters()).mul_(1.01)
    model.save_pretrained(world.model)


def _tokenizer(world: World) -> None:
    path = world.model / "tokenizer.json"
    found = json.loads(path.read_text())
    vocabulary = found["model"]["vocab"]
    vocabulary["w1"], vocabulary["w2"] = vocabulary["w2"], vocabulary["w1"]
    path.write_text(json.dumps(found))


def _gone(world: World) -> None:
    world.corpus.unlink()


CHANGES = {"the data": _data, "the model": _model, "the tokenizer": _tokenizer, "data that is gone": _gone}
SETTINGS = {"the rule": {"rule": "ir_dro(r=2.0)"}, "the length": {"data": {"max_length": 16}}}


def changed_inputs(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """Data, model, tokenizer, rule or length differ when the run is resumed."""
    world = _copied(victim, folder)
    begun = training(world, rule="ir_dro(r=1.0)")
    found = run(begun, folder, strike=Strike(KILL, dice.randint(60, 150)))
    name = dice.choice([*CHANGES, *SETTINGS])
    if name in CHANGES:
        changed = run(lambda _: CHANGES[name](world), folder)
        if changed.code:
            raise RuntimeError(changed.said)
    again = run(training(world, **{"rule": "ir_dro(r=1.0)", **SETTINGS.get(name, {})}), folder)
    if found.code == 0 or not any((folder / "out").glob("checkpoint-*/samplewise/complete.json")):
        fault = ""  # nothing was to be resumed: the run began anew
    elif again.code == 0:
        fault = f"resumed with {name} changed, and said nothing"
    else:
        fault = fault_of(again.code, again.said)
    return Outcome("changed inputs", "train", name, fault=f"{fault}: {again.said[-400:]}" if fault else "")


def _copied(victim: Victim, folder: Path) -> World:
    world = victim.world
    shutil.copytree(world.model, folder / "model")
    shutil.copy(world.corpus, folder / "corpus.jsonl")
    return World(folder / "model", folder / "corpus.jsonl", world.conversations, world.scores)
