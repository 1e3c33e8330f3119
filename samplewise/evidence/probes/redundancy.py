"""Whether low losses are repetition: how far texts compress and which repeat another, by quantile of the loss."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from samplewise.data import Document, deduplicate


def compressibility(texts: Sequence[str]) -> np.ndarray:
    """[N] the share of its bytes that zlib saves on each text: 0 for noise, near 1 for one word repeated.

    >>> compressibility(["again " * 200]).round(1).tolist()
    [1.0]
    """
    sizes = [(len(raw), len(zlib.compress(raw, 9))) for raw in (text.encode("utf-8", "replace") for text in texts)]
    return np.array([max(0.0, 1 - packed / size) for size, packed in sizes])


def repeated(documents: Sequence[Document]) -> np.ndarray:
    """[N] bool: whether a document repeats an earlier one, exactly or nearly (as in `deduplicate`)."""
    kept = {id(document) for document in deduplicate(documents).kept}
    return np.array([id(document) not in kept for document in documents])
