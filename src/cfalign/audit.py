"""The audit: the one place that knows the order of the stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cfalign.bank import Bank, consult, kept_strips
from cfalign.composition import Composition, Panel, head, labelled, panel, parse
from cfalign.datasets import open_images
from cfalign.engines.local import Progress, silent
from cfalign.errors import BadInput
from cfalign.findings import Conclusions, conclude
from cfalign.illustrations import Strip, save, shown, walked_again, with_files
from cfalign.isolation import undisturbed
from cfalign.judges import Reference, judged, reference_of
from cfalign.records import Stopwatch, opened, record
from cfalign.results import Cell, Effect, GroupGap
from cfalign.store import Run, write_rows
from cfalign.sweep import AuditOptions, Plan, sweep
from cfalign.types import Autoencoder, Classifier

Audited = Classifier | Composition | Sequence[Classifier | Composition]


def audit(
    images: Any,
    classifier: Audited,
    *,
    autoencoder: Autoencoder | None = None,
    reference: Classifier | Reference | None = None,
    bases: Sequence[str] | None = None,
    downstream: Sequence[str] | None = None,
    options: AuditOptions | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Run:
    """Which features do the audited heads really use?

    Args:
        images: a folder, the spec of a data set (``celeba:FOLDER`` and others, see ``datasets``), a tensor
            [n, c, h, w] in [0, 1], an image source, or a ``Bank``: then neither autoencoder nor reference is given,
            no decoder runs, and the classifier may be any black box.
        classifier: what is audited, one or several.
        autoencoder: any object with ``encode`` and ``decode``.
        reference: the attributes it is audited against; by default its own heads, as in the paper. A ``Reference``
            names an independently trained judge of them too; the embedded heads have the embedded oracle.
        bases: audited heads (or compositions such as ``"smiling + 0.3*young"``) that get counterfactuals; all by
            default.
        downstream: reference heads to look at; all by default. Each gets counterfactuals too when ``reference`` is
            given.
        options: limits, seed, search, statistics.
        out: the run directory; resumed when it holds part of this very run. A temporary folder by default.
        progress: called with (stage, done, total).

    Returns the run: ``matrix()``, ``effects()``, ``findings()``, ``top()``. Raises BadInput for what cannot be used.
    The models are left as they came.
    """
    options = options or AuditOptions()
    owners = list(dict.fromkeys(classifier)) if isinstance(classifier, Sequence) else [classifier]
    _check_names(owners)
    if isinstance(images, Bank):
        if autoencoder is not None or reference is not None or downstream is not None:
            raise BadInput("An audit of a bank takes no autoencoder, reference or downstream: the bank has its own.")
        return _audit_bank(images, owners, bases, options, out or mkdtemp(prefix="cfalign-"), progress)
    if autoencoder is None:
        raise BadInput("An audit of images needs an autoencoder; only an audit of a bank does without.")
    known = _reference(owners, reference)
    subject = _subject(
        owners, None if reference is None else known.classifier, bases, downstream, options.estimate.enabled
    ).watched_by(known.judge)
    source = open_images(images, size=getattr(autoencoder, "size", None))
    plan = Plan(source, subject.panel, subject.bases, subject.attributes, autoencoder, options)
    start = record(
        settings={
            "kind": "audit",
            **plan.settings(),
            "audited": subject.audited,
            "attributes": subject.attributes,
            "judges": subject.judges,
        },
        classifiers=_roles(owners, None if reference is None else known.classifier, known.judge),
        autoencoder=autoencoder,
        source=source,
    )
    out = out or mkdtemp(prefix="cfalign-")
    with opened(out, start) as (run, finish), undisturbed(autoencoder, *subject.panel.classifiers):
        watch = Stopwatch(progress)
        sweep(plan, run, progress=watch)

        def strips(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Strip]:
            return walked_again(
                pairs, run, source, panel=subject.panel, autoencoder=autoencoder, search=options.search,
                estimate=options.estimate, batch=options.batch,
            )  # fmt: skip

        finish({**_conclude(run, subject, options, strips, watch), **watch.spent()})
    return run


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


def _audit_bank(
    bank: Bank,
    owners: Sequence[Classifier | Composition],
    bases: Sequence[str] | None,
    options: AuditOptions,
    out: str | Path,
    progress: Progress,
) -> Run:
    fresh = labelled(_audited(owners, bases), taken=(*bank.heads, *bank.judges.values()))
    options = _with_search_of(bank, options)
    audited = Panel(tuple(fresh), tuple(fresh.values()))
    start = record(
        settings={
            **bank.run.record()["settings"],
            **_conclusion_settings(options),
            "kind": "audit",
            "audited": list(fresh),
        },
        classifiers=_roles(owners, None, None),
        bank=bank.identity(),
    )
    subject = _Subject(
        Panel((*bank.heads, *fresh), ()), bank.attributes, tuple(fresh), bank.attributes, bank.judges
    )  # fmt: skip
    with opened(out, start) as (run, finish), undisturbed(*audited.classifiers):
        watch = Stopwatch(progress)
        consult(bank, audited, run, batch=options.batch, progress=watch)

        def strips(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Strip]:
            return kept_strips(bank, pairs, run, labels=subject.panel.labels)

        finish({**_conclude(run, subject, options, strips, watch), **watch.spent()})
    return run


def _with_search_of(bank: Bank, options: AuditOptions) -> AuditOptions:
    """The options with those of the bank where its images and counterfactuals are meant."""
    made = bank.run.record()["settings"]
    search = replace(options.search, eligible=made["search"]["eligible"])
    return replace(options, both_ways=made["both_ways"], search=search)


def _conclusion_settings(options: AuditOptions) -> dict[str, Any]:
    """What a bank's audit may choose anew: the search is the bank's."""
    chosen = asdict(options)
    return {key: chosen[key] for key in ("seed", "shown", "max_findings", "min_effect", "alignment", "effects")}


def _conclude(
    run: Run,
    subject: _Subject,
    options: AuditOptions,
    strips: Callable[[Sequence[tuple[str, str]]], dict[tuple[str, str], Strip]],
    progress: Progress,
) -> dict[str, Any]:
    """Write matrix, effects, findings and their images; give the rest of ``run.json``."""
    progress("statistics", 0, 1)
    ends: Conclusions = conclude(
        run,
        bases=subject.bases,
        heads=subject.heads,
        audited=subject.audited,
        attributes=subject.attributes,
        judges=subject.judges,
        options=options,
    )
    progress("statistics", 1, 1)
    progress("images", 0, 1)
    files = save(strips(shown(ends.findings)), run, labels=subject.panel.labels)
    write_rows(run.path / "matrix.csv", ends.cells, Cell)
    write_rows(run.path / "effects.csv", ends.effects, Effect)
    write_rows(run.path / "gaps.csv", ends.gaps, GroupGap)
    run.write_findings(with_files(ends.findings, files), ends.relations)
    progress("images", 1, 1)
    counts = ends.counts
    return {
        "heads": list(subject.heads),
        "bases": list(subject.bases),
        "audited": list(subject.audited),
        "attributes": list(subject.attributes),
        "judges": dict(subject.judges),
        **{key: counts[key] for key in ("controls", "outcomes", "exclusions", "drift", "cost", "images", "skipped")},
    }
