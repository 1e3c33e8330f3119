"""The rules: small pure functions from the samples of a step to their weights."""

from samplewise.rules.budget import resolve
from samplewise.rules.by import by, by_length
from samplewise.rules.combinators import chain, clip_weights, mix_uniform, warmup
from samplewise.rules.groups import doremi, group_dro, group_weights, mean_group_weights
from samplewise.rules.parse import RULES, parse_rule
from samplewise.rules.pruning import infobatch
from samplewise.rules.robust import chi2_dro, cvar
from samplewise.rules.schedules import cosine, linear, piecewise
from samplewise.rules.selection import band, mid_ranking, random_keep, sample_proportional, threshold, top_k
from samplewise.rules.shapes import extremes, lin_upper, quadratic
from samplewise.rules.tokens import TOKEN_RULES, TokenRule, parse_token_rule, random_tokens, rho1
from samplewise.rules.weighting import column_weights, ir_dro, uniform

__all__ = [
    "RULES",
    "TOKEN_RULES",
    "TokenRule",
    "band",
    "by",
    "by_length",
    "chain",
    "chi2_dro",
    "clip_weights",
    "column_weights",
    "cosine",
    "cvar",
    "doremi",
    "extremes",
    "group_dro",
    "group_weights",
    "infobatch",
    "ir_dro",
    "lin_upper",
    "linear",
    "mean_group_weights",
    "mid_ranking",
    "mix_uniform",
    "parse_rule",
    "parse_token_rule",
    "piecewise",
    "quadratic",
    "random_keep",
    "random_tokens",
    "resolve",
    "rho1",
    "sample_proportional",
    "threshold",
    "top_k",
    "uniform",
    "warmup",
]
