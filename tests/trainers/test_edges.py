"""Ways in which people use a Trainer that are easily forgotten."""

import datasets
import pytest
import tiny
import torch
import transformers
from test_host_agreement import parameters, recording
from test_step_in_trainer import Gradients, gradient_by_hand
from transformers import Trainer

import samplewise as sw
from samplewise.trainers import WeightedMixin, WeightedTrainer


def make(tmp_path, cls=WeightedTrainer, dataset=None, arguments=None, **options):
    options = {"rule": "ir_dro(r=0.5)", "data_collator": tiny.collate, **options}
    if "model_init" not in options:
        options.setdefault("model", tiny.model())
    return cls(args=tiny.arguments(tmp_path, **(arguments or {})), train_dataset=dataset or tiny.Rows(24), **options)


def test_model_init_makes_the_model_anew_at_each_train(tmp_path):
    trainer = make(tmp_path, model_init=lambda: tiny.model(), rule="uniform()", per="token")
    trainer.train()
    first = parameters(trainer)
    trainer.train()
    host = Trainer(
        model_init=lambda: tiny.model(), args=tiny.arguments(tmp_path), train_dataset=tiny.Rows(24),
        data_collator=tiny.collate,
    )  # fmt: skip
    host.train()
    assert (first - parameters(trainer)).abs().max() == 0
    assert (first - parameters(host)).abs().max() <= 2e-5


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        rows = tiny.Rows(12)
        return iter([rows[i] for i in range(12)])


def test_what_a_stream_leaves_over_makes_no_step_and_no_gradient(tmp_path):
    """12 rows, 8 a step: the host takes no step on the last 4; their gradient must not reach the next step."""
    seen = Gradients()
    trainer = make(
        tmp_path, dataset=Stream(), rule=sw.ir_dro(0.05), callbacks=[seen], model=tiny.model(dtype=torch.float64),
        arguments={"max_steps": 3, "max_grad_norm": 0.0, "learning_rate": 0.0},
    )  # fmt: skip
    trainer.train()
    expected = gradient_by_hand(tiny.model(dtype=torch.float64), sw.ir_dro(0.05), rows=range(8), n=12)
    for got in seen.steps:
        assert (got - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("method", ["compute_loss", "training_step"])
@pytest.mark.parametrize("below", [True, False])
def test_steps_and_losses_of_ones_own_are_refused_wherever_they_stand(tmp_path, method, below):
    def own(self, *args, **kwargs):
        raise AssertionError("must not be called")

    mine = type("Mine", (WeightedTrainer if below else Trainer,), {method: own, "__module__": "mine"})
    cls = mine if below else type("Weighted", (WeightedMixin, mine), {})
    with pytest.raises(sw.SamplewiseError, match=rf"^Mine\.{method}"):
        make(tmp_path, cls=cls)


def test_micro_refuses_a_model_with_a_term_of_its_own(tmp_path):
    model = transformers.MixtralForCausalLM(
        transformers.MixtralConfig(
            vocab_size=tiny.VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, num_local_experts=2, output_router_logits=True,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip
    with pytest.raises(sw.SamplewiseError, match=r"^normalize: .*term of its own"):
        make(tmp_path, model=model, normalize="micro").train()


class Epochs(tiny.Rows):
    def __init__(self):
        super().__init__(16)
        self.epochs = []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def test_a_dataset_is_told_its_epoch(tmp_path):
    ours, host = Epochs(), Epochs()
    arguments = {"num_train_epochs": 2, "max_steps": -1}
    make(tmp_path, dataset=ours, arguments=arguments).train()
    Trainer(tiny.model(), tiny.arguments(tmp_path, **arguments), train_dataset=host, data_collator=tiny.collate).train()
    assert ours.epochs == host.epochs
    assert set(ours.epochs) == {0, 1}


def test_a_transform_that_makes_the_columns(tmp_path):
    rows = tiny.Rows(24)

    def tokenised(batch):
        return {"input_ids": [rows.rows[k] for k in batch["k"]], "labels": [rows.rows[k] for k in batch["k"]]}

    data = datasets.Dataset.from_dict({"k": list(range(24))}).with_transform(tokenised)
    seen = []
    make(
        tmp_path, dataset=data, rule=recording(seen), arguments={"remove_unused_columns": False, "max_steps": 3}
    ).train()
    assert sorted(i for step in seen[-3:] for i in step) == list(range(24))


class AllMasked(tiny.Rows):
    def __getitem__(self, index):
        row = super().__getitem__(index)
        return {**row, "labels": torch.full_like(row["labels"], -100)}


class NamedByText(tiny.Rows):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "sample_id": f"doc{index}"}


class OneBadRow(tiny.Rows):
    def __getitem__(self, index):
        row = super().__getitem__(index)
        bad = {key: torch.cat([torch.tensor([2]), value]) for key, value in row.items()}
        return bad if index == 3 else row


def bad_model():
    model = tiny.model()
    with torch.no_grad():
        model.get_input_embeddings().weight[2] = float("inf")
    return model


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("at least one predicted token", {"dataset": AllMasked(24), "per": "token"}),
        ("^sample_id: expected whole numbers, got 'doc", {"dataset": NamedByText(24)}),
        ("^max_nonfinite", {"max_nonfinite": "1%"}),
        ("^max_nonfinite", {"max_nonfinite": -1}),
        ("^max_nonfinite", {"max_nonfinite": 5}),
        (r"normalize='micro', got others, ids \[3\]", {
            "dataset": OneBadRow(8), "model": bad_model(), "normalize": "micro", "max_nonfinite": 0.5}),
        ("got 1 samples in the last step", {
            "dataset": tiny.Rows(13), "rule": "top_k(0.5)", "normalize": "micro",
            "arguments": {"num_train_epochs": 1, "max_steps": -1}}),
        ("at least 7 samples.*got 6", {"dataset": tiny.Rows(6), "rule": "band(drop_top=0.15)"}),
    ],
)  # fmt: skip
def test_bad_input_is_named(tmp_path, match, options):
    with pytest.raises(sw.SamplewiseError, match=match):
        make(tmp_path, **options).train()


