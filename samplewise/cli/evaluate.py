"""`samplewise evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, hush_transformers, quiet, reported, require
from samplewise.core.errors import SamplewiseError


def evaluate(
    config: Annotated[Path, typer.Argument(metavar="EVALUATE.YAML", help="model, data, output; domains, tasks, …")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="On top of it, such as model=runs/a/model.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="FILE", help="Another evaluation's file: paired differences.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Measure a model on held-out text, other domains, benchmarks and instructions, document by document."""
    quiet(debug)
    with reported(debug):
        from samplewise.config.settings_file import load_settings

        require(("transformers", "hf"), ("accelerate", "hf"))
        from samplewise.evidence.evaluation_file import EvaluateConfig, paired, run_evaluation, table

        settings = load_settings(EvaluateConfig, config, overrides or [])
        other = _read(against) if against is not None else None
        hush_transformers(debug)
        found = run_evaluation(settings)
        print("\n" + table(found, None if other is None else paired(found, other)))
        print(f"results    {settings.output}")


def _read(path: Path) -> dict[str, object]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SamplewiseError(
            "--against", expected="a file of samplewise evaluate", got=str(error), remedy="Check the path."
        ) from None
