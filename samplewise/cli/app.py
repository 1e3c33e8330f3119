"""The commands. Errors are one message on stderr and exit code 1; usage errors are 2, Ctrl-C is 130."""

from __future__ import annotations

from typing import Annotated

import typer

from samplewise.cli.compare import compare, sweep, tokenizer
from samplewise.cli.dedup import dedup
from samplewise.cli.diagnose import diagnose
from samplewise.cli.doctor import doctor
from samplewise.cli.evaluate import evaluate
from samplewise.cli.importance import importance
from samplewise.cli.init import init
from samplewise.cli.probe import corrupt, probe
from samplewise.cli.report import report
from samplewise.cli.score import score
from samplewise.cli.select import select
from samplewise.cli.shell import Command
from samplewise.cli.train import train
from samplewise.cli.versions import print_versions
from samplewise.cli.weights import rules, weights

app = typer.Typer(
    help="Train language models on weighted samples, score and select data, and measure whether it helps.",
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    epilog="Begin with: samplewise doctor; samplewise init --model MODEL --data DATA; samplewise train run.yaml",
)  # fmt: skip

COMMANDS = {  # by what one wants to do: each command with examples
    "Train": {
        init: ["samplewise init --model HuggingFaceTB/SmolLM2-135M --data train.jsonl"],
        train: [
            "samplewise train run.yaml",
            "samplewise train run.yaml training.max_steps=20 output=runs/short",
            "samplewise train run.yaml --resume",
        ],
        diagnose: ["samplewise diagnose runs/first"],
        doctor: ["samplewise doctor", "samplewise doctor --model HuggingFaceTB/SmolLM2-135M --json doctor.json"],
    },
    "Rules": {
        rules: ["samplewise rules"],
        weights: [
            'samplewise weights --rule "ir_dro(r=3)" --losses 1,2,3,9',
            'samplewise weights --rule "chain(band(drop_top=0.1), ir_dro(r=3))" --plot rule.png',
        ],
    },
    "Score and select data": {
        dedup: [
            "samplewise dedup corpus/ --out deduped",
            "samplewise dedup s3://bucket/corpus --out s3://bucket/deduped --format parquet --shard-size 1GB",
        ],
        score: [
            "samplewise score --model HuggingFaceTB/SmolLM2-135M --data corpus/ --out scores",
            "samplewise score --model HuggingFaceTB/SmolLM2-1.7B --data corpus/ --out scores --as reference",
        ],
        select: [
            'samplewise select scores --rule "band(drop_top=0.1)" --tokens 2B --out train.jsonl.zst',
            'samplewise select scores --by excess --rule "top_k(0.3)" --control random.jsonl.zst --out train.jsonl.zst',
        ],
        importance: ["samplewise importance scores --target docs/ --as like_docs"],
        report: ["samplewise report scores --out report.html"],
    },
    "Measure": {
        compare: ["samplewise compare plan.yaml", "samplewise compare --check runs/comparison"],
        sweep: ["samplewise sweep plan.yaml"],
        evaluate: ["samplewise evaluate evaluate.yaml --against runs/uniform/evaluation.json"],
        probe: ["samplewise probe probe.yaml"],
        corrupt: ["samplewise corrupt corpus.jsonl noisy.jsonl labels.json --share 0.2"],
        tokenizer: ["samplewise tokenizer corpus/ tokenizer --size 4096"],
    },
}

for _panel, _commands in COMMANDS.items():
    for _command, _examples in _commands.items():
        _text = "\n\n".join(["Examples:", *(each.replace("[", "\\[") for each in _examples)])
        app.command(cls=Command, rich_help_panel=_panel, epilog=_text)(_command)

Version = Annotated[
    bool,
    typer.Option(
        "--version",
        help="Print the versions of samplewise and its libraries, and exit.",
        is_eager=True,
        callback=print_versions,
    ),
]


@app.callback()
def main(version: Version = False) -> None:
    """What stands before the name of a command."""