def test_a_last_step_that_never_comes_is_no_reason_to_refuse(tmp_path):
    make(tmp_path, dataset=tiny.Rows(25), rule="top_k(0.5)", arguments={"max_steps": 1}).train()
    with pytest.raises(sw.SamplewiseError, match="last step"):
        make(tmp_path, dataset=tiny.Rows(25), rule="top_k(0.5)", arguments={"max_steps": 4}).train()


def test_a_pool_needs_the_hosts_loader(tmp_path):
    class Mine(Trainer):
        def get_train_dataloader(self):
            return super().get_train_dataloader()

    with pytest.raises(sw.SamplewiseError, match=r"^pool"):
        make(tmp_path, cls=type("T", (WeightedMixin, Mine), {}), rule="top_k(0.5)", pool=2).train()


def test_no_training_data_is_the_hosts_message(tmp_path):
    trainer = WeightedTrainer(tiny.model(), tiny.arguments(tmp_path), rule="uniform()")
    with pytest.raises(ValueError, match="requires a train_dataset"):
        trainer.train()


def test_figures_do_not_leak_into_the_next_run(tmp_path):
    trainer = make(tmp_path, arguments={"max_steps": 3, "logging_steps": 2})
    modes = []
    for _ in range(2):
        trainer.train()
        modes.append([e["samplewise/mode"] for e in trainer.state.log_history if "samplewise/mode" in e])
    assert modes[0] == modes[1] == [1.5]


@pytest.mark.parametrize("rule", ["ir_dro(r=0.5)", "top_k(0.5)"])
@pytest.mark.parametrize("first", [WeightedTrainer, Trainer])
@pytest.mark.fast_cases("WeightedTrainer-ir_dro(r=0.5)")
def test_a_model_trained_before_is_computed_in_bf16_again(tmp_path, rule, first):
    """The host prepares a model once: what wraps its forward then stays under ours the second time."""

    def logged(model):
        trainer = make(tmp_path, model=model, rule=rule, arguments={"bf16": True})
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    fresh, used = tiny.model(), tiny.model()
    options = {"rule": "uniform()"} if first is WeightedTrainer else {}
    first(
        used, tiny.arguments(tmp_path, bf16=True, learning_rate=0.0), train_dataset=tiny.Rows(24),
        data_collator=tiny.collate, **options,
    ).train()  # fmt: skip
    assert logged(used) == logged(fresh)
    assert logged(tiny.model()) != [
        entry["loss"] for entry in _trained_in_fp32(tmp_path, rule).state.log_history if "loss" in entry
    ]


def _trained_in_fp32(tmp_path, rule):
    trainer = make(tmp_path, rule=rule)
    trainer.train()
    return trainer
