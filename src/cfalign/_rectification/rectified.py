"""What a rectification gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cfalign._heads.composition import Composition
from cfalign._rectification.options import RectificationOptions
from cfalign._runs.codec import write_json
from cfalign.classifiers.composed_classifier import ComposedClassifier
from cfalign.classifiers.saved_composition import saved
from cfalign.datasets import target_name


class Ending(StrEnum):
    """Why a solver stopped."""

    CONVERGED = "converged"
    """|ψ| came within the tolerance: on the training images (``secant``), on the validation images (``momentum``)."""
    STOPPED_EARLY = "stopped_early"
    """The validation |ψ| did not get better any more, or the steps were spent; the best β at least halved it."""
    DIVERGED = "diverged"
    """|ψ| grew instead; the best β seen is kept, which may be 0."""
    NO_ROOT = "no_root"
    """No β seen halved |ψ|."""
    TOO_FEW_IMAGES = "too_few_images"
    """Too few images kept a positive prediction with enough room for the drop; the best β seen is kept."""
    NOT_BIASED = "not_biased"
    """|ψ| was within the tolerance from the start: β is 0."""


@dataclass(frozen=True)
class Step:
    """One β: mean relative changes by shortcut, NaN where they were not looked at.

    Training numbers are those of all training images at this β (``secant``), or of the mini-batch whose ψ led to it
    (``momentum``).
    """

    step: int
    beta: tuple[float, ...]
    psi_train: tuple[float, ...]
    psi_logit_train: tuple[float, ...]
    n_train: int
    psi_validation: tuple[float, ...]
    psi_logit_validation: tuple[float, ...]
    n_validation: int
    decodes: int
    """Decoder forwards."""


@dataclass(frozen=True)
class Reading:
    """ψ towards or from one shortcut on the held-out test images."""

    psi: float
    """Mean of the relative changes (Eq. 3)."""
    ci_low: float
    ci_high: float
    """95 % bootstrap interval over images."""
    psi_logit: float
    """Mean relative change on standardised logits; NaN for compositions on probabilities."""
    n: int
    excluded: Mapping[str, int]
    """Test images that do not count, by reason."""


@dataclass(frozen=True)
class Quality:
    """How well scores tell the labels apart, on held-out test images as they came (not reconstructed)."""

    accuracy: float
    """Share of scores on the label's side of 0.5."""
    auroc: float
    n: int


@dataclass(frozen=True)
class Rectified:
    """f' = f_target + Σ βᵢ fᵢ (Eq. 5), and what became of it."""

    composition: Composition
    """f', a base like any other."""
    target: Composition
    against: tuple[Composition, ...]
    beta: tuple[float, ...]
    """Of the standardised logits (``secant``: units of the target's standard deviation per one of the shortcut) or of
    the probabilities (``momentum``)."""
    ending: Ending
    driven_by: tuple[str, ...]
    """By shortcut: ``psi`` or, in the blind spot, ``psi_logit``."""
    before: tuple[Reading, ...]
    """By shortcut: outgoing, f' → shortcut."""
    after: tuple[Reading, ...]
    incoming_before: tuple[Reading, ...]
    """By shortcut: shortcut → f'; empty unless that was read."""
    incoming_after: tuple[Reading, ...]
    quality_before: Quality | None
    """None without labels."""
    quality_after: Quality | None
    curve: tuple[Step, ...]
    trail: tuple[Composition, ...]
    """f' at every step of the curve."""
    best_step: int
    """Step of the curve whose β is kept."""
    images: Mapping[str, int]
    """Images by part: train, validation, test, skipped."""
    options: RectificationOptions

    def __repr__(self) -> str:
        pairs = zip(self.against, self.before, self.after, strict=True)
        changes = ", ".join(f"{c.name} ψ {one.psi:.2f} → {two.psi:.2f}" for c, one, two in pairs)
        return f"Rectified({str(self.composition)!r}, {changes}, {self.ending.value})"

    @property
    def name(self) -> str:
        """Such as ``heavy_makeup_rectified``."""
        return f"{target_name(self.target.name)}_rectified"

    @property
    def ending_words(self) -> str:
        """Why the solver stopped, as people read it: ``stopped early``."""
        return self.ending.value.replace("_", " ")

    @property
    def classifier(self) -> ComposedClassifier:
        """f' as a classifier with one target, for ``audit`` and everything else that takes one."""
        return ComposedClassifier(self.composition, name=self.name)

    def save(self, path: str | Path, *, specs: Mapping[str, str] | None = None) -> None:
        """Write f' as JSON, which ``classifiers.load`` and ``--classifier`` read.

        ``specs``: classifier name → spec, for classifiers that ``classifiers.load`` has not made (BadInput else).
        """
        write_json(Path(path).expanduser(), saved(self.composition, name=self.name, specs=specs).as_dict())

    def as_dict(self) -> dict[str, Any]:
        """For JSON; NaN is kept."""
        return {
            "target": self.target.name,
            "against": [c.name for c in self.against],
            "composition": self.composition.name,
            "on": self.composition.on,
            "beta": list(self.beta),
            "ending": self.ending.value,
            "driven_by": list(self.driven_by),
            "steps": len(self.curve) - 1 if self.options.solver == "momentum" else len(self.curve),
            "best_step": self.best_step,
            "before": [asdict(r) for r in self.before],
            "after": [asdict(r) for r in self.after],
            "incoming_before": [asdict(r) for r in self.incoming_before],
            "incoming_after": [asdict(r) for r in self.incoming_after],
            "quality_before": None if self.quality_before is None else asdict(self.quality_before),
            "quality_after": None if self.quality_after is None else asdict(self.quality_after),
            "images": dict(self.images),
            "seed": self.options.seed,
            "options": asdict(self.options),
        }
