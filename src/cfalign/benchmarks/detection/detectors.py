"""Every way of telling what a classifier uses, on the same confounded faces: what ``detection`` compares.

A *subject* is one classifier with a target that may have learnt a shortcut. All subjects of one target and shortcut are
audited together; for every attribute of every subject there is one ``Pair`` with the truth and what each detector says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._audit.reference import Reference
from cfalign._counterfactuals.batch import Pairs, reconstruct
from cfalign._counterfactuals.gradient import find_rays
from cfalign._explanation.saliency import attributions, similarity
from cfalign._heads.composition import Composition, head
from cfalign._heads.panel import weights
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._results import Floats
from cfalign._runs.columns import Column
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import TensorImages
from cfalign.synthetic import ATTRIBUTES, DERIVED, INTERVENABLE, Faces, effect, render, sample

MAPS = {
    "input gradient": "saliency_gradient",
    "integrated gradients": "saliency_integrated",
    "guided backprop": "saliency_guided",
}
OUTGOING = {"psi": "outgoing", "ratio_of_means": "outgoing_ratio", "median": "outgoing_median",
            "psi_logit": "outgoing_logit"}  # fmt: skip
DETECTORS = (
    "effect", "incoming", *OUTGOING.values(), "prediction_correlation", "label_correlation", *MAPS.values(), "tcav",
)  # fmt: skip
"""Effect (unmixed), incoming ψ, outgoing ψ by each estimator, correlation of the audited head's prediction with that of
the attribute's head, of the labels, cosine of saliency maps by three methods, directional derivatives along concepts.
"""


@dataclass(frozen=True)
class Subject:
    """A classifier and what was planted in it."""

    name: str
    classifier: Classifier
    dose: float
    """Correlation of target and shortcut in its training."""
    seed: int


@dataclass(frozen=True)
class Scene:
    """All subjects of one target and shortcut, and the faces they are looked at on."""

    target: str
    shortcut: str
    subjects: tuple[Subject, ...]
    faces: Faces
    """Target and shortcut go together on them."""
    seed: int

    @property
    def title(self) -> str:
        return f"{self.target}_from_{self.shortcut}"


@dataclass(frozen=True)
class Pair:
    """One subject and one attribute that it is not meant to see; detectors are NaN where undefined."""

    classifier: str
    target: str
    shortcut: str
    dose: float
    seed: int
    attribute: str
    truth: float
    """Effect by intervention over faces with independent attributes."""
    truth_here: float
    """The same over faces distributed as the audited images."""
    effect: float
    ci_low: float
    ci_high: float
    q: float
    incoming: float
    outgoing: float
    outgoing_ratio: float
    outgoing_median: float
    outgoing_logit: float
    outgoing_q: float
    prediction_correlation: float
    label_correlation: float
    saliency_gradient: float
    saliency_integrated: float
    saliency_guided: float
    tcav: float

    @property
    def planted(self) -> bool:
        """Whether the attribute is the shortcut."""
        return self.attribute == self.shortcut

    def kind(self, used: float) -> str:
        """``used``, ``correlated`` (with the target on the images, but not used), or ``neither``."""
        return "used" if abs(self.truth) > used else "correlated" if self.planted else "neither"


@dataclass(frozen=True)
class Effort:
    """How much is spent on each."""

    limit: int = 40
    """Counterfactuals per head and way."""
    faces: int = 1200
    interventions: int = 50
    """Faces with independent attributes for the truth."""
    interventions_here: int = 100
    """Confounded ones for the truth over faces as audited."""
    maps: int = 8
    """Images that saliency maps are made of; 0 leaves the maps out."""
    derivatives: int = 32
    """Images for directional derivatives."""


def scene(
    target: str, shortcut: str, subjects: Sequence[Subject], *, correlation: float, faces: int, seed: int
) -> Scene:
    """Faces on which target and shortcut go together."""
    drawn = sample(faces, seed=seed, correlations={(target, shortcut): correlation})
    return Scene(target, shortcut, tuple(subjects), drawn, seed)


def measured(
    work: Scene,
    *,
    reference: Reference,
    autoencoder: Autoencoder,
    effort: Effort,
    truth: Callable[[], Mapping[str, Floats]],
    out: Path,
    progress: Progress = silent,
) -> list[Pair]:
    """Audit all subjects of a scene in ``out``, and let the other detectors look at the same faces.

    ``truth``: by subject, effects over independent faces in the order of ``INTERVENABLE``, as ``true_effects`` gives.
    """
    images = render(work.faces)
    models = [s.classifier for s in work.subjects]
    run = audit(
        TensorImages(images), models, reference=reference, autoencoder=autoencoder,
        options=AuditOptions(limit=effort.limit, seed=work.seed, shown=0), out=out, progress=progress,
    )  # fmt: skip
    attributes = [a for a in INTERVENABLE if a in reference.classifier.targets and a != work.target]
    attributes = [a for a in attributes if a not in DERIVED]
    progress("truth", 0, 1)
    chosen = [INTERVENABLE.index(a) for a in attributes]
    known, here = truth(), true_effects(models, work.faces[: effort.interventions_here])[:, chosen]
    independent = np.stack([known[s.name][chosen] for s in work.subjects])
    progress("truth", 1, 1)
    readings = _readings(run, attributes) | _correlations(run, work, attributes)
    heads = [head(s.classifier, work.target) for s in work.subjects]
    concepts = [head(reference.classifier, a) for a in attributes]
    progress("maps", 0, 1)
    readings |= _maps(images[: effort.maps], heads, concepts)
    readings["tcav"] = _derivatives(images, heads, concepts, autoencoder, effort.derivatives)
    progress("maps", 1, 1)
    return [
        Pair(
            s.name, work.target, work.shortcut, s.dose, s.seed, a, float(independent[i, j]), float(here[i, j]),
            **{name: float(table[i, j]) for name, table in readings.items()},
        )
        for i, s in enumerate(work.subjects)
        for j, a in enumerate(attributes)
    ]  # fmt: skip


def true_effects(models: Sequence[Classifier], faces: Faces) -> Floats:
    """By intervention on the faces, [model, attribute of ``INTERVENABLE``]."""
    with undisturbed(*models):
        found: Floats = effect(lambda x: torch.sigmoid(respond(x, list(models))), faces).double().numpy().T
    return found


def _readings(run: Run, attributes: Sequence[str]) -> dict[str, Floats]:
    """What the audit says, [subject, attribute] each."""
    audited = run.record()["audited"]
    effects = {(r["audited"], r["attribute"]): r for r in run.effects().to_dicts()}
    cells = {(r["base"], r["downstream"]): r for r in run.matrix().to_dicts()}

    def table(rows: Mapping[tuple[str, str], Mapping[str, Any]], column: str) -> Floats:
        found = [[rows[a, b][column] for b in attributes] for a in audited]
        return np.array([[np.nan if v is None else v for v in row] for row in found], dtype=np.float64)

    found = {name: table(effects, name) for name in ("effect", "ci_low", "ci_high", "q", "incoming")}
    found |= {name: table(cells, column) for column, name in OUTGOING.items()}
    return found | {"outgoing_q": table(cells, "q")}


def _correlations(run: Run, work: Scene, attributes: Sequence[str]) -> dict[str, Floats]:
    """Of the audited head's score with each reference head's, and of the labels of target and attribute."""
    scores, labels = run.scores(), work.faces.labels().numpy()
    mine, theirs = (
        scores.select(Column.RECONSTRUCTION.columns(names)).to_numpy()
        for names in (run.record()["audited"], attributes)
    )
    by_score = np.corrcoef(mine.T, theirs.T)[: mine.shape[1], mine.shape[1] :]
    columns = [ATTRIBUTES.index(name) for name in (work.target, *attributes)]
    by_label = np.corrcoef(labels[:, columns].T)[:1, 1:]
    return {"prediction_correlation": by_score, "label_correlation": np.repeat(by_label, len(work.subjects), axis=0)}


def _maps(images: Tensor, heads: Sequence[Composition], concepts: Sequence[Composition]) -> dict[str, Floats]:
    """Cosine of saliency maps, [subject, attribute] by method; NaN without images."""
    if not len(images):
        return {name: np.full((len(heads), len(concepts)), np.nan) for name in MAPS.values()}
    sides = []
    for side in (heads, concepts):
        made = [{m: a.abs().mean(dim=1) for m, a in attributions(images, base).items()} for base in side]
        sides.append(made)
    return {
        name: similarity(*(torch.stack([maps[method] for maps in side]) for side in sides))[0].numpy()
        for method, name in MAPS.items()
    }


def _derivatives(
    images: Tensor, heads: Sequence[Composition], concepts: Sequence[Composition], autoencoder: Autoencoder, count: int
) -> Floats:
    """Directional derivatives of the audited logits along concepts, as TCAV (Kim et al. 2018) takes them in a layer.

    The layer is the autoencoder's latent; the concept of an attribute is the ridge direction that separates the images
    on which its reference head predicts it from the others. Mean over ``count`` images of ⟨∂logit/∂z, concept⟩ per
    standard deviation of the logit, [subject, attribute].
    """
    owners = list(dict.fromkeys(c for base in (*heads, *concepts) for c in base.classifiers))
    with undisturbed(autoencoder, *owners):
        parts = [reconstruct(part, autoencoder) for part in images.split(64)]
        z, x0 = (torch.cat([p[i] for p in parts]) for i in (0, 1))
        flat = (z - z.mean(dim=0)).flatten(1).double()
        has = (respond(x0, [concepts[0].classifiers[0]]) > 0).double()
        labels = has[:, [base.terms[0][1].index for base in concepts]]
        gram = flat.T @ flat + len(flat) * 0.01 * flat.var() * torch.eye(flat.shape[1], dtype=torch.float64)
        concept = torch.linalg.solve(gram, flat.T @ (labels - labels.mean(dim=0)))
        concept = concept / concept.norm(dim=0).clamp_min(1e-12)
        rows = []
        for base in heads:
            pairs = Pairs(
                torch.arange(min(count, len(z))), weights([base], base.classifiers)[torch.zeros(count).long()]
            )
            rays = find_rays(z[:count], pairs, autoencoder=autoencoder, classifiers=base.classifiers)
            gradient = -rays.direction.flatten(1).double() * torch.from_numpy(rays.start.slope)[:, None]
            spread = max(float(np.std(rays.start.value)), 1e-6)
            rows.append((gradient @ concept).mean(dim=0).numpy() / spread)
    return np.stack(rows)
