"""Every rule by its name: ours, a row each, and those of other packages.

A rule of ours: import it and add its name to `__all__`. A rule of yours: `samplewise.register`, or an entry point of
the group "samplewise.rules" in your package.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.core.token_rule import TokenRule
from samplewise.rules.by import by, by_length
from samplewise.rules.combinators import chain, clip_weights, mix_uniform, warmup
from samplewise.rules.flow import flow
from samplewise.rules.focal import focal
from samplewise.rules.groups import doremi, group_dro
from samplewise.rules.pruning import infobatch
from samplewise.rules.robust import chi2_dro, cvar
from samplewise.rules.selection import band, mid_ranking, random_keep, sample_proportional, threshold, top_k
from samplewise.rules.shapes import extremes, lin_upper, quadratic
from samplewise.rules.token_weights import dft, talr, token_threshold
from samplewise.rules.tokens import random_tokens, rho1, token_band
from samplewise.rules.truncation import truncate
from samplewise.rules.weighting import column_weights, ir_dro, uniform

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "band",
    "by",
    "by_length",
    "chain",
    "chi2_dro",
    "clip_weights",
    "column_weights",
    "cvar",
    "doremi",
    "extremes",
    "flow",
    "focal",
    "group_dro",
    "infobatch",
    "ir_dro",
    "lin_upper",
    "mid_ranking",
    "mix_uniform",
    "quadratic",
    "random_keep",
    "sample_proportional",
    "threshold",
    "top_k",
    "truncate",
    "uniform",
    "warmup",
]

ENTRY_POINT_GROUP = "samplewise.rules"
"""The group of entry points in which a package names its rules: `name = "package.module:function"`."""

Maker = TypeVar("Maker", bound=Callable[..., Rule])

RULES: dict[str, Callable[..., Rule]] = {name: globals()[name] for name in __all__}
"""Every rule of this library."""

TOKEN_RULES: dict[str, Callable[..., TokenRule]] = {
    "dft": dft,
    "random_tokens": random_tokens,
    "rho1": rho1,
    "talr": talr,
    "token_band": token_band,
    "token_threshold": token_threshold,
}
"""Every token rule that text may name."""

_REGISTERED: dict[str, Callable[..., Rule]] = {}


def register(maker: Maker) -> Maker:
    """Let text, run files and the command line name a rule of yours. Usable as a decorator; returns `maker`.

    maker: a function at the top level of a module that returns a Rule (see `samplewise.make_rule`), known by its name.
    Errors: SamplewiseError where the name is taken, or no name of a function.

    >>> import samplewise as sw
    >>> @sw.register
    ... def squared() -> sw.Rule:
    ...     return sw.make_rule("squared()", lambda weights, samples, state: weights * samples.loss**2)
    >>> sw.weights(sw.parse_rule("chain(squared(), top_k(share=0.5))"), [1.0, 2.0]).tolist()
    [0.0, 2.0]
    >>> sw.unregister("squared")
    """
    name = getattr(maker, "__name__", "")
    if not callable(maker) or not name.isidentifier():
        raise SamplewiseError(
            "maker", expected="a function with a name, which returns a Rule", got=repr(maker)[:50],
            remedy="Define it with def my_rule(…) -> Rule.",
        )  # fmt: skip
    if name in RULES or _REGISTERED.get(name, maker) is not maker:
        raise SamplewiseError(
            "maker", expected="a name that no other rule has", got=name, remedy="Rename the function."
        )
    _REGISTERED[name] = maker
    return maker


def unregister(name: str) -> None:
    """Forget a registered rule; a name that is not registered is ignored."""
    _REGISTERED.pop(name, None)


def known_rules() -> Mapping[str, Callable[..., Rule]]:
    """Every rule that text may name: ours, registered ones, and those of installed packages."""
    return {**_of_packages(), **_REGISTERED, **RULES}


def _of_packages() -> dict[str, Callable[..., Rule]]:
    """Loaded when a rule is read from text; ours come first where two have one name."""
    installed = _entry_points(tuple(sys.path))
    return {each.name: _loaded(each.name, each.load()) for each in installed if each.name not in RULES}


@lru_cache(maxsize=4)
def _entry_points(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Read once for a search path: to read the metadata of 200 installed packages takes 30 ms, and every rule asks."""
    from importlib.metadata import entry_points  # 30 ms more, which a rule of ours does without

    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _loaded(name: str, maker: object) -> Callable[..., Rule]:
    if not callable(maker) or inspect.isclass(maker):
        raise SamplewiseError(
            name, expected=f"a function that returns a Rule at the entry point {ENTRY_POINT_GROUP}:{name}",
            got=repr(maker)[:50],
            remedy="Correct the entry point of the package that names it, or uninstall that package.",
        )  # fmt: skip
    return maker  # pyright: ignore[reportReturnType] - what it returns is known once it is called
