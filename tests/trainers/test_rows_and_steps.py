"""Rows padded on the left, values that cannot be used, steps too short for a rule: what the trainer makes of them."""

import datasets
import pytest
import tiny
import torch

import samplewise as sw
from samplewise.trainers import WeightedTrainer


def padded_on_the_left(features):
    width = max(len(f["input_ids"]) for f in features)
    pad = lambda v, x: torch.nn.functional.pad(v, (width - len(v), 0), value=x)  # noqa: E731
    return {
        "input_ids": torch.stack([pad(f["input_ids"], 0) for f in features]),
        "attention_mask": torch.stack([pad(torch.ones_like(f["input_ids"]), 0) for f in features]),
        "labels": torch.stack([pad(f["labels"], -100) for f in features]),
    }


class First(WeightedTrainer):
    def create_optimizer(self, *args, **kwargs):
        optimizer = super().create_optimizer(*args, **kwargs)
        step = optimizer.step

        def seen(*more, **options):
            self.gradient = torch.cat([p.grad.flatten().clone() for p in self.model.parameters()])
            return step(*more, **options)

        optimizer.step = seen
        return optimizer


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("rule", ["uniform()", "chi2_dro(0.3)"])
@pytest.mark.fast_cases("chi2_dro(0.3)-llama", "uniform()-gpt2")
def test_per_token_whatever_the_padding_and_the_split(tmp_path, kind, rule):
    found = []
    for collate in (tiny.collate, padded_on_the_left):
        for size, accumulation in ((4, 1), (2, 2), (1, 4)):
            trainer = First(
                tiny.model(kind, dtype=torch.float64), rule=rule, per="token", data_collator=collate,
                args=tiny.arguments(
                    tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=accumulation, max_steps=1,
                    max_grad_norm=0,
                ), train_dataset=tiny.Rows(4),
            )  # fmt: skip
            loss = trainer.train().training_loss
            found.append((trainer.gradient, loss))
    for gradient, loss in found[1:]:
        assert loss == pytest.approx(found[0][1], rel=1e-6)
        assert float((gradient - found[0][0]).norm() / found[0][0].norm()) < 1e-6


def rows(weights) -> datasets.Dataset:
    plain = [tiny.Rows(24)[k] for k in range(24)]
    return datasets.Dataset.from_dict(
        {"input_ids": [r["input_ids"].tolist() for r in plain], "labels": [r["labels"].tolist() for r in plain],
         "sample_weight": [weights.get(k, 1.0) for k in range(24)]}
    ).with_format("torch", columns=["input_ids", "labels"], output_all_columns=True)  # fmt: skip


def trainer(tmp_path, data, rule, **options) -> WeightedTrainer:
    return WeightedTrainer(
        tiny.model(), tiny.arguments(tmp_path, **options), train_dataset=data, data_collator=tiny.collate, rule=rule
    )


@pytest.mark.parametrize("bad", [None, float("nan"), -2.0])
def test_rows_of_unusable_weights_are_named_before_the_first_step(tmp_path, bad):
    made = trainer(tmp_path, rows({5: bad, 17: bad}), "column_weights()")
    with pytest.raises(sw.SamplewiseError, match=r"^sample_weight: .* in row 5, .* in row 17"):
        made.train()
    assert made.state.global_step == 0


@pytest.mark.parametrize("bad", [None, float("nan"), -2.0])
def test_weights_that_no_rule_reads_are_no_error(tmp_path, bad):
    made = trainer(tmp_path, rows({5: bad}), "ir_dro(r=1.0)", max_steps=-1, num_train_epochs=1)
    made.train()
    assert made.state.global_step == 3


def test_a_stream_names_the_row(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            data = tiny.Rows(24)
            for k in range(24):
                yield {**data[k], "sample_weight": -1.0 if k == 11 else 1.0}

    with pytest.raises(sw.SamplewiseError, match=r"^sample_weight: .*row 11 of the stream"):
        trainer(tmp_path, Stream(), "column_weights()", max_steps=3).train()


def test_a_short_last_step_is_counted_and_the_run_goes_on(tmp_path, caplog):
    made = trainer(tmp_path, tiny.Rows(11), "band(drop_top=0.125)", max_steps=-1, num_train_epochs=2)
    made.train()
    assert made.state.global_step == 4
    assert sum(entry.get("samplewise/no_effect", 0) for entry in made.state.log_history) == 2
    assert caplog.text.count("at least 8 samples") == 1
    with pytest.raises(sw.SamplewiseError, match=r"at least 9 samples.*got 8 samples"):
        trainer(tmp_path, tiny.Rows(24), "band(drop_top=0.112)").train()
