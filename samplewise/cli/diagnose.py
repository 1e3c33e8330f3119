"""`samplewise diagnose`: what can be seen to go wrong in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, quiet, reported, require


def diagnose(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The output folder of a run of samplewise train.")],
    debug: Debug = False,
) -> None:
    """Look for problems in the figures of a run, finished or not."""
    quiet(debug)
    with reported(debug):
        require(("transformers", "hf"))
        from samplewise.evidence.run.diagnose import diagnose_run

        steps, findings = diagnose_run(run)
        for finding in findings:
            print(finding)
        print(
            f"{len(findings) or 'nothing'} found in {steps:,} steps" if steps else "The run has no finished step yet."
        )
