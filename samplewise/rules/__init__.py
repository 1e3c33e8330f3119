"""The rules: small pure functions from the samples of a step to their weights."""

from samplewise.rules.combinators import chain, clip_weights, mix_uniform, warmup
from samplewise.rules.parse import RULES, parse_rule
from samplewise.rules.selection import band, mid_ranking, random_keep, top_k
from samplewise.rules.weighting import ir_dro, uniform

__all__ = [
    "RULES",
    "band",
    "chain",
    "clip_weights",
    "ir_dro",
    "mid_ranking",
    "mix_uniform",
    "parse_rule",
    "random_keep",
    "top_k",
    "uniform",
    "warmup",
]
