"""`samplewise diagnose`: what can be seen to go wrong in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, quiet, reported, require


def diagnose(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The output folder of samplewise train.")],
    debug: Debug = False,
) -> None:
    """Look through a run, finished or not, for what its figures warn of."""
    quiet(debug)
    with reported(debug):
        require(("transformers", "hf"))
        from samplewise.evidence.run.diagnose import diagnose_run

        steps, findings = diagnose_run(run)
        for finding in findings:
            print(finding)
        print(f"{len(findings) or 'nothing'} found in {steps:,} steps" if steps else "no step yet")
