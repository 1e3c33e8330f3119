"""One block to one shard: cut, scored, quarantined where it must be, written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.batching import Budget
from samplewise.corpus.losses import Values, score_pieces
from samplewise.corpus.manifest import Shard
from samplewise.corpus.parts import Done, Parts, reasons_of, shard_name
from samplewise.corpus.pieces import Cutting, Piece, answers_alone, chat_pieces, text_pieces
from samplewise.corpus.reader import Entry, Quarantined
from samplewise.corpus.settings import ScoreSettings
from samplewise.corpus.store import readable
from samplewise.corpus.table import COLUMNS, LOSSES, OPTIONAL, arrow, write_shard
from samplewise.data.conversation import Conversation
from samplewise.data.fields import as_text, field_of
from samplewise.data.read import Document
from samplewise.data.template import ChatTemplate

Cut = Callable[[Sequence[Entry]], list[Piece | Quarantined]]


def cutter(settings: ScoreSettings, tokenizer: Any, template: ChatTemplate | None) -> Cut:
    """What makes pieces of a block's entries, those quarantined in their place."""

    def cut(entries: Sequence[Entry]) -> list[Piece | Quarantined]:
        found: list[Piece | Quarantined] = [each for each in entries if isinstance(each, Quarantined)]
        if template is None:
            documents = [each for each in entries if isinstance(each, Document)]
            cutting = Cutting(
                settings.max_length, settings.min_tokens, settings.stride, settings.rolling, settings.characters
            )
            found += text_pieces(documents, tokenizer, cutting)
        else:
            rows = [each for each in entries if isinstance(each, Conversation)]
            found += chat_pieces(rows, template, settings.max_length, settings.characters)
        order = {(each.source, each.row): i for i, each in enumerate(entries)}
        return sorted(found, key=lambda each: order[each.source, each.row])  # stable: windows stay in order

    return cut


def columns_of(settings: ScoreSettings, losses: bool = True) -> dict[str, str]:
    """Name -> Arrow type of the table that these settings make. losses: whether a model has read the corpus."""
    have = {"completion_loss", "completion_tokens", "group"} if settings.kind == "instructions" else set()
    have |= {"loss_change"} | ({"text"} if settings.characters else set())
    have |= {"answer_loss"} if settings.answers else set()
    never = () if losses else LOSSES
    known = {
        name: kind for name, kind in COLUMNS.items() if name not in never and (name not in OPTIONAL or name in have)
    }
    return known | dict.fromkeys(settings.keep_fields, "string")


def score_block(
    model: nn.Module,
    found: Sequence[Piece | Quarantined],
    settings: ScoreSettings,
    budget: Budget,
    done: Callable[[int], object],
    prefix: int | None = None,
) -> tuple[list[Piece], Values, list[Quarantined]]:
    """Pieces, their losses, and the quarantined: a record with a loss that is not finite is, with all its windows."""
    pieces = [each for each in found if isinstance(each, Piece)]
    alone = [answers_alone(piece, prefix) for piece in pieces] if settings.answers else []
    values = score_pieces(model, [*pieces, *alone], batch_tokens=budget, done=done)
    values, answers = ({name: each[part] for name, each in values.items()} for part in _halves(len(pieces)))
    values |= {"answer_loss": answers["loss"]} if settings.answers else {}
    finite = np.isfinite(values["loss"])
    bad = {(piece.source, piece.row) for piece, fine in zip(pieces, finite, strict=True) if not fine}
    kept = np.array([(piece.source, piece.row) not in bad for piece in pieces], bool)
    quarantined: list[Quarantined] = []
    told: set[tuple[str, int]] = set()
    for each in found:
        if isinstance(each, Quarantined):
            quarantined.append(each)
        elif (each.source, each.row) in bad - told:
            told.add((each.source, each.row))
            quarantined.append(Quarantined(each.source, each.row, None, "loss not finite", "NaN or infinity"))
    pieces = [piece for piece, keep in zip(pieces, kept, strict=True) if keep]
    return pieces, {name: each[kept] for name, each in values.items()}, quarantined


