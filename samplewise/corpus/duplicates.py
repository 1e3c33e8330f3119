"""Groups of near-duplicates among some texts: those of which deduplication would leave one."""

from __future__ import annotations

from collections.abc import Sequence

from samplewise.data.near_duplicates import NearIndex
from samplewise.data.sketch import normalize


def near_groups(texts: Sequence[str]) -> list[list[int]]:
    """Positions of texts that are the same, or near-duplicates of the first of their group; the largest group first.

    >>> a = "one two three four five six seven eight nine ten"
    >>> near_groups([a, "something else", a + " eleven", a.upper(), "Something  else"])
    [[0, 2, 3], [1, 4]]
    """
    index, exact = NearIndex(), {}
    members: list[list[int]] = []  # by place in the index
    for place, text in enumerate(texts):
        plain = normalize(text)
        group = exact.get(plain)
        if group is None:
            group = index.like_or_add(plain)
            group = len(members) if group is None else group
        exact[plain] = group
        if group == len(members):
            members.append([])
        members[group].append(place)
    return sorted((group for group in members if len(group) > 1), key=lambda group: (-len(group), group))
