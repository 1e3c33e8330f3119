"""Overrides of compute_loss and training_step: those that only call super train as if they were not there."""

import pytest
import tiny
import torch
from transformers import Trainer

import samplewise as sw
from samplewise.trainers import WeightedMixin, WeightedTrainer
from samplewise.trainers.overrides import only_calls_super


class Stars(Trainer):
    def compute_loss(self, *args, **kwargs):
        """Where a user means to write something some day."""
        return super().compute_loss(*args, **kwargs)


class Named(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch)
        return loss  # noqa: RET504


class Positional(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super(Positional, self).compute_loss(model, inputs, return_outputs)  # noqa: UP008


class Step(Trainer):
    def training_step(self, model, inputs, num_items_in_batch=None):
        return super().training_step(model, inputs, num_items_in_batch)


class Doubled(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        return 2 * super().compute_loss(model, inputs, return_outputs, **kwargs)


class Changed(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        inputs = {key: value for key, value in inputs.items() if key != "weights"}
        return super().compute_loss(model, inputs, return_outputs, **kwargs)


class Swapped(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        return super().compute_loss(inputs, model, return_outputs, **kwargs)


class Always(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        return super().compute_loss(model, inputs, return_outputs=True, **kwargs)


class Elsewhere(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        return super().prediction_step(model, inputs, return_outputs, **kwargs)


class Decorated(Trainer):
    @torch.no_grad()
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        return super().compute_loss(model, inputs, return_outputs, **kwargs)


class Unread(Trainer):
    """Of a text that cannot be had."""

    exec("def compute_loss(self, *args, **kwargs):\n    return 0")


def run(folder, base, above=False, **own):
    cls = type("Mixed", (base, WeightedTrainer), {}) if above else type("Mixed", (WeightedMixin, base), {})
    options = {"rule": "ir_dro(r=0.5)", **own}
    found = cls(tiny.model(), tiny.arguments(folder), train_dataset=tiny.Rows(), data_collator=tiny.collate, **options)
    found.train()
    return torch.cat([p.detach().flatten() for p in found.model.parameters()])


@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.parametrize("base", [Stars, Named, Positional, Step])
@pytest.mark.parametrize("above", [False, True])
@pytest.mark.fast_cover(1)
def test_one_that_only_calls_super_changes_nothing(tmp_path, base, above, per):
    assert torch.equal(run(tmp_path, base, above, per=per), run(tmp_path, Trainer, per=per))


@pytest.mark.parametrize("base", [Doubled, Changed, Swapped, Always, Elsewhere, Decorated, Unread])
@pytest.mark.parametrize("above", [False, True])
def test_one_that_does_more_is_refused(tmp_path, base, above):
    with pytest.raises(sw.SamplewiseError, match=rf"^{base.__name__}.compute_loss: "):
        run(tmp_path, base, above)


def test_of_no_function_nothing_is_known():
    assert not only_calls_super(len, "compute_loss")
    assert not only_calls_super(lambda self, *args: None, "compute_loss")
