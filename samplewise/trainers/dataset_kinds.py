"""What kind of dataset the Trainer was given, without importing the `datasets` library for it.

The Trainer runs without that library, on any sequence of rows; an object of its classes exists only where somebody has
imported it.
"""

from __future__ import annotations

import sys
from typing import Any


def is_table(dataset: Any) -> bool:
    """Whether it is a `datasets.Dataset`: columns on disk or in memory, known by name.

    >>> is_table([{"input_ids": [1, 2]}])
    False
    """
    return isinstance(dataset, _classes("Dataset"))


def is_table_stream(dataset: Any) -> bool:
    """Whether it is a `datasets.IterableDataset`, which can be read from its start again."""
    return isinstance(dataset, _classes("IterableDataset"))


def _classes(name: str) -> tuple[type, ...]:
    """The class of that name; none before the library is imported."""
    found = getattr(sys.modules.get("datasets"), name, None)
    return () if found is None else (found,)
