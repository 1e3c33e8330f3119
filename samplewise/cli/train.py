"""`samplewise train`: one run from its file to a table and a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, Json, figures, hush_transformers, quiet, reported, require, write_figures


def train(
    config: Annotated[Path, typer.Argument(metavar="RUN.YAML", help="The run file. examples/*.yaml show every key.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Values that replace those of the file, such as training.max_steps=5."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the newest complete checkpoint.")] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Resume although the data, model or tokenizer changed.")
    ] = False,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Train a model on a corpus with weighted samples, and report the results."""
    quiet(debug)
    with reported(debug), figures(json_file):
        from samplewise.config import load_config

        settings = load_config(config, overrides or [])
        require(("transformers", "hf"), ("accelerate", "hf"), ("matplotlib", "report"))
        if settings.data.kind == "instructions":
            require(("trl", "trl"), ("datasets", "hf"))
        if settings.lora is not None:
            require(("peft", "trl"))
        from samplewise.evidence.run.execute import Stopped, run
        from samplewise.evidence.run.results import table
        from samplewise.report import draw_finished

        try:
            hush_transformers(debug)
            finished = run(settings, resume=resume, accept_changes=accept_changes, draw=draw_finished)
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            raise typer.Exit(130) from None
        print("\n" + table(finished.results))
        for name, what in (("results.json", "figures"), ("run.png", "picture"), ("model", "model")):
            print(f"{what:<11}{finished.folder / name}")
        write_figures(json_file, finished.results)
