"""How a run starts: over again with fewer rows, as a trial of a search, from no data, or not at all."""

import copy
from typing import Any

import pytest
import tiny
import torch
from torch.utils.data import IterableDataset

import samplewise as sw
from samplewise.trainers import WeightedTrainer

RULE = "warmup(1, chain(random_keep(0.75, seed=5), ir_dro(r=0.5)))"


def trainer(folder, cls=WeightedTrainer, rule=RULE, data=None, model=None, own=None, **options) -> Any:
    args = tiny.arguments(folder, **options)
    data = tiny.Rows(40) if data is None else data
    return cls(
        model or tiny.model(), args, train_dataset=data, data_collator=tiny.collate, rule=rule, **(own or {})
    )  # fmt: skip


def parameters(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def figures(run):
    return [
        {k: v for k, v in entry.items() if "seconds" not in k} for entry in run.state.log_history if "loss" in entry
    ]


class Short(WeightedTrainer):
    """Has room for so many rows at once, and runs out of it in the second micro-batch of a step."""

    room = 3
    asked = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.enough, self.engine.loss = self.engine.loss, self.short_of_room

    def short_of_room(self, model, micro):
        self.asked += 1
        if self.asked % 2 == 0 and self._train_batch_size > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.enough(model, micro)


def test_started_over_with_fewer_rows_it_is_the_run_of_so_many(tmp_path, caplog):
    """Nothing of the failed step is left: not in the gradient, the rule's state, the memory or the log."""
    options = {"max_steps": 4, "lr_scheduler_type": "constant"}
    found = trainer(
        tmp_path / "a", Short, per_device_train_batch_size=4, auto_find_batch_size=True,
        own={"log_samples": tmp_path / "log"}, **options,
    )  # fmt: skip
    found.train()
    told = trainer(tmp_path / "b", per_device_train_batch_size=3, own={"log_samples": tmp_path / "own"}, **options)
    told.train()
    assert "micro-batches have 3 rows, not 4" in caplog.text
    assert torch.equal(parameters(found), parameters(told))
    assert figures(found) == figures(told)
    assert found.rule_state == told.rule_state
    import pyarrow.parquet

    logs = [pyarrow.parquet.read_table(tmp_path / name) for name in ("log", "own")]
    assert logs[0].equals(logs[1])


def test_fewer_rows_that_the_rule_cannot_work_on_are_refused_then(tmp_path):
    """top_k(0.25) keeps one in four: of a step of three rows it would keep none."""
    run = trainer(
        tmp_path, Short, "top_k(0.25)", per_device_train_batch_size=4, gradient_accumulation_steps=1,
        auto_find_batch_size=True,
    )  # fmt: skip
    run.asked = 1
    with pytest.raises(sw.SamplewiseError, match="got 3 samples"):
        run.train()


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_rows_that_were_found(tmp_path, caplog):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "auto_find_batch_size": True}
    whole = trainer(tmp_path, Short, **options)
    whole.train()
    caplog.clear()
    again = trainer(tmp_path, Short, **options)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(parameters(again), parameters(whole))
    assert "skipped or repeated" not in caplog.text


