"""Rules made of rules, and rules that reshape the weights of the rules before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from samplewise.core.calls import called
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.core.token_rule import TokenRule
from samplewise.rules.base import check_number, check_rule, check_share, enough, make_rule, under, within
from samplewise.rules.budget import Steps, any_for_run_length, in_steps, resolve, unresolved
from samplewise.rules.epochs import chained, refuse_epochs, refuse_token_rule
from samplewise.rules.schedules import Number, schedulable
from samplewise.rules.weighting import uniform

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch


@called
def chain(*rules: Rule | TokenRule) -> Rule:
    """Apply rules one after the other: each sees only what those before it left in.

    rules: at least one. The state of the k-th over samples stands under the prefix "k.". One may be a token rule,
        wherever it stands: a trainer then runs it as its `token_rule`, and `Rule.token_rule` is it. Rules over samples
        see the losses that it leaves: plain ones beside `dft` and `talr`, those over the tokens left beside the others.

    >>> import samplewise as sw
    >>> rule = sw.chain(sw.band(drop_top=0.25), sw.ir_dro(r=1.0))
    >>> [round(w, 3) for w in sw.weights(rule, [1.0, 2.0, 3.0, 9.0]).tolist()]
    [0.36, 0.979, 2.661, 0.0]
    """
    if not rules:
        raise SamplewiseError(
            "rules", expected="at least one rule", got="none", remedy="To leave samples unweighted, use uniform()."
        )
    for number, rule in enumerate(rules):
        if not isinstance(rule, TokenRule):
            check_rule(f"rules[{number}]", rule)
    over_samples = tuple(rule for rule in rules if isinstance(rule, Rule)) or (uniform(),)
    made = over_samples[0] if len(over_samples) == 1 else _chained(over_samples)
    token_rule = _only_one([rule if isinstance(rule, TokenRule) else rule.token_rule for rule in rules])
    if token_rule is made.token_rule:
        return made
    shares = made.for_run_length
    return replace(
        made,
        expression=f"chain({', '.join(rule.expression for rule in rules)})",
        token_rule=token_rule,
        for_run_length=None if shares is None else lambda total: chain(*(_resolved(rule, total) for rule in rules)),
    )


def _only_one(found: list[TokenRule | None]) -> TokenRule | None:
    """The token rule of a chain. Errors: SamplewiseError where there are several."""
    given = [rule for rule in found if rule is not None]
    if len(given) > 1:
        raise SamplewiseError(
            "rules", expected="one token rule in a chain", got=" and ".join(map(repr, given)), remedy="Leave one out."
        )
    return given[0] if given else None


def _resolved(rule: Rule | TokenRule, total: int) -> Rule | TokenRule:
    return rule if isinstance(rule, TokenRule) else resolve(rule, total)


def _chained(rules: tuple[Rule, ...]) -> Rule:
    """Two rules over samples or more, one after the other; a token rule within one of them is left to the caller."""

    def apply(weights: Tensor, samples: Samples, state: State) -> Tensor:
        for number, rule in enumerate(rules):
            weights = rule.apply(weights, samples, within(state, number))
        return weights

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        new: State = {}
        for number, rule in enumerate(rules):
            old = within(state, number)
            new |= under(number, rule.update(samples, weights, old))
            if number + 1 < len(rules):
                weights = rule.apply(weights, samples, old)
        return new

    def init() -> State:
        return {k: v for number, rule in enumerate(rules) for k, v in under(number, rule.init()).items()}

    last = max((number for number, rule in enumerate(rules) if rule.shortfall is not enough), default=-1)
    made = Rule(
        expression=f"chain({', '.join(rule.expression for rule in rules)})",
        init=init,
        apply=apply,
        update=update,
        factor=_product(rules) if all(rule.pointwise for rule in rules) else None,
        factor_ready=lambda state: all(rule.factor_ready(within(state, number)) for number, rule in enumerate(rules)),
        needs_loss=any(rule.needs_loss for rule in rules),
        required_fields=frozenset().union(*(rule.required_fields for rule in rules)),
        welcome_fields=frozenset().union(*(rule.welcome_fields for rule in rules)),
        begin_data=_begun_with_data(dict(enumerate(rules))),
        norm="count" if all(rule.norm == "count" for rule in rules) else "sum",
        for_run_length=any_for_run_length(lambda total: chain(*(resolve(rule, total) for rule in rules)), *rules),
        epochs=chained(rules),
        shortfall=_first_shortfall(rules, last),
        remembers=any(rule.remembers for rule in rules),
        multiplies=all(rule.multiplies for rule in rules),
        absolute=all(rule.absolute for rule in rules),
    )
    ranks = [rule.ranks for rule in rules]
    return made.ranking(None if None in ranks else tuple(each for own in ranks for each in own or ()))


def _product(rules: tuple[Rule, ...]) -> Callable[[Samples, State], Tensor]:
    """The factor of a chain of pointwise rules: the product of theirs."""

    def factor(samples: Samples, state: State) -> Tensor:
        product = torch.ones_like(samples.loss)
        for number, rule in enumerate(rules):
            if rule.factor is not None:
                product = product * rule.factor(samples, within(state, number))
        return product

    return factor


def _begun_with_data(rules: Mapping[object, Rule]) -> Callable[[Tensor, State], State] | None:
    """What the rules, by the prefix of their states, learn from the stored losses of all the data; None for nothing."""
    learns = {prefix: rule.begin_data for prefix, rule in rules.items() if rule.begin_data is not None}

    def begin_data(losses: Tensor, state: State) -> State:
        new = dict(state)
        for prefix, begin in learns.items():
            new |= under(prefix, begin(losses, within(state, prefix)))
        return new

    return begin_data if learns else None


def _first_shortfall(rules: tuple[Rule, ...], last: int) -> Callable[[Tensor, Samples, State], SamplewiseError | None]:
    """The shortfall of the first rule of a chain that has one; rules after the `last` that can are not asked."""

    def shortfall(weights: Tensor, samples: Samples, state: State) -> SamplewiseError | None:
        for number, rule in enumerate(rules[: last + 1]):
            found = rule.shortfall(weights, samples, within(state, number))
            if found is not None:
                return found
            if number < last:
                weights = rule.apply(weights, samples, within(state, number))
        return None

    return enough if last < 0 else shortfall


@called
def warmup(steps: Steps, rule: Rule) -> Rule:
    """Uniform for the first `steps` steps, then `rule`, which learns its state from the first step on.

    steps: a whole number, or a share of the run in (0, 1).

    >>> import samplewise as sw
    >>> sw.weights(sw.warmup(10, sw.ir_dro(r=1.0)), [1.0, 2.0]).tolist()
    [1.0, 1.0]
    """
    share = isinstance(steps, float) and 0 < steps < 1
    if isinstance(steps, bool) or (not share and (not isinstance(steps, int) or steps < 0)):
        raise SamplewiseError(
            "steps", expected="a whole number of steps, or a share of the run in (0, 1)", got=repr(steps),
            remedy="Use 0 for no warm-up.",
        )  # fmt: skip
    check_rule("rule", rule)
    refuse_epochs(rule, "in warmup")
    refuse_token_rule(rule, "in warmup")
    flat = uniform()

    def now(state: State) -> Rule:
        step = int(state["step"])
        if share and step > 0:
            raise unresolved(f"warmup({steps}, …)")
        return flat if step < steps else rule

    def apply(weights: Tensor, samples: Samples, state: State) -> Tensor:
        return now(state).apply(weights, samples, within(state, "rule"))

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        return {"step": int(state["step"]) + 1, **under("rule", rule.update(samples, weights, within(state, "rule")))}

    def factor(samples: Samples, state: State) -> Tensor:
        pointwise = now(state).factor
        assert pointwise is not None, "factor_ready() is asked first"
        return pointwise(samples, within(state, "rule"))

    def shortfall(weights: Tensor, samples: Samples, state: State) -> SamplewiseError | None:
        """Also while it waits: it is told early."""
        return rule.shortfall(weights, samples, within(state, "rule"))

    def factor_ready(state: State) -> bool:
        return now(state).pointwise and now(state).factor_ready(within(state, "rule"))

    shares = share or rule.for_run_length is not None
    return Rule(
        expression=f"warmup({steps}, {rule.expression})",
        init=lambda: {"step": 0, **under("rule", rule.init())},
        apply=apply, update=update, factor=factor, factor_ready=factor_ready,
        needs_loss=rule.needs_loss, required_fields=rule.required_fields, welcome_fields=rule.welcome_fields,
        norm=rule.norm, begin_data=_begun_with_data({"rule": rule}),
        for_run_length=(lambda total: warmup(in_steps(steps, total), resolve(rule, total))) if shares else None,
        shortfall=enough if rule.shortfall is enough else shortfall,
        remembers=True, multiplies=rule.multiplies, absolute=rule.absolute,
    )  # fmt: skip


@schedulable
def clip_weights(max: Number) -> Rule:
    """No weight above `max` times the mean, also after normalization.

    max: in units of mean-1 weight over the samples present, at least 1. The rest is scaled up to keep the mean,
    which may push others to the limit: the fixed point min(c·w, max) of mean 1 is solved exactly.

    >>> import samplewise as sw
    >>> rule = sw.chain(sw.ir_dro(r=1.0), sw.clip_weights(2.0))
    >>> [round(w, 3) for w in sw.weights(rule, [1.0, 2.0, 3.0, 4.0]).tolist()]
    [0.18, 0.489, 1.33, 2.0]
    """
    limit = check_number(
        "max", max, 1, "a finite limit of at least 1, in units of the mean weight",
        "1 is uniform; 10 lets a sample count ten times.",
    )  # fmt: skip

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        n = weights.numel()
        scaled = weights / weights.max()
        ordered = torch.sort(scaled, descending=True).values
        tail = ordered.flip(0).cumsum(0).flip(0)  # tail[k]: the sum without the k largest
        left = n - torch.arange(n, dtype=weights.dtype, device=weights.device) * limit  # for the rest, k being clipped
        fits = (left * ordered <= limit * tail) & (left > 0)
        there = host(fits)
        if not there.any():  # limit = 1: every weight is at it
            return torch.ones_like(weights)
        k = int(there.argmax())
        return (scaled / tail[k] * left[k]).clamp(max=limit)

    return make_rule(f"clip_weights({limit})", body, needs_loss=False)


@schedulable
def mix_uniform(share: Number) -> Rule:
    """A mixture with the uniform weights over the samples present: (1 − share)·p + share·uniform.

    share: in [0, 1]. Bounds every weight from below by `share` of the mean, and so the ESS as well.

    >>> import samplewise as sw
    >>> rule = sw.chain(sw.top_k(0.5), sw.mix_uniform(0.5))  # what top_k left out stays out
    >>> sw.weights(rule, [1.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    share = check_share("share", share, zero=True, one=True)

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        scaled = weights / weights.max()  # a sum of denormals would not divide
        return (1 - share) * scaled / scaled.mean() + share

    return make_rule(f"mix_uniform({share})", body, needs_loss=False)
