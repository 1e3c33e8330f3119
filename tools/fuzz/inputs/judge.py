"""One attack in this process, and whether what came of it is what a user may expect."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz.inputs import data_attacks, folder_attacks, settings_attacks
from fuzz.inputs.attack import Attack, Ground
from fuzz.inputs.world import World

KINDS: dict[str, Callable[[Ground], Attack]] = {
    "rule": settings_attacks.rule_text,
    "run": settings_attacks.run_file_corrupted,
    "plan": settings_attacks.plan_corrupted,
    "command": settings_attacks.command_line,
    "records": data_attacks.records,
    "conversations": data_attacks.conversations,
    "template": data_attacks.template,
    "scores": folder_attacks.scores,
    "model": folder_attacks.model,
}
LONGEST = 2000
"""Characters of a message that somebody still reads."""


@dataclass(frozen=True)
class Outcome:
    """seed, kind, what, words: the attack. ending: success, sentence, usage or fault, which says what. said: stderr."""

    seed: int
    kind: str
    ending: str
    fault: str = ""
    said: str = ""
    what: str = ""
    words: tuple[str, ...] = ()


def kind_of(seed: int) -> str:
    """Which kind of attack a seed is: they take turns."""
    return list(KINDS)[seed % len(KINDS)]


def attempt(seed: int, world: World, begun: Callable[[Attack], object] = lambda attack: None) -> Outcome:
    """Make the attack of this seed, run it, judge it. begun: is told of it before it runs."""
    with tempfile.TemporaryDirectory() as name:
        folder, kind = Path(name), kind_of(seed)
        attack = KINDS[kind](Ground(Random(f"inputs {seed}"), world, folder))
        begun(attack)
        code, said = _run(attack.words, folder)
        fault = fault_of(code, said) or (_miscounted(attack) if code == 0 else "")
        if not fault and code == 0 and attack.hopeless:
            fault = "success, of what cannot be used"
        if not fault and (left := _left_behind(folder)):
            fault = f"left behind {left}"
        ending = "fault" if fault else {0: "success", 1: "sentence"}.get(code, "usage")
        return Outcome(seed, kind, ending, fault, said[-3000:], attack.what, tuple(attack.words))


def _run(words: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and stderr of the command; its traceback where it has none of its own. -1: an exception came out."""
    from samplewise.cli.app import app

    out, err, before = io.StringIO(), io.StringIO(), Path.cwd()
    logging.getLogger().handlers.clear()  # of the last attack's stderr
    os.chdir(folder)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                app(words, prog_name="samplewise")
            except SystemExit as exit:
                return int(exit.code or 0), err.getvalue()
            except BaseException:
                return -1, err.getvalue() + traceback.format_exc()
    finally:
        os.chdir(before)
    return 0, err.getvalue()


def fault_of(code: int, said: str) -> str:
    """What is wrong with an exit code and what was said on stderr; empty if nothing is.

    >>> fault_of(1, "samplewise: r: expected a number other than 0, got 0. Use uniform() for no tilt.")
    ''
    >>> fault_of(1, "samplewise: unexpected TypeError: x")
    'an unexpected TypeError'
    """
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if "Traceback (most recent" in said:
        return "a traceback"
    if code != 1:
        return ""
    last = re.split(r"^ *samplewise: ", said.replace("\r", "\n"), flags=re.MULTILINE)  # a bar may stand before it
    if len(last) < 2:
        return "no sentence"
    message = last[-1].rstrip("\n")
    if found := re.match(r"unexpected (\w+)", message):
        return f"an unexpected {found[1]}"
    if not re.match(r".+: expected .+, got ", message, flags=re.DOTALL):
        return "a sentence without place, expectation or finding"
    if any(ord(letter) < 32 and letter not in "\n\t" for letter in message):
        return "control characters in the sentence"
    if len(message) > LONGEST:
        return f"a sentence of {len(message)} characters"
    return ""


def _miscounted(attack: Attack) -> str:
    """Whether a finished folder of scores does not account for what it was given."""
    if attack.scores is None or not (attack.scores / "manifest.json").exists():
        return ""
    found = json.loads((attack.scores / "manifest.json").read_text())
    if found["rows_in"] != found["rows_scored"] + found["rows_quarantined"]:
        return "records that are neither scored nor counted"
    return "" if found["rows_scored"] else "a success that scored nothing"


def _left_behind(folder: Path) -> str:
    return ", ".join(path.name for path in folder.rglob(".*") if re.fullmatch(r"\..+\.\d+", path.name))
