"""What a rule sees in place of the loss: its excess over a reference, its ratio to it, its rank among like lengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from samplewise.core.calls import called
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host, positions
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import check_rule, make_rule
from samplewise.rules.budget import any_for_run_length, resolve
from samplewise.rules.epochs import refuse_epochs, refuse_token_rule

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import numpy as np
    from samplewise.core.lazy import torch

MIN_REFERENCE = 0.01
"""Nats per token: a reference below it is text known by heart, and a ratio to it would say nothing."""


@called
def by(kind: str, rule: Rule) -> Rule:
    """`rule`, looking at the loss against that of a reference model instead of the loss.

    kind: "excess" is loss − reference: what is still to be learned, high for samples that are hard here and not in
        themselves. "ratio" is loss / max(reference, 0.01). "learnability" is stored loss − reference, of an early and a
        late checkpoint: what training has taught about the sample. It needs no loss of this model, so what is left out
        costs nothing.
    rule: any; what it says of losses holds for those, extrema, ranks, temperatures and thresholds alike.
    Reads the field `reference` of the samples, nats/token, from the column `reference_loss` or a second model; and for
    "learnability" `stored_loss`, from the column of that name. Pointwise where the rule is.
    Source: reducible holdout loss, RHO-LOSS (Mindermann et al., arXiv 2206.07137): `by("excess", top_k(0.1))`;
    learnability, JEST (Evans et al., arXiv 2406.17711), whose joint selection is `top_k` of it where the losses of
    samples do not depend on each other (docs/rules.md).
    Errors: SamplewiseError on another kind; in training, where the data has no reference losses.

    >>> import samplewise as sw
    >>> sw.weights(sw.by("excess", sw.top_k(0.5)), [4.0, 3.0, 2.0, 1.0], reference=[4.0, 1.0, 0.5, 1.0]).tolist()
    [0.0, 2.0, 2.0, 0.0]
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise SamplewiseError(
            "kind", expected=" or ".join(f'"{name}"' for name in KINDS), got=repr(kind)[:50],
            remedy='by("excess", …) subtracts the reference loss.',
        )  # fmt: skip
    check_rule("rule", rule)
    refuse_epochs(rule, "in by")
    refuse_token_rule(rule, "in by")
    against, factor, learnability = KINDS[kind], rule.factor, kind == "learnability"

    def seen(samples: Samples) -> Samples:
        assert samples.reference is not None, "asked for by `required_fields`"
        stored, reference = samples.stored_loss, samples.reference.to(samples.loss)
        loss = samples.loss if not learnability or stored is None else stored.to(samples.loss)
        then = None if stored is None else against(stored.to(samples.loss), reference)
        return replace(samples, loss=against(loss, reference), stored_loss=then)

    return replace(
        rule,
        expression=f'by("{kind}", {rule.expression})',
        apply=lambda weights, samples, state: rule.apply(weights, seen(samples), state),
        update=lambda samples, weights, state: rule.update(seen(samples), weights, state),
        factor=None if factor is None else lambda samples, state: factor(seen(samples), state),
        required_fields=rule.required_fields | {"reference"} | ({"stored_loss"} if learnability else set()),
        needs_loss=rule.needs_loss and not learnability,
        begin_data=None,  # of losses, not of what the rule sees
        shortfall=lambda weights, samples, state: rule.shortfall(weights, seen(samples), state),
        for_run_length=any_for_run_length(lambda total: by(kind, resolve(rule, total)), rule),
    )


KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "excess": lambda loss, reference: loss - reference,
    "ratio": lambda loss, reference: loss / reference.clamp(min=MIN_REFERENCE),
    "learnability": lambda loss, reference: loss - reference,
}


@called
def by_length(buckets: int, rule: Rule) -> Rule:
    """`rule`, looking at the rank of a loss among samples of like length instead of the loss.

    A mean over few tokens varies more, so that ranks over all samples pick the short ones at both ends; here every
    length has its share of each rank.
    buckets: into how many groups of like token counts the samples present are parted, of about equal size; at least
        1. Equal counts are never parted.
    rule: sees (rank − ½) / size, in (0, 1), of a sample within its group; equal losses have their middle rank. For
        rules of ranks, `band`, `top_k`, `mid_ranking`, as well as `cvar`. Not pointwise.
    Errors: SamplewiseError if buckets is not a whole number above 0.

    >>> import samplewise as sw
    >>> sw.weights(sw.by_length(2, sw.top_k(0.5)), [1.0, 4.0, 2.9, 3.0], [5, 5, 90, 90]).tolist()
    [0.0, 2.0, 0.0, 2.0]
    """
    if isinstance(buckets, bool) or not isinstance(buckets, int) or buckets < 1:
        raise SamplewiseError(
            "buckets",
            expected="a whole number above 0",
            got=repr(buckets)[:50],
            remedy="Use 1 to rank all samples together.",
        )
    check_rule("rule", rule)
    refuse_epochs(rule, "in by_length")
    refuse_token_rule(rule, "in by_length")

    def seen(samples: Samples) -> Samples:
        stored = samples.stored_loss
        then = None if stored is None else _place(replace(samples, loss=stored.to(samples.loss)), buckets)
        return replace(samples, loss=_place(samples, buckets), stored_loss=then)

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        return rule.apply(weights, seen(samples), state)

    made = make_rule(
        f"by_length({buckets}, {rule.expression})",
        body,
        init=rule.init,
        update=lambda samples, weights, state: rule.update(seen(samples), weights, state),
        required_fields=rule.required_fields,
        welcome_fields=rule.welcome_fields,
        norm=rule.norm,
        shortfall=lambda weights, samples, state: rule.shortfall(weights, seen(samples), state),
        remembers=rule.remembers,
    )
    return replace(
        made, for_run_length=any_for_run_length(lambda total: by_length(buckets, resolve(rule, total)), rule)
    )


def _place(samples: Samples, buckets: int) -> Tensor:
    """[N] in (0, 1), the place of a sample's loss within its group of like token counts."""
    tokens, n = samples.tokens, len(samples)
    shorter = torch.searchsorted(tokens.sort().values, tokens)
    group = shorter * buckets // n
    out = torch.empty_like(samples.loss)
    for each in np.unique(host(group)).tolist():
        index = positions(group == each)
        loss = samples.loss[index]
        ranked = loss.sort().values
        ranks = torch.searchsorted(ranked, loss) + torch.searchsorted(ranked, loss, right=True)  # twice the middle
        out[index] = ranks.to(out) / (2 * len(index))
    return out
