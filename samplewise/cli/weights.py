"""`samplewise weights` and `samplewise rules`: what rules there are, and what one does."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, Json, complete_rule, figures, reported, require, write_figures
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.core.token_rule import TokenRule
from samplewise.core.typed import shown


def weights(
    rule: Annotated[
        str | None, typer.Option(help='The rule, for example "ir_dro(r=1)".', autocompletion=complete_rule)
    ] = None,
    token_rule: Annotated[
        str | None, typer.Option(help="A token rule instead: --losses are then those of the tokens of one sample.")
    ] = None,
    losses: Annotated[str | None, typer.Option(help="Losses in nats per token, such as 1,2,3,4.")] = None,
    weight: Annotated[str | None, typer.Option(help="Weights that come with the data, for column_weights().")] = None,
    reference: Annotated[str | None, typer.Option(help='Losses under a reference model, for by("excess", …).')] = None,
    group: Annotated[str | None, typer.Option(help="The group number of each sample, for rules over groups.")] = None,
    stored: Annotated[
        str | None, typer.Option(help='Losses known beforehand, for flow() and by("learnability", …).')
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of weight against loss to this file.")] = None,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Print the weights that a rule gives in its first step to losses of samples, or of the tokens of one sample."""
    with reported(debug), figures(json_file):
        if (rule is None) == (token_rule is None):
            raise SamplewiseError(
                "--rule, --token-rule", expected="one of them", got="none" if rule is None else "both",
                remedy='For example --rule "ir_dro(r=1)".',
            )  # fmt: skip
        if losses is None and plot is None:
            raise SamplewiseError(
                "--losses", expected="losses", got="none", remedy="Give losses, for example --losses 1,2,3,4."
            )
        values = _numbers("--losses", losses) if losses is not None else [4 * i / 255 for i in range(256)]
        given = {"weight": weight, "reference": reference, "group": group, "stored": stored}
        fields = {name: _numbers(f"--{name}", text) for name, text in given.items() if text is not None}
        parsed, found = _of_samples(rule, values, fields) if rule else _of_tokens(str(token_rule), values, fields)
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


def _of_samples(rule: str, losses: list[float], fields: dict[str, list[float]]) -> tuple[Rule, list[float]]:
    """The rule, and the weights that it gives to samples."""
    from samplewise.engine.plan import weights as weigh
    from samplewise.rules import parse_rule

    parsed = parse_rule(rule)
    if parsed.token_rule is not None:
        print(f"{parsed.token_rule} weighs tokens in training; these are weights of samples", file=sys.stderr)
    stored = {"stored_loss": fields.pop("stored")} if "stored" in fields else {}
    return parsed, weigh(parsed, losses, **fields, **stored).tolist()


def _of_tokens(rule: str, losses: list[float], fields: dict[str, list[float]]) -> tuple[TokenRule, list[float]]:
    """The token rule, and the weights that it gives to the tokens of one sample."""
    import torch

    from samplewise.rules import parse_token_rule

    parsed = parse_token_rule(rule)
    if unread := sorted(f"--{name}" for name in fields if name != "reference"):
        raise SamplewiseError(
            ", ".join(unread), expected="--reference alone beside --token-rule", got=f"{parsed}, which reads no other",
            remedy="Leave it out.",
        )  # fmt: skip
    loss = torch.tensor(losses, dtype=torch.float64)
    reference = torch.tensor(fields["reference"], dtype=torch.float64) if fields else None
    return parsed, parsed(loss, reference, torch.zeros(len(loss), dtype=torch.int64)).tolist()


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
    most = max(found) or 1.0
    yield f"{'loss':>9} {'weight':>8}"
    for loss, weight in zip(losses, found, strict=True):
        eighths = round(8 * width * weight / most)
        bar = "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
        yield f"{loss:>9g} {weight:>8.4f} {bar}".rstrip()
