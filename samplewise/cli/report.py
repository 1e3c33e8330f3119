"""`samplewise report`: one page about a scored corpus."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, Memory, NoVerify, quiet, reported, require
from samplewise.core.errors import SamplewiseError


def report(
    scores: Annotated[str, typer.Argument(metavar="SCORES", help="The folder written by samplewise score.")],
    out: Annotated[Path, typer.Option(help="The .html file to write.")],
    title: Annotated[str, typer.Option(help="The title of the page.")] = "",
    within: Annotated[
        str | None,
        typer.Option(help="Also show each value of a column of the scores, a field of the records, or host(url)."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Where the corpus is, if it was moved after scoring.")] = None,
    memory: Memory = "2GB",
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
    """Write a page about the losses of a scored corpus. It needs no model."""
    quiet(debug)
    with reported(debug):
        require(("duckdb", "corpus"), ("pyarrow", "corpus"), ("jinja2", "report"))
        from samplewise.corpus.amounts import memory_bytes
        from samplewise.corpus.guard import inputs, refuse_inputs
        from samplewise.corpus.store import open_scores
        from samplewise.report.corpus import write_corpus_report

        if out.suffix.lower() not in (".html", ".htm") or not out.parent.is_dir():
            got = out.name if out.parent.is_dir() else f"no folder {out.parent}"
            raise SamplewiseError(
                "--out",
                expected="a file ending in .html in a folder that exists",
                got=got,
                remedy="Name an .html file in an existing folder.",
            )
        memory_bytes(memory)
        found = open_scores(scores, verify=not no_verify)
        if not found.manifest.has_losses:
            raise SamplewiseError(
                "scores", expected="scores with losses", got=f"{scores}, windows without losses",
                remedy="Score the corpus with --model into another folder.",
            )  # fmt: skip
        refuse_inputs("--out", out, inputs(found.place, data or found.manifest.made.get("data", "")))
        records = None
        if within is not None:
            from samplewise.corpus.reread import read_again

            records = partial(read_again, found.manifest, data)
        write_corpus_report(out, found, title=title, memory=memory, within=within, records=records)
        print(f"page       {out}")
