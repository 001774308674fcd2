"""Trusted attribute heads, and a judge of them: an independently trained classifier of the same attributes.

A counterfactual lowers the score of the head it descends; how far the attribute itself moved is another question, since
part of a descent along a gradient fools that head alone. The judge answers it: its scores stand beside those of the
reference heads in every run, tell the share of a change that an independent network follows, and say in the unmixing
by how much every attribute moved. Not in the paper.
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
    """Trusted attribute heads and who watches them, for ``audit``, ``bank`` and ``explain``.

    >>> heads = cfa.classifiers.load("embedded")
    >>> cfa.Reference(heads, judge=cfa.classifiers.load("embedded:oracle"))
    Reference('embedded', judge='oracle')
    """

    classifier: Classifier
    judge: Classifier | None = None
    """An independently trained classifier of the same attributes. Attributes that are no target of it are their own
    judges, as all are without one."""

    def __repr__(self) -> str:
        judge = "" if self.judge is None else f", judge={self.judge.name!r}"
        return f"Reference({self.classifier.name!r}{judge})"


def judged(table: Panel, attributes: Sequence[str], judge: Classifier | None) -> tuple[Panel, dict[str, str]]:
    """The panel with a column of the judge for every attribute that it knows, and those columns' labels by attribute.

    ``attributes``: labels of the panel. BadInput when the judge knows none of them; compositions have no judge.
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
    """The column that says how far each attribute moved: the judge's, or its own."""
    return [judges.get(a, a) for a in attributes]
