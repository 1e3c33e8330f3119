"""`samplewise score`: the loss of every sample of a corpus, in a folder of Parquet files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from samplewise.cli.shell import Debug, Json, figures, hush_transformers, quiet, reported, require, write_figures
from samplewise.core.errors import SamplewiseError

Model = Annotated[str | None, typer.Option(help="The model: a hub id, a folder or a .gguf file.")]
Tokenizer = Annotated[
    str | None,
    typer.Option(help="In place of --model: only cut the corpus into windows, by this tokenizer, without losses."),
]
Data = Annotated[str, typer.Option(help="The corpus: a file, folder, glob, `datasets` name or URL.")]
Out = Annotated[str, typer.Option(help="The folder or URL to write to. Run the same command again to resume.")]
As = Annotated[str | None, typer.Option("--as", help="Add the losses to finished scores, as a column of this name.")]
Sample = Annotated[
    int | None,
    typer.Option(help="With --as: score only about this many windows, to see how well the scores replace its own."),
]
Kind = Annotated[Literal["text", "instructions"] | None, typer.Option(help="What the records hold. Default: text.")]
Streaming = Annotated[
    bool | None, typer.Option("--streaming", help="Stream a `datasets` name instead of downloading it.")
]
MaxLength = Annotated[int | None, typer.Option(help="Tokens per window. Default: 512, or the model's context.")]
Rolling = Annotated[bool | None, typer.Option("--rolling", help="Cut windows as lm-eval does for its rolling loss.")]
Characters = Annotated[int | None, typer.Option("--text", help="Characters to keep of each text. Default: 200.")]
Keep = Annotated[
    str | None, typer.Option(help="Fields of the records to keep beside the loss, such as url,timestamp,meta.domain.")
]
Answers = Annotated[
    bool | None,
    typer.Option("--answers", help="Also score the answers without their prompts (IFD)."),
]
Dtype = Annotated[Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="The precision of the model.")]
BatchTokens = Annotated[
    int | None, typer.Option(help="Tokens per batch. Default: 2,048; on a GPU, what its free memory allows.")
]
Compile = Annotated[
    bool | None, typer.Option("--compile", help="Compile the model's layers first (torch.compile); takes some minutes.")
]
ShardBytes = Annotated[
    int | None, typer.Option(help="Bytes of text per shard. A killed run repeats at most one shard.")
]
Engine = Annotated[
    Literal["local", "ray"], typer.Option(help="Score in this process, or on the actors of a Ray cluster.")
]


def score(
    data: Data,
    out: Out,
    model: Model = None,
    tokenizer: Tokenizer = None,
    column: As = None,
    sample: Sample = None,
    kind: Kind = None,
    text_field: Annotated[str | None, typer.Option(help="The field that holds the text. Default: text.")] = None,
    format: Annotated[str | None, typer.Option(help="The format of instruction rows. Default: auto.")] = None,
    template: Annotated[str | None, typer.Option(help="Use this chat template instead of the model's.")] = None,
    config: Annotated[str | None, typer.Option(help="The configuration of a `datasets` name.")] = None,
    split: Annotated[str | None, typer.Option(help="The split of a `datasets` name. Default: train.")] = None,
    streaming: Streaming = None,
    limit: Annotated[int | None, typer.Option(help="Score only the first records, at most this many.")] = None,
    max_length: MaxLength = None,
    min_tokens: Annotated[int | None, typer.Option(help="The shortest last window of a document. Default: 16.")] = None,
    stride: Annotated[int | None, typer.Option(help="Context tokens before each window. Default: 0.")] = None,
    rolling: Rolling = None,
    characters: Characters = None,
    keep_fields: Keep = None,
    answers: Answers = None,
    dtype: Dtype = "auto",
    batch_tokens: BatchTokens = None,
    compiled: Compile = None,
    shard_bytes: ShardBytes = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first record that cannot be scored.")] = False,
    engine: Engine = "local",
    workers: Annotated[int, typer.Option(help="The number of actors with --engine ray.")] = 1,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Write the loss and the id of every sample of a corpus to a folder of Parquet files.

    Records that cannot be scored are listed in quarantine.jsonl. If the command is killed, run it again to resume. With
    torchrun or accelerate launch, the processes share the work.
    """
    given: dict[str, Any] = {
        "kind": kind, "text_field": text_field, "format": format, "template": template, "config": config,
        "split": split, "streaming": streaming, "limit": limit, "max_length": max_length, "min_tokens": min_tokens,
        "stride": stride, "rolling": rolling, "characters": characters, "batch_tokens": batch_tokens,
        "shard_bytes": shard_bytes, "answers": answers, "compiled": compiled,
        "keep_fields": None if keep_fields is None else [name.strip() for name in keep_fields.split(",")],
    }  # fmt: skip
    quiet(debug)
    with reported(debug, resumes=True), figures(json_file):
        require(("transformers", "hf"), ("pyarrow", "corpus"), ("duckdb", "corpus"), ("fsspec", "corpus"))
        name = _one_of(model, tokenizer, {**given, "as": column, "sample": sample, "dtype": dtype.replace("auto", "")})
        from samplewise.corpus.score import Target, score_corpus

        hush_transformers(debug)
        target = Target(name, data, out, column, dtype=dtype, strict=strict, sample=sample, losses=tokenizer is None)
        manifest = score_corpus(target, engine=engine, workers=workers, **given)
        if manifest is not None:  # another process finishes it
            write_figures(json_file, asdict(manifest))


OF_LOSSES = {
    "as": "--as", "sample": "--sample", "answers": "--answers", "stride": "--stride", "rolling": "--rolling",
    "batch_tokens": "--batch-tokens", "compiled": "--compile", "dtype": "--dtype",
}  # fmt: skip
"""Options that do something for a model only."""


def _one_of(model: str | None, tokenizer: str | None, given: dict[str, Any]) -> str:
    """The model, or the tokenizer that is given in its place.

    Errors: SamplewiseError unless exactly one is given, and for options of a model beside a tokenizer.
    """
    found = [each for each in (model, tokenizer) if each is not None]
    if len(found) != 1:
        raise SamplewiseError(
            "--model", expected="a model, or a --tokenizer in its place", got="both" if found else "neither",
            remedy="Give --model for losses, --tokenizer for windows without losses.",
        )  # fmt: skip
    options = [option for name, option in OF_LOSSES.items() if given[name]]
    if tokenizer is not None and options:
        raise SamplewiseError(
            options[0], expected="--model beside it", got="--tokenizer, which computes no loss",
            remedy=f"Give --model, or leave out {options[0]}.",
        )  # fmt: skip
    return found[0]
