"""What everything stands on: types, errors, micro-batches, statistics, ranks, checkpoints."""
