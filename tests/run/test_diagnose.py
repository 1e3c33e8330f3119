"""`samplewise diagnose`: what a run's folder shows of what went wrong; and the path of the groups' weights."""

import json

import pytest
import world

from samplewise.config import load_config
from samplewise.core.errors import SamplewiseError
from samplewise.evidence.run.diagnose import diagnose_run
from samplewise.evidence.run.execute import run
from samplewise.report import draw_finished


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world.save_model(folder / "model")
    world.save_corpus(folder / "corpus.jsonl")
    return folder


def finished(here, name, *overrides, **changes):
    file = world.write_run(here / f"{name}.yaml", here / "model", here / "corpus.jsonl", here / name, **changes)
    return run(load_config(file, overrides), say=str, draw=draw_finished)


@pytest.mark.slow
def test_a_tilt_that_is_too_sharp(here):
    finished(here, "sharp", "training.max_steps=55", f"log_samples={here / 'samples'}", rule="ir_dro(r=0.0001)",
             training={"learning_rate": 0.0, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1,
                       "max_steps": 55, "use_cpu": True, "bf16": False, "save_strategy": "no",
                       "dataloader_drop_last": True})  # fmt: skip
    steps, findings = diagnose_run(here / "sharp")
    assert steps == 55
    assert [finding.name for finding in findings] == ["few samples count"]
    assert findings[0].step == 50
    done = world.samplewise("diagnose", here / "sharp")
    assert done.returncode == 0
    assert "the effective sample size is below 10%" in done.stdout
    assert done.stdout.endswith("1 found in 55 steps\n")


def test_a_run_without_faults_and_one_that_was_killed(here):
    finished(here, "mild", rule="uniform()")
    assert world.samplewise("diagnose", here / "mild").stdout == "nothing found in 20 steps\n"
    finished(here, "part", "training.save_steps=10", rule="uniform()")
    (here / "part" / "results.json").unlink()
    assert diagnose_run(here / "part")[0] == 20


def test_what_is_no_run_is_named(here):
    with pytest.raises(SamplewiseError, match="expected a folder of samplewise train"):
        diagnose_run(here)


def test_the_path_of_the_groups(here):
    rows = [
        {"instruction": f"w{k % 9}", "output": " ".join(f"w{(k + i) % 9 + 20 * (k % 2)}" for i in range(8)),
         "group": "odd" if k % 2 else "even"}
        for k in range(80)
    ]  # fmt: skip
    (here / "rows.json").write_text(json.dumps(rows))
    done = finished(
        here, "groups", rule="group_dro(step_size=0.5)",
        data={"kind": "instructions", "path": str(here / "rows.json"), "chat_template": "plain", "held_out": 0.2,
              "max_length": 64},
    )  # fmt: skip
    paths = done.history.groups
    assert set(paths) == {"0", "1"}
    assert [len(path) for path in paths.values()] == [20, 20]
    assert all(a + b == pytest.approx(1) for a, b in zip(*paths.values(), strict=True))
    assert (here / "groups" / "groups.png").stat().st_size > 5000
    assert sum(done.results["training"]["group_weights"].values()) == pytest.approx(1)
