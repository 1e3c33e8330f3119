"""Losses of a whole corpus on disk: a folder of Parquet shards with a manifest, written by `samplewise score`."""

from typing import TYPE_CHECKING

from samplewise.core.lazy import names_from

if TYPE_CHECKING:
    from samplewise.corpus.join import add_column
    from samplewise.corpus.manifest import Manifest, Shard
    from samplewise.corpus.store import Scores, column, open_scores

__all__ = ["Manifest", "Scores", "Shard", "add_column", "column", "open_scores"]

_PLACES = {
    "add_column": "samplewise.corpus.join",
    "Manifest": "samplewise.corpus.manifest",
    "Shard": "samplewise.corpus.manifest",
    "Scores": "samplewise.corpus.store",
    "column": "samplewise.corpus.store",
    "open_scores": "samplewise.corpus.store",
}
"""Each name with its module, which is imported when the name is used: a selection needs no numpy."""
__getattr__, __dir__ = names_from(__name__, _PLACES)
