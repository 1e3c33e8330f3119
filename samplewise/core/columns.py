"""The keys of a micro-batch that are this library's, and what a sample carries from the dataset to the rule.

Shapes: B rows, T positions, n samples of a micro-batch. A sample is a row of a padded micro-batch, a segment of a
packed one, or a turn within either; only where samples are not rows is there a map of segments.
"""

from __future__ import annotations

from torch import Tensor

Batch = dict[str, Tensor]

ID = "sample_id"  # [n] int64
WEIGHT = "sample_weight"  # [n] fp64: the data's own weight
REFERENCE = "reference_loss"  # [n] fp64: loss under a reference model, nats/token
GROUP = "group"  # [n] int64
STORED = "stored_loss"  # [n] fp64: the sample's loss as it was before, nats/token; NaN where it has none
MASS = "samplewise_mass"  # [n] fp64: what a sample counts before it is weighed
COEFFICIENT = "samplewise_coefficient"  # [n] fp64: what its loss counts in the step, once that is known
SEGMENTS = "samplewise_segments"  # [B, T] int64: the sample 0..n-1 of each position, -1 for none; without it, the row's
TOKEN_WEIGHTS = "token_weights"  # [B, T] fp32: what the prediction of each label counts within its sample
BEFORE = "samplewise_before"  # [n] int64: predicted tokens before a token rule leaves any out
TOKEN_REFERENCE = "samplewise_token_reference"  # [B, T]: token losses of the reference model, aligned with labels
LAST = "samplewise_last"  # on the step's last micro-batch

COLUMNS = (ID, WEIGHT, REFERENCE, GROUP, STORED)
"""Columns of a dataset that reach the rule: one value a sample."""
BY_SAMPLE = frozenset({*COLUMNS, MASS, COEFFICIENT, BEFORE})
OURS = frozenset({*BY_SAMPLE, SEGMENTS, TOKEN_WEIGHTS, TOKEN_REFERENCE, LAST})
"""Keys that the model never sees."""

OPTIONAL = {WEIGHT: "weight", REFERENCE: "reference", GROUP: "group"}
"""Columns by the field of `Samples` that they become."""
