"""`samplewise dedup`: a corpus without its duplicates."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from samplewise.cli.shell import Debug, Json, figures, hush_transformers, quiet, reported, require, write_figures

Out = Annotated[
    str, typer.Option(help="A file (.jsonl, .jsonl.zst, .jsonl.gz, .parquet), or a folder for files of the same names.")
]
Similarity = Annotated[
    float, typer.Option(help="Jaccard similarity from which texts are near-duplicates; 1: exact only.")
]
Kind = Annotated[Literal["text", "instructions"], typer.Option(help="What the records hold.")]
Format = Annotated[
    str | None, typer.Option(help="Write a folder: datasets or mds; with --shard-size also jsonl.zst or parquet.")
]
Data = Annotated[str, typer.Argument(metavar="DATA", help="The corpus: a file, folder, glob, `datasets` name or URL.")]


def dedup(
    data: Data,
    out: Out,
    similarity: Similarity = 0.8,
    kind: Kind = "text",
    text_field: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    config: Annotated[str | None, typer.Option(help="The configuration of a `datasets` name.")] = None,
    split: Annotated[str, typer.Option(help="The split of a `datasets` name.")] = "train",
    format: Format = None,
    shard_size: Annotated[str | None, typer.Option(help="Write files of about this size, such as 1GB.")] = None,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Remove the records that repeat an earlier one from a corpus, and list them. Run it before scoring.

    Records keep all their fields. OUT.removed.parquet names what went, the kept twin of each, and their similarity.
    """
    quiet(debug)
    with reported(debug), figures(json_file):
        require(("pyarrow", "corpus"), ("fsspec", "corpus"))
        from samplewise.corpus.dedup import dedup_output, deduplicate_corpus
        from samplewise.corpus.dedup_read import Corpus

        if format == "datasets":
            hush_transformers(debug)
        corpus = Corpus(data, kind=kind, text_field=text_field, config=config, split=split)
        said = deduplicate_corpus(corpus, dedup_output(out, format, shard_size), similarity=similarity)
        write_figures(json_file, said)
