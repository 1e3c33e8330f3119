"""`samplewise compare`, `samplewise sweep` and `samplewise tokenizer`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, hush_transformers, quiet, reported, require
from samplewise.core.errors import SamplewiseError


def compare(
    plan: Annotated[
        Path | None, typer.Argument(metavar="PLAN.YAML", help="The plan file; examples/plan.yaml shows all.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="On top of it, such as budget.steps=50.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="FOLDER", help="Compute a folder's differences once more.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Train arms under one budget and several seeds, and say which is better; started again, it goes on."""
    quiet(debug)
    with reported(debug):
        if check is not None:
            from samplewise.evidence.check import check_results

            found = check_results(check)
            print(f"{check}: {len(found['differences'])} differences are what the values by document give")
            return
        if plan is None:
            raise SamplewiseError("PLAN.YAML", expected="a plan file", got="none", remedy="Or --check FOLDER.")
        _run(plan, overrides or [], debug, swept=False)


def sweep(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.YAML", help="A plan file with a sweep.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="On top of it, such as budget.steps=50.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare a rule at a grid of its numbers, and draw how sensitive the outcome is to them."""
    quiet(debug)
    with reported(debug):
        _run(plan, overrides or [], debug, swept=True)


def _run(path: Path, overrides: list[str], debug: bool, *, swept: bool) -> None:
    from samplewise.evidence.plan import grid, load_plan

    settings = load_plan(path, overrides)
    if swept and settings.sweep is None:
        raise SamplewiseError(
            "sweep", expected="a rule and values for its numbers", got="none",
            remedy='For example sweep: {rule: "ir_dro(r={r})", values: {r: [0.3, 1, 3]}}.',
        )  # fmt: skip
    require(("transformers", "hf"), ("accelerate", "hf"), ("matplotlib", "report"), ("jinja2", "report"))
    from samplewise.evidence.experiment import run_plan
    from samplewise.evidence.run.execute import Stopped
    from samplewise.report.plan import write_plan
    from samplewise.report.plan_table import plan_table

    try:
        hush_transformers(debug)
        results = run_plan(settings)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise typer.Exit(130) from None
    numbers = None if settings.sweep is None else {arm: point for arm, (_, point) in grid(settings.sweep).items()}
    folder = Path(settings.output).expanduser()
    print("\n" + plan_table(results))
    print(f"{'results':<11}{folder / 'results.json'}, with values.json beside it")
    for file in write_plan(folder, results, numbers):
        print(f"{'report' if file.suffix == '.html' else 'picture':<11}{file}")


def tokenizer(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="A file, folder, glob or datasets name.")],
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to save it.")],
    size: Annotated[int, typer.Option(help="Tokens of the vocabulary, bytes and two special ones included.")] = 4096,
    text_field: Annotated[str, typer.Option(help="The field of the text, where records have fields.")] = "text",
    debug: Debug = False,
) -> None:
    """Train a byte-level BPE on a corpus, for models from scratch."""
    quiet(debug)
    with reported(debug):
        require(("transformers", "hf"))
        from samplewise.data import read_documents
        from samplewise.evidence.initial_model import train_tokenizer

        made = train_tokenizer(read_documents(corpus, text_field=text_field, on_error="skip"), size, output)
        print(f"tokenizer  {output}, {len(made):,} tokens")
