"""Conversations: what every form of instruction data becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.data.ids import instruction_id


@dataclass(frozen=True)
class Message:
    """One turn. role: system, developer, user, assistant or tool; fields: the rest of it, such as tool_calls.

    weight: of its tokens; 0 for what is not predicted, and so for all but the assistant's.
    """

    role: str
    content: str
    weight: float = 0.0
    fields: Mapping[str, Any] = field(default_factory=dict)

    def for_template(self) -> dict[str, Any]:
        """The message as chat templates take it."""
        return {"role": self.role, "content": self.content, **self.fields}


@dataclass(frozen=True)
class Conversation:
    """One row of instruction data. source, row, line: where it stands; line where the file has lines.

    form: the form it was recognised as. plain: prompt and completion are continuous text, two messages that no
    template is for. tools: what a template is told of them. sample_id, sample_weight, group, reference_loss: the row's
    columns of these names, None where it has none. record: the row as it was read, where the reader was asked to
    keep it.
    """

    messages: tuple[Message, ...]
    source: str
    row: int
    form: str
    line: int | None = None
    plain: bool = False
    tools: Any = None
    sample_id: int | None = None
    sample_weight: float | None = None
    group: int | str | None = None
    reference_loss: float | None = None
    record: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def id(self) -> int:
        """The column `sample_id`, else the hash of source and row: the same in training and scoring."""
        return instruction_id(self.source, self.row) if self.sample_id is None else self.sample_id

    @property
    def text(self) -> str:
        """All that is said, for finding duplicates."""
        return "\n".join(message.content for message in self.messages)

    @property
    def prompt(self) -> str:
        """What is said before the first answer: the same question stays on one side of a split."""
        first = next(i for i, message in enumerate(self.messages) if message.role == "assistant")
        return "\n".join(message.content for message in self.messages[:first])


def check_columns(conversations: Iterable[Conversation]) -> None:
    """Errors: SamplewiseError where a column is in some rows only, or an id is given twice."""
    found = list(conversations)
    for name in ("sample_id", "sample_weight", "group", "reference_loss"):
        lacking = [each for each in found if getattr(each, name) is None]
        if 0 < len(lacking) < len(found):
            raise SamplewiseError(
                name, expected="a value in every row, or in none",
                got=f"none in {len(lacking)} of {len(found)}, the first in {lacking[0].source}, row {lacking[0].row}",
                remedy="Give every row a value, or remove the column.",
            )  # fmt: skip
    repeated = len(found) - len({each.id for each in found})
    if repeated:
        raise SamplewiseError(
            "sample_id", expected="a unique id for each row", got=f"{repeated} repeated",
            remedy="Renumber the rows, or remove the column; read the data once, from one root.",
        )  # fmt: skip


def group_numbers(conversations: Iterable[Conversation]) -> dict[int | str, int]:
    """Each group and its number: whole numbers stay as they are, names are numbered in their alphabetical order.

    The order of the rows makes no difference. Errors: SamplewiseError on names and numbers side by side.

    >>> rows = [
    ...     Conversation((), "a.jsonl", i, "messages", group=name) for i, name in enumerate(["web", "books", "web"])
    ... ]
    >>> group_numbers(rows)
    {'books': 0, 'web': 1}
    """
    groups = {each.group for each in conversations if each.group is not None}
    names, numbers = [g for g in groups if isinstance(g, str)], [g for g in groups if isinstance(g, int)]
    if names and numbers:
        raise SamplewiseError(
            "group", expected="names or whole numbers", got=f"both, such as {min(names)!r} and {min(numbers)}",
            remedy="Use names only, or numbers only.",
        )  # fmt: skip
    return {number: number for number in sorted(numbers)} | {name: i for i, name in enumerate(sorted(names))}
