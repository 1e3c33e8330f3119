"""What changed between a stop and --resume is named, and the run resumes only if that was asked for."""

import json

import pytest
import torch
import transformers
import world
from tokenizers import normalizers

from samplewise.config import load_config
from samplewise.core.errors import SamplewiseError
from samplewise.evidence.run import execute
from samplewise.evidence.run.execute import Stopped, run


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run with a checkpoint after 2 of 4 steps; the folder, and how to resume it."""
    world.save_model(tmp_path / "model")
    world.save_corpus(tmp_path / "corpus.jsonl")
    file = world.write_run(tmp_path / "run.yaml", tmp_path / "model", tmp_path / "corpus.jsonl", tmp_path / "out")
    config = load_config(file, ["training.max_steps=4", "training.save_steps=2"])

    with monkeypatch.context() as patch:
        patch.setattr(execute.RunTrainer, "_maybe_log_save_evaluate", _after(2))
        with pytest.raises(Stopped):
            run(config, say=str)
    assert (tmp_path / "out" / "checkpoint-2" / "samplewise" / "complete.json").exists()
    return tmp_path, lambda **options: run(config, resume=True, say=str, **options)


def _after(step):
    host = execute.RunTrainer._maybe_log_save_evaluate

    def killed(self, *args, **kwargs):
        host(self, *args, **kwargs)
        if self.state.global_step == step:
            raise KeyboardInterrupt

    return killed


def _data(folder):
    path = folder / "corpus.jsonl"
    lines = path.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows[10:]:
        row["text"] = row["text"][::-1]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _model(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model")
    with torch.no_grad():
        next(model.parameters()).mul_(1.001)
    model.save_pretrained(folder / "model")


def _tokenizer(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save_pretrained(folder / "model")


@pytest.mark.parametrize(
    ("change", "named"), [(_data, "the training data"), (_model, "the base model"), (_tokenizer, "the tokenizer")]
)
@pytest.mark.fast_cases("_model-the base model")
def test_a_change_is_refused_by_name_and_taken_if_asked_for(stopped, change, named):
    folder, go_on = stopped
    change(folder)
    before = sorted(path.name for path in (folder / "out").iterdir())
    with pytest.raises(SamplewiseError, match=f"^--resume: .*{named}.*--accept-changes"):
        go_on()
    assert sorted(path.name for path in (folder / "out").iterdir()) == before
    finished = go_on(accept_changes=True)
    assert named in finished.results["changed_on_resume"]
    assert finished.history.steps == 4
    one, two = ([each.id for each in side.documents] for side in (finished.before, finished.after))
    assert one == two


def test_unchanged_it_goes_on_and_leaves_no_fingerprints(stopped):
    folder, go_on = stopped
    finished = go_on()
    assert "changed_on_resume" not in finished.results
    assert not (folder / "out" / ".fingerprints.json").exists()
