"""A loss for every sample in Parquet: what was logged is what was weighed, whatever became of the run."""

import pyarrow.parquet as pq
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TrainerCallback
from watching import OnStep

import samplewise as sw
from samplewise.core.samples import as_samples
from samplewise.engine.sample_log import SampleLog
from samplewise.trainers import WeightedTrainer

RULE = "chain(band(drop_top=0.25), ir_dro(r=0.5))"


class Kept(WeightedTrainer):
    """Notes what every step weighed."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []
        self.engine.added.append(OnStep(self._keep))

    def _keep(self, result):
        samples, order = result.samples, result.samples.id.argsort()
        columns = (samples.id, samples.loss, samples.tokens, result.weights)
        rows = zip(*(column[order].tolist() for column in columns), strict=True)
        self.seen += [(name, self.state.global_step + 1, *rest) for name, *rest in rows]


def trainer(folder, rule=RULE, log="log", cls=Kept, **options):
    args = tiny.arguments(folder, max_steps=6, **{"save_strategy": "steps", "save_steps": 2, **options})
    return cls(
        tiny.model(), args, train_dataset=tiny.Rows(40), data_collator=tiny.collate, rule=rule,
        log_samples=folder / log,
    )  # fmt: skip


def read(folder):
    table = pq.read_table(folder)
    assert [str(field.type) for field in table.schema] == ["int64", "int32", "float", "int32", "float"]
    return list(zip(*(table[name].to_pylist() for name in ("id", "step", "loss", "tokens", "weight")), strict=True))


def flat(rows):
    return [value for row in rows for value in row]


@pytest.mark.parametrize("rule", [RULE, "ir_dro(r=0.5)", "random_keep(share=0.5)"])
def test_every_sample_of_every_step(tmp_path, rule):
    run = trainer(tmp_path, rule)
    run.train()
    rows = read(tmp_path / "log")
    assert len(rows) == 6 * 8
    assert flat(rows) == pytest.approx(flat(run.seen), rel=1e-6, nan_ok=True)
    dropped = [row for row in rows if row[-1] == 0]
    assert len(dropped) == {RULE: 12, "ir_dro(r=0.5)": 0, "random_keep(share=0.5)": 24}[rule]


def test_micro_batches_of_their_own(tmp_path):
    args = tiny.arguments(tmp_path)
    run = Kept(
        tiny.model(), args, train_dataset=tiny.Rows(40), data_collator=tiny.collate, rule="ir_dro(r=0.5)",
        normalize="micro", log_samples=tmp_path / "log",
    )  # fmt: skip
    run.train()
    rows = read(tmp_path / "log")
    assert flat(rows) == pytest.approx(flat(run.seen), rel=1e-6)
    assert sum(weight for _, step, *_, weight in rows if step == 1) == pytest.approx(8)


def test_resumed_as_if_never_stopped(tmp_path):
    """Killed after step 5, with step 5 in no checkpoint: resumed from step 4, it is recorded once."""
    whole = trainer(tmp_path / "whole")
    whole.train()

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    killed = trainer(tmp_path / "part")
    killed.add_callback(Kill())
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    assert max(step for _, step, *_ in read(tmp_path / "part" / "log")) == 5
    trainer(tmp_path / "part").train(resume_from_checkpoint=True)
    assert read(tmp_path / "part" / "log") == read(tmp_path / "whole" / "log")


def test_two_runs_do_not_mix(tmp_path):
    trainer(tmp_path, save_strategy="no").train()
    with pytest.raises(sw.SamplewiseError, match="log_samples: expected a folder without the samples of another run"):
        trainer(tmp_path, save_strategy="no").train()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 9))
def test_what_is_after_the_checkpoint_is_forgotten(tmp_path_factory, flushes, step):
    """However steps fall into parts, resuming at a step leaves those up to it."""
    folder = tmp_path_factory.mktemp("log")
    log = SampleLog(folder)
    for number, flush in enumerate(flushes, 1):
        samples = as_samples(torch.full((3,), float(number)), ids=[7, 8, 7])
        log.add(number, samples, torch.ones(3))
        if flush:
            log.flush()
    log.flush()
    log.on_begin(step)
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in read(path)]
    expected = [(name, n, float(n), 1, 1.0) for n in range(1, min(step, len(flushes)) + 1) for name in (7, 8)]
    assert rows == expected, "a row that the sampler repeats is recorded once"
