"""`samplewise evaluate`: a model measured on held-out text, domains, benchmarks and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, Json, figures, hush_transformers, quiet, reported, require, write_figures


def evaluate(
    config: Annotated[
        Path,
        typer.Argument(metavar="EVALUATE.YAML", help="The evaluation file: model, data, output, domains, tasks, …"),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Values that replace those of the file, such as model=runs/a/model."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="Print paired differences from this evaluation's results."),
    ] = None,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Measure a model on held-out text, other domains, benchmarks and instructions, document by document."""
    quiet(debug)
    with reported(debug), figures(json_file):
        from samplewise.config.settings_file import load_settings

        require(("transformers", "hf"), ("accelerate", "hf"))
        from samplewise.core.json_file import as_written, read_json
        from samplewise.evidence.evaluation_config import EvaluateConfig

        settings = load_settings(EvaluateConfig, config, overrides or [])
        from samplewise.evidence.evaluation_file import measured, paired, run_evaluation, table

        what, remedy = "a file of samplewise evaluate", "Check the path of --against."
        other = None if against is None else read_json(against, what, remedy)
        if against is not None and other is not None:
            with as_written(against, what, remedy):
                list(measured(other))  # before hours are spent
        hush_transformers(debug)
        found = run_evaluation(settings)
        rows = None
        if against is not None and other is not None:
            with as_written(against, what, remedy):
                rows = paired(found, other)
        print("\n" + table(found, rows))
        print(f"results    {settings.output}")
        write_figures(json_file, found if rows is None else {**found, "against": rows})
