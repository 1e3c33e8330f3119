"""Texts to token ids and the characters where they start, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

LONG = 2**20
"""Characters tokenised in one call: a tokenizer needs some 150 bytes for each."""

_BETWEEN_WORDS = re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])")

Tokens = tuple[np.ndarray, np.ndarray]


def tokenise(texts: list[str], tokenizer: Any) -> Iterator[Tokens]:
    """For each text (ids [n] int32 without special tokens, characters [n + 1] where each token starts, and the end).

    A text longer than `LONG` is tokenised in pieces cut between words. With byte-level vocabularies that gives the
    same tokens, since a token there never holds the end of a word and the space after it; with sentencepiece ones it
    may give another token at a cut, once in a million characters.
    """
    if sum(map(len, texts)) <= LONG:
        yield from _encode(texts, tokenizer)
        return
    for text in texts:
        pieces = [(at, _encode([text[at:end]], tokenizer)[0]) for at, end in _pieces(text)]
        starts = [start[:-1] + at for at, (_, start) in pieces]
        yield np.concatenate([ids for _, (ids, _) in pieces]), np.concatenate([*starts, [len(text)]])


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while len(text) - at > LONG:
        cut = _BETWEEN_WORDS.search(text, at + LONG // 2, at + LONG)
        end = cut.start() if cut else at + LONG  # no words at all: base64, DNA
        yield at, end
        at = end
    yield at, len(text)


def _encode(texts: list[str], tokenizer: Any) -> list[Tokens]:
    exact = getattr(tokenizer, "is_fast", False)
    found = tokenizer(
        texts, add_special_tokens=False, truncation=False, padding=False, return_attention_mask=False,
        return_offsets_mapping=exact, verbose=False,
    )  # fmt: skip
    ids = [np.array(own, np.int32) for own in found["input_ids"]]
    if exact:
        pairs = zip(found["offset_mapping"], texts, strict=True)
        starts = [np.array([start for start, _ in own] + [len(text)]) for own, text in pairs]
    else:  # tokenizers in Python know no offsets: the characters are shared out evenly
        starts = [np.linspace(0, len(t), len(own) + 1, dtype=np.int64) for own, t in zip(ids, texts, strict=True)]
    for start in starts:
        start[0] = 0  # what a tokenizer strips at the start still belongs to the first token
        np.maximum.accumulate(start, out=start)
    return list(zip(ids, starts, strict=True))
