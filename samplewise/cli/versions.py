"""`samplewise --version`: the versions that a report of a fault needs, without importing what is asked about."""

from __future__ import annotations

import platform

import typer

SHOWN = ("torch", "numpy", "transformers", "trl", "accelerate", "peft", "datasets", "duckdb", "pyarrow")


def versions() -> dict[str, str]:
    """Of this package, Python, the system, and the packages that are installed of those it works with."""
    from importlib.metadata import PackageNotFoundError, version

    from samplewise import __version__

    found = {"samplewise": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in SHOWN:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def print_versions(asked: bool) -> None:
    """A line for each, the own one first."""
    if asked:
        for name, version in versions().items():
            print(f"{name} {version}")
        raise typer.Exit
