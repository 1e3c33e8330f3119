"""InfoBatch by epochs, in the host's loop: which rows an epoch has, its steps, its learning rates, where it resumes."""

import datasets
import pytest
import tiny
import torch
from test_step_in_trainer import Gradients
from test_stored import WithColumn, losses
from test_trl import conversations, trained
from transformers import Trainer
from watching import OnStep

import samplewise as sw
from samplewise.rules.base import uniforms
from samplewise.trainers import WeightedMixin, WeightedTrainer
from samplewise.trainers.loop import WeightedStep

RULE = 'infobatch(share=0.5, anneal=0.0, seed=1, scope="epoch")'
N = 42  # five steps of eight rows, and one of two


class Watched(WeightedTrainer):
    """Keeps of every step: epoch, ids, weights, losses, learning rate."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.engine.added.append(OnStep(self._keep))

    def train(self, *args, **kwargs):
        self.steps = []
        return super().train(*args, **kwargs)

    def _keep(self, result):
        number = self._order.epoch if self._order is not None else int(self.state.epoch or 0)
        rate = self.lr_scheduler.get_last_lr()[0]
        samples = result.samples
        self.steps.append((number, samples.id.tolist(), result.weights.tolist(), samples.loss, rate))

    def epoch(self, number):
        return [step for step in self.steps if step[0] == number]


def made(folder, rule=RULE, *, dataset=None, cls=Watched, callbacks=(), ours=None, model=None, **options):
    arguments = tiny.arguments(folder, **{"max_steps": -1, "num_train_epochs": 3, **options})
    return cls(
        tiny.model(attention_dropout=0.1) if model is None else model, arguments,
        train_dataset=tiny.Rows(N) if dataset is None else dataset, data_collator=tiny.collate, rule=rule,
        callbacks=list(callbacks), **(ours or {}),
    )  # fmt: skip


def run(folder, rule=RULE, *, checkpoint=None, **options):
    trainer = made(folder, rule, **options)
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


def rows_of(steps):
    return [id for step in steps for id in step[1]]


def parameters(trainer):
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of three epochs with a checkpoint at each step."""
    return run(tmp_path_factory.mktemp("whole"), save_strategy="steps", save_steps=1)


def test_an_epoch_has_the_rows_of_the_rule(whole):
    """Against the rule written out, from the losses that the steps themselves had; every row at most once."""
    last = {}
    for number in range(3):
        mean = sum(last.values()) / len(last) if last else float("nan")
        chance = dict(enumerate(uniforms(torch.arange(N), number, 1).tolist()))
        below = {id for id, loss in last.items() if loss < mean}
        expected = [id for id in range(N) if not (id in below and chance[id] < 0.5)]
        steps = whole.epoch(number)
        assert sorted(rows_of(steps)) == expected
        assert (len(expected) < N) == (number > 0)
        for _, ids, weights, loss, _ in steps:
            assert weights == [2.0 if id in below else 1.0 for id in ids]
            last |= dict(zip(ids, loss.tolist(), strict=True))
        assert [len(step[1]) for step in steps[:-1]] == [8] * (len(steps) - 1), "full steps, but for the last"


def test_the_order_is_that_of_the_host_without_those_rows(whole, tmp_path):
    plain = run(tmp_path, "uniform()", per_device_train_batch_size=1, gradient_accumulation_steps=1, learning_rate=0.0)
    for number in range(3):
        order = rows_of(plain.steps)[number * N : (number + 1) * N]
        kept = set(rows_of(whole.epoch(number)))
        stay = [id for id in order if id in kept]
        for k, (_, ids, *_) in enumerate(whole.epoch(number)):
            assert stay[8 * k : 8 * k + 8] == ids


def test_the_gradient_of_a_step(tmp_path):
    """Σ w L / n over its rows, of the last and shorter step of an epoch too."""
    seen, model = Gradients(), tiny.model()
    trainer = run(tmp_path, learning_rate=0.0, max_grad_norm=0.0, callbacks=[seen], model=model)
    rows = tiny.Rows(N).rows
    assert len(trainer.steps[-1][1]) < 8
    for (_, ids, weights, *_), gradient in list(zip(trainer.steps, seen.steps, strict=True))[-6:]:
        model.zero_grad()
        own = [w * model(rows[id][None], labels=rows[id][None]).loss for id, w in zip(ids, weights, strict=True)]
        (sum(own) / len(own)).backward()
        expected = torch.cat([p.grad.flatten() for p in model.parameters()])
        assert (gradient - expected).norm() <= 2e-5 * expected.norm()


# ---- steps and learning rates ----


