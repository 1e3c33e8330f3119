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
    config: Annotated[Path, typer.Argument(metavar="RUN.YAML", help="The run file; examples/*.yaml show all.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="On top of it, such as training.max_steps=5.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest complete checkpoint.")] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on though data, model or tokenizer are no longer the same.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train a model further on a corpus, and say what came of it."""
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

        try:
            hush_transformers(debug)
            finished = run(settings, resume=resume, accept_changes=accept_changes)
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
    weight: Annotated[str | None, typer.Option(help="The data's own weights, for column_weights().")] = None,
    reference: Annotated[str | None, typer.Option(help='Losses under a reference model, for by("excess", …).')] = None,
    group: Annotated[str | None, typer.Option(help="Numbers of groups, for rules over groups.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the curve of weight against loss here.")] = None,
    debug: Debug = False,
) -> None:
    """Print what a rule makes of some losses, in its first step."""
    with reported(debug):
        from samplewise.engine.plan import weights as weigh
        from samplewise.rules import parse_rule

        parsed = parse_rule(rule)
        if losses is None and plot is None:
            raise SamplewiseError("--losses", expected="losses", got="none", remedy="For example --losses 1,2,3,4.")
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
    """List the rules that a run file may name; those over tokens come last."""
    from samplewise.rules import RULES, TOKEN_RULES

    for name, make in {**RULES, **TOKEN_RULES}.items():
        usage = f"{name}{inspect.signature(make)}".split(" ->")[0].replace("'", "")
        first = (inspect.getdoc(make) or "").splitlines()[0]
        print(f"{usage}\n    {first}")


app.command(cls=Command)(score)
app.command(cls=Command)(compare)
app.command(cls=Command)(diagnose)
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
            option, expected="finite numbers with commas between them", got=shown(text), remedy="For example 1,2,3,4."
        )
    return found


def _bars(losses: list[float], found: list[float], width: int = 30) -> Iterator[str]:
    """One line a sample: loss, weight, bar."""
    most = max(found)
    yield f"{'loss':>9} {'weight':>8}"
    for loss, weight in zip(losses, found, strict=True):
        eighths = round(8 * width * weight / most)
        bar = "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
        yield f"{loss:>9g} {weight:>8.4f} {bar}".rstrip()
