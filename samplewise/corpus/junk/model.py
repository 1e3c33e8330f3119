"""The model file: what the measures know of languages, of English and of clean text. No pickle, two megabytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from samplewise.corpus.junk.languages import Languages
from samplewise.corpus.junk.ngrams import Table
from samplewise.corpus.junk.trees import Trees
from samplewise.corpus.junk.words import CLASSES, DISTANCES, English

TREES = {
    "tree_feature": "feature",
    "tree_border": "border",
    "tree_nan": "nan",
    "tree_after": "after",
    "tree_value": "value",
}
"""Arrays of the file, and of `Trees`."""
GRID = np.arange(1, 20) / 20
"""Scores of `Model.tail`."""
PLACE = Path(__file__).with_name("model.npz")


@dataclass(frozen=True)
class Model:
    """table, languages, english: as their classes say. places, turns: of `coherence.backwards`.

    usual, scale: [4, M] of every measure, by kind of text (`measures.KINDS`), its median in clean text and what it
    varies
    by. weight: [2, M] of what is beyond the usual, and of what is far beyond it. trees: of all measures together.
    border: [5, bands] the sum of the trees that few clean texts of a group and length reach. tail: [5, 19] the share of
    clean texts of a group that reach a score of 0.05, 0.1, … 0.95. version: of the file.
    """

    table: Table
    languages: Languages
    english: English
    places: dict[str, int]
    turns: np.ndarray
    usual: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    trees: Trees
    border: np.ndarray
    tail: np.ndarray
    version: str


@cache
def model() -> Model:
    """The model that the package ships, read once."""
    return read_model(PLACE)


def read_model(path: Path) -> Model:
    """A model from its file."""
    with np.load(path) as file:
        held = {name: file[name] for name in file.files}
    said: dict[str, Any] = json.loads(held["said"].tobytes())
    languages = Languages(tuple(said["languages"]), held["script"], held["mean"], held["spread"])
    order = held["order"].reshape(DISTANCES, CLASSES, CLASSES)
    english = English(held["frequent"], held["rank"].astype(np.int64), held["endings"].astype(np.int64), order)
    return Model(
        Table(held["marks"], held["values"]), languages, english, said["places"],
        turns=held["turns"], usual=held["usual"], scale=held["scale"], weight=held["weight"],
        trees=Trees(*(held[name] for name in TREES)), border=held["border"], tail=held["tail"], version=said["version"],
    )  # fmt: skip


def write_model(path: Path, model: Model) -> None:
    """The same model gives the same bytes."""
    said = {"languages": model.languages.names, "places": model.places, "version": model.version}
    english, languages = model.english, model.languages
    np.savez_compressed(
        path, marks=model.table.marks, values=model.table.values, script=languages.script.astype(np.uint8),
        mean=languages.mean.astype(np.float32), spread=languages.spread.astype(np.float32), frequent=english.frequent,
        rank=english.rank.astype(np.uint8), endings=english.endings.astype(np.uint8), order=english.order,
        turns=model.turns.astype(np.float32), usual=model.usual, scale=model.scale, weight=model.weight,
        border=model.border, tail=model.tail,
        **{name: getattr(model.trees, own) for name, own in TREES.items()},
        said=np.frombuffer(json.dumps(said, ensure_ascii=False).encode(), np.uint8),
    )  # fmt: skip
