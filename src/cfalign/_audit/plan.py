"""What a sweep does: the images, who gets counterfactuals, and how they are sought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cfalign._analysis.statistics import generator
from cfalign._audit.chunk import ResponseColumns
from cfalign._audit.measurement import Base, WalkSettings
from cfalign._audit.options import AuditOptions
from cfalign._counterfactuals.batch import Flags, Rows
from cfalign._counterfactuals.options import ON_RAYS, Method
from cfalign._errors import BadInput
from cfalign._heads.composition import complement
from cfalign._heads.panel import Panel
from cfalign._results import Floats
from cfalign._runs.columns import attribute_of, raised_label
from cfalign._types import Autoencoder
from cfalign.datasets import ImageSource
from cfalign.datasets.grouped_images import groups_of


@dataclass(frozen=True)
class Plan:
    """What a sweep does."""

    source: ImageSource
    panel: Panel
    bases: tuple[str, ...]
    """Labels of the panel that get counterfactuals."""
    attributes: tuple[str, ...]
    """Those of the bases that are walked on until switched off, and raised where they are absent, for effects."""
    autoencoder: Autoencoder
    options: AuditOptions
    keep_images: bool = False
    """Whether shards of images are written too, which makes the run a bank."""
    methods: Mapping[str, Method] = field(default_factory=dict)
    """By label of the base, where the method is ``auto``."""

    def __post_init__(self) -> None:
        taken = {raised_label(a) for a in self.attributes} & set(self.panel.labels)
        if taken and self.options.both_ways:
            name = min(taken)
            raise BadInput(
                f"A head is called {name!r}, as the counterfactuals that raise {attribute_of(name)!r} are: "
                "rename that target, or lower attributes only (both_ways = false)."
            )

    @cached_property
    def walks(self) -> tuple[Base, ...]:
        """The bases, then the raised attributes."""
        lowered = [Base(b, self.panel[b], "both" if b in self.attributes else "drop") for b in self.bases]
        able = [a for a in self.attributes if self.panel[a].sum_of_logits is not None]
        raised = [Base(raised_label(a), complement(self.panel[a]), "off") for a in able]
        return (*lowered, *(raised if self.options.both_ways else ()))

    @property
    def walk_settings(self) -> WalkSettings:
        """How the pairs of a chunk are walked."""
        options = self.options
        return WalkSettings(options.search, options.estimate, options.seed, options.batch, self.methods)

    @property
    def columns(self) -> ResponseColumns:
        """What the columns of ``responses`` follow from."""
        return ResponseColumns(
            labels=self.panel.labels,
            bases=[base.label for base in self.walks],
            own=self.score,
            backwards=self.options.search.method not in (*ON_RAYS, "auto"),
            regions=self.options.search.method in ("completion", "auto"),
        )

    @cached_property
    def groups(self) -> Mapping[str, str | None] | None:
        """The group of each image by its id; None where the source has no groups."""
        return groups_of(self.source)

    def settings(self) -> dict[str, Any]:
        """The settings part of ``run.json``."""
        options = asdict(self.options)
        del options["device"]
        if not self.options.discovery.features:
            del options["discovery"]
        if self.options.regions.spec is None:
            del options["regions"]
        return {"bases": list(self.bases), "heads": list(self.panel.labels), **options}

    @cached_property
    def _own(self) -> tuple[Rows, Flags]:
        """The column of the panel that each base reads, and whether its score is what that lacks to 1, [base]."""
        place = {label: i for i, label in enumerate(self.panel.labels)}
        labels = [base.label for base in self.walks]
        columns = [place[label if label in place else attribute_of(label)] for label in labels]
        return np.array(columns, dtype=np.int64), np.array([label not in place for label in labels], dtype=bool)

    def scores(self, scores: Floats) -> Floats:
        """Scores of every base [..., base] from those of the panel [..., column]."""
        columns, raised = self._own
        found = scores[..., columns]
        return np.where(raised, 1 - found, found)

    def order(self) -> Rows:
        """Positions of all images in the source, in the order in which they are taken."""
        return order_of(self.source, self.options.seed)

    def score(self, number: int, scores: Floats) -> Floats:
        """Scores of a base, by its number, from those of the panel [..., column]."""
        columns, raised = self._own
        found = np.asarray(scores[..., columns[number]])
        return 1 - found if raised[number] else found


def order_of(source: ImageSource, seed: int) -> Rows:
    """Positions of all images in the source, in an order drawn by the seed."""
    return np.asarray(generator(seed, "order").permutation(len(source.ids)), dtype=np.int64)
