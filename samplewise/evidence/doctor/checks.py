"""What a check found, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["pass", "fail", "info", "not checked"]

REPORT = "Report it with the file that --json writes, and the card's name."


@dataclass(frozen=True)
class Check:
    """One line of the examination.

    name: what was looked at. outcome: "info" is reported and never judged; "not checked" says in `text` why not.
    text: what was found, in a line. figures: the same as numbers. judged: whether PASS needs it to have been checked.
    """

    name: str
    outcome: Outcome
    text: str
    figures: dict[str, Any] = field(default_factory=dict)
    judged: bool = True

    def line(self) -> str:
        """As it is printed.

        >>> print(Check("waits", "pass", "3 of 7").line())
        pass         waits                                    3 of 7
        """
        return f"{self.outcome:<13}{self.name:<41}{self.text}"


def judge(name: str, found: float, limit: float, text: str, **figures: Any) -> Check:
    """A check that passes where `found` is at most `limit`; what is not a number fails.

    >>> judge("memory", 0.4, 0.35, "0.40 of plain").outcome
    'fail'
    """
    return Check(name, "pass" if found <= limit else "fail", text, {**figures, "found": found, "limit": limit})


@dataclass(frozen=True)
class Verdict:
    """PASS, or the names of what failed and of what PASS needs and nobody saw."""

    failed: list[str]
    unseen: list[str]
    count: int

    @property
    def passed(self) -> bool:
        """Whether nothing failed and nothing that is judged was left out."""
        return not self.failed and not self.unseen

    def __str__(self) -> str:
        if self.failed:
            return f"FAIL: {'; '.join(self.failed)}. {REPORT}"
        if self.unseen:
            return f"FAIL: not checked: {'; '.join(self.unseen)}. The lines above say why, and what helps."
        return f"PASS: {self.count} checks"


def verdict(checks: Sequence[Check]) -> Verdict:
    """Over all checks; those that are information have no part in it.

    >>> print(verdict([Check("losses", "pass", ""), Check("time", "info", "")]))
    PASS: 1 checks
    """
    failed = [each.name for each in checks if each.outcome == "fail"]
    unseen = [each.name for each in checks if each.outcome == "not checked" and each.judged]
    return Verdict(failed, unseen, sum(each.outcome == "pass" for each in checks))


def as_json(subject: dict[str, Any], checks: Sequence[Check]) -> dict[str, Any]:
    """What `--json` writes: the subject, every check, the verdict."""
    end = verdict(checks)
    return {**subject, "verdict": "PASS" if end.passed else "FAIL", "checks": [asdict(each) for each in checks]}