def searched(folder, cls, rates, **options):
    """The evaluation loss of each trial, whose arguments are set as the host's search does it."""
    args = tiny.arguments(folder, eval_strategy="no", **options)
    more: dict[str, Any] = {} if cls is not WeightedTrainer else {"rule": RULE}
    run: Any = cls(
        None, args, train_dataset=tiny.Rows(40), eval_dataset=tiny.Rows(8, seed=2), data_collator=tiny.collate,
        model_init=lambda: tiny.model(), **more,
    )  # fmt: skip
    losses = []

    def space(trial):
        rate = trial.suggest_categorical("learning_rate", rates)
        return {"learning_rate": rate, "per_device_train_batch_size": 2 if rate == rates[1] else 4}

    def objective(metrics):
        losses.append((run.args.learning_rate, run.args.per_device_train_batch_size, metrics["eval_loss"]))
        return metrics["eval_loss"]

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run.hyperparameter_search(
        hp_space=space, compute_objective=objective, n_trials=3, backend="optuna",
        sampler=optuna.samplers.GridSampler({"learning_rate": list(rates)}),
    )  # fmt: skip
    return losses


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_each_trial_of_a_search_is_a_run_of_its_own(tmp_path):
    pytest.importorskip("optuna")
    rates = (1e-2, 3e-3, 1e-3)
    found = searched(tmp_path, WeightedTrainer, rates)
    assert {rate for rate, *_ in found} == set(rates)
    for rate, rows, loss in found:
        alone = WeightedTrainer(
            None, tiny.arguments(tmp_path, learning_rate=rate, per_device_train_batch_size=rows),
            train_dataset=tiny.Rows(40), eval_dataset=tiny.Rows(8, seed=2), data_collator=tiny.collate, rule=RULE,
            model_init=lambda: tiny.model(),
        )  # fmt: skip
        alone.train()
        assert alone.evaluate()["eval_loss"] == pytest.approx(loss, rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_trial_may_not_ask_for_what_weights_cannot_go_with(tmp_path):
    pytest.importorskip("optuna")
    run: Any = WeightedTrainer(
        None, tiny.arguments(tmp_path), train_dataset=tiny.Rows(40), eval_dataset=tiny.Rows(8),
        data_collator=tiny.collate, model_init=lambda: tiny.model(), rule=RULE,
    )  # fmt: skip
    space = lambda trial: {"label_smoothing_factor": trial.suggest_float("label_smoothing_factor", 0.1, 0.2)}  # noqa: E731
    with pytest.raises(sw.SamplewiseError, match="label_smoothing_factor"):
        run.hyperparameter_search(hp_space=space, n_trials=1, backend="optuna", direction="minimize")


class Stream(IterableDataset):
    def __init__(self, count):
        self.rows = [tiny.Rows(count)[k] for k in range(count)]

    def __iter__(self):
        return iter(self.rows)


@pytest.mark.parametrize("rule", ["uniform()", "ir_dro(ess=0.5)", "lin_upper(r=1)", "top_k(0.5)"])
@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "got no rows"),
        (tiny.Rows(0), {"max_steps": -1, "num_train_epochs": 1}, "got no rows"),
        (tiny.Rows(3), {"dataloader_drop_last": True}, "at least 4 rows, a micro-batch, got 3"),
        (Stream(0), {}, "expected rows, got none"),
        (Stream(5), {"gradient_accumulation_steps": 4}, "one step of 4 micro-batches, got 2"),
    ],
)
def test_no_data_for_a_step_is_said_so_whatever_the_rule(tmp_path, rule, data, options, message):
    with pytest.raises(sw.SamplewiseError, match=f"^train_dataset: .*{message}"):
        trainer(tmp_path, rule=rule, data=data, **options).train()


def test_a_step_from_elsewhere_is_refused_before_and_after_training(tmp_path):
    run = trainer(tmp_path, rule="ir_dro(r=1.0)")
    batch = tiny.collate([tiny.Rows(4)[k] for k in range(4)])
    for _ in range(2):
        with pytest.raises(sw.SamplewiseError, match=r"^training_step: .*train\(\) has planned"):
            run.training_step(run.model, dict(batch))
        run.train()
    assert all(p.grad is None or not p.grad.any() for p in run.model.parameters())


def test_evaluated_before_training_twice_trained_and_copied_it_is_the_same_run(tmp_path):
    """The host's other ways in and out: each train() starts from nothing that the one before has left."""
    once = trainer(tmp_path)
    once.train()
    other = trainer(tmp_path, own={"eval_dataset": tiny.Rows(8, seed=2)})
    start = copy.deepcopy(other.model.state_dict())
    before = other.evaluate()["eval_loss"]
    assert other.predict(tiny.Rows(8, seed=2)).metrics["test_loss"] == pytest.approx(before)
    other.args = copy.deepcopy(other.args)
    other.train()
    assert torch.equal(parameters(other), parameters(once))
    assert figures(other) == figures(once)
    other.model.load_state_dict(start)
    other.optimizer = other.lr_scheduler = None
    other.train()
    assert torch.equal(parameters(other), parameters(once))
    assert other.rule_state == once.rule_state


def test_the_model_answers_for_its_losses_only_while_it_trains(tmp_path):
    run = trainer(tmp_path)
    face = run.model.forward
    for _ in range(2):
        run.train()
        assert run.model.forward == face
    del run.train_dataset.rows[:]
    with pytest.raises(sw.SamplewiseError):
        run.train()
    assert run.model.forward == face


def test_a_model_is_not_asked_for_where_none_is_there_yet(tmp_path):
    """Between two trials the host has no model at all."""
    run: Any = WeightedTrainer(
        None, tiny.arguments(tmp_path), train_dataset=tiny.Rows(40), data_collator=tiny.collate, rule=RULE,
        model_init=lambda: tiny.model(),
    )  # fmt: skip
    run.train()
    first, run.model = parameters(run), None
    run.train()
    assert torch.equal(parameters(run), first)
