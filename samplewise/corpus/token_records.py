"""Token ids of chosen samples, cut from the corpus as they were for scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.fingerprints import fingerprint_tokenizer
from samplewise.corpus.manifest import Manifest
from samplewise.corpus.reread import scored_settings
from samplewise.corpus.settings import ScoreSettings
from samplewise.corpus.texts import Piece, changed, joined
from samplewise.data.conversation import Conversation
from samplewise.data.read import Document
from samplewise.data.windows import Window, cut_windows
from samplewise.models.load import load_tokenizer


def token_records(
    pieces: Iterable[Piece], documents: Iterable[Document | Conversation], tokenizer: Any, settings: ScoreSettings,
    renamed: Counter[str] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A record of every piece, in one pass: its `tokens`, then the tokenizer's EOS, its other fields and its values.

    Tokens are uint16 where the vocabulary allows it, else int32. A window's are those that it predicts.
    Errors: SamplewiseError where a sample has another number of tokens than when it was scored.
    """
    renamed = Counter() if renamed is None else renamed
    kind = np.uint16 if len(tokenizer) < 65_500 else np.int32
    end = np.array([tokenizer.eos_token_id], kind)
    found = iter(documents)
    for (source, row), own in groupby(pieces, lambda piece: (piece.source, piece.row)):
        wanted = list(own)
        here = next((each for each in found if (each.source, each.row) >= (source, row)), None)
        if not isinstance(here, Document) or (here.source, here.row) != (source, row):
            raise changed(wanted[0], "nothing there")
        others = {name: value for name, value in (here.record or {}).items() if name != settings.text_field}
        tokens = [_predicted(window) for window in _windows(here, tokenizer, settings)]
        for piece in wanted:
            ids = np.concatenate(tokens) if piece.size is None else tokens[piece.values["window"]]
            if len(ids) != piece.values["n_tokens"]:
                raise changed(piece, f"{len(ids)} tokens, where {piece.values['n_tokens']} were scored")
            yield joined({"tokens": np.concatenate([ids.astype(kind), end])}, others, piece.values, renamed)


def tokenizer_of(manifest: Manifest, name: str | None, weighs: bool) -> tuple[Any, ScoreSettings]:
    """(the tokenizer that scored a corpus, the settings of the scoring). name: where it is, if not where it was.

    Errors: SamplewiseError for another tokenizer, one without EOS, and for conversations.
    """
    settings = scored_settings(manifest)
    if settings.kind == "instructions":
        raise SamplewiseError(
            "--format", expected="a format of records, for conversations", got="one of tokens alone",
            remedy="Write .jsonl, .parquet or --format datasets: the trainer applies its template.",
        )  # fmt: skip
    if weighs:
        raise SamplewiseError(
            "--format megatron", expected="a rule that only leaves out", got="one that gives weights",
            remedy="That format has no place for them: write --format mds-tokens, with its column sample_weight.",
        )  # fmt: skip
    tokenizer = load_tokenizer(name or manifest.made.get("model") or manifest.made.get("tokenizer", ""))
    expected = manifest.fingerprints.get("tokenizer", own := fingerprint_tokenizer(tokenizer))
    if own != expected or tokenizer.eos_token_id is None:
        raise SamplewiseError(
            "--tokenizer", expected="the tokenizer of the scores, with a token that ends texts",
            got="another tokenizer" if own != expected else "no EOS token",
            remedy="Name the model that scored the corpus, with --tokenizer.",
        )  # fmt: skip
    return tokenizer, settings


def _windows(document: Document, tokenizer: Any, settings: ScoreSettings) -> Iterator[Window]:
    least = 1 if settings.rolling else settings.min_tokens
    return cut_windows([document], tokenizer, max_length=settings.max_length, min_tokens=least, keep_short=True)


def _predicted(window: Window) -> np.ndarray:
    return window.input_ids[len(window.input_ids) - window.tokens :]
