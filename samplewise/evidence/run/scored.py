"""Losses of a scored corpus as columns of a run's samples, by id: what stored losses and excess losses train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samplewise.config import ScoreConfig, ScoresConfig
from samplewise.core.errors import SamplewiseError
from samplewise.corpus.fingerprints import fingerprint_template, fingerprint_tokenizer
from samplewise.corpus.store import Scores, column, open_scores
from samplewise.data import ChatTemplate, Example, Window


@dataclass(frozen=True)
class Scored:
    """A column of scores. ids: [n] int64, sorted; losses: [n] nats/token; tokens: [n] predicted ones of each.

    kind: of what has them, windows or conversations.
    """

    place: str
    ids: NDArray[np.int64]
    losses: NDArray[np.float32]
    tokens: NDArray[np.int32]
    kind: str = "window"

    def __call__(self, window: Window) -> float:
        """The stored loss of a window."""
        return float(self.of([window])[0])

    def of(self, samples: Sequence[Window | Example]) -> NDArray[np.float32]:
        """[n] the stored losses of windows or conversations.

        Errors: SamplewiseError where one has no loss, or one of another number of tokens.
        """
        return self.losses[self._find(samples)]

    def line(self, name: str) -> str:
        """A line about the scores that were read."""
        return f"scores     {name} from {self.place}, {len(self.ids):,} {self.kind}s"

    def _find(self, samples: Sequence[Window | Example]) -> NDArray[np.intp]:
        wanted = np.array([sample.id for sample in samples], np.int64)
        at = np.searchsorted(self.ids, wanted).clip(max=max(0, len(self.ids) - 1))
        missing = self.ids[at] != wanted if len(self.ids) else np.ones(len(wanted), bool)
        if missing.any():
            first = samples[int(missing.argmax())]
            raise self._unlike(
                f"a score for every {self.kind} of the training data",
                f"none for {int(missing.sum()):,} of {len(samples):,}, the first {first.source}, record {first.row}",
            )
        own = np.array([sample.tokens for sample in samples])
        other = self.tokens[at] != own
        if other.any():
            i = int(other.argmax())
            got = f"{self.tokens[at][i]} in {samples[i].source}, record {samples[i].row}, where the run has {own[i]}"
            raise self._unlike(f"{self.kind}s of as many predicted tokens as the run's", got)
        return at

    def _unlike(self, expected: str, got: str) -> SamplewiseError:
        return SamplewiseError(
            f"data.scores: {self.place}", expected=expected, got=got,
            remedy=f"Score the same path with the {self._settings} and tokenizer of the run.",
        )  # fmt: skip

    @property
    def _settings(self) -> str:
        return "--max-length, --min-tokens" if self.kind == "window" else "--max-length, --template"


def scored_columns(
    scores: ScoresConfig | None, tokenizer: Any, template: ChatTemplate | None = None
) -> dict[str, Scored]:
    """The columns that are named. Cost: 16 bytes a window of the scores, for each.

    template: of conversations; None for text.
    Errors: SamplewiseError for folders without finished scores, scores of the other kind of data, by another tokenizer
    or template, columns that are not there, and losses that are not finite.
    """
    given = {} if scores is None else {each.name: getattr(scores, each.name) for each in fields(scores)}
    return {name: _read(score, tokenizer, template) for name, score in given.items() if score is not None}


def _read(given: str | ScoreConfig, tokenizer: Any, template: ChatTemplate | None) -> Scored:
    score = ScoreConfig(given) if isinstance(given, str) else given
    scores = open_scores(score.folder)
    _check_same(scores, score.folder, tokenizer, template)
    name = score.column or scores.key
    ids, losses = column(scores, name)
    if losses.dtype.kind != "f" or not np.isfinite(losses).all():
        raise SamplewiseError(
            f"data.scores: {score.folder}", expected=f"finite losses in the column {name}",
            got="text or whole numbers" if losses.dtype.kind != "f" else f"{(~np.isfinite(losses)).sum()} that are not",
            remedy="Name another column, such as loss.",
        )  # fmt: skip
    order = np.argsort(ids, kind="stable")
    spoken = "completion_tokens" in scores.columns
    kind, counts = ("conversation", "completion_tokens") if spoken else ("window", "n_tokens")
    return Scored(score.folder, ids[order], losses[order], column(scores, counts)[1][order], kind)


def _check_same(scores: Scores, folder: str, tokenizer: Any, template: ChatTemplate | None) -> None:
    """Errors: SamplewiseError for scores that cannot be of what the run reads, whatever their ids are."""
    facts, wanted = scores.manifest.fingerprints, "text" if template is None else "instructions"
    made = {
        "kind": (f"scores of {wanted}", facts.get("settings", {}).get("kind", wanted), wanted),
        "tokenizer": ("scores by the tokenizer of the run", facts.get("tokenizer"), fingerprint_tokenizer(tokenizer)),
        "template": ("scores by the chat template of the run", facts.get("template"),
                     None if template is None else fingerprint_template(template)),
    }  # fmt: skip
    for name, (expected, there, here) in made.items():
        if name in ("kind", *facts) and there != here:
            got = f"those of {there}" if name == "kind" else f"those by another {name}"
            remedy = (
                f"Score the same path with --kind {wanted} and the {'model' if name == 'kind' else name} of the run."
            )
            raise SamplewiseError(f"data.scores: {folder}", expected=expected, got=got, remedy=remedy)
