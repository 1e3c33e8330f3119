"""The losses of many pieces: batches of like length under a budget of tokens, no logits kept.

No attention mask is passed: padding stands on the right, where a causal model's real tokens never look; so the fast
causal attention is used. `check_model` holds a model to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from samplewise.core.device_memory import give_unused_back
from samplewise.core.errors import SamplewiseError
from samplewise.core.exhausted import lacks_memory
from samplewise.core.host import copying, to_device
from samplewise.corpus.ahead import one_behind
from samplewise.corpus.batching import Budget, batches
from samplewise.corpus.change import changes
from samplewise.corpus.pieces import Piece
from samplewise.losses.check_head import check_head
from samplewise.losses.evaluation import evaluating
from samplewise.losses.head import find_head
from samplewise.losses.kernels import score
from samplewise.losses.token_losses import IGNORED

QUANTILES = (0.1, 0.5, 0.9)
REMEDY = "Such a model cannot be scored. Adapters can be merged into it first: merge_and_unload, save_pretrained."

Values = dict[str, np.ndarray]
Losses = Callable[[], np.ndarray]


def score_pieces(
    model: nn.Module, pieces: Sequence[Piece], *, batch_tokens: int | Budget,
    done: Callable[[int], object] = lambda n: None,
) -> Values:  # fmt: skip
    """loss, loss_q10, loss_q50, loss_q90, loss_change, completion_loss: [n] float32 each, nats/token, in the order of
    the pieces.

    Quantiles are of a piece's predicted tokens, interpolated linearly. loss_change: as in `changes`. completion_loss is
    NaN without a completion.
    batch_tokens: ids of a batch; a `Budget` keeps what it was halved to when memory ran out.
    done: is told the predicted tokens of each batch. What lies together in a batch changes nothing but the rounding.
    A device has the next batch before the host waits for the losses of this one.
    Errors: SamplewiseError where memory runs out in a single piece.
    """
    budget = Budget(batch_tokens) if isinstance(batch_tokens, int) else batch_tokens
    names = ("loss", *(f"loss_q{round(100 * q)}" for q in QUANTILES), "loss_change", "completion_loss")
    found = {name: np.full(len(pieces), np.nan, np.float32) for name in names}
    with evaluating(model):
        for index, losses in one_behind(_begun(model, pieces, budget)):
            batch = [pieces[i] for i in index]
            for name, values in _reduced(batch, losses()).items():
                found[name][index] = values
            done(sum(piece.n_tokens for piece in batch))
    return found


def _begun(
    model: nn.Module, pieces: Sequence[Piece], budget: Budget
) -> Iterator[tuple[np.ndarray, Callable[[], np.ndarray]]]:
    """(positions of a batch's pieces, what waits for their token losses), each when the device has been given it."""
    for whole in batches([len(piece.ids) for piece in pieces], budget):
        parts = [whole]
        while parts:
            batch = [pieces[i] for i in parts[0]]
            losses = _unless_full(lambda batch=batch: token_losses(model, batch), budget, batch)
            if losses is None:
                parts[:1] = np.array_split(parts[0], 2)
            else:
                yield parts.pop(0), losses


def _unless_full(call: Callable[[], Losses], budget: Budget, batch: Sequence[Piece]) -> Losses | None:
    """What `call` returns; None where it found no memory, and the budget is halved."""
    try:
        return call()
    except Exception as error:
        if not lacks_memory(error):
            raise
        budget.halve(len(batch), max(len(piece.ids) for piece in batch), error)
    give_unused_back()  # here, where the error no longer holds the tensors of what failed
    return None


def token_losses(model: nn.Module, batch: Sequence[Piece]) -> Losses:
    """What waits for the [P] losses of every predicted token, piece by piece; the device has its work already."""
    head = find_head(model)
    ids, labels = _padded(batch)
    hidden = head.body(input_ids=to_device(ids, head.weight.device)).last_hidden_state
    options = {"bias": head.bias, "softcap": head.softcap, "scale": head.scale}
    found = score(hidden, head.weight, labels, token_losses=True, **options).token_loss
    assert found is not None
    waiting, predicted = copying(found.float()), labels.numpy() != IGNORED
    return lambda: waiting()[predicted]


def check_model(model: nn.Module, pieces: Sequence[Piece]) -> None:
    """Raises SamplewiseError where a model's losses without logits are others, or depend on what stands beside a row.

    pieces: any; the first two are looked at, in part.
    """
    heads = [replace(each, ids=each.ids[:48], start=1, completion=None) for each in pieces[:2]]
    heads[-1] = replace(heads[-1], ids=heads[-1].ids[: max(2, len(heads[-1].ids) // 2)])
    with evaluating(model):
        ids = _padded(heads)[0].to(find_head(model, REMEDY).weight.device)
        real = [torch.arange(ids.shape[1], device=ids.device) < len(each.ids) for each in heads]
        check_head(model, {"input_ids": ids, "attention_mask": torch.stack(real).long()}, REMEDY)
        together = _reduced(heads, token_losses(model, heads)())["loss"]
        alone = np.concatenate([_reduced([each], token_losses(model, [each])())["loss"] for each in heads])
    limit = 1e-4 if find_head(model).weight.dtype in (torch.float32, torch.float64) else 5e-2
    worst = float(np.nanmax(np.abs(together - alone), initial=0.0))
    if not worst <= limit:
        raise SamplewiseError(
            "model", expected=f"the same loss (to {limit}) alone and beside a longer row",
            got=f"a difference of {worst:.2g}",
            remedy="Use a model with causal attention that ignores padding; others cannot be scored in batches.",
        )  # fmt: skip


def _padded(batch: Sequence[Piece]) -> tuple[Tensor, Tensor]:
    """input_ids and labels, [B, T] int64 each, on the host; a token of the text pads, as models warn of pad tokens."""
    width = max(len(piece.ids) for piece in batch)
    ids = np.full((len(batch), width), batch[0].ids[-1], np.int64)
    labels = np.full((len(batch), width), IGNORED, np.int64)
    for row, piece in enumerate(batch):
        ids[row, : len(piece.ids)] = piece.ids
        labels[row, piece.start : len(piece.ids)] = piece.ids[piece.start :]
    return torch.from_numpy(ids), torch.from_numpy(labels)


def _reduced(batch: Sequence[Piece], values: np.ndarray) -> Values:
    """From token losses [P], piece by piece."""
    counts = np.array([piece.n_tokens for piece in batch])
    rows = np.repeat(np.arange(len(batch)), counts)
    found = {"loss": np.bincount(rows, values.astype(np.float64), len(batch)) / counts}
    found |= _quantiles(values, rows, counts) | {"loss_change": changes(values, rows, counts)}
    if any(piece.completion is not None for piece in batch):
        inside = np.concatenate([_completion(piece) for piece in batch])
        size = np.bincount(rows, inside, len(batch))
        total = np.bincount(rows, np.where(inside, values, 0).astype(np.float64), len(batch))
        found["completion_loss"] = np.divide(total, size, out=np.full(len(batch), np.nan), where=size > 0)
    return found


def _completion(piece: Piece) -> np.ndarray:
    return np.zeros(piece.n_tokens, bool) if piece.completion is None else piece.completion[piece.start :]


def _quantiles(values: np.ndarray, rows: np.ndarray, counts: np.ndarray) -> Values:
    """Sorted within rows of a matrix: pieces of a batch are of like length, so that little of it is empty."""
    starts = np.cumsum(counts) - counts
    matrix = np.full((len(counts), counts.max()), np.inf, np.float32)
    matrix[rows, np.arange(len(values)) - starts[rows]] = values
    matrix.sort(1)
    row = np.arange(len(counts))
    found = {}
    for q in QUANTILES:
        at = q * (counts - 1)
        low = np.floor(at).astype(np.int64)
        high = np.minimum(low + 1, counts - 1)
        below, above = matrix[row, low].astype(np.float64), matrix[row, high]
        with np.errstate(invalid="ignore"):  # inf - inf, of a piece that will be quarantined
            found[f"loss_q{round(100 * q)}"] = below + (at - low) * (above - below)
    return found
