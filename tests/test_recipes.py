"""Every recipe runs: on a random OPT of small shape and a local text in place of the hub's."""

from dataclasses import asdict
from pathlib import Path

import pytest
import world
import yaml

from samplewise.config import load_config
from samplewise.evidence.run.execute import run

FOLDER = Path(__file__).parent.parent / "recipes" / "irdro-2402.14270"
RECIPES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "evaluation.yaml")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    world.save_model(folder / "model", "opt")
    world.save_corpus(folder / "corpus.jsonl", documents=60, most=700)
    world.save_corpus(folder / "valid.jsonl", documents=6)
    return folder


def test_the_recipes_are_there():
    assert len(RECIPES) == 11
    text = (FOLDER / "README.md").read_text()
    assert all(path.name.split("-irdro")[0].split("-midranking")[0] in text for path in RECIPES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.fast_cases(
    "opt-125m-irdro-exact", "opt-125m-midranking-published", "opt-350m-midranking-exact",
    "sheared-llama-1.3b-irdro-published",
)  # fmt: skip
def test_a_recipe_runs(path, here, tmp_path):
    published = load_config(path)
    assert published.training["learning_rate"] == 2e-6
    assert published.training["max_steps"] == 100
    assert published.data.path == "allenai/c4"
    local = [
        f"model={here / 'model'}", f"data.path={here / 'corpus.jsonl'}", f"data.held_out_from={here / 'valid.jsonl'}",
        "training.max_steps=2", "training.use_cpu=true", "training.save_strategy='no'", f"output={tmp_path / 'out'}",
    ]  # fmt: skip
    finished = run(load_config(path, local), say=str)
    assert finished.history.steps == 2
    step = published.training["per_device_train_batch_size"] * published.training["gradient_accumulation_steps"]
    assert finished.history.samples == 2 * step
    if "midranking" in path.name:
        kept = step // 8
        assert finished.history.left_out == 2 * (step - kept)
    assert finished.after.figures() != finished.before.figures()


def test_published_and_exact_differ_in_how_a_step_is_normalized_only():
    for path in RECIPES:
        if path.stem.endswith("-published"):
            a, b = (
                asdict(load_config(path)),
                asdict(load_config(path.with_name(path.name.replace("published", "exact")))),
            )
            assert (a.pop("normalize"), b.pop("normalize")) == ("micro", "step")
            sizes = ("per_device_train_batch_size", "gradient_accumulation_steps")
            first, second = ([each["training"].pop(size) for size in sizes] for each in (a, b))
            assert first[0] * first[1] == second[0] * second[1]
            assert a.pop("output") != b.pop("output")
            assert a == b


def test_the_evaluation_plan_is_the_papers():
    plan = yaml.safe_load((FOLDER / "evaluation.yaml").read_text())
    assert {(each["task"], each["num_fewshot"]) for each in plan["tasks"]} == {
        ("piqa", 0), ("hellaswag", 0), ("winogrande", 0), ("arc_challenge", 0), ("boolq", 0), ("mmlu", 0), ("mmlu", 5),
    }  # fmt: skip