def test_epochs_take_fewer_steps_and_the_learning_rate_ends_where_it_should(whole, tmp_path):
    """At the same place in the data it is the plain run's, to within a step; saved where the run ends."""
    plain = run(tmp_path, "uniform()")
    assert plain.state.global_step == 18
    assert len(whole.steps) == whole.state.global_step == whole.state.max_steps < 18
    rates = [step[4] for step in plain.steps]
    assert [step[4] for step in whole.epoch(0)] == rates[:6]
    for number in (1, 2):
        steps = whole.epoch(number)
        for k, step in enumerate(steps):
            through = number * 6 + 6 * k / len(steps)
            assert abs(step[4] - rates[0] * (1 - through / 18)) <= 1.6 * rates[0] / 18
    assert whole.lr_scheduler.last_epoch == 18
    assert set(whole.lr_scheduler.get_last_lr()) == {0.0}


def test_max_steps_are_all_taken(tmp_path):
    """Over more epochs, with the host's own learning rates; the last part of the run drops nothing."""
    trainer = run(tmp_path, 'infobatch(share=0.5, anneal=0.2, scope="epoch")', max_steps=30)
    assert trainer.state.global_step == 30
    assert trainer.steps[-1][0] >= 5, "five epochs of six steps without dropping"
    first = trainer.steps[0][4]
    assert [step[4] for step in trainer.steps] == pytest.approx([first * (1 - k / 30) for k in range(30)])
    weights = [max(step[2]) for step in trainer.steps]
    assert weights[24:] == [1.0] * 6
    assert max(weights[6:24]) == 2.0


def test_a_part_of_an_epoch(tmp_path):
    """2.5 epochs, the last quarter of the run plain: the last 0.625 epochs, in full."""
    trainer = run(tmp_path, 'infobatch(share=0.9, anneal=0.25, scope="epoch")', num_train_epochs=2.5)
    assert len(rows_of(trainer.epoch(2))) == 21
    assert {weight for step in trainer.epoch(2) for weight in step[2]} == {1.0}
    assert trainer.state.global_step == trainer.state.max_steps
    assert set(trainer.lr_scheduler.get_last_lr()) == {0.0}


# ---- restarts ----


@pytest.mark.parametrize("step", [3, 6, 7, 9, 11])
@pytest.mark.fast_cases("3", "9")
def test_resumed_as_if_never_stopped(whole, tmp_path, step):
    """In the first epoch, after it, and in the middle of those that drop: order, weights and parameters to the bit."""
    again = run(tmp_path, checkpoint=f"{whole.args.output_dir}/checkpoint-{step}")
    for (*before, loss, rate), (*other, fresh, same) in zip(whole.steps[step:], again.steps, strict=True):
        assert other == before
        assert torch.equal(loss, fresh)
        assert rate == same
    assert again.state.global_step == again.state.max_steps == len(whole.steps)
    assert all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(again), strict=True))


@pytest.mark.parametrize("strategy", ["group_by_length", "sequential"])
@pytest.mark.fast_cases("group_by_length")
def test_resumed_in_any_order(tmp_path, strategy):
    options = {"train_sampling_strategy": strategy, "num_train_epochs": 2}
    first = run(tmp_path / "a", save_strategy="steps", save_steps=8, **options)
    again = run(tmp_path / "b", checkpoint=str(tmp_path / "a" / "checkpoint-8"), **options)
    assert first.steps[7][0] == 1
    assert [step[:3] for step in again.steps] == [step[:3] for step in first.steps[8:]]


def test_resumed_at_its_end_it_takes_no_step_more(whole, tmp_path):
    again = run(tmp_path, checkpoint=f"{whole.args.output_dir}/checkpoint-{len(whole.steps)}")
    assert again.steps == []


def test_resumed_with_max_steps(tmp_path):
    text = 'chain(infobatch(scope="epoch"), ir_dro(r=linear(1.0, 0.5, 0.5)))'
    first = run(tmp_path / "a", text, max_steps=16, save_strategy="steps", save_steps=9)
    again = run(tmp_path / "b", text, max_steps=16, checkpoint=str(tmp_path / "a" / "checkpoint-9"))
    assert [step[:3] for step in again.steps] == [step[:3] for step in first.steps[9:]]
    assert all(torch.equal(a, b) for a, b in zip(parameters(first), parameters(again), strict=True))


# ---- where losses come from ----


