"""The order of an epoch without the samples that a rule leaves out, and what is known of every row for that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from samplewise.core.columns import ID, STORED
from samplewise.core.distributed import world_size
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import ByEpoch
from samplewise.trainers.checks import check_last_step
from samplewise.trainers.collate import LENGTHS
from samplewise.trainers.identify import IdentifiedRows, checked
from samplewise.trainers.loading import column_names


class EpochOrder(Sampler[int]):
    """The Trainer's order of an epoch, without the rows that the rule leaves out.

    host: the sampler that it would take. Its order becomes a function of (seed, epoch), as accelerate makes that of a
        random one, so that it is the same on every rank and after a restart.
    begin: (number of the epoch, all rows in the host's order) -> rows that stay; called before an epoch's first batch.
    Its length is that of the epoch in hand: of the whole data until the first begins.
    """

    def __init__(self, host: Any, seed: int, begin: Callable[[int, list[int]], list[int]]) -> None:
        self.host, self.seed, self.begin = host, seed, begin
        self.epoch, self.rows = 0, len(host)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        if hasattr(self.host, "generator"):
            self.host.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        stays = self.begin(self.epoch, list(self.host))
        self.rows = len(stays)
        yield from stays

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch
        if hasattr(self.host, "set_epoch"):
            self.host.set_epoch(epoch)


def columns_of_rows(dataset: Any) -> tuple[Tensor, Tensor | None]:
    """([n] int64 the ids of all rows, [n] fp64 their column stored_loss if there is one), of an identified dataset.

    Cost: a dataset of one's own is read through where its rows have ids or stored losses.
    """
    if not isinstance(dataset, IdentifiedRows):
        names, column = dataset.column_names, dataset.__getitem__
    else:
        first = dataset.dataset[0]
        names = [name for name in (ID, STORED) if name in first]
        if not names:
            return torch.arange(len(dataset)), None
        found = [[row[name] for name in (ID, *names)] for row in map(dataset.__getitem__, range(len(dataset)))]
        column = dict(zip((ID, *names), zip(*found, strict=True), strict=True)).__getitem__

    ids = torch.tensor([checked(ID, value) for value in column(ID)], dtype=torch.int64)
    if STORED not in names:
        return ids, None
    return ids, torch.tensor([checked(STORED, value) for value in column(STORED)], dtype=torch.float64)


# ---- what it cannot be combined with ----


def refused(argument: str, expected: str, got: object) -> SamplewiseError:
    """The error of a setting that a rule with scope "epoch" cannot be combined with."""
    return SamplewiseError(
        argument, expected=f'{expected}, with a rule of scope="epoch"', got=got,
        remedy='Use infobatch(scope="step"), which drops within each step and needs no epochs.',
    )  # fmt: skip


def check_data(trainer: Any) -> None:
    """Errors: SamplewiseError unless rows are known beforehand, a sample each, and the Trainer makes their order."""
    dataset, args = trainer.train_dataset, trainer.args
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise refused("train_dataset", "a dataset of known length", "a stream, which has no epochs")
    if LENGTHS in (column_names(dataset) or ()):
        raise refused("packing", "rows of one sample each", "packed rows")
    strategy = getattr(args, "train_sampling_strategy", None)
    unmet = [
        ("turns", "rows of one sample each", trainer.options.turns),
        ("sample_packing", "rows of one sample each", getattr(args, "sample_packing", False)),  # axolotl's
        ("get_train_dataloader", "the Trainer's", not trainer._loader_is_the_hosts() and "one of your own"),
        ("train_sampling_strategy", "an order of rows", strategy == "batch_rebalance" and strategy),
        ("dispatch_batches", "every rank to read its own rows", trainer.accelerator.dispatch_batches),
    ]
    for argument, expected, got in unmet:
        if got:
            raise refused(argument, expected, got)


def check_length(trainer: Any, epochs: ByEpoch) -> None:
    """Errors: SamplewiseError if the run ends, or stops dropping, before the loss of any sample is known."""
    args = trainer.args
    if not epochs.needs_loss:
        return
    if STORED in (column_names(trainer.train_dataset) or ()):
        return
    steps = _steps_of_epoch(trainer)
    if 0 < args.max_steps <= steps:
        raise refused(
            "max_steps", f"more than the {steps} of the first epoch, in which losses become known", args.max_steps
        )
    if args.max_steps <= 0 and args.num_train_epochs <= 1:
        raise refused(
            "num_train_epochs", "more than one epoch: losses become known in the first", args.num_train_epochs
        )
    first = steps / args.max_steps if args.max_steps > 0 else 1 / args.num_train_epochs
    if epochs.until <= first:
        raise refused("anneal", f"less than {1 - first:.3g}, the share of the run after its first epoch", trainer.rule)


def check_last_step_of_epoch(trainer: Any) -> None:
    """Errors: SamplewiseError if a rule beside it cannot work on so few rows as an epoch may have for its last step."""
    args, ranks = trainer.args, world_size()
    whole = args.dataloader_drop_last or ranks > 1  # micro-batches of several ranks are filled up
    last = trainer._train_batch_size * ranks if whole else 1
    check_last_step(
        trainer.rule, trainer.rule.init(), last, "an epoch, which ends where its rows do",
        f"Or set dataloader_drop_last, with micro-batches of more than {trainer._train_batch_size} rows.",
    )  # fmt: skip


def _steps_of_epoch(trainer: Any) -> int:
    args, whole = trainer.args, math.floor if trainer.args.dataloader_drop_last else math.ceil
    batches = whole(len(trainer.train_dataset) / (trainer._train_batch_size * trainer.options.pool))
    return max(1, math.ceil(whole(batches / world_size()) / args.gradient_accumulation_steps))
