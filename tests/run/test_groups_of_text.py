"""Groups of text by its first folder: their numbers and names, in memory and streamed, in runs and in plans."""

import json
import math

import plans
import pytest
import transformers
import world

from samplewise.config import DataConfig, load_config
from samplewise.core.errors import SamplewiseError
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.run.execute import run
from samplewise.evidence.run.prepare import prepare
from samplewise.report import draw_finished

SIZES = {"web/a.jsonl": 70, "books/b.jsonl": 40, "books/more/c.jsonl": 15, "rare.jsonl": 3}
NUMBERS = {"books": 0, "rare.jsonl": 1, "web": 2}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    world.save_model(folder / "model")
    lines = world.save_corpus(folder / "all.jsonl", sum(SIZES.values())).read_text().splitlines(keepends=True)
    for name, size in SIZES.items():
        path = folder / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines[:size]))
        del lines[:size]
    return folder


@pytest.fixture(scope="module")
def tokenizer(here):
    return transformers.AutoTokenizer.from_pretrained(here / "model")


def data(here, **changes) -> DataConfig:
    return DataConfig(str(here / "corpus"), max_length=32, min_tokens=4, held_out=0.15, **changes)


def test_every_window_has_the_number_of_its_folder_however_it_is_read(here, tokenizer):
    memory = prepare(data(here, groups="folder"), tokenizer)
    expected = [NUMBERS[window.source.split("/")[0]] for window in memory.train.windows]
    assert [row["group"] for row in memory.train] == expected
    assert set(expected) == {0, 1, 2}
    assert memory.counts["groups"] == NUMBERS
    assert f"groups     0 books ({expected.count(0)} windows), 1 rare.jsonl (" in "\n".join(memory.lines)
    stream = prepare(data(here, groups="folder", streaming=True, held_out_documents=1000), tokenizer)
    assert [row["group"] for row in stream.train] == expected
    assert "groups     0 books, 1 rare.jsonl, 2 web" in stream.lines
    assert "group" not in next(iter(prepare(data(here), tokenizer).train))


def test_numbers_follow_the_files_alone(here, tokenizer):
    """Whatever of them is held out or too short."""
    few = prepare(data(here, groups="folder", held_out_windows=1), tokenizer)
    other = prepare(DataConfig(str(here / "corpus" / "**" / "*.jsonl"), held_out=0.6, groups="folder"), tokenizer)
    assert few.counts["groups"] == other.counts["groups"] == NUMBERS


def test_a_datasets_name_has_no_folders(tokenizer):
    with pytest.raises(SamplewiseError, match=r"data\.groups: expected null"):
        prepare(DataConfig("allenai/c4", groups="folder"), tokenizer)


@pytest.mark.parametrize(
    ("path", "groups", "got"), [("corpus", "null", "no groups"), ("corpus/rare.jsonl", "folder", "one, 'rare.jsonl'")]
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_rule_without_its_groups_is_told_where_they_come_from(here, tmp_path, path, groups, got, streaming):
    file = world.write_run(tmp_path / "run.yaml", here / "model", here / path, tmp_path / "out", rule="group_dro()")
    changes = {"groups": groups, "streaming": streaming, "held_out_documents": 1, "held_out": 0.5}
    settings = load_config(file, [f"data.{key}={value}" for key, value in changes.items()])
    with pytest.raises(SamplewiseError, match=rf"got {got}\. Set data\.groups: folder"):
        run(settings, say=str)
    assert not (tmp_path / "out").exists()


def test_a_run_names_the_weights_of_its_groups(here, tmp_path):
    file = world.write_run(
        tmp_path / "run.yaml", here / "model", here / "corpus", tmp_path / "out", rule="group_dro(step_size=0.5)"
    )
    said: list[str] = []
    finished = run(
        load_config(file, ["data.groups=folder", "training.max_steps=40"]), say=said.append, draw=draw_finished
    )
    weights = finished.results["training"]["group_weights"]
    assert set(weights) == set(NUMBERS)
    assert sum(weights.values()) == pytest.approx(1)
    assert any(line.startswith("groups     0 books") for line in said)
    assert (tmp_path / "out" / "groups.png").exists()


@pytest.mark.slow
def test_arms_of_a_plan_learn_weights_of_groups(here, tmp_path):
    """A group that a few windows are in is not met at once: its weight is null until then, and files stay JSON."""
    file = plans.write_plan(
        here, arms={"groups": "group_dro(step_size=0.5)"}, seeds=[0, 1], budget={"steps": 30}, evaluations=0,
        data={"path": str(here / "corpus"), "max_length": 32, "min_tokens": 4, "held_out": 0.15, "groups": "folder"},
        output=str(tmp_path / "out"),
    )  # fmt: skip
    results = run_plan(load_plan(file), say=str)
    control, arm = results["arms"]
    assert control["ran"]["group_weights"] == {}
    assert set(arm["ran"]["group_weights"]) == set(NUMBERS)
    assert sum(arm["ran"]["group_weights"].values()) == pytest.approx(1)
    paths = [
        json.loads((tmp_path / "out" / "runs" / f"groups-{s}.json").read_text())["history"]["groups"] for s in (0, 1)
    ]
    assert all(len(path) == 30 for each in paths for path in each.values())
    assert None in [*paths[0]["rare.jsonl"], *paths[1]["rare.jsonl"]]
    assert not any(math.isnan(w) for each in paths for path in each.values() for w in path if w is not None)
