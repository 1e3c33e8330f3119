"""The rules once more, from their formulas, in fp64: what the library must agree with and shares no code with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What a rule sees of the N samples of a step, all [N] fp64 but group and tokens; step counts from 0."""

    loss: Tensor
    tokens: Tensor
    weight: Tensor
    reference: Tensor
    group: Tensor
    step: int = 0

    def only(self, kept: Tensor) -> Seen:
        """The samples of a mask."""
        parts = {name: getattr(self, name)[kept] for name in ("loss", "tokens", "weight", "reference", "group")}
        return replace(self, **parts)


Formula = Callable[[Seen], Tensor]
"""[N] weights up to a common factor."""


def tilt(r: float) -> Formula:
    """exp(L / r)."""
    return lambda seen: torch.softmax(seen.loss / r, 0)


def _bisected(seen: Seen, reached: Callable[[Tensor], bool]) -> Tensor:
    """The tilt whose inverse temperature is where `reached` turns true."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        if reached(torch.softmax(seen.loss * middle, 0)):
            high = middle
        else:
            low = middle
    return torch.softmax(seen.loss * high, 0)


def tilt_of_divergence(kl: float) -> Formula:
    """The tilt with KL(p ‖ uniform) = kl."""
    return lambda seen: _bisected(seen, lambda p: float(torch.xlogy(p, p).sum()) + math.log(len(p)) >= kl)


def tilt_of_size(share: float) -> Formula:
    """The tilt with ESS / N = share."""
    return lambda seen: _bisected(seen, lambda p: float(1 / (p * p).sum()) <= share * len(p))


def chi_square(rho: float) -> Formula:
    """max(L − η, 0), η where (1/2N) Σ (N p − 1)² = rho."""

    def weights(seen: Seen) -> Tensor:
        top = float(seen.loss.max())
        low, high = 0.0, 1e9  # distance of η from the top
        for _ in range(300):
            depth = (low + high) / 2
            p = (depth - (top - seen.loss)).clamp(min=0)
            p = p / p.sum()
            far = float(((len(p) * p - 1) ** 2).sum()) / (2 * len(p)) > rho
            low, high = (depth, high) if far else (low, depth)
        return (high - (top - seen.loss)).clamp(min=0)

    return weights


def worst(alpha: float) -> Formula:
    """The worst alpha·N samples, the last in part."""

    def weights(seen: Seen) -> Tensor:
        left, out = alpha * len(seen.loss), torch.zeros_like(seen.loss)
        for i in seen.loss.argsort(descending=True).tolist():
            out[i] = min(1.0, max(0.0, left))
            left -= 1
        return out

    return weights


def _position(seen: Seen) -> Tensor:
    """h: the loss in the range of the step, from −1 to 1."""
    least, most = seen.loss.min(), seen.loss.max()
    return (2 * seen.loss - (most + least)) / torch.clamp(most - least, min=1e-6)


def linear_upper(seen: Seen) -> Tensor:
    """exp(min(h + 1, 1))."""
    return torch.exp(torch.clamp(_position(seen) + 1, max=1))


def middle(seen: Seen) -> Tensor:
    """exp(1 − h²), at r = 0.5."""
    return torch.exp((1 - _position(seen) ** 2) / 0.5)


def ends(seen: Seen) -> Tensor:
    """exp(|h|)."""
    return torch.exp(_position(seen).abs())


def ranks_between(first: float, last: float) -> Formula:
    """1 in ranks [⌊first·N⌋, N − ⌊last·N⌋) by falling loss."""

    def weights(seen: Seen) -> Tensor:
        count, out = len(seen.loss), torch.zeros_like(seen.loss)
        order = seen.loss.argsort(descending=True)
        out[order[math.floor(first * count + 1e-9) : count - math.floor(last * count + 1e-9)]] = 1
        return out

    return weights


def slice_of_ranks(share: float, number: int) -> Formula:
    """1 in ranks [number·cap, (number + 1)·cap) by falling loss, cap = ⌊share·N⌋."""

    def weights(seen: Seen) -> Tensor:
        cap, out = math.floor(share * len(seen.loss) + 1e-9), torch.zeros_like(seen.loss)
        out[seen.loss.argsort(descending=True)[number * cap : (number + 1) * cap]] = 1
        return out

    return weights


def one_after_the_other(*formulas: Formula) -> Formula:
    """Products, each formula on the samples that the ones before have left."""

    def weights(seen: Seen) -> Tensor:
        out = torch.ones_like(seen.loss)
        for formula in formulas:
            kept = out > 0
            out[kept] = out[kept] * formula(seen.only(kept))
        return out

    return weights


def clipped(limit: float, formula: Formula) -> Formula:
    """min(c·w, limit), c where the mean is 1."""

    def weights(seen: Seen) -> Tensor:
        w = formula(seen)
        low, high = 0.0, 1e12
        for _ in range(300):
            c = (low + high) / 2
            low, high = (c, high) if float((c * w).clamp(max=limit).mean()) < 1 else (low, c)
        return (high * w).clamp(max=limit)

    return weights


def mixed(share: float, formula: Formula) -> Formula:
    """(1 − share)·p + share·uniform."""
    return lambda seen: (1 - share) * formula(seen) / formula(seen).mean() + share


def excess(formula: Formula) -> Formula:
    """The formula on L − reference."""
    return lambda seen: formula(replace(seen, loss=seen.loss - seen.reference))


def ratio(formula: Formula) -> Formula:
    """The formula on L / reference."""
    return lambda seen: formula(replace(seen, loss=seen.loss / seen.reference.clamp(min=0.01)))


def groups(eta: float) -> Formula:
    """q_g / n_g; q equal at first, then q_g · exp(eta · mean loss of g), once a step."""

    def weights(seen: Seen) -> Tensor:
        out = torch.zeros_like(seen.loss)
        for each in seen.group.unique().tolist():
            mine = seen.group == each
            out[mine] = torch.exp(eta * seen.step * seen.loss[mine].mean()) / mine.sum()
        return out

    return weights


def late(formula: Formula) -> Formula:
    """Uniform in the first step."""
    return lambda seen: formula(seen) if seen.step else torch.ones_like(seen.loss)


SMOOTH: dict[str, Formula] = {
    "uniform()": lambda seen: torch.ones_like(seen.loss),
    "ir_dro(r=1.0)": tilt(1.0),
    "ir_dro(r=3.0)": tilt(3.0),
    "ir_dro(r=-1.0)": tilt(-1.0),
    "ir_dro(kl=0.1)": tilt_of_divergence(0.1),
    "lin_upper(r=1.0)": linear_upper,
    "column_weights()": lambda seen: seen.weight,
    "chain(column_weights(), ir_dro(r=1.0))": lambda seen: seen.weight * tilt(1.0)(seen),
    'by("ratio", ir_dro(r=1.0))': ratio(tilt(1.0)),
    "group_dro(step_size=0.3)": groups(0.3),
    "chain(ir_dro(r=1.0), mix_uniform(0.3))": mixed(0.3, tilt(1.0)),
}  # fmt: skip
"""Those whose weights move little where losses do: a rounded loss leaves no sample out."""

RULES: dict[str, Formula] = {
    **SMOOTH,
    "ir_dro(r=0.2)": tilt(0.2),
    "ir_dro(r=1.0, ema=0.9)": tilt(1.0),
    "ir_dro(ess=0.5)": tilt_of_size(0.5),
    "ir_dro(kl=0.2, lagged=True)": tilt_of_divergence(0.2),
    "chi2_dro(rho=0.3)": chi_square(0.3),
    "cvar(alpha=0.55)": worst(0.55),
    "quadratic(r=0.5)": middle,
    "extremes(r=1.0)": ends,
    "band(drop_top=0.25, drop_bottom=0.25)": ranks_between(0.25, 0.25),
    "mid_ranking(0.25, 1)": slice_of_ranks(0.25, 1),
    "top_k(0.5)": slice_of_ranks(0.5, 0),
    "threshold(low=3.5, high=1000.0)": lambda seen: (seen.loss >= 3.5).double(),
    "chain(band(drop_top=0.25), ir_dro(r=0.5))": one_after_the_other(ranks_between(0.25, 0), tilt(0.5)),
    "chain(ir_dro(r=0.3), clip_weights(2.0))": clipped(2.0, tilt(0.3)),
    'by("excess", top_k(0.5))': excess(slice_of_ranks(0.5, 0)),
    'by("excess", ir_dro(r=1.0))': excess(tilt(1.0)),
    "warmup(1, top_k(0.5))": late(slice_of_ranks(0.5, 0)),
    "warmup(1, ir_dro(r=0.5))": late(tilt(0.5)),
}  # fmt: skip
"""Every rule that is tried, by the text that the library reads."""
