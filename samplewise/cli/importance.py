"""`samplewise importance`: how like a target text each sample of a scored corpus is, by hashed n-grams."""

from __future__ import annotations

from typing import Annotated

import typer

from samplewise.cli.shell import Debug, Json, NoVerify, figures, quiet, reported, require, write_figures


def importance(
    scores: Annotated[str, typer.Argument(metavar="SCORES", help="The folder written by samplewise score.")],
    target: Annotated[str, typer.Option(help="The target text: a file, folder or glob.")],
    column: Annotated[str, typer.Option("--as", help="The name of the column that is added.")] = "importance",
    text_field: Annotated[str, typer.Option(help="The field of the target that holds the text.")] = "text",
    data: Annotated[str | None, typer.Option(help="Where the corpus is, if it was moved after scoring.")] = None,
    no_verify: NoVerify = False,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Score how similar each sample is to a target text, by hashed n-grams (DSIR). It needs no model."""
    quiet(debug)
    with reported(debug), figures(json_file):
        require(("duckdb", "corpus"), ("pyarrow", "corpus"))
        from samplewise.corpus.importance import add_importance
        from samplewise.corpus.store import open_scores

        found = open_scores(scores, verify=not no_verify)
        rows = add_importance(found, target, column, data, text_field)
        print(f"column     {column} of {rows:,} windows: {scores}")
        write_figures(json_file, {"scores": scores, "column": column, "windows": rows})
