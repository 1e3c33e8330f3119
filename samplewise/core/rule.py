"""The rule: a value made of pure functions that turns the samples of a step into their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Literal

from samplewise.core import notebook
from samplewise.core.calls import Call, Called
from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import Samples, Values, as_samples
from samplewise.core.token_rule import TokenRule
from samplewise.core.weighing import (
    check_fields,
    check_values,
    check_weights,
    no_token_in_step,
    present_by_id,
    with_mean_one,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch

State = dict[str, "Tensor | float | int"]
"""What a rule remembers between steps: flat, so that it goes into a checkpoint as it is."""

Norm = Literal["sum", "count"]
"""What the weights of a step are divided by."""

Order = Literal["highest", "lowest", "random"]


@dataclass(frozen=True)
class Epoch:
    """A pass over the data as it begins.

    number: 0 is the run's first.
    samples: all of the data, each with the loss of its last visit, NaN where there is none.
    done: [N] the share of the run that lies before each sample, in the order of this epoch.
    """

    number: int
    samples: Samples
    done: Tensor


@dataclass(frozen=True)
class ByEpoch:
    """What a rule decides at the beginning of an epoch, for all the data.

    begin: (epoch, state) -> state, with what has been decided.
    keeps: (ids [N], state) -> [N] bool, which of the samples the order of the epoch has.
    until: the share of the run after which every epoch has all samples. needs_loss: whether `begin` looks at losses.
    """

    begin: Callable[[Epoch, State], State]
    keeps: Callable[[Tensor, State], Tensor]
    until: float = 1.0
    needs_loss: bool = True


@dataclass(frozen=True)
class Ranks:
    """What a rule that only ranks keeps of n samples: ranks [first, last), without seeing any loss but in its place.

    order: by falling loss, by rising loss, or by the random number of the id.
    interval: n -> (first, last). min_samples: the fewest samples on which the rule has an effect. seed: of the random
        order.
    """

    order: Order
    interval: Callable[[int], tuple[int, int]]
    min_samples: int
    seed: int = 0


def _always(state: State) -> bool:
    return True


def _enough(weights: Tensor, samples: Samples, state: State) -> SamplewiseError | None:
    return None


@dataclass(frozen=True, eq=False, repr=False)
class Rule(Called):
    """`weights = rule(samples)`: a value made of pure functions, knowing nothing of ranks, batches or models.

    apply: (weights [N], samples, state) -> weights [N], exact for the whole step, up to a common factor.
    update: (samples, weights, state) -> state, once a step, on all N samples sorted by id.
    init: () -> state.
    factor: (samples of any subset, state) -> [n] unnormalized weights that depend on each sample's own fields
        and on past state only; None where no such form exists. Up to one common factor it equals `apply`.
    factor_ready: state -> whether `factor` may be used now (a tilt needs its shift from a past step first).
    needs_loss: False where weights follow from ids, token counts and the data's fields, so that none need be scored.
    required_fields: the optional fields of `Samples` that the rule reads, such as "weight".
    welcome_fields: those that it reads where they are there, and does without where they are not.
    norm: what the step divides weights by: their sum, or (for unbiased random dropping) the number of samples, so
        that `apply` and `factor` are then on an absolute scale, of mean 1 in expectation.
    for_run_length: total steps of the run -> this rule with its shares of a run turned into steps; None where it has
        no such shares.
    epochs: what it decides once an epoch, beside what it does in a step; None for most. A trainer must do it.
    begin_data: (stored losses of all the data, NaN where there is none; state) -> state, before the first step, where
        the trainer knows them; None for most.
    shortfall: (weights, samples, state) -> what a step of so few samples keeps the rule from doing, naming the least
        number; None where it does what it says. Such a step is run and counted; it is an error only where no step of
        the run can have more samples.
    remembers: whether weights depend on past steps.
    multiplies: whether `apply` multiplies each weight by a number of at least 0 from the sample's own fields and past
        state, and `update` takes nothing from the weights: only such a rule may see weights below 0.
    absolute: whether `apply` and `factor` have a scale of their own, 1 being a sample as it is, and no common factor.
    token_rule: a rule over tokens that stands in the same chain: a trainer runs it beside this one, which weighs
        samples alone. None for most.
    expression: the text that `parse_rule` reads back.
    call: the call that makes the rule: what it is compared, hashed and pickled as.
    ranks: where the rule only ranks, what it keeps of a step, one after the other; None where weights need more.
    The last two are set by the functions that make the rule: `dataclasses.replace` makes another, which has neither.
    """

    expression: str
    init: Callable[[], State]
    apply: Callable[[Tensor, Samples, State], Tensor]
    update: Callable[[Samples, Tensor, State], State]
    factor: Callable[[Samples, State], Tensor] | None = None
    factor_ready: Callable[[State], bool] = _always
    needs_loss: bool = True
    required_fields: frozenset[str] = frozenset()
    welcome_fields: frozenset[str] = frozenset()
    norm: Norm = "sum"
    for_run_length: Callable[[int], Rule] | None = None
    epochs: ByEpoch | None = None
    begin_data: Callable[[Tensor, State], State] | None = None
    shortfall: Callable[[Tensor, Samples, State], SamplewiseError | None] = _enough
    remembers: bool = False
    multiplies: bool = False
    absolute: bool = False
    token_rule: TokenRule | None = None
    call: Call | None = field(default=None, init=False)
    ranks: tuple[Ranks, ...] | None = field(default=None, init=False)

    @property
    def pointwise(self) -> bool:
        """Whether a sample's factor can be had from its own fields and past state."""
        return self.factor is not None

    def ranking(self, ranks: tuple[Ranks, ...] | None) -> Rule:
        """The same rule, saying that these ranks are all that it does."""
        made = replace(self)
        made.__dict__.update(ranks=ranks)
        return made

    def raw(self, samples: Samples, state: State, *, negative: bool = False) -> Tensor:
        """[N] what `apply` makes of equal weights, before any normalization.

        samples: all with a token and a finite loss, sorted by id. negative: whether the data's weights may be below 0.
        Errors: SamplewiseError on values that cannot be used.
        """
        check_values(self, self.required_fields, samples, negative=negative)
        raw = self.apply(torch.ones_like(samples.loss), samples, state)
        check_weights(self, raw, samples, negative=negative)
        return raw

    def normalized(self, raw: Tensor) -> Tensor:
        """[N] the weights whose size has mean 1, as they are where the norm is "count" (by chance, all may be 0 there).

        raw: as the method of that name returns them. Errors: SamplewiseError on a rule that keeps nothing.
        """
        return raw if self.norm == "count" else with_mean_one(self, raw)

    def weigh(self, samples: Samples, state: State) -> Tensor:
        """[N] weights of samples that all have a token and a finite loss, sorted by id: of mean 1, unless the norm is
        "count".

        Errors: SamplewiseError on values that cannot be used, and on a rule that keeps nothing.
        """
        return self.normalized(self.raw(samples, state))

    def __call__(self, samples: Samples | Values, state: State | None = None) -> Tensor:
        """[N] weights of mean 1 over the samples that have a token and a finite loss; 0 for the others.

        samples: `Samples`, or their losses [N] alone, in nats/token. state: what the rule remembers of past steps;
        None for its first (see `samplewise.Weigher` for a loop).
        Errors: SamplewiseError on fields that are missing, values that cannot be used, nothing kept.

        >>> import samplewise as sw
        >>> sw.top_k(share=0.5)([1.0, 4.0, 3.0, 2.0]).tolist()
        [0.0, 2.0, 2.0, 0.0]
        """
        given = samples if isinstance(samples, Samples) else as_samples(samples)
        check_fields(self, self.required_fields, given)
        index = present_by_id(given)
        if not len(index):
            raise no_token_in_step()
        wide = given.loss if given.loss.device.type == "mps" else given.loss.double()
        taken = replace(given, loss=wide).select(index)
        weights = self.weigh(taken, self.init() if state is None else state)
        out = torch.zeros_like(wide)
        out[index] = weights
        return out.to(given.loss.dtype)

    def _repr_html_(self) -> str:
        """Its call and, where losses are enough for it, the weights of 64 losses from 0 to 4 nats per token."""
        call = f"<code>{escape(repr(self))}</code>"
        losses = [k / 16 for k in range(65)]
        try:
            weights = self(losses).tolist()
        except SamplewiseError:  # it reads columns of the data
            return call
        return f"{call}<br>{notebook.curve(losses, weights, 'weight against loss, 0 to 4 nats/token')}"
