"""`samplewise doctor`: is this library right on this machine, does it wait for the device, what does it cost?"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, Json, figures, hush_transformers, quiet, reported, require, write_figures

Model = Annotated[str | None, typer.Option(help="Examine this model: a hub id, a folder or a .gguf file.")]
Shape = Annotated[
    str | None,
    typer.Option(help="Or examine one with random weights: tiny, smollm-135m, llama-1b, gemma-1b or qwen-4b."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: the best available.")]


def doctor(
    model: Model = None, shape: Shape = None, device: Device = None, json_file: Json = None, debug: Debug = False
) -> None:
    """Check losses, gradients, waits and memory on this machine, and measure speed. Ends in PASS or FAIL.

    Without --model nothing is downloaded. The exit code is 0 for PASS.
    """
    quiet(debug)
    with reported(debug), figures(json_file):
        require(("transformers", "hf"), ("accelerate", "hf"), ("pyarrow", "corpus"))
        from samplewise.evidence.doctor.checks import Check, as_json, verdict
        from samplewise.evidence.doctor.examine import examine
        from samplewise.evidence.doctor.machine import describe, device_of
        from samplewise.evidence.doctor.shapes import open_subject

        hush_transformers(debug)
        start, place = time.perf_counter(), device_of(device)
        name, subject = open_subject(model, shape, place)
        print(f"samplewise doctor: {name} on {describe(place)}", flush=True)
        checks: list[Check] = []
        for check in examine(subject, place):
            checks.append(check)
            print(check.line(), flush=True)
        end, seconds = verdict(checks), time.perf_counter() - start
        facts = {"model": name, "device": describe(place), "seconds": round(seconds, 1)}
        write_figures(json_file, as_json(facts, checks))
        print(f"{end} ({seconds:.0f} s)")
        if not end.passed:
            raise typer.Exit(1)
