"""The losses of another folder of scores of the same corpus, as a column beside those of this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.manifest import Manifest
from samplewise.corpus.store import Scores, check_name, open_scores

WINDOWS = ("kind", "text_field", "format", "limit", "max_length", "min_tokens", "stride", "rolling")
"""The settings on which the windows depend, and what is predicted in them."""


def with_joined(scores: Scores, named: Sequence[str], *, verify: bool = True) -> Scores:
    """The scores with a column NAME for every "NAME=FOLDER": the loss (of conversations, the completion loss) there.

    verify: as in `open_scores`. Errors: SamplewiseError for a folder of another corpus, tokenizer or other windows, and
    for a name that a column has.
    """
    joined: dict[str, Scores] = {}
    for text in named:
        name, equals, folder = text.partition("=")
        if not equals or not folder.strip():
            raise SamplewiseError(
                "--join", expected="NAME=FOLDER", got=repr(text), remedy="For example --join large=scores_large."
            )
        if check_name(name, "--join") in scores.columns or name in joined:
            raise SamplewiseError("--join", expected="a name that no column has", got=name, remedy="Choose another.")
        other = open_scores(folder, verify=verify)
        if difference := _difference(scores.manifest, other.manifest):
            raise SamplewiseError(
                "--join", expected="scores of the same corpus, tokenizer and windows",
                got=f"{folder}, {difference}",
                remedy=f"Score this corpus with that model: samplewise score … --as {name}.",
            )  # fmt: skip
        if not other.manifest.has_losses:
            raise SamplewiseError(
                "--join", expected="scores with losses", got=f"{folder}, windows without losses",
                remedy="Score the corpus with --model into another folder.",
            )  # fmt: skip
        joined[name] = other
    return replace(scores, joined=joined)


def _difference(here: Manifest, there: Manifest) -> str:
    """The first thing in which two folders differ that must be the same; "" for none."""
    a, b = here.fingerprints, there.fingerprints
    for key, words in (("corpus", "of another corpus"), ("tokenizer", "scored with another tokenizer"),
                       ("template", "scored with another chat template")):  # fmt: skip
        if a.get(key) != b.get(key):
            return words
    own, other = (facts.get("settings", {}) for facts in (a, b))
    names = (name for name in WINDOWS if own.get(name) != other.get(name))
    return next((f"of {name} {other.get(name)!r} instead of {own.get(name)!r}" for name in names), "")
