"""The names in a run's tables: columns of ``scores``, ``responses`` and ``curves``, and labels in the column ``base``.

A score stands in the column ``<where>.<head>``, such as ``after.smiling``. The base of a counterfactual that raises an
attribute is called ``not <attribute>``: its score is what the attribute lacks to 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Column(StrEnum):
    """On which image a head was scored: the first part of a column's name."""

    IMAGE = "image"
    """In ``scores``: the image x."""
    RECONSTRUCTION = "reconstruction"
    """In ``scores``: x0, where walks start: the reconstruction, or the image itself where its residual stays."""
    BEFORE = "before"
    """In ``responses``: x0, the same as ``RECONSTRUCTION`` in ``scores``."""
    AFTER = "after"
    """In ``responses``: the counterfactual x_λ."""
    NULL = "null"
    """In ``responses``: the control of x_λ, as far from x0 in a random direction."""
    OFF = "off"
    """In ``responses``: the counterfactual on which the attribute counts as switched, for the effects."""
    OFF_NULL = "off_null"
    """In ``responses``: the control of that one."""
    WALK = "score"
    """In ``curves``: a step between x0 and x_λ."""

    def of(self, head: str) -> str:
        """The column of one head.

        >>> Column.AFTER.of("smiling")
        'after.smiling'
        """
        return f"{self.value}.{head}"

    def columns(self, heads: Iterable[str]) -> list[str]:
        """The columns of several heads, in their order."""
        return [self.of(head) for head in heads]

    def heads(self, columns: Iterable[str]) -> list[str]:
        """The heads that have such a column, in the order of ``columns``."""
        start = self.of("")
        return [column.removeprefix(start) for column in columns if column.startswith(start)]


GROUP = "group"
"""In ``scores``: the person, or other group, of an image; only where the images of a run have groups."""
RAISED = "not "
"""How the label of a base begins whose counterfactuals raise an attribute."""


def raised_label(attribute: str) -> str:
    """The base of the counterfactuals that raise an attribute."""
    return f"{RAISED}{attribute}"


def attribute_of(base: str) -> str:
    """The attribute that a base lowers or raises: the label without its ``not``."""
    return base.removeprefix(RAISED)