def without_losses(found: Sequence[Piece | Quarantined]) -> tuple[list[Piece], Values, list[Quarantined]]:
    """As `score_block`, where no model reads the pieces."""
    pieces = [each for each in found if isinstance(each, Piece)]
    return pieces, {}, [each for each in found if isinstance(each, Quarantined)]


def _halves(count: int) -> tuple[slice, slice]:
    return slice(count), slice(count, None)


def finish_block(
    parts: Parts,
    index: int,
    settings: ScoreSettings,
    entries: Sequence[Entry],
    scored: tuple[list[Piece], Values, list[Quarantined]],
) -> Done:
    """Write the shard of a block, then its entry."""
    pieces, values, quarantined = scored
    types = columns_of(settings, losses=bool(values))
    if values:
        values = {**values, "loss_change": np.ma.masked_invalid(values["loss_change"])}  # not NaN, of short windows
    names = [name for name in types if name not in values and name not in settings.keep_fields]
    columns = {name: [getattr(piece, name) for piece in pieces] for name in names}
    columns |= _kept(settings.keep_fields, entries, pieces)
    shard = write_shard(parts.place, parts.inside(shard_name(index)), {**columns, **values}, types)
    return _enter(parts, index, shard, len(entries), pieces, quarantined)


def _kept(names: Sequence[str], entries: Sequence[Entry], pieces: Sequence[Piece]) -> dict[str, list[str | None]]:
    """The fields of every piece's record, as text."""
    records = {(e.source, e.row): e.record for e in entries if not isinstance(e, Quarantined)} if names else {}
    found = [records[piece.source, piece.row] for piece in pieces] if names else []
    return {name: [_whole_text(as_text(field_of(record, name))) for record in found] for name in names}


def _whole_text(text: str | None) -> str | None:
    """With lone surrogates, which no column can hold, written out."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def finish_column(
    parts: Parts, index: int, column: str, records: int, scored: tuple[list[Piece], Values, list[Quarantined]]
) -> Done:
    """Write a column's shard: the ids of the scores' own shard in their order, NaN where there is no loss now."""
    pieces, values, quarantined = scored
    with readable(parts.place), parts.place.open(shard_name(index)) as file:
        table = arrow().parquet.read_table(file, columns=["id", "n_tokens"])
    ids = table["id"].to_numpy()
    own = {piece.id: i for i, piece in reversed(list(enumerate(pieces)))}  # of a repeated id the first was kept
    at = np.array([own.get(each, -1) for each in ids.tolist()], np.int64)
    counts = np.array([pieces[i].n_tokens if i >= 0 else -1 for i in at])
    if not np.array_equal(counts[at >= 0], table["n_tokens"].to_numpy()[at >= 0]):
        raise SamplewiseError(
            "--as", expected="the windows of the scores", got=f"windows of other lengths in shard {index}",
            remedy="The text has changed: score it again into another folder.",
        )  # fmt: skip
    losses = np.append(values["completion_loss" if _is_chat(pieces) else "loss"], np.float32(np.nan))[at]
    types = {"id": "int64", column: "float"}
    shard = write_shard(parts.place, parts.inside(shard_name(index)), {"id": ids, column: losses}, types)
    return _enter(parts, index, shard, records, pieces, quarantined)


def _is_chat(pieces: list[Piece]) -> bool:
    return any(piece.completion is not None for piece in pieces)


def _enter(
    parts: Parts, index: int, shard: Shard, records: int, pieces: list[Piece], quarantined: list[Quarantined]
) -> Done:
    own = Shard(shard_name(index), shard.rows, shard.bytes, shard.sha256)
    tokens = sum(piece.n_tokens for piece in pieces)
    done = Done(own, records, records - len(quarantined), tokens, reasons_of(quarantined))
    parts.set_done(index, done, quarantined)
    return done
