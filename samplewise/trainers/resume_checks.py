"""What has changed since a checkpoint was written, said in the log: a run resumes with it as asked."""

from __future__ import annotations

import logging
from typing import Any

import torch
import transformers

from samplewise import __version__
from samplewise.core.distributed import world_size

logger = logging.getLogger("samplewise")


def compare_steps(facts: dict[str, Any], rows: int) -> None:
    """Warn where another number of ranks, or of rows in a step, changes the order of the data.

    facts: of the checkpoint. rows: that the loader draws for a step now.
    """
    ranks = world_size()
    if facts["rows"] != rows:
        logger.warning(
            "a step had %d rows when the checkpoint was written and has %d now: %d steps of the new size count as "
            "seen, so some rows of this epoch are skipped or repeated", facts["rows"], rows, facts["step"]
        )  # fmt: skip
    elif facts["ranks"] != ranks:
        logger.warning(
            "%d ranks wrote the checkpoint and %d resume it: steps have the same rows in the same order, but "
            "dropout and other random draws differ, and sums are rounded differently", facts["ranks"], ranks
        )  # fmt: skip


def compare_settings(facts: dict[str, Any], now: dict[str, Any]) -> None:
    """Warn about settings that have changed since the checkpoint was written."""
    before = facts.get("settings", {})
    changed = [name for name in now if name in before and before[name] != now[name]]
    if changed:
        what = "; ".join(f"{name} was {before[name]} and is {now[name]}" for name in changed)
        logger.warning("changed since the checkpoint was written: %s", what)


def settings(host: Any) -> dict[str, Any]:
    """What the loss of a step depends on beside the rule, in JSON values. host: a weighted Trainer."""
    data, options = host.train_dataset, host.options
    return {
        "per": options.per, "normalize": options.normalize, "pool": options.pool, "turns": options.turns,
        "allow_negative": options.allow_negative, "norm": options.norm,
        "token_rule": None if options.token_rule is None else repr(options.token_rule),
        "loss_from": options.loss_from, "rows of data": len(data) if hasattr(data, "__len__") else None,
        "seed": host.args.seed, "samplewise": __version__, "torch": torch.__version__,
        "transformers": transformers.__version__,
    }  # fmt: skip
