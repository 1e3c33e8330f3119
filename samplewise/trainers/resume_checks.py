"""Whether a checkpoint is whole, and what has changed since: said in the log, as the run resumes all the same."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
import transformers

from samplewise import __version__
from samplewise.core.checkpoint import load_state
from samplewise.core.distributed import largest, world_size
from samplewise.core.errors import SamplewiseError

logger = logging.getLogger("samplewise")


def same_on_ranks(args: Any, checkpoint: str | None) -> dict[str, Any]:
    """What every rank must have been given alike. args: the Trainer's."""
    return {
        "seed": args.seed, "data_seed": args.data_seed, "max_steps": args.max_steps,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "resume_from_checkpoint": Path(checkpoint).name if checkpoint else None,
        "samplewise.__version__": __version__, "transformers.__version__": transformers.__version__,
    }  # fmt: skip


def verify(checkpoint: Path, args: Any) -> None:
    """Every checksum is compared by one rank, or one of each machine; all refuse together. args: the Trainer's."""
    refusal = None
    if args.should_save:
        try:
            load_state(checkpoint)
        except SamplewiseError as error:
            refusal = error
    if largest(refusal is not None, args.device):
        raise refusal or SamplewiseError(
            "resume_from_checkpoint", expected="a complete checkpoint", got=f"{checkpoint}, refused by rank 0",
            remedy="See the error of rank 0.",
        )  # fmt: skip


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


def written_facts(host: Any, rows: int, position: Any) -> dict[str, Any]:
    """What a checkpoint says of its run, in JSON values. host: a weighted Trainer.

    rows: that its loader draws for a step. position: of the data, where the Trainer cannot count it.
    """
    return {
        "rule": host.options.rule.expression, "step": host.state.global_step, "ranks": world_size(),
        "rows": rows, "position": position, "settings": settings(host),
    }  # fmt: skip