def test_a_column_spares_the_plain_epoch(tmp_path):
    """Its losses hold until a sample's first visit; where they are, one epoch is enough."""
    known = losses(tiny.model(seed=5), tiny.Rows(N).rows)
    trainer = run(tmp_path, dataset=WithColumn(N, known), num_train_epochs=1)
    mean = sum(known) / N
    chance = uniforms(torch.arange(N), 0, 1).tolist()
    assert sorted(rows_of(trainer.steps)) == [k for k in range(N) if not (known[k] < mean and chance[k] < 0.5)]
    partly = [float("nan")] * 30 + known[30:]
    kept = rows_of(run(tmp_path, dataset=WithColumn(N, partly), num_train_epochs=1).steps)
    assert set(range(30)) <= set(kept)
    assert len(kept) < N


def test_ids_of_the_data(tmp_path):
    """A dataset of the datasets library, with ids of its own: they seed the choice and name the losses."""
    rows = [row.tolist() for row in tiny.Rows(N).rows]
    ids = [7 * k + 10**12 for k in range(N)]
    data = datasets.Dataset.from_dict({"input_ids": rows, "labels": rows, "sample_id": ids})

    def collate(features):
        return tiny.collate([{key: torch.tensor(value) for key, value in row.items()} for row in features])

    trainer = Watched(
        tiny.model(), tiny.arguments(tmp_path, max_steps=-1, num_train_epochs=2), train_dataset=data,
        data_collator=collate, rule=RULE,
    )  # fmt: skip
    trainer.train()
    last = {id: loss for _, own, _, each, _ in trainer.epoch(0) for id, loss in zip(own, each.tolist(), strict=True)}
    mean, chance = sum(last.values()) / N, uniforms(torch.tensor(ids), 1, 1).tolist()
    expected = [id for id, u in zip(ids, chance, strict=True) if not (last[id] < mean and u < 0.5)]
    assert sorted(rows_of(trainer.epoch(1))) == expected


def test_in_sft(tmp_path):
    """Padded rows; dropped by their losses over the answer."""
    trainer, _ = trained(
        tmp_path, "padded", RULE, data=conversations(40), max_steps=-1, num_train_epochs=3, learning_rate=1e-3
    )
    counts = [len(samples) for _, samples, *_ in trainer.steps]
    assert sum(counts[: len(counts) // 3]) <= 40
    assert 40 * 3 * 0.5 < sum(counts) < 40 * 3


# ---- what it says no to ----


class Own(WeightedTrainer):
    """Builds its loader itself."""

    def get_train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=4, collate_fn=self.data_collator)


class OwnOrder(WeightedMixin, Trainer):
    """An order of its own, around which the mixin's would have to be."""

    def _get_train_sampler(self, *args, **kwargs):
        return torch.utils.data.SequentialSampler(args[0])


class Stream(torch.utils.data.IterableDataset):
    """Rows without end."""

    def __iter__(self):
        yield from map(tiny.Rows(N).__getitem__, range(N))


@pytest.mark.parametrize(
    ("says", "options"),
    [
        ("num_train_epochs: expected more than one epoch", {"num_train_epochs": 1}),
        ("max_steps: expected more than the 6 of the first epoch", {"max_steps": 6}),
        ("anneal: expected less than 0.667", {"rule": 'infobatch(anneal=0.7, scope="epoch")'}),
        ("train_dataset: expected a dataset of known length", {"dataset": Stream(), "max_steps": 20}),
        ("turns: expected rows of one sample", {"ours": {"turns": True}}),
        ("get_train_dataloader: expected the Trainer's", {"cls": Own}),
        ("dispatch_batches: expected every rank", {"accelerator_config": {"dispatch_batches": True}}),
        ("_get_train_sampler: expected the Trainer's", {"cls": OwnOrder}),
    ],
)  # fmt: skip
def test_refused_by_name(tmp_path, says, options):
    with pytest.raises(sw.SamplewiseError, match=says) as caught:
        run(tmp_path, **options)
    assert 'infobatch(scope="step")' in str(caught.value)


def test_packed_rows_are_refused(tmp_path):
    with pytest.raises(sw.SamplewiseError, match=r"^packing: expected rows of one sample each.*packed rows"):
        trained(tmp_path, "bfd", RULE, max_steps=-1, num_train_epochs=3)


def test_a_rule_beside_it_must_bear_the_last_step_of_an_epoch(tmp_path):
    rule = f"chain({RULE}, top_k(0.25))"
    with pytest.raises(sw.SamplewiseError, match=r"in the last step of an epoch.*dataloader_drop_last"):
        run(tmp_path, rule, dataset=tiny.Rows(40))
    trainer = run(tmp_path, rule, dataset=tiny.Rows(40), dataloader_drop_last=True)
    assert {len(step[1]) for step in trainer.steps} <= {4, 8}


def test_a_loop_of_ones_own_has_no_epochs():
    with pytest.raises(sw.SamplewiseError, match="step by step, in a loop of your own"):
        WeightedStep(tiny.model(), RULE)
