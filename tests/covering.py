"""Few cases of a product in which everything still occurs: what the fast suite runs of a large one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any


def covering(cases: Sequence[Mapping[str, Any]], strength: int) -> list[int]:
    """Numbers of cases in which every value of each parameter occurs; with strength 2, every pair of two values.

    Greedy, so that all processes choose alike; of equal ones the case whose values were chosen least, so that a
    parameter of few values goes round.

    >>> covering([{"host": h, "form": f} for h in "ab" for f in (1, 2, 3)], 1)
    [0, 4, 2]
    """
    values = [tuple((name, repr(value)) for name, value in sorted(case.items())) for case in cases]
    holds = [set(combinations(own, min(strength, len(own)))) for own in values]
    missing = set().union(*holds)
    used: Counter[tuple[str, str]] = Counter()
    chosen = []
    while missing:
        best = min(
            range(len(cases)), key=lambda k: (-len(holds[k] & missing), sum(used[value] for value in values[k]), k)
        )
        chosen.append(best)
        missing -= holds[best]
        used.update(values[best])
    return chosen
