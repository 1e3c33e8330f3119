"""Rules that only count: each step of such a rule keeps some ranks of an order, which can be found out of core."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from samplewise.core.rule import Rule
from samplewise.rules.base import least_n, share_of

Order = Literal["highest", "lowest", "random"]


@dataclass(frozen=True)
class Ranks:
    """Keep ranks [first, last) of n samples. order: by falling key, rising key or the random number of the id.

    least: the fewest samples on which the rule does anything. seed: of the random order.
    """

    order: Order
    interval: Callable[[int], tuple[int, int]]
    least: int
    seed: int = 0


def ranks_of(rule: Rule) -> list[Ranks] | None:
    """The rule as ranks kept one after the other; None where its weights need more than ranks, or follow a schedule.

    >>> from samplewise.rules import parse_rule
    >>> [stage.interval(100) for stage in ranks_of(parse_rule("chain(band(drop_top=0.1), top_k(0.5))"))]
    [(10, 100), (0, 50)]
    """
    return _stages(ast.parse(rule.expression, mode="eval").body)


def _stages(node: ast.expr) -> list[Ranks] | None:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    if node.func.id == "uniform":
        return []
    if node.func.id == "chain":
        stages = [_stages(argument) for argument in node.args]
        return None if None in stages else [each for some in stages for each in some or []]
    make = _MAKE.get(node.func.id)
    options = {keyword.arg: keyword.value.value for keyword in node.keywords if isinstance(keyword.value, ast.Constant)}
    return [make(**options)] if make and not node.args and len(options) == len(node.keywords) else None  # pyright: ignore[reportCallIssue,reportArgumentType]


def _band(drop_top: float, drop_bottom: float) -> Ranks:
    least = max((least_n(share) for share in (drop_top, drop_bottom) if share > 0), default=0)
    return Ranks("highest", lambda n: (share_of(drop_top, n), n - share_of(drop_bottom, n)), least)


def _top_k(share: float) -> Ranks:
    return Ranks("highest", lambda n: (0, share_of(share, n)), least_n(share))


def _mid_ranking(frac: float, portion: int) -> Ranks:
    def interval(n: int) -> tuple[int, int]:
        cap = share_of(frac, n)
        return portion * cap, (portion + 1) * cap

    return Ranks("highest", interval, least_n(frac))


def _random_keep(share: float, seed: int) -> Ranks:
    return Ranks("random", lambda n: (0, share_of(share, n)), least_n(share), seed)


_MAKE: dict[str, Callable[..., Ranks]] = {
    "band": _band, "top_k": _top_k, "mid_ranking": _mid_ranking, "random_keep": _random_keep,
}  # fmt: skip
