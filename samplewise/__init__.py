"""Loss-based sample reweighting and selection for language-model training, exact over the whole optimizer step."""

from samplewise.losses import sample_losses
from samplewise.rules import (
    band,
    by,
    by_length,
    chain,
    chi2_dro,
    clip_weights,
    column_weights,
    cosine,
    cvar,
    extremes,
    ir_dro,
    lin_upper,
    linear,
    mid_ranking,
    mix_uniform,
    parse_rule,
    piecewise,
    quadratic,
    random_keep,
    top_k,
    uniform,
    warmup,
)
from samplewise.step import Plan, plan_step, weights
from samplewise.types import Rule, Samples, SamplewiseError

__version__ = "0.1.0"

__all__ = [
    "Plan",
    "Rule",
    "Samples",
    "SamplewiseError",
    "band",
    "by",
    "by_length",
    "chain",
    "chi2_dro",
    "clip_weights",
    "column_weights",
    "cosine",
    "cvar",
    "extremes",
    "ir_dro",
    "lin_upper",
    "linear",
    "mid_ranking",
    "mix_uniform",
    "parse_rule",
    "piecewise",
    "plan_step",
    "quadratic",
    "random_keep",
    "sample_losses",
    "top_k",
    "uniform",
    "warmup",
    "weights",
]
