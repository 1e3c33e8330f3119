"""Plans over the small world, and results made up of numbers."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import world
import yaml


def write_plan(folder: Path, **changes: Any) -> Path:
    """A plan of a few steps on the model and corpus in `folder`, which are made if they are not there."""
    if not (folder / "model").exists():
        world.save_model(folder / "model")
        world.save_corpus(folder / "corpus.jsonl")
    values = {
        "model": str(folder / "model"),
        "data": {"path": str(folder / "corpus.jsonl"), "max_length": 32, "min_tokens": 4, "held_out": 0.15},
        "budget": {"steps": 6},
        "arms": {"band": "band(drop_top=0.25)"},
        "seeds": [0, 1],
        "controls": {"rates": [], "random": False},
        "training": {
            "learning_rate": 1e-2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "bf16": False,
            "use_cpu": True, "save_steps": 2,
        },
        "output": str(folder / "out"),
    }  # fmt: skip
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


def arm(name: str, role: str = "arm", of: str | None = None) -> dict[str, Any]:
    return {"name": name, "role": role, "of": of}


def documents(count: int, groups: int = 1) -> dict[str, list[dict[str, Any]]]:
    return {
        "held_out": [
            {"id": i, "source": f"g{i % groups}/a.txt", "row": i, "tokens": 50, "bytes": 200, "group": f"g{i % groups}"}
            for i in range(count)
        ]
    }


def values(arms: dict[str, float], seeds: int = 5, count: int = 100, noise: float = 0.002) -> dict[str, Any]:
    """Losses by document: those of the documents, the arm's own shift, and noise by seed and document."""
    draw = np.random.default_rng(0)
    base = draw.normal(3, 0.5, count)

    def losses(shift: float) -> dict[str, Any]:
        rows = base + shift + draw.normal(0, noise, (seeds, 1)) + draw.normal(0, 3 * noise, (seeds, count))
        return {str(seed): {"held_out": row.tolist()} for seed, row in enumerate(rows)}

    after = {name: losses(shift) for name, shift in arms.items()}
    return {"before": {"any": {"held_out": (base + 1).tolist()}}, "during": [], "after": after}


def changed(folder: Path, name: str, change: Callable[[Any], object]) -> None:
    """Change a JSON file of results in place."""
    values = json.loads((folder / name).read_text())
    kept = copy.deepcopy(values)
    change(values)
    assert values != kept
    (folder / name).write_text(json.dumps(values))
