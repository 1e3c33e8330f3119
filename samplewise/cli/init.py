"""`samplewise init`: a commented run file for a model and data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, RuleText, quiet, reported
from samplewise.core.errors import SamplewiseError


def init(
    model: Annotated[str, typer.Option(help="The model: a hub id, a folder or a .gguf file.")],
    data: Annotated[str, typer.Option(help="The data: a file, folder, glob or `datasets` name.")],
    out: Annotated[Path, typer.Option(help="The run file to write.")] = Path("run.yaml"),
    rule: RuleText = "ir_dro(r=3.0)",
    output: Annotated[str, typer.Option(help="The folder for the results of the run.")] = "runs/first",
    config: Annotated[str | None, typer.Option(help="The configuration of a `datasets` name.")] = None,
    debug: Debug = False,
) -> None:
    """Write a commented run file for a model and data, to edit and to give to samplewise train.

    The first record of the data decides between text and conversations. Nothing is trained, and no model is loaded.
    """
    quiet(debug)
    with reported(debug):
        from samplewise.config import load_config
        from samplewise.config.new_run import run_text
        from samplewise.core.replaced import write_whole
        from samplewise.data.what_rows_are import kind_of_rows

        if out.exists():
            raise SamplewiseError(
                "--out", expected="a file that does not exist", got=str(out), remedy="Name another with --out."
            )
        found = kind_of_rows(data, config)
        text = run_text(
            model, data, rule, output, shape=found.shape, text_field=found.text_field, name=config,
            file=str(out),
        )  # fmt: skip
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text.encode())
        try:
            load_config(out)  # a rule that cannot be read is refused now
        except SamplewiseError:
            out.unlink()
            raise
        what = f"conversations ({found.shape})" if found.shape else "text"
        print(f"run file   {out}, for {what}\nnext       samplewise train {out}")
