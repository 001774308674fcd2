"""Unnamed features without a whole audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cfalign._audit.options import AuditOptions
from cfalign._audit.plan import order_of
from cfalign._audit.reference import reference_of
from cfalign._audit.subject import Audited, against_reference, owners_of, refuse_many, roles
from cfalign._audit.unnamed import refuse_unknown, sought_in, write_features
from cfalign._counterfactuals.origins import settled
from cfalign._discovery.options import DiscoveryOptions
from cfalign._findings import UnnamedFeature
from cfalign._heads.reference import Reference
from cfalign._models.guard import undisturbed
from cfalign._runs.probes import first_images
from cfalign._runs.progress import ShowProgress, told_to, with_bars
from cfalign._runs.record import opened, record
from cfalign._runs.unnamed import UNNAMED_FOLDER, has_unnamed, read_unnamed
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import open_images


@with_bars
def discover(
    images: Any,
    classifier: Audited,
    *,
    autoencoder: Autoencoder,
    reference: Classifier | Reference,
    downstream: Sequence[str] | None = None,
    options: DiscoveryOptions | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: ShowProgress = None,
) -> tuple[UnnamedFeature, ...]:
    """What does a classifier react to although no reference head names it? The same as ``audit`` with ``discovery``
    finds, without its other steps.

    Args:
        images: at least 64, as for ``audit``: a folder, the spec of a data set, a torch data set or loader, a tensor
            [n, c, h, w] in [0, 1], or an image source.
        classifier: what is audited, one or several, or compositions. No gradient is needed: black boxes are as good.
        autoencoder: any object with ``encode`` and ``decode``.
        reference: the heads of what is known; other ones than those of the classifier. The judge of a ``Reference``
            explains too.
        downstream: reference heads that count as known; all by default.
        options: how many features, one by default, and how they are sought.
        seed: draws the order of the images, random directions and resamples; that of the audit.
        out: a folder that keeps the pictures of the features, and what ``name_feature`` learns from; it is read where
            it holds this very search. Without it ``files`` and ``difference`` are empty.
        progress: True shows bars; a function is called with (stage, done, total).

    Returns the features, those of each audited head by number, whether they count (``found``) or not. Paths are
    relative to ``out``. Raises BadInput for too few images and where the reference is the classifier itself, and
    RunMismatch where ``out`` holds something else.

    >>> x = cfa.synthetic.render(cfa.synthetic.sample(80, seed=0))
    >>> clf = cfa.classifiers.load("embedded:big_lips_from_eyeglasses")
    >>> ref, ae = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    >>> options = cfa.DiscoveryOptions(images=80, looks=4, controls=4)
    >>> known = ["big_lips", "smiling"]
    >>> (feature,) = cfa.discover(x, clf, autoencoder=ae, reference=ref, downstream=known, options=options)
    >>> feature.audited, feature.number, feature.n, len(feature.highest)
    ('big_lips_from_eyeglasses:big_lips', 1, 40, 4)
    """
    progress, chosen = told_to(progress), options or DiscoveryOptions()
    chosen = replace(chosen, features=max(1, chosen.features))
    every = AuditOptions(seed=seed, discovery=chosen)
    every = replace(every, search=settled(every.search, autoencoder))
    owners, known = owners_of(classifier), reference_of(reference)
    alone = against_reference(owners, known.classifier, bases=None, downstream=downstream, estimating=False)
    subject = alone.judged_by(known.judge)
    refuse_many(subject.attributes, instead="name the reference heads that count as known by downstream=")
    source = open_images(images, size=getattr(autoencoder, "size", None))
    refuse_unknown(source, subject)
    given: dict[str, Any] = {"autoencoder": autoencoder, "options": every}
    given |= {"positions": order_of(source, seed)[: chosen.images].tolist(), "progress": progress}
    with undisturbed(autoencoder, *subject.panel.classifiers):
        if out is None:
            return sought_in(source, subject, **given).discovery.features
        whom = {"audited": subject.audited, "attributes": subject.attributes, "judges": subject.judges}
        searched = {"seed": seed, "search": asdict(every.search), "discovery": asdict(chosen)}
        start = record(
            settings={"kind": "discovery", **searched, **whom},
            classifiers=roles(owners, known.classifier, known.judge),
            autoencoder=autoencoder,
            source=source,
            images=first_images(source),
            batch=every.batch,
        )
        with opened(out, start) as (run, finish):
            if not has_unnamed(run.path):
                sought = sought_in(source, subject, folder=run.path / UNNAMED_FOLDER, **given)
                write_features(run, sought, seed, progress)
            finish({})
        return read_unnamed(run.path)
