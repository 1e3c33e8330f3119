"""`samplewise weights` and `samplewise rules`: what rules there are, and what one does."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, Json, RuleText, figures, reported, require, write_figures
from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import shown


def weights(
    rule: RuleText,
    losses: Annotated[str | None, typer.Option(help="Losses in nats per token, such as 1,2,3,4.")] = None,
    weight: Annotated[
        str | None, typer.Option(help="The weights that the data brings along, for column_weights().")
    ] = None,
    reference: Annotated[str | None, typer.Option(help='Losses under a reference model, for by("excess", …).')] = None,
    group: Annotated[str | None, typer.Option(help="The group number of each sample, for rules over groups.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of weight against loss to this file.")] = None,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Print the weights that a rule gives to some losses in its first step."""
    with reported(debug), figures(json_file):
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
        write_figures(json_file, {"rule": repr(parsed), "losses": values, "weights": found})
        if plot is not None:
            require(("matplotlib", "report"))
            from samplewise.report import draw_weights

            draw_weights(plot, values, found, repr(parsed))
            print(f"picture    {plot}")


def rules(json_file: Json = None) -> None:
    """List the rules that a run file may name: sample rules first, then token rules."""
    from samplewise.rules import RULES, TOKEN_RULES

    told = [
        {
            "name": name,
            "usage": f"{name}{inspect.signature(make)}".split(" ->")[0].replace("'", ""),
            "what": (inspect.getdoc(make) or "").splitlines()[0],
        }
        for name, make in {**RULES, **TOKEN_RULES}.items()
    ]
    with figures(json_file):
        for each in told:
            print(f"{each['usage']}\n    {each['what']}")
        write_figures(json_file, told)


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
