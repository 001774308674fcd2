"""The detectors that the benchmark compares: ways to tell which attributes a classifier uses, on the same faces.

A *subject* is one classifier of a target that may have learnt a shortcut. All subjects of one target and shortcut are
audited together. Every attribute of every subject gives one ``AuditedPair``: the truth and the value of each detector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._counterfactuals.batch import Batch, Models, pairs_of
from cfalign._counterfactuals.gradient import find_rays
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.origins import Origins, origins
from cfalign._explanation.saliency import attributions, similarity
from cfalign._heads.composition import Composition, head
from cfalign._heads.reference import Reference
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._results import Effect, Floats
from cfalign._runs.columns import Column
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run
from cfalign._types import Autoencoder, Classifier
from cfalign.benchmarks.detection.options import CORRELATION, Effort
from cfalign.benchmarks.detection.result import AuditedPair
from cfalign.benchmarks.true_effects import true_effects
from cfalign.datasets import TensorImages
from cfalign.synthetic import ATTRIBUTES, DERIVED, INTERVENABLE, Faces, render, sample

MAPS = {
    "input gradient": "saliency_gradient",
    "integrated gradients": "saliency_integrated",
    "guided backprop": "saliency_guided",
}
"""Method of saliency maps → its detector."""
OUTGOING = {
    "psi": "outgoing",
    "ratio_of_means": "outgoing_ratio",
    "median": "outgoing_median",
    "psi_logit": "outgoing_logit",
}
"""Column of the alignment matrix → its detector."""


@dataclass(frozen=True)
class PlantedClassifier:
    """A classifier, and the dose of the shortcut that was planted in it."""

    name: str
    classifier: Classifier
    dose: float
    """Correlation of target and shortcut in its training."""
    seed: int


@dataclass(frozen=True)
class ShortcutFaces:
    """Faces on which a target and its shortcut are correlated, and the subjects that are audited on them."""

    target: str
    shortcut: str
    subjects: tuple[PlantedClassifier, ...]
    faces: Faces
    seed: int

    @classmethod
    def drawn(
        cls, target: str, shortcut: str, subjects: Sequence[PlantedClassifier], *, faces: int, seed: int
    ) -> ShortcutFaces:
        """Draw faces on which target and shortcut are correlated at ``CORRELATION``."""
        together = {(target, shortcut): CORRELATION}
        return cls(target, shortcut, tuple(subjects), sample(faces, seed=seed, correlations=together), seed)

    @property
    def title(self) -> str:
        """``TARGET_from_SHORTCUT``."""
        return f"{self.target}_from_{self.shortcut}"

    @property
    def classifiers(self) -> list[Classifier]:
        """The classifiers of the subjects."""
        return [subject.classifier for subject in self.subjects]


def detect(
    confounded: ShortcutFaces,
    *,
    reference: Reference,
    autoencoder: Autoencoder,
    effort: Effort,
    truth: Callable[[], Mapping[str, Floats]],
    out: Path,
    progress: Progress = silent,
) -> list[AuditedPair]:
    """Audit all subjects in ``out``, and apply the other detectors to the same faces.

    ``truth``: by subject, true effects over faces with independent attributes, in the order of ``INTERVENABLE``.
    """
    images = render(confounded.faces)
    options = AuditOptions(limit=effort.limit, seed=confounded.seed, shown=0)
    run = audit(
        TensorImages(images),
        confounded.classifiers,
        reference=reference,
        autoencoder=autoencoder,
        options=options,
        out=out,
        progress=progress,
    )
    attributes = _attributes(reference.classifier, confounded.target)
    progress("truth", 0, 1)
    truths = _truths(confounded, attributes, truth(), effort)
    progress("truth", 1, 1)
    readings = _readings(run, attributes) | _correlations(run, confounded, attributes)
    heads = [head(classifier, confounded.target) for classifier in confounded.classifiers]
    concepts = [head(reference.classifier, attribute) for attribute in attributes]
    progress("maps", 0, 1)
    readings |= _maps(images[: effort.maps], heads, concepts)
    readings["tcav"] = derivatives(images, heads, concepts, autoencoder, effort.derivatives)
    progress("maps", 1, 1)
    return _pairs(confounded, attributes, truths | readings)


def _attributes(reference: Classifier, target: str) -> list[str]:
    """Attributes that the reference knows and interventions can set, except the target and derived attributes."""
    known = [a for a in INTERVENABLE if a in reference.targets and a not in DERIVED]
    return [a for a in known if a != target]


def _truths(
    confounded: ShortcutFaces, attributes: Sequence[str], independent: Mapping[str, Floats], effort: Effort
) -> dict[str, Floats]:
    """Both truths, each [subject, attribute]."""
    chosen = [INTERVENABLE.index(attribute) for attribute in attributes]
    here = true_effects(confounded.classifiers, confounded.faces[: effort.interventions_here])
    known = np.stack([independent[subject.name] for subject in confounded.subjects])
    return {"truth": known[:, chosen], "truth_here": here[:, chosen]}


def _pairs(confounded: ShortcutFaces, attributes: Sequence[str], tables: Mapping[str, Floats]) -> list[AuditedPair]:
    rows = []
    for i, subject in enumerate(confounded.subjects):
        for j, attribute in enumerate(attributes):
            numbers = {name: float(table[i, j]) for name, table in tables.items()}
            pair = AuditedPair(
                classifier=subject.name,
                target=confounded.target,
                shortcut=confounded.shortcut,
                dose=subject.dose,
                seed=subject.seed,
                attribute=attribute,
                **numbers,
            )
            rows.append(pair)
    return rows


def _readings(run: Run, attributes: Sequence[str]) -> dict[str, Floats]:
    """Readings of the audit, each [subject, attribute]."""
    audited = run.record()["audited"]
    effects = {(effect.audited, effect.attribute): effect for effect in run.rows(Effect)}
    cells = {(cell.base, cell.downstream): cell for cell in run.cells()}

    def table(rows: Mapping[tuple[str, str], object], name: str) -> Floats:
        found = [[getattr(rows[label, attribute], name) for attribute in attributes] for label in audited]
        return np.array(found, dtype=np.float64)

    found = {name: table(effects, name) for name in ("effect", "ci_low", "ci_high", "q", "incoming")}
    found |= {name: table(cells, column) for column, name in OUTGOING.items()}
    return found | {"outgoing_q": table(cells, "q")}


def _correlations(run: Run, confounded: ShortcutFaces, attributes: Sequence[str]) -> dict[str, Floats]:
    """Correlations of the audited head's score with the reference heads', and of labels, each [subject, attribute]."""
    scores, labels = run.scores(), confounded.faces.labels().numpy()
    both = (run.record()["audited"], attributes)
    mine, theirs = (scores.select(Column.RECONSTRUCTION.columns(names)).to_numpy() for names in both)
    subjects = mine.shape[1]
    by_score = np.corrcoef(mine.T, theirs.T)[:subjects, subjects:]
    columns = [ATTRIBUTES.index(name) for name in (confounded.target, *attributes)]
    by_label = np.corrcoef(labels[:, columns].T)[:1, 1:]
    return {"prediction_correlation": by_score, "label_correlation": np.repeat(by_label, subjects, axis=0)}


def _maps(images: Tensor, heads: Sequence[Composition], concepts: Sequence[Composition]) -> dict[str, Floats]:
    """By method: cosine of saliency maps, [subject, attribute]; NaN without images."""
    if not len(images):
        return {name: np.full((len(heads), len(concepts)), np.nan) for name in MAPS.values()}
    mine, theirs = ([_map(images, base) for base in side] for side in (heads, concepts))
    found = {}
    for method, name in MAPS.items():
        both = (torch.stack([maps[method] for maps in side]) for side in (mine, theirs))
        found[name] = similarity(*both)[0].numpy()
    return found


def _map(images: Tensor, base: Composition) -> dict[str, Tensor]:
    """By method: mean absolute attribution over the channels, [image, h, w]."""
    return {method: found.abs().mean(dim=1) for method, found in attributions(images, base).items()}


def derivatives(
    images: Tensor, heads: Sequence[Composition], concepts: Sequence[Composition], autoencoder: Autoencoder, count: int
) -> Floats:
    """Directional derivatives of the audited logits along concepts, as TCAV (Kim et al. 2018) takes them in a layer.

    The layer is the autoencoder's latent. Mean over ``count`` images of ⟨∂logit/∂z, concept⟩ per standard deviation of
    the logit, [subject, attribute].
    """
    owners = list(dict.fromkeys(c for base in (*heads, *concepts) for c in base.classifiers))
    with undisturbed(autoencoder, *owners):
        start = origins(images, autoencoder, search=SearchOptions(residual="dropped"))
        directions = _concept_directions(start.latents, start.images, concepts)
        some = start[torch.arange(count)]
        rows = [_derivative(some, base, directions, autoencoder) for base in heads]
    return np.stack(rows)


def _concept_directions(z: Tensor, x0: Tensor, concepts: Sequence[Composition]) -> Tensor:
    """Unit directions in the latent, [latent, attribute].

    The direction of an attribute is the ridge solution that separates the images on which its reference head predicts
    it from the others.
    """
    flat = (z - z.mean(dim=0)).flatten(1).double()
    predicted = (respond(x0, [concepts[0].classifiers[0]]) > 0).double()
    labels = predicted[:, [base.terms[0][1].index for base in concepts]]
    ridge = len(flat) * 0.01 * flat.var() * torch.eye(flat.shape[1], dtype=torch.float64, device=flat.device)
    found = torch.linalg.solve(flat.T @ flat + ridge, flat.T @ (labels - labels.mean(dim=0)))
    directions: Tensor = found / found.norm(dim=0).clamp_min(1e-12)
    return directions


def _derivative(start: Origins, base: Composition, directions: Tensor, autoencoder: Autoencoder) -> Floats:
    """Mean derivative of one head along each direction, in standard deviations of its logit, [attribute]."""
    models = Models(autoencoder, base.classifiers)
    rays = find_rays(Batch(start, pairs_of(base, count=len(start)), models))
    gradient = -rays.direction.flatten(1).cpu().double() * torch.from_numpy(rays.start.slope)[:, None]
    spread = max(float(np.std(rays.start.value)), 1e-6)
    found: Floats = (gradient @ directions.cpu()).mean(dim=0).numpy() / spread
    return found
