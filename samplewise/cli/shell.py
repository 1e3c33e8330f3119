"""What every command shares: errors as one line and an exit code, missing extras, silence of libraries."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from samplewise.cli.panels import panel_of
from samplewise.cli.streams import Stream, ended_by_signals, lasting_streams, spell_out_letters, visible
from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import shown

_OF_A_DISK = {errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE}
AT = "In optimizer step "
"""How a note begins that says where in training an error came from (`samplewise.engine.step`)."""

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the logs of libraries.")]

Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write every figure to this file as JSON, or with - to stdout, alone."),
]


def complete_rule(incomplete: str) -> list[str]:
    """Names of rules for the completion of a shell, after the last bracket or comma of what is typed."""
    from samplewise.rules import RULES

    cut = max(incomplete.rfind(mark) for mark in "(, ") + 1
    return [f"{incomplete[:cut]}{name}(" for name in RULES if name.startswith(incomplete[cut:])]


RuleText = Annotated[str, typer.Option(help='The rule, for example "ir_dro(r=1)".', autocompletion=complete_rule)]
Memory = Annotated[str, typer.Option(help="The most memory to use, such as 2GB.")]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Do not check the checksums of the scores.")]


class Command(TyperCommand):
    """A command that refuses empty texts and numbers that are not finite before it begins, its options in panels."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            if (title := panel_of(self.name, parameter.name)) is not None:
                parameter.rich_help_panel = title  # pyright: ignore[reportAttributeAccessIssue]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as click does, after empty arguments are refused: an empty path would be the current folder."""
        with reported("--debug" in args):
            for before, text in zip(["", *args], args, strict=False):
                option, equals, value = text.partition("=")
                joined = bool(equals) and option.startswith("--")
                name = option if joined else before if before.startswith("-") else "argument"
                if not (value if joined else text).strip() and name != "--title":
                    raise SamplewiseError(
                        name, expected="a value", got="empty text", remedy="Give a value, or omit the option."
                    )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> object:
        """Run as click does, after the numbers are checked; what ends others' work does not end it halfway."""
        with reported(bool(ctx.params.get("debug"))):
            _check_python()
            for parameter in ctx.command.params:
                value = ctx.params.get(parameter.name or "")
                if isinstance(value, (int, float)) and not abs(value) < 2**63:
                    raise SamplewiseError(
                        parameter.opts[0], expected="a finite number below 2^63", got=shown(value),
                        remedy="Give a number in that range.",
                    )  # fmt: skip
        with lasting_streams(), ended_by_signals():
            return super().invoke(ctx)


def _check_python() -> None:
    """Raise SamplewiseError where libraries would end the process, or fail on import."""
    try:
        os.getcwd()
    except FileNotFoundError:  # torch's linear algebra ends the process
        raise SamplewiseError(
            "current folder", expected="one that is there", got="one that was removed",
            remedy="Change to another folder, and run the command again.",
        ) from None  # fmt: skip
    if sys.flags.optimize > 1:
        raise SamplewiseError(
            "python", expected="docstrings, which transformers makes classes of", got="none, by -OO",
            remedy="Run it without -OO, and without PYTHONOPTIMIZE=2.",
        )  # fmt: skip


def require(*packages: tuple[str, str]) -> None:
    """Errors: SamplewiseError for a package that is not there, with the extra that brings it."""
    from importlib.util import find_spec

    for name, extra in packages:
        if find_spec(name) is None:
            raise SamplewiseError(
                name, expected="an installed package", got="none", remedy=f'pip install "samplewise[{extra}]"'
            )


@contextmanager
def figures(json_file: Path | None) -> Iterator[None]:
    """Where a command prints: its tables go to stderr if --json - has the stdout."""
    if str(json_file) == "-":
        with redirect_stdout(Stream(sys.stderr, shows=True)):
            yield
    else:
        yield


def write_figures(json_file: Path | None, values: Any) -> None:
    """What --json asked for: the figures of a command as JSON. Numbers that are not finite are null."""
    if json_file is None:
        return
    text = json.dumps(_finite(values), indent=1, ensure_ascii=False) + "\n"
    if str(json_file) == "-":
        if sys.__stdout__ is None:
            raise SamplewiseError("--json -", expected="a stdout", got="a closed one", remedy="Name a file.")
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
    else:
        from samplewise.core.replaced import write_whole

        write_whole(json_file, text.encode("utf-8", "backslashreplace"))


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {str(key): _finite(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


@contextmanager
def reported(debug: bool, *, resumes: bool = False) -> Iterator[None]:
    """Turn errors into one message on stderr and an exit code. resumes: whether the same command resumes its work."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        if debug:
            raise
        print("\nstopped: the same command resumes" if resumes else "\nstopped", file=sys.stderr)
        raise typer.Exit(130) from None
    except Exception as error:
        if debug:
            raise
        from samplewise.core.exhausted import lacks_memory, memory_remedy, told, wanting

        if isinstance(error, SamplewiseError):
            text = str(error)
        elif lacks_memory(error):
            got = _first_sentence(error) or "none left"
            text = f"memory: expected enough of it for this work, got {got}. {memory_remedy(error)}"
        elif want := wanting(error):
            own = {"handles": "file handles", "threads": "threads"}
            place = own.get(want) or getattr(error, "filename", None) or "disk"
            text = str(told(want, str(place), "reading and writing", "try again"))
        elif disk := _disk_failure(error):
            text = f"disk: expected one that can be read and written, got {disk!r}. Check it, and try again."
        elif isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: expected a place to read or write, got {error.strerror!r}. Check the path."
        else:
            text = f"unexpected {type(error).__name__}: {error} (--debug shows where)"
        where = "".join(f"\n{note}" for note in getattr(error, "__notes__", []) if note.startswith(AT))
        print(f"samplewise: {visible(_shortened(text) + where)}", file=sys.stderr)
        raise typer.Exit(1) from None


def _shortened(text: str) -> str:
    """With the middle left out of words that nobody reads to their end, such as paths of thousands of characters."""
    return re.sub(r"\S{600,}", lambda found: f"{found[0][:200]}…{found[0][-200:]}", text)


def _first_sentence(error: BaseException) -> str:
    return " ".join(str(error).split()).split(". ")[0]


def _disk_failure(error: Exception) -> str:
    """What a failing disk was said to have done, where no file is named; empty of another error."""
    if isinstance(error, OSError) and error.errno in _OF_A_DISK and error.filename is None:  # of a write, say
        return error.strerror or str(error)
    known = any(mark in str(error) for mark in ("iostream error", "strerror: "))  # torch.save keeps no number of it
    return str(error) if known else ""


class _Visible(logging.Formatter):
    """A line of a log, which may quote a file, with its control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def quiet(debug: bool) -> None:
    """Silence the logs of libraries, before they are imported."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Visible("%(message)s"))
    logging.basicConfig(handlers=[handler])
    spell_out_letters()  # names of files need not be UTF-8
    if debug:
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore")


def hush_transformers(debug: bool) -> None:
    """Hide the progress bars of transformers, which would mix with those of samplewise."""
    if not debug:
        from samplewise.evidence.run.quiet import hush

        hush()
