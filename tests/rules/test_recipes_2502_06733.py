"""The recipes of arXiv 2502.06733: they load, and their rules and training arguments are what the page says."""

from pathlib import Path

import pytest

import samplewise as sw
from samplewise.config import load_config
from samplewise.core.samples import as_samples
from samplewise.evidence.run.arguments import check_training

FOLDER = Path(__file__).parents[2] / "recipes" / "2502.06733"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def test_the_recipes_are_there():
    assert len(RECIPES) == 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads(path):
    config = load_config(path)
    check_training(config.training)
    assert f"| `{path.stem}` | `{config.rule}` |" in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert config.output == f"runs/{path.stem}"
    state = sw.parse_rule(config.rule).init()
    assert sw.weights(sw.parse_rule(config.rule), [1.0, 2.0, 9.0]).tolist() == [1.0, 1.0, 1.0]
    plan = sw.plan_step(sw.parse_rule(config.rule), as_samples([1.0, 2.0, 9.0]), {**state, "step": 1000})
    assert plan.figures["ess"] < 1
    training = config.training
    rows = training["per_device_train_batch_size"] * training["gradient_accumulation_steps"]
    assert rows == (32 if "124m" in path.stem else 48)
