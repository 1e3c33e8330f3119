"""Records written as training reads them: JSON Lines, Parquet, a `datasets` folder, MDS shards, Megatron's files."""

from samplewise.corpus.writers.output import FORMATS, Output, output_of
from samplewise.corpus.writers.write import write_records

__all__ = ["FORMATS", "Output", "output_of", "write_records"]
