"""Options of the benchmark: training sets and variants of reference heads, pairs, and numbers of faces."""

from __future__ import annotations

from dataclasses import dataclass

from cfalign._errors import BadInput
from cfalign._validation import Count, Whole, options
from cfalign.training.recipes.embedded import PAIRS
from cfalign.training.recipes.imperfect_references import EXPOSURES, Imperfect

VARIANTS: dict[str, tuple[str, str | None]] = {
    "plain": ("plain", None),
    "reconstructed": ("reconstructed", None),
    "judged": ("reconstructed", "judge"),
    "balanced": ("balanced", None),
    "balanced_judged": ("balanced", "balanced_judge"),
}
"""Variant → network and judge of ``recipes.imperfect_references``."""
EMBEDDED = "embedded"
"""The variant of the shipped heads and oracle, which learnt from independent attributes."""
RECOMMENDED = "balanced"
"""The variant for users with confounded images; the headline reports it. A judge does not help if it learnt from
equally confounded images; a judge from other images would."""


@dataclass(frozen=True)
class TrainingSet:
    """A training set of reference heads, and the variants that are trained on it."""

    dose: float
    """Correlation of the labels of every confounded pair."""
    faces: int
    variants: tuple[str, ...]

    def __post_init__(self) -> None:
        if unknown := [variant for variant in self.variants if variant not in VARIANTS]:
            raise BadInput(f"Expected variants among {', '.join(VARIANTS)}, got {unknown[0]!r}.")


_FULL = ("reconstructed", "judged", "balanced", "balanced_judged")
_TWO = ("reconstructed", "balanced")
POINTS = (
    TrainingSet(0.5, 6000, tuple(VARIANTS)),
    TrainingSet(0.9, 6000, _FULL),
    TrainingSet(0.75, 6000, _TWO),
    TrainingSet(0.25, 6000, _TWO),
    TrainingSet(0.0, 6000, ("reconstructed",)),
    TrainingSet(0.5, 1000, _TWO),
    TrainingSet(0.5, 24_000, ("balanced",)),
)


@options()
class ReferencesOptions:
    """Reference heads that are trained, and the faces that they are measured on."""

    points: tuple[TrainingSet, ...] = POINTS
    embedded: bool = True
    """Whether the embedded heads are measured as well."""
    pairs: tuple[tuple[str, str], ...] = PAIRS
    """(target, shortcut) of the shipped classifiers that are audited, each with its twin."""
    limit: Count = 30
    """Counterfactuals per reference head and direction."""
    audited: Count = 600
    """Confounded faces that are audited."""
    interventions: Count = 60
    """Faces with independent attributes for the truth, and equally many confounded ones."""
    independent: Count = 400
    """Faces with independent attributes for the accuracy of reference heads."""
    exposures: Count = EXPOSURES
    """Faces seen in a training, repeated ones counted; see ``recipes.imperfect_references``."""
    seed: Whole = 0

    def network(self, point: TrainingSet, name: str) -> Imperfect:
        """The network ``name`` trained on a training set."""
        return Imperfect(point.dose, point.faces, name, exposures=self.exposures)

    def networks(self) -> list[Imperfect]:
        """All networks and judges to train."""
        names = [(point, name) for point in self.points for variant in point.variants for name in VARIANTS[variant]]
        return [self.network(point, name) for point, name in names if name is not None]


QUICK = ReferencesOptions(
    points=(TrainingSet(0.5, 400, ("balanced", "balanced_judged")),),
    embedded=False,
    pairs=PAIRS[:2],
    limit=4,
    audited=150,
    interventions=8,
    independent=60,
    exposures=6_000,
)
"""A short form."""
