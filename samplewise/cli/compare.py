"""`samplewise compare`, `samplewise sweep` and `samplewise tokenizer`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, Json, figures, hush_transformers, quiet, reported, require, write_figures
from samplewise.core.errors import SamplewiseError
from samplewise.core.paths import expanded


def compare(
    plan: Annotated[
        Path | None, typer.Argument(metavar="PLAN.YAML", help="The plan file. examples/plan.yaml shows every key.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Values that replace those of the file, such as budget.steps=50."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FOLDER", help="Recompute the differences of a finished comparison."),
    ] = None,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Train every arm on the same budget and seeds, and report which is better. Run it again to resume."""
    quiet(debug)
    with reported(debug, resumes=True), figures(json_file):
        if check is not None:
            from samplewise.evidence.check import check_results

            found = check_results(check)
            print(f"{check}: {len(found['differences'])} differences agree with the values of the documents")
            write_figures(json_file, found)
            return
        if plan is None:
            raise SamplewiseError(
                "PLAN.YAML", expected="a plan file", got="none", remedy="Name a plan file, or use --check FOLDER."
            )
        _run(plan, overrides or [], debug, json_file, swept=False)


def sweep(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.YAML", help="A plan file that has the key sweep.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Values that replace those of the file, such as budget.steps=50."),
    ] = None,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Compare a rule over a grid of its arguments, and plot how sensitive the results are to them."""
    quiet(debug)
    with reported(debug, resumes=True), figures(json_file):
        _run(plan, overrides or [], debug, json_file, swept=True)


def _run(path: Path, overrides: list[str], debug: bool, json_file: Path | None, *, swept: bool) -> None:
    from samplewise.evidence.plan import grid
    from samplewise.evidence.plan_file import load_plan

    settings = load_plan(path, overrides)
    if swept and settings.sweep is None:
        raise SamplewiseError(
            "sweep", expected="a rule and values for its arguments", got="none",
            remedy='Add the key, for example sweep: {rule: "ir_dro(r={r})", values: {r: [0.3, 1, 3]}}.',
        )  # fmt: skip
    require(("transformers", "hf"), ("accelerate", "hf"), ("matplotlib", "report"), ("jinja2", "report"))
    from samplewise.evidence.experiment import run_plan
    from samplewise.evidence.registered import registration_lines
    from samplewise.evidence.run.execute import Stopped
    from samplewise.report.plan import write_plan
    from samplewise.report.plan_table import plan_table

    try:
        hush_transformers(debug)
        results = run_plan(settings, file=path)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise typer.Exit(130) from None
    numbers = None if settings.sweep is None else {arm: point for arm, (_, point) in grid(settings.sweep).items()}
    folder = expanded(settings.output)
    print("\n" + plan_table(results, registration_lines(folder)))
    print(f"{'results':<11}{folder / 'results.json'}, with values.json beside it")
    for file in write_plan(folder, results, numbers):
        print(f"{'report' if file.suffix == '.html' else 'picture':<11}{file}")
    write_figures(json_file, results)


def tokenizer(
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help="The corpus: a file, folder, glob or `datasets` name.")
    ],
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to save the tokenizer in.")],
    size: Annotated[int, typer.Option(help="The vocabulary size, including 256 bytes and 2 special tokens.")] = 4096,
    text_field: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    debug: Debug = False,
) -> None:
    """Train a byte-level BPE tokenizer on a corpus, for models trained from scratch."""
    quiet(debug)
    with reported(debug):
        require(("transformers", "hf"))
        from samplewise.data import read_documents
        from samplewise.evidence.initial_model import train_tokenizer

        made = train_tokenizer(read_documents(corpus, text_field=text_field, on_error="skip"), size, output)
        print(f"tokenizer  {output}, {len(made):,} tokens")
