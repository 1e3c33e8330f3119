"""Token weights that follow from token losses, in the same pass."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from samplewise.core.host import exact_dtype, to_device
from samplewise.losses.kernels.inputs import Inputs
from samplewise.losses.kernels.targets import Targets
from samplewise.losses.token_losses import check_token_weights


def apply_selection(inputs: Inputs, targets: Targets, token_loss: Tensor, start: int, end: int) -> Targets:
    """The targets as `inputs.select` weighs positions start..end-1, which are complete samples; token_loss [P].

    What they weighed before stays a factor: a selection is among what is predicted. Weights on a device are not waited
    for: those that are no numbers of 0 or more make their sample's loss NaN.
    """
    assert inputs.select is not None
    reference = None if inputs.reference is None else targets.given(inputs.reference)[start:end]
    with torch.no_grad():
        selected = torch.as_tensor(inputs.select(token_loss[start:end].detach(), reference, targets.sample[start:end]))
    check_token_weights(selected, (end - start,))
    selected = to_device(selected.to(exact_dtype(targets.position.device)), targets.position.device)
    return targets.times(selected.where(selected >= 0, torch.nan), start, end)


def reweighed(inputs: Inputs, targets: Targets, token_loss: Tensor, where: slice | Tensor) -> Tensor:
    """[c] what `inputs.select` makes each of positions `where` count in the objective, beside its weight.

    The rule is pointwise, so that any positions will do. What is no number of 0 or more is NaN.
    """
    assert inputs.select is not None
    loss, sample = token_loss[where].detach(), targets.sample[where]
    reference = None if inputs.reference is None else targets.given(inputs.reference)[where]
    with torch.no_grad():
        found = torch.as_tensor(inputs.select(loss, reference, sample)).to(token_loss)
    return found.where(found >= 0, torch.nan)


def selected_inputs(inputs: Inputs, targets: Targets) -> Inputs:
    """The inputs with what was selected, as token weights given from outside."""
    assert targets.weight is not None
    return replace(inputs, token_weights=targets.placed(targets.weight, inputs.labels), select=None, reference=None)
