"""Columns of labels from the rows of a data set that brings its own: numbers, texts and classes by name."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from cfalign.datasets.label_tables import target_name

MOST_CLASSES = 256
"""Classes that become a column each; a column of more is kept as text."""
LONGEST = 64
"""Characters of a text that is kept; captions are not labels."""
_LARGEST = 10**LONGEST
_BARE = ("0", "1", "no", "yes", "false", "true", "negative", "positive", "absent", "present", "neg", "pos")


def as_text(value: Any) -> str | None:
    """A cell of a table; None for a missing value, NaN, a text above ``LONGEST``, and a list or an object."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) > _LARGEST:
        return None
    if isinstance(value, int | float):
        return None if math.isnan(value) else f"{value:g}" if abs(value) <= 1 else str(value)
    if isinstance(value, str) and len(value) <= LONGEST:
        return sys.intern(value.encode("utf-8", "backslashreplace").decode("utf-8"))
    return None


def class_columns(
    column: str, found: Sequence[Sequence[int] | None], names: Sequence[str]
) -> dict[str, list[str | None]]:
    """Classes by index as columns of 0/1: one per class, or a single one where there are two.

    ``found`` holds the classes of every image (None: unknown). The single column is named after the second class, or
    after ``column`` where the class says no more than "yes". A class that is a mere number is named after both.
    """
    if len(names) > MOST_CLASSES:
        return {column: [None if f is None else ", ".join(names[i] for i in f) for f in found]}
    titles = [
        f"{column}_{name}" if target_name(name).isdigit() else name or f"{column}_{i}" for i, name in enumerate(names)
    ]
    wanted = range(len(names))
    if len(names) == 2 and all(f is None or len(f) == 1 for f in found):
        titles, wanted = [titles[0], column if target_name(names[1]) in _BARE else titles[1]], range(1, 2)
    return {titles[i]: [None if f is None else "1" if i in f else "0" for f in found] for i in wanted}
