"""Who is audited against what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cfalign._audit.reference import Reference, judged, reference_of
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition, head, parse
from cfalign._heads.panel import Panel, panel
from cfalign._types import Classifier


@dataclass(frozen=True)
class _Subject:
    """Who is audited against what."""

    panel: Panel
    bases: tuple[str, ...]
    audited: tuple[str, ...]
    attributes: tuple[str, ...]
    judges: Mapping[str, str] = field(default_factory=dict)
    """Columns of the judge by attribute; they come last in the panel and are no heads of the run."""

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(label for label in self.panel.labels if label not in self.judges.values())

    def watched_by(self, judge: Classifier | None) -> _Subject:
        table, judges = judged(self.panel, self.attributes, judge)
        return replace(self, panel=table, judges=judges)


def _reference(owners: Sequence[Classifier | Composition], given: Classifier | Reference | None) -> Reference:
    """The reference heads with their judge; a classifier audited against its own heads has the judge of those."""
    if given is not None:
        return reference_of(given)
    first = _modules(owners)[0]
    return reference_of(first) if len(dict.fromkeys(_modules(owners))) == 1 else Reference(first, None)


def _subject(
    owners: Sequence[Classifier | Composition],
    reference: Classifier | None,
    bases: Sequence[str] | None,
    downstream: Sequence[str] | None,
    estimating: bool,
) -> _Subject:
    audited = _audited(owners, bases)
    if reference is not None:
        attributes = [head(reference, t) for t in dict.fromkeys(downstream or reference.targets)]
        table = panel(attributes, audited)
        names = _labels_of(table, [c for _, c in audited])
        able = [
            n
            for n in names
            if (estimating or all(c.differentiable for c in table[n].classifiers))
            and n not in table.labels[: len(attributes)]
        ]
        first = table.labels[: len(attributes)]
        return _Subject(table, (*first, *able), names, first)
    for base in (c for _, composition in audited for c in composition.classifiers):
        if not (base.differentiable or estimating):
            raise BadInput(
                f"Classifier {base.name!r} is a black box: no gradient flows through it, so it cannot be a base. Give "
                "a differentiable reference (--reference), audit it through a bank (`cfalign bank`), or let its "
                "gradient be estimated (--estimate)."
            )
    known = {c.name: c for c in _modules(owners)}
    own = [(c.name, head(c, t)) for c in known.values() for t in c.targets]
    if downstream is not None:
        own = [(c.classifiers[0].name, c) for c in dict.fromkeys(parse(text, known) for text in downstream)]
    table = panel([], [*own, *(pair for pair in audited if pair not in own)])
    names = _labels_of(table, [c for _, c in audited])
    return _Subject(table, names, names, names)


def _check_names(owners: Sequence[Classifier | Composition]) -> None:
    """BadInput when there is nothing to audit, or two different classifiers answer to one name."""
    if not owners:
        raise BadInput("An audit needs at least one classifier.")
    named: dict[str, Classifier] = {}
    for classifier in _modules(owners):
        if named.setdefault(classifier.name, classifier) is not classifier:
            raise BadInput(f"Two classifiers are called {classifier.name!r}; give them different names (`name=`).")


def _modules(owners: Sequence[Classifier | Composition]) -> list[Classifier]:
    return [m for o in owners for m in (o.classifiers if isinstance(o, Composition) else (o,))]


def _audited(owners: Sequence[Classifier | Composition], bases: Sequence[str] | None) -> list[tuple[str, Composition]]:
    """(owner, composition) of every audited head."""
    if bases is not None:
        known = {c.name: c for c in _modules(owners)}
        parsed = [parse(text, known) for text in bases]
        return [(c.classifiers[0].name, c) for c in dict.fromkeys(parsed)]
    pairs = []
    for owner in owners:
        if isinstance(owner, Composition):
            pairs.append((owner.classifiers[0].name, owner))
        else:
            pairs += [(owner.name, head(owner, target)) for target in owner.targets]
    return pairs


def _labels_of(table: Panel, compositions: Sequence[Composition]) -> tuple[str, ...]:
    return tuple(table.labels[table.compositions.index(c)] for c in compositions)


def _roles(
    owners: Sequence[Classifier | Composition], reference: Classifier | None, judge: Classifier | None
) -> list[tuple[Classifier, str]]:
    modules = [(m, "audited") for m in dict.fromkeys(_modules(owners))]
    others = ((reference, "reference"), (judge, "judge"))
    return [*modules, *((m, role) for m, role in others if m is not None)]
