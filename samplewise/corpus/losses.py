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

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.pieces import Piece
from samplewise.losses.check_head import check_head
from samplewise.losses.evaluation import evaluating
from samplewise.losses.head import find_head
from samplewise.losses.kernels import score
from samplewise.losses.token_losses import IGNORED

QUANTILES = (0.1, 0.5, 0.9)
CPU_TOKENS, ACCELERATOR_TOKENS = 2**11, 2**15
"""Ids of a batch. On a CPU the size makes no difference from 512 to 4,096; 8,192 were slower (SmolLM2-135M, bf16)."""

REMEDY = "Such a model cannot be scored. Adapters can be merged into it first: merge_and_unload, save_pretrained."

Values = dict[str, np.ndarray]


def score_pieces(
    model: nn.Module, pieces: Sequence[Piece], *, batch_tokens: int, done: Callable[[int], object] = lambda n: None
) -> Values:
    """loss, loss_q10, loss_q50, loss_q90, completion_loss: [n] float32 each, nats/token, in the order of the pieces.

    Quantiles are of a piece's predicted tokens, interpolated linearly. completion_loss is NaN without a completion.
    done: is told the predicted tokens of each batch. What lies together in a batch changes nothing but the rounding.
    """
    names = ("loss", *(f"loss_q{round(100 * q)}" for q in QUANTILES), "completion_loss")
    found = {name: np.full(len(pieces), np.nan, np.float32) for name in names}
    with evaluating(model):
        for index in batches([len(piece.ids) for piece in pieces], batch_tokens):
            batch = [pieces[i] for i in index]
            token, owner = token_losses(model, batch)
            for name, values in _reduced(batch, token, owner).items():
                found[name][index] = values
            done(sum(piece.n_tokens for piece in batch))
    return found


def batches(lengths: Sequence[int], budget: int) -> Iterator[np.ndarray]:
    """Positions of pieces batch by batch, the longest first; rows × longest within the budget, or one row.

    A batch of an eighth of the budget ends where pieces become shorter than 0.9 of its longest: padding costs more
    than another call.

    >>> [each.tolist() for each in batches([3, 9, 2, 3], budget=9)]
    [[1], [0, 3], [2]]
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    at = 0
    while at < len(order):
        longest = lengths[order[at]]
        most = at + max(1, budget // longest)
        end = at + 1
        while end < min(most, len(order)):
            if lengths[order[end]] < 0.9 * longest and (end - at) * longest >= budget // 8:
                break
            end += 1
        yield order[at:end]
        at = end


def token_losses(model: nn.Module, batch: Sequence[Piece]) -> tuple[Tensor, Tensor]:
    """([P] loss of every predicted token, piece by piece, [P] the piece it belongs to), on the model's device."""
    head = find_head(model)
    ids, labels = _padded(batch, head.weight.device)
    hidden = head.body(input_ids=ids).last_hidden_state
    options = {"bias": head.bias, "softcap": head.softcap, "scale": head.scale}
    found = score(hidden, head.weight, labels, token_losses=True, **options).token_loss
    assert found is not None
    predicted = labels != IGNORED
    return found[predicted], predicted.nonzero()[:, 0]


def check_model(model: nn.Module, pieces: Sequence[Piece]) -> None:
    """Raises SamplewiseError where a model's losses without logits are others, or depend on what stands beside a row.

    pieces: any; the first two are looked at, in part.
    """
    heads = [replace(each, ids=each.ids[:48], start=1, completion=None) for each in pieces[:2]]
    heads[-1] = replace(heads[-1], ids=heads[-1].ids[: max(2, len(heads[-1].ids) // 2)])
    with evaluating(model):
        ids, _ = _padded(heads, find_head(model, REMEDY).weight.device)
        real = [torch.arange(ids.shape[1], device=ids.device) < len(each.ids) for each in heads]
        check_head(model, {"input_ids": ids, "attention_mask": torch.stack(real).long()}, REMEDY)
        together = _reduced(heads, *token_losses(model, heads))["loss"]
        alone = np.concatenate([_reduced([each], *token_losses(model, [each]))["loss"] for each in heads])
    limit = 1e-4 if find_head(model).weight.dtype in (torch.float32, torch.float64) else 5e-2
    worst = float(np.nanmax(np.abs(together - alone), initial=0.0))
    if not worst <= limit:
        raise SamplewiseError(
            "model", expected=f"the same loss (to {limit}) alone and beside a longer row",
            got=f"a difference of {worst:.2g}",
            remedy="Use a model with causal attention that ignores padding; others cannot be scored in batches.",
        )  # fmt: skip


def _padded(batch: Sequence[Piece], device: torch.device) -> tuple[Tensor, Tensor]:
    """input_ids and labels, [B, T] int64 each; a token of the text pads, since models warn of real pad tokens."""
    width = max(len(piece.ids) for piece in batch)
    ids = np.full((len(batch), width), batch[0].ids[-1], np.int64)
    labels = np.full((len(batch), width), IGNORED, np.int64)
    for row, piece in enumerate(batch):
        ids[row, : len(piece.ids)] = piece.ids
        labels[row, piece.start : len(piece.ids)] = piece.ids[piece.start :]
    return torch.from_numpy(ids).to(device), torch.from_numpy(labels).to(device)


def _reduced(batch: Sequence[Piece], token: Tensor, owner: Tensor) -> Values:
    values, rows = token.float().cpu().numpy(), owner.cpu().numpy()
    counts = np.array([piece.n_tokens for piece in batch])
    found = {"loss": np.bincount(rows, values.astype(np.float64), len(batch)) / counts}
    found |= _quantiles(values, rows, counts)
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
