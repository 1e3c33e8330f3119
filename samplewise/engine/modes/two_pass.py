"""Two passes: score everything without gradient, weigh, then train on what is kept. Exact for any rule."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.modes.base import Mode
from samplewise.engine.token_selection import select_step_tokens
from samplewise.losses.evaluation import evaluating
from samplewise.losses.token_losses import sample_means


class TwoPass(Mode):
    """One forward of every sample, then forward and backward of those that are kept."""

    name = "two_pass"
    passes = 2.0

    def begin(self, model: nn.Module, batches: list[MicroBatch]) -> list[MicroBatch]:
        """Scores all, plans, deals the kept rows."""
        with self.context.clock.timed("score"):
            batches, pairs = self._scored(model, batches)
        loss, tokens = (torch.cat([pair[k] for pair in pairs]) for k in (0, 1))
        trained = self._begin(batches, loss, tokens)
        self.scored_tokens = self.all_tokens
        return trained

    def _scored(
        self, model: nn.Module, batches: list[MicroBatch]
    ) -> tuple[list[MicroBatch], list[tuple[Tensor, Tensor]]]:
        """The micro-batches with what a token rule leaves of their tokens, and ([n] losses, [n] counts) of each."""
        context, forward = self.context, self.context.forward
        with evaluating(model):
            if context.token_rule is None or context.token_rule.reweighs:  # losses as they are
                return batches, [forward.losses(model, micro) for micro in batches]
            losses = [forward.token_losses(model, micro) for micro in batches]
        kept = select_step_tokens(context.token_rule, batches, losses, context.device, per=context.per)
        return kept, [_means(loss, micro) for loss, micro in zip(losses, kept, strict=True)]

    def objective(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        """[] Σ coefficient × loss of the kept rows, × ranks, since DDP and FSDP2 average gradients."""
        return self._known(model, micro, tally=False)[0]


def _means(loss: Tensor, micro: MicroBatch) -> tuple[Tensor, Tensor]:
    return sample_means(loss, micro.targets, segments=micro.segments, token_weights=micro.token_weights)
