"""Losses of a scored corpus as columns of a run's windows, by id: what stored losses and excess losses train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from samplewise.config import ScoreConfig, ScoresConfig
from samplewise.core.errors import SamplewiseError
from samplewise.corpus.store import column, open_scores
from samplewise.data import Window


@dataclass(frozen=True)
class Scored:
    """A column of scores. ids: [n] int64, sorted; losses: [n] nats/token; tokens: [n] predicted ones of each."""

    place: str
    ids: NDArray[np.int64]
    losses: NDArray[np.float32]
    tokens: NDArray[np.int32]

    def __call__(self, window: Window) -> float:
        """The stored loss of a window."""
        return float(self.losses[self._find([window])[0]])

    def check(self, windows: Sequence[Window]) -> None:
        """Errors: SamplewiseError where a window has no loss, or one of another number of tokens."""
        self._find(windows)

    def line(self, name: str) -> str:
        """A line about the scores that were read."""
        return f"scores     {name} from {self.place}, {len(self.ids):,} windows"

    def _find(self, windows: Sequence[Window]) -> NDArray[np.intp]:
        wanted = np.array([window.id for window in windows], np.int64)
        at = np.searchsorted(self.ids, wanted).clip(max=max(0, len(self.ids) - 1))
        missing = self.ids[at] != wanted if len(self.ids) else np.ones(len(wanted), bool)
        if missing.any():
            first = windows[int(missing.argmax())]
            raise self._unlike(
                "a score for every window of the training text",
                f"none for {int(missing.sum()):,} of {len(windows):,}, the first {first.source}, record {first.row}",
            )
        own = np.array([window.tokens for window in windows])
        other = self.tokens[at] != own
        if other.any():
            i = int(other.argmax())
            got = f"{self.tokens[at][i]} in {windows[i].source}, record {windows[i].row}, where the run has {own[i]}"
            raise self._unlike("windows of as many tokens as the run's", got)
        return at

    def _unlike(self, expected: str, got: str) -> SamplewiseError:
        return SamplewiseError(
            f"data.scores: {self.place}", expected=expected, got=got,
            remedy="Score the same path with the --max-length, --min-tokens and tokenizer of the run.",
        )  # fmt: skip


def scored_columns(scores: ScoresConfig | None) -> dict[str, Scored]:
    """The columns that are named. Cost: 16 bytes a window of the scores, for each.

    Errors: SamplewiseError for folders without finished scores, columns that are not there, and losses that are not
    finite.
    """
    given = {} if scores is None else {each.name: getattr(scores, each.name) for each in fields(scores)}
    return {name: _read(score) for name, score in given.items() if score is not None}


def _read(given: str | ScoreConfig) -> Scored:
    score = ScoreConfig(given) if isinstance(given, str) else given
    scores = open_scores(score.folder)
    ids, losses = column(scores, score.column)
    if losses.dtype.kind != "f" or not np.isfinite(losses).all():
        raise SamplewiseError(
            f"data.scores: {score.folder}", expected=f"finite losses in the column {score.column}",
            got="text or whole numbers" if losses.dtype.kind != "f" else f"{(~np.isfinite(losses)).sum()} that are not",
            remedy="Name another column, such as loss.",
        )  # fmt: skip
    order = np.argsort(ids, kind="stable")
    return Scored(score.folder, ids[order], losses[order], column(scores, "n_tokens")[1][order])
