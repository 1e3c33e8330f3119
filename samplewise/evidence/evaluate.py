"""Held-out loss by document: nats per token, no gradient, no logits kept beyond a batch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from samplewise.core.errors import SamplewiseError
from samplewise.data import Example, Window
from samplewise.evidence.batches import Batch, batches_of
from samplewise.evidence.outputs import Outputs
from samplewise.losses.evaluation import evaluating
from samplewise.losses.token_losses import sample_losses

HeldOut = Window | Example
"""A row that is evaluated: a window of a document, or a conversation."""


@dataclass(frozen=True)
class DocumentLoss:
    """A held-out document: its mean loss over its predicted tokens (nats/token), and how much text that is."""

    id: int
    source: str
    row: int
    loss: float
    tokens: int
    bytes: int


@dataclass(frozen=True)
class Evaluation:
    """Losses of the same documents in the same order, and the figures made of them."""

    documents: tuple[DocumentLoss, ...]

    @property
    def losses(self) -> np.ndarray:
        """The mean loss of each document, [D] float64, nats/token."""
        return np.array([document.loss for document in self.documents], np.float64)

    @property
    def mean(self) -> float:
        """The mean over documents: each counts the same. nats/token."""
        return float(self.losses.mean())

    @property
    def token_mean(self) -> float:
        """The mean over tokens: long documents count more. nats/token."""
        return self._nats / sum(document.tokens for document in self.documents)

    @property
    def bits_per_byte(self) -> float:
        """All nats over all bytes, in bits: comparable between tokenizers."""
        return self._nats / math.log(2) / sum(document.bytes for document in self.documents)

    @property
    def p90(self) -> float:
        """The loss that nine documents in ten stay below (linear interpolation). nats/token."""
        return float(np.quantile(self.losses, 0.9))

    @property
    def worst_decile(self) -> float:
        """The mean over the worst tenth of the documents, rounded up. nats/token."""
        count = math.ceil(len(self.documents) / 10)
        return float(np.sort(self.losses)[-count:].mean())

    @property
    def _nats(self) -> float:
        return sum(document.loss * document.tokens for document in self.documents)

    def figures(self) -> dict[str, float]:
        """All figures of the evaluation by name."""
        names = ("mean", "token_mean", "bits_per_byte", "p90", "worst_decile")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """The figures and the documents as JSON values."""
        return {"figures": self.figures(), "documents": [asdict(document) for document in self.documents]}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Evaluation:
        """An evaluation from the values that `to_json` gave."""
        return Evaluation(tuple(DocumentLoss(**document) for document in values["documents"]))


def evaluate(
    model: Any,
    windows: Sequence[HeldOut],
    *,
    pad_token_id: int = 0,
    batch_size: int = 8,
    autocast: torch.dtype | None = None,
    progress: Callable[[int], object] = lambda rows: None,
    outputs: Outputs | None = None,
    batches: Sequence[Batch] | None = None,
) -> Evaluation:
    """The loss of every document that the windows come from, in the order of its first window.

    model: a causal language model, evaluated where it is, in eval mode; it is left as it was.
    windows: of held-out documents, or conversations, of which the assistant's tokens count; a document's loss is
        token-weighted over its windows.
    batch_size: rows at a time, more of short ones; batch_size × length × vocabulary × 4 bytes of logits is the memory.
    autocast: compute in this dtype (losses are always in float32); None: the model's own.
    progress: is called with the number of rows done after each batch. outputs: takes what the model gave, row by row.
    batches: of `batches_of` for these windows, made before; None to make them.
    Errors: SamplewiseError for no window, and for a document whose loss is not finite.
    """
    if not windows:
        raise SamplewiseError("windows", expected="at least one", got="none", remedy="Hold out some documents.")
    own = batches_of(windows, pad_token_id=pad_token_id, batch_size=batch_size) if batches is None else batches
    losses, device = np.zeros(len(windows)), next(model.parameters()).device
    with evaluating(model), torch.autocast(device.type, autocast, enabled=autocast is not None):
        for batch in own:
            tensors = {key: value.to(device) for key, value in batch.tensors.items()}
            labels = tensors.pop("labels")
            logits = model(**tensors, use_cache=False).logits
            loss, _ = sample_losses(logits, labels)
            if outputs is not None:
                outputs.take(batch.rows, logits, labels)
            losses[batch.rows] = loss.double().cpu().numpy()
            progress(len(batch.rows))
    return Evaluation(tuple(_by_document(windows, losses)))


def _by_document(windows: Sequence[HeldOut], losses: np.ndarray) -> Iterable[DocumentLoss]:
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for i, window in enumerate(windows):
        groups[window.doc_id].append(i)
    for name, own in groups.items():
        tokens = np.array([windows[i].tokens for i in own])
        mean = float((losses[own] * tokens).sum() / tokens.sum())
        first = windows[own[0]]
        if not math.isfinite(mean):
            raise SamplewiseError(
                "held-out loss", expected="a finite number", got=f"{mean} on {first.source}, record {first.row}",
                remedy="The model has diverged: lower the learning rate.",
            )  # fmt: skip
        size = sum(windows[i].size for i in own)
        yield DocumentLoss(id=name, source=first.source, row=first.row, loss=mean, tokens=int(tokens.sum()), bytes=size)
