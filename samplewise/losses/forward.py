"""A micro-batch through the model: sample losses, and Σ u_i L_i with its gradient. Several ways, one protocol."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor, nn

from samplewise.core.micro_batch import MicroBatch
from samplewise.losses.kernels import Factor, Select, Tally


class ForwardResult(NamedTuple):
    """value [] Σ u_i L_i; loss [n] nats/token, detached; tokens, factors [n]; aux [] or None: the model's own terms.

    router: [] its load-balancing loss before its coefficient, detached, where the model has one.
    """

    value: Tensor
    loss: Tensor
    tokens: Tensor
    factors: Tensor
    aux: Tensor | None
    router: Tensor | None = None


class Forward(Protocol):
    """How losses are had; all ways give the same numbers, and call the wrapped model, so that DDP and FSDP see it.

    tally: is filled with the tokens' entropy and correctness where it is set.
    """

    tally: Tally | None

    def losses(self, model: nn.Module, micro: MicroBatch, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """[n] losses and [n] predicted tokens."""
        ...

    def token_losses(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        """[B, T] nats, aligned with labels, 0 where nothing is predicted; without gradient."""
        ...

    def objective(
        self, model: nn.Module, micro: MicroBatch, factors: Tensor | Factor, tally: bool = True,
        select: Select | None = None,
    ) -> ForwardResult:  # fmt: skip
        """Σ u_i L_i for known factors [n] or a function of complete samples.

        tally: False where a pass came before. select: which tokens count, beside the micro-batch's reference losses.
        """
        ...
