"""Groups of a run's samples: where they come from, and what their numbers stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from samplewise.config import DataConfig
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.data import Window
from samplewise.data.remote import list_files
from samplewise.data.sources import is_local
from samplewise.evidence.groups import group_of

T = TypeVar("T")


@dataclass(frozen=True)
class Folders:
    """The number of a window's group: that of the first folder of its document's source, by name."""

    numbers: dict[str, int]

    def __call__(self, window: Window) -> int:
        """The number of the group that a window belongs to."""
        return self.numbers[group_of(window.source)]

    def line(self, windows: Iterable[Window] | None = None) -> str:
        """The groups in words, with their windows where these are known."""
        if len(self.numbers) > 20:
            return f"groups     {len(self.numbers)}"
        counts = None if windows is None else Counter(map(self, windows))
        named = [
            f"{number} {name}" + ("" if counts is None else f" ({counts[number]:,} windows)")
            for name, number in self.numbers.items()
        ]
        return f"groups     {', '.join(named)}"


def folders_of(data: DataConfig) -> Folders:
    """The groups of a corpus of files, numbered from 0 in the order of their names.

    They depend on the files alone: not on what is held out, too short or a duplicate. Errors: SamplewiseError for a
    `datasets` name, all of whose rows are of one source.
    """
    if not is_local(data.path):
        raise SamplewiseError(
            "data.groups", expected="null, since the text comes from a `datasets` name", got=repr(data.groups),
            remedy="Write the rows to files, with one folder for each group.",
        )  # fmt: skip
    files, _ = list_files(data.path)
    names = sorted({group_of(source) for source, _ in files})
    return Folders({name: number for number, name in enumerate(names)})


def check_groups(rule: Rule, counts: Mapping[str, Any]) -> None:
    """Check, before the first step, that the text has the groups that the rule reads. counts: of `Prepared`.

    Errors: SamplewiseError where it has none, or one.
    """
    groups = counts.get("groups", {})
    if "group" in rule.required_fields and len(groups) < 2:
        got = f"one, {next(iter(groups))!r}" if groups else "no groups"
        raise SamplewiseError(
            "data.groups", expected=f"at least two groups, which {rule} reads", got=got,
            remedy="Set data.groups: folder; each first folder (or file) below data.path is then a group.",
        )  # fmt: skip


def by_name(groups: Mapping[str, T], counts: Mapping[str, Any]) -> dict[str, T]:
    """The values of each group, given by number, by its name.

    >>> by_name({"1": 0.7, "0": 0.3}, {"groups": {"django": 0, "sympy": 1}})
    {'sympy': 0.7, 'django': 0.3}
    """
    names = {str(number): name for name, number in counts.get("groups", {}).items()}
    return {names.get(number, number): value for number, value in groups.items()}
