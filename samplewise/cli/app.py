"""The commands. Errors are one message on stderr and exit code 1; usage errors are 2, Ctrl-C is 130."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.compare import compare, sweep, tokenizer
from samplewise.cli.diagnose import diagnose
from samplewise.cli.doctor import doctor
from samplewise.cli.evaluate import evaluate
from samplewise.cli.probe import corrupt, probe
from samplewise.cli.report import report
from samplewise.cli.score import score
from samplewise.cli.select import select
from samplewise.cli.shell import Command, Debug, hush_transformers, quiet, reported, require
from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import shown

app = typer.Typer(
    help="Loss-based sample reweighting for language-model training.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip


@app.command(cls=Command)
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
    debug: Debug = False,
) -> None:
    """Train a model on a corpus with weighted samples, and report the results."""
    quiet(debug)
    with reported(debug):
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


@app.command(cls=Command)
def weights(
    rule: Annotated[str, typer.Option(help='The rule, for example "ir_dro(r=1)".')],
    losses: Annotated[str | None, typer.Option(help="Losses in nats per token, such as 1,2,3,4.")] = None,
    weight: Annotated[
        str | None, typer.Option(help="The weights that the data brings along, for column_weights().")
    ] = None,
    reference: Annotated[str | None, typer.Option(help='Losses under a reference model, for by("excess", …).')] = None,
    group: Annotated[str | None, typer.Option(help="The group number of each sample, for rules over groups.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of weight against loss to this file.")] = None,
    debug: Debug = False,
) -> None:
    """Print the weights that a rule gives to some losses in its first step."""
    with reported(debug):
        from samplewise.engine.plan import weights as weigh
        from samplewise.rules import parse_rule

        parsed = parse_rule(rule)
        if losses is None and plot is None:
            raise SamplewiseError(
                "--losses", expected="losses", got="none", remedy="Give losses, for example --losses 1,2,3,4."
            )
        values = _numbers("--losses", losses) if losses is not None else [4 * i / 255 for i in range(256)]
        given = {"weight": weight, "reference": reference, "group": group}
        fields = {name: _numbers(f"--{name}", text) for name, text in given.items() if text is not None}
        found = weigh(parsed, values, **fields).tolist()
        if losses is not None:
            print("\n".join(_bars(values, found)))
        if plot is not None:
            require(("matplotlib", "report"))
            from samplewise.report import draw_weights

            draw_weights(plot, values, found, repr(parsed))
            print(f"picture    {plot}")


@app.command(cls=Command)
def rules() -> None:
    """List the rules that a run file may name: sample rules first, then token rules."""
    from samplewise.rules import RULES, TOKEN_RULES

    for name, make in {**RULES, **TOKEN_RULES}.items():
        usage = f"{name}{inspect.signature(make)}".split(" ->")[0].replace("'", "")
        first = (inspect.getdoc(make) or "").splitlines()[0]
        print(f"{usage}\n    {first}")


app.command(cls=Command)(score)
app.command(cls=Command)(compare)
app.command(cls=Command)(diagnose)
app.command(cls=Command)(doctor)
app.command(cls=Command)(evaluate)
app.command(cls=Command)(select)
app.command(cls=Command)(probe)
app.command(cls=Command)(sweep)
app.command(cls=Command)(corrupt)
app.command(cls=Command)(report)
app.command(cls=Command)(tokenizer)


def _numbers(option: str, text: str) -> list[float]:
    try:
        found = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        found = []
    if not found or not all(map(math.isfinite, found)):
        raise SamplewiseError(
            option,
            expected="finite numbers, separated by commas",
            got=shown(text),
            remedy="Separate the numbers with commas: 1,2,3,4.",
        )
    return found


def _bars(losses: list[float], found: list[float], width: int = 30) -> Iterator[str]:
    """One line per sample with its loss, its weight and a bar."""
    most = max(found)
    yield f"{'loss':>9} {'weight':>8}"
    for loss, weight in zip(losses, found, strict=True):
        eighths = round(8 * width * weight / most)
        bar = "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
        yield f"{loss:>9g} {weight:>8.4f} {bar}".rstrip()
