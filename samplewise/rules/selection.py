"""Rules that leave samples out: weight 0, and no backward pass for them."""

from __future__ import annotations

from torch import Tensor

from samplewise.rules.base import check_share, counting, descending, keep, least_n, make_rule, share_of, uniforms
from samplewise.rules.schedules import Number, schedulable
from samplewise.types import Rule, Samples, SamplewiseError, State


@schedulable
def mid_ranking(frac: Number, portion: int) -> Rule:
    """Keep one slice of the step's samples, ranked from the highest loss down.

    frac: the share of the samples in a slice, in (0, 1]; cap = ⌊frac·N⌋.
    portion: which slice: ranks [portion·cap, (portion + 1)·cap). 0 is the hardest, 1 "moderately high".
    Source: MidRanking of arXiv 2402.14270.
    Errors: SamplewiseError if no slice can have that number, or if N is too small for a slice of one sample.

    >>> import samplewise as sw
    >>> sw.weights(sw.mid_ranking(frac=0.25, portion=1), [1.0, 2.0, 3.0, 4.0]).tolist()
    [0.0, 0.0, 4.0, 0.0]
    """
    frac = check_share("frac", frac, one=True)
    if isinstance(portion, bool) or not isinstance(portion, int) or not 0 <= portion < (1 - 1e-9) / frac:
        raise SamplewiseError(
            "portion", expected=f"a whole number from 0 to {least_n(frac) - 1} at frac={frac}", got=repr(portion),
            remedy="Every later slice is empty.",
        )  # fmt: skip

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        cap = _at_least_one("frac", frac, len(samples))
        return keep(weights, descending(samples)[portion * cap : (portion + 1) * cap])

    return make_rule(f"mid_ranking(frac={frac}, portion={portion})", body)


@schedulable
def band(drop_top: Number = 0.0, drop_bottom: Number = 0.0) -> Rule:
    """Drop the highest and the lowest losses of the step.

    drop_top, drop_bottom: shares in [0, 1), together below 1; ⌊share·N⌋ samples are dropped at each end.
    Errors: SamplewiseError if a share above 0 drops nothing at the first step, naming the least N that it needs.
    Source: the "moderately high" losses of arXiv 2402.14270, as a band.

    >>> import samplewise as sw
    >>> sw.weights(sw.band(drop_top=0.25), [1.0, 2.0, 3.0, 9.0]).tolist()
    [1.3333333333333333, 1.3333333333333333, 1.3333333333333333, 0.0]
    """
    top = check_share("drop_top", drop_top, zero=True)
    bottom = check_share("drop_bottom", drop_bottom, zero=True)
    if top + bottom >= 1:
        raise SamplewiseError(
            "drop_top, drop_bottom", expected="shares of together less than 1", got=f"{top} and {bottom}",
            remedy="Something has to be left to train on.",
        )  # fmt: skip

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        n = len(samples)
        check(n, state)
        order = descending(samples)
        return keep(weights, order[share_of(top, n) : n - share_of(bottom, n)])

    def check(n: int, state: State) -> None:
        for name, share in (("drop_top", top), ("drop_bottom", bottom)):
            if share > 0 and state["step"] == 0:
                _at_least_one(name, share, n)

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        check(len(samples), state)  # a warm-up does not apply the rule at its first step
        return counting(state)

    return make_rule(f"band(drop_top={top}, drop_bottom={bottom})", body, init=lambda: {"step": 0}, update=update)


@schedulable
def top_k(share: Number) -> Rule:
    """Keep the `share` of the step's samples with the highest losses (top-k of OHEM, arXiv 1604.03540).

    share: in (0, 1]; ⌊share·N⌋ samples are kept. Errors: SamplewiseError if that is none.

    >>> import samplewise as sw
    >>> sw.weights(sw.top_k(share=0.5), [1.0, 4.0, 3.0, 2.0]).tolist()
    [0.0, 2.0, 2.0, 0.0]
    """
    share = check_share("share", share, one=True)

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        return keep(weights, descending(samples)[: _at_least_one("share", share, len(samples))])

    return make_rule(f"top_k(share={share})", body)


@schedulable
def random_keep(share: Number, seed: int = 0) -> Rule:
    """Keep a random `share` of the step's samples: the control that a selection of the same size must beat.

    share: in (0, 1]; exactly ⌊share·N⌋ samples are kept. Errors: SamplewiseError if that is none.
    seed: the choice is a pure function of (seed, step, id), so that no split of the step changes it.

    >>> import samplewise as sw
    >>> (sw.weights(sw.random_keep(share=0.5), [1.0, 4.0, 3.0, 2.0]) > 0).sum().item()
    2
    """
    share = check_share("share", share, one=True)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise SamplewiseError("seed", expected="a whole number", got=repr(seed), remedy="For example seed=0.")

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        kept = _at_least_one("share", share, len(samples))
        by_id = samples.id.argsort(stable=True)
        order = uniforms(samples.id[by_id], int(state["step"]), seed).argsort(stable=True)
        return keep(weights, by_id[order[:kept]])

    return make_rule(
        f"random_keep(share={share}, seed={seed})",
        body,
        init=lambda: {"step": 0},
        update=lambda samples, weights, state: counting(state),
        needs_loss=False,
    )


def _at_least_one(name: str, share: float, n: int) -> int:
    count = share_of(share, n)
    if count == 0:
        raise SamplewiseError(
            name, expected=f"a step of at least {least_n(share)} samples for a share of {share}", got=f"{n} samples",
            remedy="Raise the share, the batch size or the accumulation.",
        )  # fmt: skip
    return count
