"""cfalign: which features does an image classifier really use?

A counterfactual made for one classifier is shown to others; how they respond tells which features they share.

======================  ==============================================================================
``audit``               the main job: alignment matrix, effects of every attribute, findings, a run directory
``bank``                counterfactuals of trusted heads, kept, so that any model is audited by forward passes
``latent_shift``        counterfactual images of one head or composition
``counterfactuals``     the same by any of four methods
``explain``             one image: its counterfactuals, what changed, which heads moved along, saliency beside it
``LatentShift``         the same difference as a Captum attribution
``Reference``           trusted attribute heads and an independent judge of them, for ``audit`` and ``bank``
``check``               the effects of a run that nobody expected
``rectify``             a head composed with its shortcuts so that it uses them no more
``classifiers``         ``load``, ``wrap`` a torch module, ``black_box`` any callable
``autoencoders``        ``load``, ``wrap`` any object with encode and decode
``report``              ``write`` the report of a run directory
``synthetic``           faces whose attributes are known causes, for ground truth
======================  ==============================================================================
"""

import typing

__version__ = "0.1.0"

from cfalign import autoencoders, classifiers, report, synthetic
from cfalign.alignment import AlignmentOptions
from cfalign.audit import audit
from cfalign.bank import Bank, bank, load_bank
from cfalign.composition import Composition
from cfalign.effects import EffectOptions
from cfalign.errors import BadInput, BadModel, CfalignError, RunMismatch, StorageFailed
from cfalign.estimation import EstimateOptions
from cfalign.explanation import ExplainOptions, Explanation, explain
from cfalign.judges import Reference
from cfalign.latent_shift import latent_shift
from cfalign.methods import counterfactuals
from cfalign.rectification import RectificationOptions, Rectified, rectify
from cfalign.relations import check, read_relations
from cfalign.results import Counterfactuals, Outcome
from cfalign.search import DescentOptions, SearchOptions
from cfalign.store import Run
from cfalign.sweep import AuditOptions

if typing.TYPE_CHECKING:
    from cfalign.attribution import LatentShift

__all__ = [
    "AlignmentOptions",
    "AuditOptions",
    "BadInput",
    "BadModel",
    "Bank",
    "CfalignError",
    "Composition",
    "Counterfactuals",
    "DescentOptions",
    "EffectOptions",
    "EstimateOptions",
    "ExplainOptions",
    "Explanation",
    "LatentShift",
    "Outcome",
    "RectificationOptions",
    "Rectified",
    "Reference",
    "Run",
    "RunMismatch",
    "SearchOptions",
    "StorageFailed",
    "__version__",
    "audit",
    "autoencoders",
    "bank",
    "check",
    "classifiers",
    "counterfactuals",
    "explain",
    "latent_shift",
    "load_bank",
    "read_relations",
    "rectify",
    "report",
    "synthetic",
]


def __getattr__(name: str) -> typing.Any:
    """``LatentShift`` when it is first asked for: Captum takes a second to import."""
    if name == "LatentShift":
        from cfalign.attribution import LatentShift

        globals()[name] = LatentShift
        return LatentShift
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
