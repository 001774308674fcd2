"""True effects by intervention: faces are rendered with one attribute switched off and on, everything else fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._results import Floats
from cfalign._runs.progress import Progress, silent
from cfalign._types import Classifier
from cfalign.synthetic import INTERVENABLE, Faces, effect, render, switched


@dataclass(frozen=True)
class Interventions:
    """The same faces with one attribute off and on, rendered once for many classifiers."""

    off: Mapping[str, Tensor]
    on: Mapping[str, Tensor]

    @classmethod
    def on_faces(cls, faces: Faces, *, progress: Progress = silent, stage: str = "faces") -> Interventions:
        """Switch every attribute of ``INTERVENABLE`` on the faces."""
        off, on = {}, {}
        for k, attribute in enumerate(INTERVENABLE):
            progress(stage, k, len(INTERVENABLE))
            off[attribute], on[attribute] = (render(side) for side in switched(faces, attribute))
        progress(stage, len(INTERVENABLE), len(INTERVENABLE))
        return cls(off, on)

    def effects(self, models: Sequence[Classifier]) -> Floats:
        """Mean change of every head's probability, [attribute of ``INTERVENABLE``, head]; as ``synthetic.effect``."""
        rows = []
        with undisturbed(*models):
            for attribute in INTERVENABLE:
                on, off = (torch.sigmoid(respond(side[attribute], models)) for side in (self.on, self.off))
                rows.append((on - off).double().mean(dim=0).numpy())
        return np.stack(rows)


def true_effects(models: Sequence[Classifier], faces: Faces) -> Floats:
    """Mean change of every head's probability when one attribute is switched on, [head, attribute of ``INTERVENABLE``].

    The faces are rendered for this call only; ``Interventions`` keeps them for many calls.
    """
    with undisturbed(*models):
        table: Floats = effect(lambda images: torch.sigmoid(respond(images, list(models))), faces).double().numpy().T
    return table
