"""`samplewise diagnose`: what can be seen to go wrong in a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, Json, figures, quiet, reported, require, write_figures


def diagnose(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The output folder of a run of samplewise train.")],
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Look for problems in the figures of a run, finished or not."""
    quiet(debug)
    with reported(debug), figures(json_file):
        require(("transformers", "hf"))
        from samplewise.evidence.run.diagnose import diagnose_run

        steps, findings = diagnose_run(run)
        for finding in findings:
            print(finding)
        print(
            f"{len(findings) or 'nothing'} found in {steps:,} steps" if steps else "The run has no finished step yet."
        )
        write_figures(json_file, {"steps": steps, "findings": [asdict(finding) for finding in findings]})
