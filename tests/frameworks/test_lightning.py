"""Lightning's own Trainer on the rows that every framework's test trains on."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import lightning_runs as runs
import pytest
import same_rows
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning_runs import Plain, Weighted, by_hand, loader, trainer
from torch.utils.data import DataLoader, IterableDataset

from samplewise import SamplewiseError
from samplewise.trainers.lightning_checks import check_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*is deprecated:FutureWarning"),  # in Lightning
]
RULES = [
    ("uniform()", {}),
    ("ir_dro(r=0.5)", {}),
    ("top_k(0.5)", {}),
    ("chain(band(drop_top=0.25), ir_dro(r=0.5))", {"per": "token"}),
    ("ir_dro(r=0.5)", {"per": "token"}),
    ("top_k(0.5)", {"pool": 2}),
    ("random_keep(0.5)", {}),
    ("ir_dro(r=0.5)", {"normalize": "micro"}),
    ("warmup(3, ir_dro(r=0.5))", {}),
]


def steps_of(rows=runs.ROWS, *, accumulate, epochs=1):
    """All micro-batches of each step, the last of an epoch as short as it is."""
    batches = [runs.pad(rows[k : k + runs.MICRO]) for k in range(0, len(rows), runs.MICRO)]
    return [batches[k : k + accumulate] for k in range(0, len(batches), accumulate)] * epochs


def flat(gradients):
    return torch.cat([each.flatten() for each in gradients])


def close(got, want, tolerance=1e-6):
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert float(flat(other).norm()) > 1e-3
        assert float((flat(one) - flat(other)).norm() / flat(other).norm()) <= tolerance


def test_the_gradient_is_the_one_of_every_framework(tmp_path):
    module = Weighted()
    trainer(tmp_path).fit(module, loader())
    assert (off := same_rows.distance(module.gradient())) <= 1e-6, off


@pytest.mark.parametrize(("rule", "options"), RULES)
def test_every_step_is_the_loops(tmp_path, rule, options):
    """Three epochs of 8 batches in steps of 3, 3 and 2, clipped, with a learning rate."""
    module = Weighted(rule, lr=1e-3, **options)
    trainer(tmp_path, accumulate_grad_batches=3, gradient_clip_val=0.5, max_epochs=3).fit(module, loader())
    want = by_hand(steps_of(accumulate=3, epochs=3), rule, lr=1e-3, clip=0.5, **options)
    close(module.watched.gradients, want.gradients, 1e-4)  # fp32, over nine steps
    close(module.watched.gradients[:1], want.gradients[:1])


def test_uniform_weights_per_token_are_the_plain_modules(tmp_path):
    plain, weighted = Plain(lr=1e-3), Weighted("uniform()", lr=1e-3, per="token")
    for module in (plain, weighted):
        trainer(tmp_path, accumulate_grad_batches=4, gradient_clip_val=0.5, max_epochs=2).fit(module, loader())
    close(weighted.watched.gradients[:1], plain.watched.gradients[:1])
    close(weighted.watched.gradients, plain.watched.gradients, 1e-4)  # AdamW, in fp32


def test_mixed_precision(tmp_path):
    module = Weighted()
    trainer(tmp_path, precision="bf16-mixed", accumulate_grad_batches=4).fit(module, loader())
    want = by_hand(steps_of(accumulate=4), same_rows.RULE, bf16=True)
    close(module.watched.gradients, want.gradients)
    assert same_rows.distance(module.gradient()) > 1e-4, "the option does something"


def test_validation_is_plain_and_may_come_within_a_step(tmp_path):
    module, plain = Weighted(lr=1e-3), Plain(lr=0.0)
    given = {"limit_val_batches": 1.0, "val_check_interval": 3, "accumulate_grad_batches": 4}
    own = trainer(tmp_path, **given)
    own.fit(module, loader(), loader())
    close(module.watched.gradients, by_hand(steps_of(accumulate=4), same_rows.RULE, lr=1e-3).gradients, 1e-5)
    plain.model.load_state_dict(module.model.state_dict())
    (again,) = trainer(tmp_path, limit_val_batches=1.0).validate(module, loader(), verbose=False)
    (want,) = trainer(tmp_path, limit_val_batches=1.0).validate(plain, loader(), verbose=False)
    assert again["val_loss"] == pytest.approx(want["val_loss"], rel=1e-6)


def test_figures_are_logged_by_lightning(tmp_path):
    module = Weighted()
    own = trainer(tmp_path, log_every_n_steps=1)
    own.fit(module, loader())
    assert 0 < own.callback_metrics["samplewise/ess"] < 1
    assert own.callback_metrics["samplewise/samples"] == len(runs.ROWS)
    assert own.callback_metrics["samplewise/loss"] > 0


def test_accumulation_on_a_schedule(tmp_path):
    module = Weighted(lr=1e-3)
    schedule = GradientAccumulationScheduler({0: 2, 1: 8})
    trainer(tmp_path, accumulate_grad_batches=1, max_epochs=2, callbacks=[schedule]).fit(module, loader())
    want = by_hand(steps_of(accumulate=2) + steps_of(accumulate=8), same_rows.RULE, lr=1e-3)
    close(module.watched.gradients, want.gradients, 1e-5)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(runs.ROWS)


def test_a_stream_without_length_ends_within_a_step(tmp_path):
    module = Weighted("top_k(0.5)", lr=1e-3)
    stream = DataLoader(Stream(), batch_size=runs.MICRO, collate_fn=runs.pad)
    trainer(tmp_path, accumulate_grad_batches=3).fit(module, stream)
    close(module.watched.gradients, by_hand(steps_of(accumulate=3), "top_k(0.5)", lr=1e-3).gradients, 1e-5)


def with_a_bad_word(model):
    with torch.no_grad():
        model.get_input_embeddings().weight[36] = float("nan")
    return model


def with_first_word(row, first):
    """The row with another first word, and word 36 nowhere else."""
    ids, labels = ([4 if word == 36 else word for word in row[key]] for key in ("input_ids", "labels"))
    return {**row, "input_ids": [first, *ids[1:]], "labels": [-100, *labels[1:]]}


def test_a_loss_that_is_not_finite_goes_the_one_way_back(tmp_path):
    """Word 36 is in row 21 alone: the second step is discarded, and runs again in two passes without that row."""
    rows = [with_first_word(row, 36 if k == 21 else 4) for k, row in enumerate(runs.ROWS)]
    kept = runs.Kept()
    module = Weighted(max_nonfinite=0.2, observers=[kept])
    with_a_bad_word(module.model)
    trainer(tmp_path, accumulate_grad_batches=4).fit(module, loader(rows))
    assert [each.retried for each in kept.results] == [False, True]
    assert kept.results[1].nonfinite == [121]
    model = with_a_bad_word(same_rows.tiny_model().train())
    want = by_hand(steps_of(rows, accumulate=4), same_rows.RULE, model=model, max_nonfinite=0.2)
    assert all(bool(flat(each).isfinite().all()) for each in want.gradients)
    close(module.watched.gradients, want.gradients)


def test_the_model_is_given_back(tmp_path):
    module = Weighted()
    trainer(tmp_path).fit(module, loader())
    assert "forward" not in vars(module.model)


@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed")
def test_a_run_resumes_with_the_rules_state(tmp_path):
    rows = [{**row, "group": k % 3} for k, row in enumerate(runs.ROWS)]
    rule, given = "group_dro(step_size=2.0)", {"accumulate_grad_batches": 3, "enable_checkpointing": True}

    def run(epochs, **more):
        module = Weighted(rule, lr=1e-2)
        own = trainer(tmp_path, max_epochs=epochs, callbacks=[ModelCheckpoint(tmp_path, save_top_k=-1)], **given)
        own.fit(module, loader(rows), **more)
        return module, own.checkpoint_callback.best_model_path

    whole, _ = run(2)
    _, path = run(1)
    again, _ = run(2, ckpt_path=path, weights_only=True)
    assert len(again.watched.gradients) == 3
    for one, other in zip(again.watched.gradients, whole.watched.gradients[3:], strict=True):
        assert torch.equal(flat(one), flat(other))
    assert again.weighting.engine.steps == 6
    other = Weighted("ir_dro(r=0.5)", lr=1e-2)
    trainer(tmp_path, max_epochs=2, **given).fit(other, loader(rows), ckpt_path=path)
    assert other.weighting.engine.steps == 6, "the steps are counted, the other rule's state is left alone"


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_plain_runs_checkpoint_starts_with_the_first_state(tmp_path, caplog):
    given = {"accumulate_grad_batches": 4, "enable_checkpointing": True}
    plain, weighted = Plain(lr=1e-2), Weighted(lr=1e-2)
    own = trainer(tmp_path, callbacks=[ModelCheckpoint(tmp_path)], **given)
    own.fit(plain, loader())
    path = own.checkpoint_callback.best_model_path
    trainer(tmp_path, max_epochs=2, **given).fit(weighted, loader(), ckpt_path=path)
    assert weighted.weighting.engine.steps == 4
    assert "the checkpoint holds no state of a rule" in caplog.text


def test_fit_again_continues(tmp_path):
    module, own = Weighted("warmup(3, ir_dro(r=0.5))"), trainer(tmp_path, accumulate_grad_batches=4)
    own.fit(module, loader())
    own.fit_loop.max_epochs = 2
    own.fit(module, loader())
    assert module.weighting.engine.steps == 4


@pytest.mark.parametrize(("rule", "precision"), [("ir_dro(r=0.5)", "32-true"), ("top_k(0.5)", "bf16-mixed")])
def test_two_processes_are_the_same_step(tmp_path, rule, precision):
    """DDP with Lightning's own sampler: each rank has half of the rows, in steps of 3 batches of 4, then of 1."""
    program = [sys.executable, runs.__file__, str(tmp_path), rule, precision]
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(program, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = torch.load(tmp_path / "seen.pt")
    assert [len(ids) for ids in seen["ids"]] == [24, 8, 24, 8]
    rows = {row["sample_id"]: row for row in runs.ROWS}
    steps = [[runs.pad([rows[i] for i in ids[k : k + 4]]) for k in range(0, len(ids), 4)] for ids in seen["ids"]]
    bf16 = precision == "bf16-mixed"
    want = by_hand(steps, rule, lr=1e-3, clip=0.5, bf16=bf16)
    close([[each] for each in seen["gradients"]], want.gradients, 5e-2 if bf16 else 1e-5)


# ---- what is refused ----


class Adds(Weighted):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) + 1e-2 * self.model.lm_head.weight.square().sum()


