"""`samplewise score`: the loss of every sample of a corpus, in a folder of Parquet files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from samplewise.cli.shell import Debug, hush_transformers, quiet, reported, require

Model = Annotated[str, typer.Option(help="A hub id, a folder or a .gguf file.")]
Data = Annotated[str, typer.Option(help="A file, folder, glob, `datasets` name, or a URL such as s3://bucket/folder.")]
Out = Annotated[str, typer.Option(help="The folder of scores, or a URL; the same command again goes on.")]
As = Annotated[str | None, typer.Option("--as", help="Add the loss to finished scores under this name.")]


def score(
    model: Model,
    data: Data,
    out: Out,
    column: As = None,
    kind: Annotated[
        Literal["text", "instructions"] | None, typer.Option(help="What records are. Default: text.")
    ] = None,
    text_field: Annotated[str | None, typer.Option(help="The field of the text. Default: text.")] = None,
    format: Annotated[str | None, typer.Option(help="The form of instruction rows. Default: auto.")] = None,
    template: Annotated[str | None, typer.Option(help="A chat template in place of the model's.")] = None,
    config: Annotated[str | None, typer.Option(help="Of a `datasets` name.")] = None,
    split: Annotated[str | None, typer.Option(help="Of a `datasets` name. Default: train.")] = None,
    streaming: Annotated[bool | None, typer.Option("--streaming", help="Do not download a `datasets` name.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many records.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Ids of a window. Default: 512, or a shorter context.")] = None,
    min_tokens: Annotated[int | None, typer.Option(help="Shorter ends are evened out. Default: 16.")] = None,
    stride: Annotated[int | None, typer.Option(help="Tokens that each window sees before its own. Default: 0.")] = None,
    rolling: Annotated[
        bool | None, typer.Option("--rolling", help="Windows as lm-eval's rolling loss has them.")
    ] = None,
    characters: Annotated[int | None, typer.Option("--text", help="Characters kept of each. Default: 200.")] = None,
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="Of the model.")] = "auto",
    batch_tokens: Annotated[int | None, typer.Option(help="Ids of a batch.")] = None,
    shard_bytes: Annotated[int | None, typer.Option(help="Text of a shard; what a killed run may lose.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first record that cannot be scored.")] = False,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="ray: actors of a Ray cluster.")] = "local",
    workers: Annotated[int, typer.Option(help="Actors of --engine ray.")] = 1,
    debug: Debug = False,
) -> None:
    """Write the loss of every sample of a corpus, with its id, into a folder of Parquet files.

    What cannot be scored is listed in quarantine.jsonl there. Killed at any moment, the same command goes on. Under
    torchrun or accelerate launch the processes share the work.
    """
    given: dict[str, Any] = {
        "kind": kind, "text_field": text_field, "format": format, "template": template, "config": config,
        "split": split, "streaming": streaming, "limit": limit, "max_length": max_length, "min_tokens": min_tokens,
        "stride": stride, "rolling": rolling, "characters": characters, "batch_tokens": batch_tokens,
        "shard_bytes": shard_bytes,
    }  # fmt: skip
    quiet(debug)
    with reported(debug):
        require(("transformers", "hf"), ("pyarrow", "corpus"), ("duckdb", "corpus"), ("fsspec", "corpus"))
        from samplewise.corpus.score import score_corpus
        from samplewise.corpus.settings import Target

        hush_transformers(debug)
        score_corpus(
            Target(model=model, data=data, out=out, column=column, dtype=dtype, strict=strict),
            engine=engine,
            workers=workers,
            **given,
        )
