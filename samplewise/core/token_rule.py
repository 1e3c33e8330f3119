"""The token rule: a value made of a pure function that says what the tokens of a sample count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from samplewise.core.calls import Call, Called
from samplewise.core.errors import SamplewiseError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch

Scope = Literal["sample", "step"]
TokenNorm = Literal["sum", "count"]
"""What a sample's loss is divided by: the sum of its token weights, or what it was divided by without the rule."""


@dataclass(frozen=True, eq=False, repr=False)
class TokenRule(Called):
    """`weights = rule(loss, reference, sample)`: a value made of a pure function, over the P tokens of its scope.

    apply: (token losses [P], token losses under the reference model [P] or None, the sample each token belongs to [P])
        -> [P] token weights of 0 or more. The order of the tokens and the numbers of the samples do not matter.
    scope: "sample": a token's weight follows from its own sample, so any complete samples may be given (one pass);
        "step": all the step's tokens over micro-batches and ranks must be (two passes).
    needs_reference: whether it needs a reference model's token losses.
    norm: "sum", of rules that select: a sample's loss is Σ mℓ / Σ m, and a rule over samples sees that loss. "count",
        of rules that weigh again: Σ mℓ / n, n its tokens (or the Σ of the data's own token weights), so that a sample
        of small weights moves the model less; a rule over samples sees its plain loss Σ ℓ / n.
    pointwise: a token's weight follows from its own two losses alone; required with norm "count".
    expression: the text that `parse_token_rule` reads back.
    call: the call that makes the rule: what it is compared, hashed and pickled as.
    """

    expression: str
    apply: Callable[[Tensor, Tensor | None, Tensor], Tensor]
    scope: Scope
    needs_reference: bool = True
    norm: TokenNorm = "sum"
    pointwise: bool = False
    call: Call | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Errors: SamplewiseError for a rule whose training pass would have to see more than it does."""
        if (self.norm == "count" and not self.pointwise) or (self.pointwise and self.scope != "sample"):
            raise SamplewiseError(
                "TokenRule", expected='norm="count" with pointwise=True, and pointwise=True with scope="sample"',
                got=f'norm="{self.norm}", pointwise={self.pointwise}, scope="{self.scope}" for {self.expression}',
                remedy='Use norm="sum" for a rule that compares tokens with each other.',
            )  # fmt: skip

    @property
    def reweighs(self) -> bool:
        """Whether it changes what tokens count in the gradient, and leaves the losses that rules see as they are."""
        return self.norm == "count"

    def __call__(self, loss: Tensor, reference: Tensor | None, sample: Tensor) -> Tensor:
        """[P] token weights; SamplewiseError where shapes differ or the reference is missing."""
        for name, values in (("reference", reference), ("sample", sample)):
            if values is not None and (loss.dim() != 1 or values.shape != loss.shape):
                raise SamplewiseError(
                    name, expected=f"one value a token, {tuple(loss.shape)}", got=tuple(values.shape),
                    remedy="Give the predicted tokens only, in the same order.",
                )  # fmt: skip
        if reference is None and self.needs_reference:
            raise SamplewiseError(
                "reference", expected=f"token losses of a reference model for {self}", got=None,
                remedy="Give reference_model: a column holds sample losses, not token losses.",
            )  # fmt: skip
        with torch.no_grad():
            return self.apply(loss, reference, sample)
