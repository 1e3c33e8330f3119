"""The rules: small pure functions from the samples of a step to their weights."""

from samplewise.core.token_rule import TokenRule
from samplewise.rules import registry
from samplewise.rules.base import make_rule
from samplewise.rules.budget import resolve
from samplewise.rules.groups import group_weights, mean_group_weights
from samplewise.rules.parse import parse_rule, parse_token_rule
from samplewise.rules.registry import *  # noqa: F403 - every rule, as the registry lists them
from samplewise.rules.registry import RULES, TOKEN_RULES, known_rules, register, unregister
from samplewise.rules.schedules import Schedule, cosine, linear, piecewise
from samplewise.rules.token_weights import dft, talr, token_threshold
from samplewise.rules.tokens import random_tokens, rho1, token_band

__all__ = [
    "RULES",
    "TOKEN_RULES",
    "Schedule",
    "TokenRule",
    "cosine",
    "dft",
    "group_weights",
    "known_rules",
    "linear",
    "make_rule",
    "mean_group_weights",
    "parse_rule",
    "parse_token_rule",
    "piecewise",
    "random_tokens",
    "register",
    "resolve",
    "rho1",
    "talr",
    "token_band",
    "token_threshold",
    "unregister",
]
__all__ += registry.__all__
