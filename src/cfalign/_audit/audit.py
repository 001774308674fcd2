"""The audit: the one place that knows the order of the stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cfalign._audit.bank import OF_A_BANK, Bank, decided_by_bank, kept_strips, seen_in_bank
from cfalign._audit.conclusions import conclude
from cfalign._audit.consulting import consult
from cfalign._audit.kept_regions import split_kept
from cfalign._audit.options import AuditOptions
from cfalign._audit.pictures import ENDS, Strip, extents, save, shown, walked_again, with_files
from cfalign._audit.plan import Plan
from cfalign._audit.preparation import prepared
from cfalign._audit.regions import refuse_unreadable, split
from cfalign._audit.shards import groups_seen
from cfalign._audit.sorted_images import Seen, keep_sorted_images, seen_in
from cfalign._audit.subject import (
    Audited,
    Owner,
    Subject,
    against_own_heads,
    against_reference,
    audited_heads,
    modules_of_owners,
    owners_of,
    reference_for,
    refuse_many,
    roles,
)
from cfalign._audit.sweep import sweep
from cfalign._audit.unnamed import refuse_unknown, seek
from cfalign._audit.witness import Watched, standings
from cfalign._counterfactuals.origins import settled
from cfalign._errors import BadInput
from cfalign._findings import RegionShare, Standing
from cfalign._heads.panel import Panel, labelled
from cfalign._heads.reference import Reference
from cfalign._models.device import on_device
from cfalign._models.fingerprint import fingerprint
from cfalign._models.guard import undisturbed
from cfalign._runs.codec import plain
from cfalign._runs.probes import first_images
from cfalign._runs.progress import Progress, ShowProgress, told_to, with_bars
from cfalign._runs.record import Stopwatch, opened, record
from cfalign._runs.run import FILES, Run
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import open_images
from cfalign.engines import current

Pairs = Sequence[tuple[str, str]]
"""(image id, base)."""
OF_OWN_HEADS = "name the heads to audit by --bases (bases=), and those to look at by --downstream (downstream=)"
OF_A_REFERENCE = "name the reference heads to look at by --downstream (downstream=)"
Strips = Callable[[Pairs], dict[tuple[str, str], Strip]]
"""The strips of some pairs; one that cannot be made is left out."""


@dataclass(frozen=True)
class Drawn:
    """Where the pictures of a run come from."""

    strips: Strips
    seen: Seen


@with_bars
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
    progress: ShowProgress = None,
) -> Run:
    """Which features do the audited heads really use?

    Args:
        images: a folder, the spec of a data set (``celeba:FOLDER`` and others, see ``datasets``), a torch data set or
            loader of images or (image, label), a tensor [n, c, h, w] in [0, 1], an image source, or a ``Bank``: then
            neither autoencoder nor reference is given, no decoder runs, and the classifier may be any black box.
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
        progress: True shows bars; a function is called with (stage, done, total).

    The work runs in this process, or where ``engines.using`` says; an engine that does a part of it leaves the run to
    be finished by another call. Returns the run: ``matrix()``, ``effects()``, ``findings()``, ``top()``. The models are
    left as they came. Raises BadInput for what cannot be used, for a setting that would have no effect, and RunMismatch
    when ``out`` holds another run.

    >>> x = cfa.synthetic.render(cfa.synthetic.sample(40, seed=0))
    >>> clf, ae = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    >>> run = cfa.audit(x, clf, autoencoder=ae, bases=["smiling"], downstream=["smiling", "no_beard"])
    >>> run.matrix()["downstream"].to_list()
    ['smiling', 'no_beard']
    """
    progress = told_to(progress)
    options = options or AuditOptions()
    owners = owners_of(classifier)
    if isinstance(images, Bank):
        if autoencoder is not None or reference is not None or downstream is not None:
            raise BadInput("An audit of a bank takes no autoencoder, reference or downstream: the bank has its own.")
        if options.discovery.features:
            raise BadInput(
                "Unnamed features (discovery.features) are walked along directions that depend on the audited head, "
                "which needs the autoencoder, and an audit of a bank has none: seek them in the images by "
                "cfalign.discover, or audit the images."
            )
        return _audit_bank(images, owners, bases, options, _folder(out), progress)
    if autoencoder is None:
        raise BadInput("An audit of images needs an autoencoder; only an audit of a bank does without.")
    plan, subject, standing, start = _prepared(images, owners, reference, bases, downstream, autoencoder, options)
    models = (autoencoder, *subject.panel.classifiers)
    with on_device(options.device), opened(_folder(out), start) as (run, finish), undisturbed(*models):
        watch = Stopwatch(progress)
        plan, chosen = prepared(plan, run, subject.judges, progress=watch)
        engine = current()
        sweep(plan, run, engine=engine, progress=watch)
        if not engine.part.whole:
            return run

        def strips(pairs: Pairs) -> dict[tuple[str, str], Strip]:
            ends = extents(run.counterfactuals(ENDS))
            panel, settings = subject.panel, plan.walk_settings
            return walked_again(pairs, ends, plan.source, panel=panel, autoencoder=plan.autoencoder, settings=settings)

        drawn = Drawn(strips, seen_in(plan.source))
        concluded = _conclude(run, subject, standing, options, drawn, watch)
        wanted = options.regions.spec is not None and not (run.path / FILES[RegionShare]).is_file()
        split(run, plan, subject, seek(run, plan, subject, watch, again=wanted), watch)
        finish({**concluded, **chosen, **watch.spent()})
    return run


def _folder(out: str | Path | None) -> str | Path:
    return mkdtemp(prefix="cfalign-") if out is None else out


def _prepared(
    images: Any,
    owners: Sequence[Owner],
    reference: Classifier | Reference | None,
    bases: Sequence[str] | None,
    downstream: Sequence[str] | None,
    autoencoder: Autoencoder,
    options: AuditOptions,
) -> tuple[Plan, Subject, dict[str, Standing], dict[str, Any]]:
    """What is swept, who is audited, what their effects rest on, and the identity of the run."""
    known = reference_for(owners, reference)
    heads = None if reference is None else known.classifier
    wanted: dict[str, Any] = {"bases": bases, "downstream": downstream, "estimating": options.without_gradients}
    alone = against_own_heads(owners, **wanted) if heads is None else against_reference(owners, heads, **wanted)
    subject = alone.judged_by(known.judge)
    refuse_many(subject.attributes, instead=OF_OWN_HEADS if heads is None else OF_A_REFERENCE)
    source = open_images(images, size=getattr(autoencoder, "size", None))
    options = replace(options, search=settled(options.search, autoencoder))
    plan = Plan(source, subject.panel, subject.bases, subject.attributes, autoencoder, options)
    if options.discovery.features:
        refuse_unknown(source, subject)
    refuse_unreadable(options.regions.spec)
    whom = {"audited": subject.audited, "attributes": subject.attributes, "judges": subject.judges}
    start = record(
        settings={"kind": "audit", **plan.settings(), **whom},
        classifiers=roles(owners, heads, known.judge),
        autoencoder=autoencoder,
        source=source,
        images=first_images(source),
        batch=options.batch,
    )
    return plan, subject, _standings(subject, known, owners if heads is None else ()), start


def _standings(subject: Subject, known: Reference, owners: Sequence[Owner]) -> dict[str, Standing]:
    """What the effects of the audited heads rest on. ``owners``: those that are audited against their own heads."""
    networks = [known.classifier, *modules_of_owners(owners), *([known.judge] if known.judge else [])]
    prints = {network: fingerprint(network) for network in dict.fromkeys(networks)}
    attributes = []
    for label in subject.attributes:
        head = subject.panel[label].terms[0][1]
        judge = prints[known.judge] if known.judge and label in subject.judges else None
        attributes.append(Watched(head.target, prints[head.classifier], judge))
    audited = {label: subject.panel[label] for label in subject.audited}
    return standings(audited, attributes, known=known.classifier.targets)


def _audit_bank(
    bank: Bank,
    owners: Sequence[Owner],
    bases: Sequence[str] | None,
    options: AuditOptions,
    out: str | Path,
    progress: Progress,
) -> Run:
    refuse_many(bank.attributes, instead=OF_A_BANK)
    refuse_unreadable(options.regions.spec)
    fresh = labelled(audited_heads(owners, bases), taken=(*bank.heads, *bank.judges.values()))
    made = bank.run.record()["settings"]
    options = decided_by_bank(made, options)
    audited = Panel(tuple(fresh), tuple(fresh.values()))
    start = record(
        settings={**made, **_conclusion_settings(options), "kind": "audit", "audited": list(fresh)},
        classifiers=roles(owners, None, None),
        bank=bank.identity(),
        images=bank.first_images(),
        batch=options.batch,
    )
    start |= {**bank.inventory(), "bank": bank.made_from()}
    start["data"] |= bank.groups()
    panel = Panel((*bank.heads, *fresh), ())
    subject = Subject(panel, bank.attributes, tuple(fresh), bank.attributes, bank.judges)
    standing = standings(fresh, bank.watched, known=bank.heads)
    with on_device(options.device), opened(out, start) as (run, finish), undisturbed(*audited.classifiers):
        watch = Stopwatch(progress)
        engine = current()
        consult(bank, audited, run, batch=options.batch, engine=engine, progress=watch)
        if not engine.part.whole:
            return run

        def strips(pairs: Pairs) -> dict[tuple[str, str], Strip]:
            return kept_strips(bank, pairs, run, labels=panel.labels)

        drawn = Drawn(strips, partial(seen_in_bank, bank))
        methods = {key: value for key, value in bank.run.record().items() if key == "methods"}
        concluded = _conclude(run, subject, standing, options, drawn, watch)
        split_kept(run, bank, audited, options, watch)
        finish({**concluded, **methods, **watch.spent()})
    return run


def _conclusion_settings(options: AuditOptions) -> dict[str, Any]:
    """What an audit of a bank may choose anew: the search is the bank's."""
    chosen = asdict(options)
    numbers = ("max_findings", "min_effect", "min_response", "alignment", "effects")
    regions = {} if options.regions.spec is None else {"regions": chosen["regions"]}
    return {key: chosen[key] for key in ("seed", "shown", *numbers)} | regions


def _conclude(
    run: Run,
    subject: Subject,
    standing: Mapping[str, Standing],
    options: AuditOptions,
    drawn: Drawn,
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
        standings=standing,
        options=options,
    )
    progress("statistics", 1, 1)
    progress("images", 0, 1)
    files = save(drawn.strips(shown(conclusions.findings)), run, labels=subject.panel.labels)
    run.write(replace(conclusions, findings=tuple(with_files(conclusions.findings, files))))
    if options.shown:
        keep_sorted_images(run, subject.audited, drawn.seen)
    progress("images", 1, 1)
    return {
        "heads": list(subject.heads),
        "bases": list(subject.bases),
        "audited": list(subject.audited),
        "attributes": list(subject.attributes),
        "judges": dict(subject.judges),
        **groups_seen(run.scores()),
        **plain(conclusions.counts),
    }
