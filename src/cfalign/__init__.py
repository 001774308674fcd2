"""cfalign: which features does an image classifier really use?

A counterfactual made for one classifier is shown to others; how they respond tells which features they share.

======================  ==============================================================================
``audit``               the main job: alignment matrix, effects of every attribute, findings, a run directory
``bank``                counterfactuals of trusted heads, kept, so that any model is audited by forward passes
``merge``               parts of a run that several machines made, in one folder
``latent_shift``        counterfactual images of one head or composition
``counterfactuals``     the same by any of four methods
``explain``             one image: its counterfactuals, what changed, which heads moved along, saliency beside it
``LatentShift``         the same difference as a Captum attribution
``Reference``           trusted attribute heads and an independent judge of them, for ``audit`` and ``bank``
``Run``                 a run directory: matrix, effects, gaps, findings as tables, and queries over its images;
                        ``conclusions()`` has them typed: ``Cell``, ``Effect``, ``GroupGap``, ``Finding``
``discover``            what a classifier reacts to although no reference head names it, without a whole audit
``name_feature``        a reference head of such a feature, found by ``discover`` or an audit (``DiscoveryOptions``)
``check``               the effects of a run that nobody expected
``compare``             two runs side by side: which effects appeared, went, grew or shrank
``rectify``             a head composed with its shortcuts so that it uses them no more
``classifiers``         ``load``, ``wrap`` a torch module, ``black_box`` any callable
``engines``             where an audit or a bank runs: this process, a Ray cluster, or in parts
``autoencoders``        ``load``, ``wrap`` any object with encode and decode
``report``              ``write`` the report of a run
``synthetic``           faces whose attributes are known causes, for ground truth
======================  ==============================================================================
"""

import importlib
import logging
import typing

__version__ = "0.1.0"

from cfalign import autoencoders, classifiers, engines, report, synthetic
from cfalign._analysis.options import AlignmentOptions, EffectOptions
from cfalign._audit.audit import audit
from cfalign._audit.bank import Bank, bank, load_bank
from cfalign._audit.changes import Change, Comparison
from cfalign._audit.comparison import compare
from cfalign._audit.discovering import discover
from cfalign._audit.gate import check, read_relations
from cfalign._audit.options import AuditOptions
from cfalign._counterfactuals.methods import counterfactuals, latent_shift
from cfalign._counterfactuals.options import DescentOptions, EstimateOptions, SearchOptions
from cfalign._discovery.options import DiscoveryOptions
from cfalign._errors import BadInput, BadModel, CfalignError, RunMismatch, StorageFailed
from cfalign._explanation.explanation import Explanation, explain
from cfalign._explanation.options import ExplainOptions
from cfalign._findings import Finding, UnnamedFeature
from cfalign._heads.composition import Composition
from cfalign._heads.reference import Reference
from cfalign._rectification.options import RectificationOptions
from cfalign._rectification.rectification import rectify
from cfalign._rectification.rectified import Rectified
from cfalign._regions.options import RegionOptions
from cfalign._results import Cell, Counterfactuals, Effect, GroupGap, Outcome
from cfalign._runs.merging import merge
from cfalign._runs.run import Run

if typing.TYPE_CHECKING:
    from cfalign import benchmarks, datasets, training
    from cfalign._discovery.naming import name_feature
    from cfalign._explanation.captum import LatentShift

__all__ = [
    "AlignmentOptions",
    "AuditOptions",
    "BadInput",
    "BadModel",
    "Bank",
    "Cell",
    "CfalignError",
    "Change",
    "Comparison",
    "Composition",
    "Counterfactuals",
    "DescentOptions",
    "DiscoveryOptions",
    "Effect",
    "EffectOptions",
    "EstimateOptions",
    "ExplainOptions",
    "Explanation",
    "Finding",
    "GroupGap",
    "LatentShift",
    "Outcome",
    "RectificationOptions",
    "Rectified",
    "Reference",
    "RegionOptions",
    "Run",
    "RunMismatch",
    "SearchOptions",
    "StorageFailed",
    "UnnamedFeature",
    "__version__",
    "audit",
    "autoencoders",
    "bank",
    "benchmarks",
    "check",
    "classifiers",
    "compare",
    "counterfactuals",
    "datasets",
    "discover",
    "engines",
    "explain",
    "latent_shift",
    "load_bank",
    "merge",
    "name_feature",
    "read_relations",
    "rectify",
    "report",
    "synthetic",
    "training",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # whoever wants to read what is logged adds another one


def __getattr__(name: str) -> typing.Any:
    """What takes long to import, when it is first asked for."""
    if name == "LatentShift":
        found = importlib.import_module("cfalign._explanation.captum").LatentShift
    elif name == "name_feature":
        found = importlib.import_module("cfalign._discovery.naming").name_feature
    elif name in ("benchmarks", "datasets", "training"):
        found = importlib.import_module(f"cfalign.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The public names; modules that begin with an underscore may change at any time."""
    return sorted(__all__)
