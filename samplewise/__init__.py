"""Loss-based sample reweighting and selection for language-model training, exact over the whole optimizer step."""

import typing

from samplewise.core.errors import SamplewiseError
from samplewise.core.lazy import names_from as _names_from
from samplewise.core.rule import Rule
from samplewise.core.samples import Samples
from samplewise.rules import (
    Schedule,
    TokenRule,
    cosine,
    dft,
    linear,
    make_rule,
    parse_rule,
    piecewise,
    random_tokens,
    register,
    registry,
    rho1,
    talr,
    token_band,
    token_threshold,
    unregister,
)
from samplewise.rules.registry import *  # noqa: F403 - every rule, as the registry lists them

if typing.TYPE_CHECKING:
    from samplewise.engine.plan import Plan, plan_step, weights
    from samplewise.engine.weigher import Weigher
    from samplewise.losses.token_losses import sample_losses

__version__ = "0.1.0"

__all__ = [
    "Plan",
    "Rule",
    "Samples",
    "SamplewiseError",
    "Schedule",
    "TokenRule",
    "Weigher",
    "cosine",
    "dft",
    "linear",
    "make_rule",
    "parse_rule",
    "piecewise",
    "plan_step",
    "random_tokens",
    "register",
    "rho1",
    "sample_losses",
    "talr",
    "token_band",
    "token_threshold",
    "unregister",
    "weights",
]
__all__ += registry.__all__

_WITH_TORCH = {
    "Plan": "samplewise.engine.plan",
    "plan_step": "samplewise.engine.plan",
    "weights": "samplewise.engine.plan",
    "Weigher": "samplewise.engine.weigher",
    "sample_losses": "samplewise.losses.token_losses",
}
"""Names that need torch, each with its module, which is imported when the name is used."""
__getattr__, __dir__ = _names_from(__name__, _WITH_TORCH)
