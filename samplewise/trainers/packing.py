"""TRL's preparation of a training set, with what belongs to samples carried through truncation and packing."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

from samplewise.core.columns import COLUMNS, ID, TOKEN_WEIGHTS
from samplewise.core.errors import SamplewiseError
from samplewise.losses.segments import nested_ids
from samplewise.trainers.collate import LENGTHS
from samplewise.trainers.dataset_kinds import is_table
from samplewise.trainers.messages import encoded_messages, has_weights, refuse_late_weights, warn_of_padding

logger = logging.getLogger("samplewise")

Host = Callable[[Any, Any, bool], Any]
"""(dataset, args, packing) -> dataset: the host's own preparation."""

FRAGMENT_KEY = "samplewise_at"  # a token's place in its sample: which fragment of it a segment is


def prepare_training(dataset: Any, args: Any, packing: bool, host: Host, tokenizer: Any = None) -> Any:
    """What `host` makes of the dataset, with sample ids, weights, groups, reference losses and token weights kept.

    tokenizer: for conversations with weights inside their messages, which become token weights first.
    Packed rows then hold a list of each, one value a segment (token weights: one a token). The rows, their order and
    their packing are the host's own: it would drop these columns before packing, so it prepares and shuffles without
    packing, and its own packer then packs the columns along.
    Cost: while packing, each column takes 8 bytes a token in the cache of `datasets`.
    """
    wrapped, first = packing and args.packing_strategy == "wrapped", next(iter(dataset))
    if ID not in first and not wrapped:
        dataset = numbered(dataset, packing)
    if has_weights(dataset):
        dataset = encoded_messages(dataset, tokenizer)
    elif hasattr(dataset, "__len__"):
        warn_of_padding(dataset)
    else:  # of a stream nothing but the first row is known
        dataset = dataset.map(refuse_late_weights)
    names = _column_names(dataset)
    if wrapped:
        return _wrapped(dataset, args, names, host)
    if not packing:
        dataset = host(dataset, args, False)
        return _truncated(dataset, args) if TOKEN_WEIGHTS in names and args.max_length is not None else dataset
    if args.max_length is None:
        return host(dataset, args, True)  # says what is missing
    whole = copy.copy(args)
    whole.max_length = None
    return _packed(host(dataset, whole, False), args)


def _wrapped(dataset: Any, args: Any, names: list[str], host: Host) -> Any:
    lost = sorted({*COLUMNS, TOKEN_WEIGHTS} & set(names))
    if lost:
        raise SamplewiseError(
            "packing_strategy", expected="'bfd' or 'bfd_split' for data with columns of samples", got="'wrapped'",
            remedy=f"Use one of these: 'wrapped' keeps no boundaries of samples, so {', '.join(lost)} would be lost.",
        )  # fmt: skip
    logger.warning("packing_strategy='wrapped' cuts samples and keeps no boundaries: each packed row is one sample")
    return host(dataset, args, True)


def _column_names(dataset: Any) -> list[str]:
    return list(dataset.column_names or next(iter(dataset)))


def numbered(dataset: Any, packing: bool) -> Any:
    """The dataset with ids by row; a stream gets them here only if packed, otherwise while it is read."""
    if is_table(dataset):
        custom = dataset.format["type"] == "custom"
        return dataset if custom else dataset.add_column(ID, list(range(len(dataset))))  # pyright: ignore[reportCallIssue]
    if not packing:
        return dataset
    if dataset.num_shards > 1:
        raise SamplewiseError(
            "train_dataset", expected=f"a column {ID} in a packed stream of several shards", got="none",
            remedy="Add whole numbers under that name: each loader worker would count from 0.",
        )  # fmt: skip
    return dataset.map(lambda row, number: {**row, ID: number}, with_indices=True)


def _truncated(dataset: Any, args: Any) -> Any:
    """The token weights, cut as TRL has cut the tokens."""
    kept = slice(None, args.max_length) if args.truncation_mode == "keep_start" else slice(-args.max_length, None)
    return dataset.map(lambda row: {TOKEN_WEIGHTS: row[TOKEN_WEIGHTS][kept]})


def _packed(dataset: Any, args: Any) -> Any:
    from trl import pack_dataset  # pyright: ignore[reportPrivateImportUsage]

    names = _column_names(dataset)
    columns = [name for name in COLUMNS if name in names]

    def by_token(row: dict[str, Any]) -> dict[str, Any]:
        count = len(row["input_ids"])
        return {FRAGMENT_KEY: list(range(count)), **{name: [row[name]] * count for name in columns}}

    tokens = ["input_ids", "labels", *([TOKEN_WEIGHTS] if TOKEN_WEIGHTS in names else [])]
    dataset = dataset.map(by_token).select_columns([*tokens, FRAGMENT_KEY, *columns])
    dataset = pack_dataset(dataset, args.max_length, args.packing_strategy)
    dataset = dataset.map(
        _by_segment, fn_kwargs={"columns": columns, "most": args.max_length}, remove_columns=[FRAGMENT_KEY]
    )
    return dataset.shuffle(seed=args.seed) if args.shuffle_dataset else dataset


def _by_segment(row: dict[str, Any], columns: list[str], most: int) -> dict[str, Any]:
    """One value a segment again: that of its first token. Fragments of one sample have ids of their own."""
    import torch

    starts = [sum(row[LENGTHS][:k]) for k in range(len(row[LENGTHS]))]
    out = {name: [row[name][start] for start in starts] for name in columns}
    fragment = torch.tensor([row[FRAGMENT_KEY][start] // most for start in starts])
    return {**out, ID: nested_ids(torch.tensor(out[ID]), fragment).tolist()}
