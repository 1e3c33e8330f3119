"""Token rules that look at one token at a time: weights by its probability, and limits on its loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

from samplewise.core.calls import called
from samplewise.core.errors import SamplewiseError
from samplewise.core.token_rule import TokenRule
from samplewise.rules.base import check_number
from samplewise.rules.tokens import finite_reference, wide

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch

Of = Literal["live", "reference"]


@called
def dft() -> TokenRule:
    """Weigh every token by the probability p that the model gives it: the gradient of p, not of log p.

    A token that the model holds for unlikely pulls at it less: the gradient of −p·log p with p held constant is −∇p.
    The sum is divided by the number of tokens and not by Σ p, so that a sample of unlikely tokens moves the model less;
    rules over samples, and the logged loss, see plain losses. With `uniform()` and per="token" it is TRL's
    `loss_type="dft"`. Pointwise, and it needs no second model. A token whose loss is NaN keeps the weight 1.
    Source: dynamic fine-tuning, DFT (Wu et al., arXiv 2508.05629).

    >>> dft()(torch.tensor([0.0, 1.0, 2.0]), None, torch.tensor([0, 0, 0]))  # e^−loss
    tensor([1.0000, 0.3679, 0.1353])
    """
    return _weighing("dft()", lambda loss: torch.exp(-loss))


@called
def talr(tau: float) -> TokenRule:
    """Weigh every token by p^(1/tau), p the probability that the model gives it: unlikely tokens less.

    tau: above 0, without a unit; 1 is `dft()`, larger is flatter, ∞ plain training, smaller steeper.
    Divided by the number of tokens; rules over samples and the logged loss see plain losses, as with `dft`. Pointwise.
    Source: the weight of token-adaptive loss reweighting, TALR (Lin et al., arXiv 2509.20758), for a tau that is given.
    Errors: SamplewiseError if tau is not a finite number above 0.

    >>> talr(tau=2.0)(torch.tensor([0.0, 1.0, 2.0]), None, torch.tensor([0, 0, 0]))  # e^(−loss/2)
    tensor([1.0000, 0.6065, 0.3679])
    """
    temperature = check_number(
        "tau", tau, 0, "a finite number above 0", "tau=1.0 is dft(); larger is flatter.", above=True
    )
    return _weighing(f"talr(tau={temperature})", lambda loss: torch.exp(-loss / temperature))


@called
def token_threshold(max: float, of: Of = "live") -> TokenRule:
    """Train on the tokens whose loss is at most `max` nats: unlikely tokens are left out.

    max: at least 0, in nats; ln 2.5 = 0.916 leaves out what has a perplexity above 2.5.
    of: "live": the loss under the model as it is; "reference": under the reference model, which is the starting model
        where `reference_model` names it, as published: the choice is then the same in every epoch.
    A sample that loses all its tokens is no sample. Rules over samples see the loss over the tokens left. Pointwise.
    A token whose live loss is not finite is kept, so that its sample's loss shows it.
    Source: selective token masking (Wu et al., arXiv 2501.14315), there on the starting model's losses.
    Errors: SamplewiseError if max is below 0, on another `of`, and on a reference that is not finite.

    >>> token_threshold(max=1.0)(torch.tensor([0.5, 1.0, 2.0]), None, torch.tensor([0, 0, 0])).tolist()
    [1.0, 1.0, 0.0]
    """
    limit = check_number("max", max, 0, "a finite loss of at least 0, in nats", "0.916 is a perplexity of 2.5.")
    if of not in get_args(Of):
        raise SamplewiseError(
            "of", expected='"live" or "reference"', got=repr(of)[:50],
            remedy='Use "reference" with reference_model to look at the starting model\'s losses.',
        )  # fmt: skip

    def apply(loss: Tensor, reference: Tensor | None, sample: Tensor) -> Tensor:
        seen = loss if of == "live" else finite_reference(reference).to(loss.device)
        return ((seen <= limit) | ~loss.isfinite()).to(wide(loss))

    return TokenRule(
        f'token_threshold(max={limit}, of="{of}")', apply, "sample", needs_reference=of == "reference", pointwise=True
    )


def _weighing(expression: str, weight: Callable[[Tensor], Tensor]) -> TokenRule:
    """A rule that multiplies what each token counts by a function of its loss, in (0, 1]."""

    def apply(loss: Tensor, reference: Tensor | None, sample: Tensor) -> Tensor:
        exact = loss.to(wide(loss))
        return weight(exact.clamp(min=0, max=math.inf)).nan_to_num(nan=1.0)

    return TokenRule(expression, apply, "sample", needs_reference=False, norm="count", pointwise=True)
