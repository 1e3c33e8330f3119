"""`samplewise select`: which samples of a scored corpus to train on."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

from samplewise.cli.shell import (
    Debug,
    Json,
    Memory,
    NoVerify,
    complete_rule,
    figures,
    quiet,
    reported,
    require,
    write_figures,
)
from samplewise.core.errors import SamplewiseError


class Units(StrEnum):
    """What a selection chooses: windows, or whole documents."""

    window = "window"
    document = "document"


class Take(StrEnum):
    """Which samples a budget is spent on first."""

    highest = "highest"
    lowest = "lowest"
    random = "random"


RuleText = Annotated[
    str | None,
    typer.Option(help='A rule, such as "band(drop_top=0.1)", over the whole corpus.', autocompletion=complete_rule),
]
Within = Annotated[
    str | None,
    typer.Option(
        help="Select separately within each source, length (powers of 2), column of the scores, field of the records "
        "such as meta.domain, or host(url)."
    ),
]
By = Annotated[
    str, typer.Option(help="Select by loss, excess (loss − reference), ratio (÷), 'A - B', 'A / B' or a column.")
]
Per = Annotated[
    str | None, typer.Option(help="Divide the budget over the values of this field or column. Default: --within.")
]
Shares = Annotated[
    str | None,
    typer.Option(help="The share of each part in the budget, such as web=.6,code=.3,math=.1; *: all others."),
]
Minimum = Annotated[str | None, typer.Option("--min", help="The fewest tokens of a part: code=100M or code=10%.")]
Maximum = Annotated[str | None, typer.Option("--max", help="The most tokens of a part: web=1B or *=5%.")]
Alpha = Annotated[float | None, typer.Option(help="Divide the budget in proportion to (tokens of a part)^ALPHA.")]
Reweight = Annotated[
    bool,
    typer.Option("--reweight", help="Meet shares, minima, maxima and --alpha by a sample_weight; leave nothing out."),
]
DropJunk = Annotated[
    float | None,
    typer.Option(help="Leave out texts with at least this junk score, such as 0.5: see samplewise report."),
]
DropShared = Annotated[
    float | None,
    typer.Option(help="Leave out texts of which at least this share, such as 0.5, are shared lines."),
]
Join = Annotated[
    list[str] | None,
    typer.Option("--join", metavar="NAME=FOLDER", help="Add the loss from other scores of this corpus as a column."),
]
Control = Annotated[str | None, typer.Option(help="Write a random selection of the same size to this file.")]

Out = Annotated[str, typer.Option(help="The file to write: .jsonl, .jsonl.zst, .jsonl.gz or .parquet; or a folder.")]
Format = Annotated[
    str | None,
    typer.Option(help="Write a folder: datasets, mds, mds-tokens, megatron; with --shard-size jsonl.zst or parquet."),
]
ShardSize = Annotated[str | None, typer.Option(help="Write files of about this size, such as 1GB, into a folder.")]
TokenizerOption = Annotated[
    str | None, typer.Option("--tokenizer", help="Where the tokenizer is, if it was moved after scoring.")
]


def select(
    scores: Annotated[str, typer.Argument(metavar="SCORES", help="The folder written by samplewise score.")],
    out: Out,
    rule: RuleText = None,
    drop_junk: DropJunk = None,
    drop_shared: DropShared = None,
    above: Annotated[float | None, typer.Option(help="Keep samples whose loss (or --by) is at least this.")] = None,
    below: Annotated[float | None, typer.Option(help="Keep samples whose loss (or --by) is at most this.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Keep at most this many tokens, such as 2B.")] = None,
    take: Annotated[Take, typer.Option(help="Which losses --tokens takes first.")] = Take.highest,
    by: By = "loss",
    join: Join = None,
    within: Within = None,
    per: Per = None,
    shares: Shares = None,
    minimum: Minimum = None,
    maximum: Maximum = None,
    alpha: Alpha = None,
    reweight: Reweight = False,
    unit: Annotated[Units, typer.Option(help="Select windows, or whole documents.")] = Units.window,
    ids: Annotated[bool, typer.Option("--ids", help="Write only the ids, as .parquet or .txt.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="Write the weight of every sample, as .parquet.")] = False,
    control: Control = None,
    format: Format = None,
    shard_size: ShardSize = None,
    tokenizer: TokenizerOption = None,
    data: Annotated[str | None, typer.Option(help="Where the corpus is, if it was moved after scoring.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of --control and of --take random.")] = 0,
    memory: Memory = "2GB",
    no_verify: NoVerify = False,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Select samples of a scored corpus, and report what was left out. It needs no model."""
    quiet(debug)
    with reported(debug), figures(json_file):
        require(("duckdb", "corpus"), ("pyarrow", "corpus"))
        from samplewise.corpus.quotas import quotas_of
        from samplewise.corpus.run_select import Target, run_select
        from samplewise.corpus.selection import Choice

        choice = Choice(
            rule=_parsed(rule), drop_junk=drop_junk, drop_shared=drop_shared, above=above, below=below,
            tokens=_budget(tokens), take=take.value, by=by, within=within, unit=unit.value, seed=seed, per=per,
            quotas=quotas_of(shares, minimum, maximum, alpha=alpha, reweight=reweight),
        )  # fmt: skip
        _check(choice, tokens, ids and weights)
        to = Target(_kind(ids, weights), out, control, data, format=format, shard_size=shard_size, tokenizer=tokenizer)
        print("\n".join(run_select(scores, choice, to, memory=memory, verify=not no_verify, join=join or ())))
        write_figures(json_file, _statement(to.output(out)))


def _parsed(rule: str | None) -> Any:
    from samplewise.rules import parse_rule

    return None if rule is None else parse_rule(rule)


def _budget(tokens: str | None) -> int | None:
    from samplewise.corpus.amounts import amount

    return None if tokens is None else amount(tokens, "--tokens")


def _kind(ids: bool, weights: bool) -> Literal["ids", "weights", "texts"]:
    return "ids" if ids else "weights" if weights else "texts"


def _statement(written: Any) -> dict[str, Any]:
    """What was selected and left out, as it stands beside the output."""
    return json.loads(written.place.read(written.statement))


def _check(choice: Any, tokens: str | None, both: bool) -> None:
    from samplewise.corpus.quotas import check_parts

    parts = (choice.rule, choice.drop_junk, choice.drop_shared, choice.above, choice.below, tokens, choice.quotas)
    if all(part is None for part in parts):
        raise SamplewiseError(
            "select", expected="--rule, --drop-junk, --drop-shared, --above, --below or --tokens", got="none of them",
            remedy='Give at least one, for example --rule "band(drop_top=0.1)".',
        )  # fmt: skip
    if both:
        raise SamplewiseError(
            "--ids", expected="one kind of output", got="--weights as well",
            remedy="Run the command once for each kind.",
        )  # fmt: skip
    check_parts(choice.quotas, per=choice.per, within=choice.within, tokens=tokens)
