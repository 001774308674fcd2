"""Trusted attribute heads, and a judge of them: an independently trained classifier of the same attributes.

A counterfactual lowers the score of its base, but part of that change fools this head alone. The judge measures how far
the attribute itself moved: its scores stand beside those of the reference heads in every run, give the share of a
change that an independent network follows, and tell the unmixing by how much every attribute moved. Not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cfalign._errors import BadInput
from cfalign._heads.composition import Composition, head
from cfalign._heads.panel import Panel
from cfalign._types import Classifier


@dataclass(frozen=True)
class Reference:
    """Trusted attribute heads and an independent judge of them, for ``audit``, ``bank`` and ``explain``.

    >>> heads = cfa.classifiers.load("embedded")
    >>> cfa.Reference(heads, judge=cfa.classifiers.load("embedded:oracle"))
    Reference('embedded', judge='oracle')
    """

    classifier: Classifier
    judge: Classifier | None = None
    """An independently trained classifier of the same attributes. An attribute that is no target of it is judged by its
    own reference head, and so are all attributes without a judge."""

    def __repr__(self) -> str:
        judge = "" if self.judge is None else f", judge={self.judge.name!r}"
        return f"Reference({self.classifier.name!r}{judge})"


def judged(table: Panel, attributes: Sequence[str], judge: Classifier | None) -> tuple[Panel, dict[str, str]]:
    """The panel with a column of the judge for every attribute that the judge knows, and their labels by attribute.

    ``attributes``: labels of the panel; compositions have no judge. Raises BadInput when the judge knows no attribute.
    """
    if judge is None or not any(table[label].is_head for label in attributes):
        return table, {}
    columns: dict[str, Composition] = {}
    of: dict[str, str] = {}
    for label in attributes:
        composition = table[label]
        if composition.is_head and (target := composition.terms[0][1].target) in judge.targets:
            of[label] = f"judge:{label}"
            columns[of[label]] = head(judge, target)
    if not of:
        raise BadInput(
            f"The judge {judge.name!r} knows none of the attributes ({', '.join(attributes[:3])}, …); expected targets "
            f"of the same names, got {', '.join(judge.targets[:3])}, …."
        )
    if taken := set(columns) & set(table.labels):
        raise BadInput(f"Two heads are called {min(taken)!r}: give the audited classifier another name than 'judge'.")
    return Panel((*table.labels, *columns), (*table.compositions, *columns.values())), of


def witnesses(attributes: Sequence[str], judges: Mapping[str, str]) -> list[str]:
    """The column that tells how far each attribute moved: the judge's, or the attribute's own."""
    return [judges.get(a, a) for a in attributes]
