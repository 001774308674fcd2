"""Who is audited against what: the heads of a run, in the roles they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cfalign._audit.reference import reference_of
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition, head, parse
from cfalign._heads.panel import Panel, panel
from cfalign._heads.reference import Reference, judged
from cfalign._types import Classifier

Owner = Classifier | Composition
"""What a user names as audited: a classifier with all of its heads, or one composition."""
Audited = Owner | Sequence[Owner]
MOST = 300
"""Attributes of one audit, every pair of which it looks at."""


@dataclass(frozen=True)
class Subject:
    """The heads of an audit, as labels of its panel."""

    panel: Panel
    bases: tuple[str, ...]
    """Heads that get counterfactuals."""
    audited: tuple[str, ...]
    attributes: tuple[str, ...]
    """Heads that the audited ones are audited against."""
    judges: Mapping[str, str] = field(default_factory=dict)
    """Columns of the judge by attribute; they come last in the panel and are no heads of the run."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Every column of the panel but those of the judge."""
        return tuple(label for label in self.panel.labels if label not in self.judges.values())

    def judged_by(self, judge: Classifier | None) -> Subject:
        """The same subject with the columns of a judge."""
        table, judges = judged(self.panel, self.attributes, judge)
        return replace(self, panel=table, judges=judges)


def owners_of(classifier: Audited) -> list[Owner]:
    """What is audited, each once. Raises BadInput when there is nothing, or two classifiers share a name."""
    owners = list(dict.fromkeys(classifier)) if isinstance(classifier, Sequence) else [classifier]
    if not owners:
        raise BadInput("An audit needs at least one classifier.")
    named: dict[str, Classifier] = {}
    for module in modules_of_owners(owners):
        if named.setdefault(module.name, module) is not module:
            raise BadInput(f"Two classifiers are called {module.name!r}; give them different names (`name=`).")
    return owners


def modules_of_owners(owners: Sequence[Owner]) -> list[Classifier]:
    """The classifiers that the owners need, each once."""
    modules = [m for o in owners for m in (o.classifiers if isinstance(o, Composition) else (o,))]
    return list(dict.fromkeys(modules))


def reference_for(owners: Sequence[Owner], given: Classifier | Reference | None) -> Reference:
    """The reference heads with their judge; a classifier audited against its own heads has the judge of those."""
    if given is not None:
        return reference_of(given)
    modules = modules_of_owners(owners)
    return reference_of(modules[0]) if len(modules) == 1 else Reference(modules[0])


def against_reference(
    owners: Sequence[Owner],
    reference: Classifier,
    *,
    bases: Sequence[str] | None,
    downstream: Sequence[str] | None,
    estimating: bool,
) -> Subject:
    """Audited heads against those of a reference; black boxes are no bases unless gradients are estimated."""
    audited = audited_heads(owners, bases)
    attributes = [head(reference, target) for target in dict.fromkeys(downstream or reference.targets)]
    table = panel(attributes, audited)
    first = table.labels[: len(attributes)]
    names = _labels_of(table, audited)
    able = [n for n in names if n not in first and (estimating or _differentiable(table[n]))]
    return Subject(table, bases=(*first, *able), audited=names, attributes=first)


def against_own_heads(
    owners: Sequence[Owner], *, bases: Sequence[str] | None, downstream: Sequence[str] | None, estimating: bool
) -> Subject:
    """Audited heads against one another, as in the paper. Raises BadInput for a black box that cannot be a base."""
    audited = audited_heads(owners, bases)
    for base in modules_of_owners([composition for _, composition in audited]):
        if not (base.differentiable or estimating):
            raise BadInput(
                f"Classifier {base.name!r} is a black box: no gradient flows through it, so it cannot be a base. Give "
                "a differentiable reference (--reference), audit it through a bank (`cfalign bank`), or let its "
                "gradient be estimated (--estimate)."
            )
    known = {c.name: c for c in modules_of_owners(owners)}
    own = [(c.name, head(c, target)) for c in known.values() for target in c.targets]
    if downstream is not None:
        own = [(c.classifiers[0].name, c) for c in dict.fromkeys(parse(text, known) for text in downstream)]
    table = panel([], [*own, *(pair for pair in audited if pair not in own)])
    names = _labels_of(table, audited)
    return Subject(table, bases=names, audited=names, attributes=names)


def audited_heads(owners: Sequence[Owner], bases: Sequence[str] | None) -> list[tuple[str, Composition]]:
    """(name of the owner, composition) of every audited head: all heads of the owners, or the ``bases``."""
    if bases is not None:
        known = {c.name: c for c in modules_of_owners(owners)}
        parsed = [parse(text, known) for text in bases]
        return [(c.classifiers[0].name, c) for c in dict.fromkeys(parsed)]
    pairs = []
    for owner in owners:
        if isinstance(owner, Composition):
            pairs.append((owner.classifiers[0].name, owner))
        else:
            pairs += [(owner.name, head(owner, target)) for target in owner.targets]
    return pairs


def refuse_many(attributes: Sequence[str], *, instead: str) -> None:
    """Raises BadInput for so many attributes that an audit would not end; ``instead`` says how fewer are named."""
    if len(attributes) > MOST:
        raise BadInput(
            f"An audit looks at every pair of attributes, and {len(attributes)} are too many; expected at most {MOST}: "
            f"{instead}."
        )


def _labels_of(table: Panel, audited: Sequence[tuple[str, Composition]]) -> tuple[str, ...]:
    return tuple(table.labels[table.compositions.index(composition)] for _, composition in audited)


def _differentiable(composition: Composition) -> bool:
    return all(classifier.differentiable for classifier in composition.classifiers)


def roles(
    owners: Sequence[Owner], reference: Classifier | None, judge: Classifier | None
) -> list[tuple[Classifier, str]]:
    """(classifier, role) of everyone who takes part, for ``run.json``."""
    others = ((reference, "reference"), (judge, "judge"))
    audited = [(module, "audited") for module in modules_of_owners(owners)]
    return [*audited, *((module, role) for module, role in others if module is not None)]
