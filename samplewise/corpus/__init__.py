"""Losses of a whole corpus on disk: a folder of Parquet shards with a manifest, written by `samplewise score`."""

from samplewise.corpus.join import add_column
from samplewise.corpus.manifest import Manifest, Shard
from samplewise.corpus.store import Scores, column, open_scores

__all__ = ["Manifest", "Scores", "Shard", "add_column", "column", "open_scores"]
