"""The columns of a dataset that this library reads, and the keys that its collator adds: the names on the wire."""

from __future__ import annotations

ID = "sample_id"  # int64, one a sample
WEIGHT = "sample_weight"  # the data's own weight
REFERENCE = "reference_loss"  # loss under a reference model, nats/token
GROUP = "group"  # int64: domain
STORED = "stored_loss"  # the sample's loss as it was before, nats/token; NaN where it has none
TOKEN_WEIGHTS = "token_weights"  # one a token: what the prediction of each label counts within its sample
SEGMENTS = "samplewise_segments"  # the collator's: the sample of each position, −1 for none

COLUMNS = (ID, WEIGHT, REFERENCE, GROUP, STORED)
"""One value a sample."""
FIELDS = {WEIGHT: "weight", REFERENCE: "reference", GROUP: "group", STORED: "stored_loss"}
"""Columns by the optional field of `Samples` that they become."""
