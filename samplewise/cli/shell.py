"""What every command shares: errors as one line and an exit code, missing extras, silence of libraries."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from samplewise.core.errors import SamplewiseError
from samplewise.core.exhausted import told, wanting
from samplewise.core.typed import shown

AT = "In optimizer step "
"""How a note begins that says where in training an error came from (`samplewise.engine.step`)."""

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks, and what libraries log.")]

NoVerify = Annotated[bool, typer.Option("--no-verify", help="Do not compare the files of scores with their checksums.")]


class Command(TyperCommand):
    """A command whose arguments are looked at before it begins: no empty text, no number that is not finite."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click does, after the look at what is empty: of a path it would make the folder that one is in."""
        with reported("--debug" in args):
            for before, text in zip(["", *args], args, strict=False):
                option, equals, value = text.partition("=")
                joined = bool(equals) and option.startswith("--")
                name = option if joined else before if before.startswith("-") else "argument"
                if not (value if joined else text).strip() and name != "--title":
                    raise SamplewiseError(name, expected="a value", got="empty text", remedy="Name it or leave it out.")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> object:
        """As click does, after the look at the numbers."""
        with reported(bool(ctx.params.get("debug"))):
            for parameter in ctx.command.params:
                value = ctx.params.get(parameter.name or "")
                if isinstance(value, (int, float)) and not abs(value) < 2**63:
                    raise SamplewiseError(
                        parameter.opts[0], expected="a number that is finite and below 2^63", got=shown(value),
                        remedy="Check it.",
                    )  # fmt: skip
        return super().invoke(ctx)


def require(*packages: tuple[str, str]) -> None:
    """Errors: SamplewiseError for a package that is not there, with the extra that brings it."""
    from importlib.util import find_spec

    for name, extra in packages:
        if find_spec(name) is None:
            raise SamplewiseError(
                name, expected="it to be installed", got="not installed", remedy=f'pip install "samplewise[{extra}]"'
            )


@contextmanager
def reported(debug: bool) -> Iterator[None]:
    """Errors to one message and an exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        if debug:
            raise
        print("\nstopped", file=sys.stderr)
        raise typer.Exit(130) from None
    except Exception as error:
        if debug:
            raise
        if isinstance(error, SamplewiseError):
            text = str(error)
        elif wanting(error) == "handles":
            text = str(told("handles", "file handles", "reading and writing", "try again"))
        elif isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: expected a place to read or write, got {error.strerror!r}"
        else:
            text = f"unexpected {type(error).__name__}: {error} (--debug shows where)"
        where = "".join(f"\n{note}" for note in getattr(error, "__notes__", []) if note.startswith(AT))
        print(f"samplewise: {_visible(text + where)}", file=sys.stderr)
        raise typer.Exit(1) from None


def _visible(text: str) -> str:
    """What came from a file must not command the terminal: control characters as escapes, but for line ends."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


def quiet(debug: bool) -> None:
    """What libraries say between our lines is left out, before they are imported."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    if debug:
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore")


def hush_transformers(debug: bool) -> None:
    """No bars of its own: ours would stand among them."""
    if not debug:
        from samplewise.evidence.run.quiet import hush

        hush()
