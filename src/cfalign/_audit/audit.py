"""The audit: the one place that knows the order of the stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cfalign._audit.bank import Bank, consult, kept_strips
from cfalign._audit.conclusions import conclude
from cfalign._audit.options import AuditOptions
from cfalign._audit.pictures import Strip, save, shown, walked_again, with_files
from cfalign._audit.reference import Reference
from cfalign._audit.subject import _audited, _check_names, _reference, _roles, _Subject, _subject
from cfalign._audit.sweep import Plan, sweep
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition
from cfalign._heads.panel import Panel, labelled
from cfalign._models.guard import undisturbed
from cfalign._runs.codec import plain
from cfalign._runs.progress import Progress, silent
from cfalign._runs.record import Stopwatch, opened, record
from cfalign._runs.run import Run
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import open_images

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
    conclusions = conclude(
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
    files = save(strips(shown(conclusions.findings)), run, labels=subject.panel.labels)
    run.write(replace(conclusions, findings=tuple(with_files(conclusions.findings, files))))
    progress("images", 1, 1)
    return {
        "heads": list(subject.heads),
        "bases": list(subject.bases),
        "audited": list(subject.audited),
        "attributes": list(subject.attributes),
        "judges": dict(subject.judges),
        **plain(conclusions.counts),
    }