class Manual(Weighted):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


class NotGiven(Weighted):
    def configure_callbacks(self):
        return []


class NotCalled(Plain):
    def configure_callbacks(self):
        return [self.weighting]


class Newton(Weighted):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters())


@pytest.mark.parametrize(
    ("module", "given", "says"),
    [
        (Adds, {}, "training_step: expected the value of weighting.loss"),
        (Manual, {"accumulate_grad_batches": 1}, "automatic_optimization: expected True"),
        (NotGiven, {}, "callbacks: expected a WeightingCallback"),
        (NotCalled, {}, "training_step: expected a WeightingCallback"),
        (Newton, {}, "optimizer: expected one that takes a step from one gradient, got LBFGS"),
        (Weighted, {"precision": "bf16-true"}, "precision: expected '32-true' or '64-true' or 'bf16-mixed'"),
        (Weighted, {"precision": "16-true"}, "precision: expected '32-true' or '64-true' or 'bf16-mixed'"),
    ],
)
def test_what_does_not_hold_is_refused_by_name(tmp_path, module, given, says):
    with pytest.raises(SamplewiseError, match=f"^{re.escape(says)}"):
        trainer(tmp_path, **given).fit(module(), loader())


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy])
def test_strategies_that_split_parameters_are_refused(strategy):
    """Lightning itself runs both on accelerators alone."""
    own = SimpleNamespace(strategy=strategy(), precision="32-true")
    with pytest.raises(SamplewiseError, match=f"^strategy: expected one device, or 'ddp', got {strategy.__name__}"):
        check_trainer(own, Weighted())


def test_a_rule_that_decides_once_an_epoch_is_refused():
    with pytest.raises(SamplewiseError, match=r"^rule: expected a rule that works step by step, in Lightning"):
        Weighted('infobatch(share=0.5, scope="epoch")')


def test_a_batch_without_ids_is_refused_with_the_remedy(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "sample_id"} for row in runs.ROWS]
    with pytest.raises(SamplewiseError, match=r"^micro_batches: expected micro-batches with 'sample_id'"):
        trainer(tmp_path).fit(Weighted(), loader(rows))


def test_the_same_callback_in_a_second_run_starts_anew(tmp_path):
    module = Weighted("warmup(3, ir_dro(r=0.5))")
    for _ in range(2):
        trainer(tmp_path, accumulate_grad_batches=4).fit(module, loader())
        assert module.weighting.engine.steps == 2
