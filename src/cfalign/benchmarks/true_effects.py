"""True effects by intervention: rendered faces with one attribute alone switched off and on."""

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
    """Faces with one attribute alone off and on, rendered once for many classifiers."""

    off: Mapping[str, Tensor]
    on: Mapping[str, Tensor]

    @classmethod
    def on_faces(cls, faces: Faces, *, progress: Progress = silent, stage: str = "faces") -> Interventions:
        """Switch every attribute that interventions can set."""
        off, on = {}, {}
        for k, attribute in enumerate(INTERVENABLE):
            progress(stage, k, len(INTERVENABLE))
            off[attribute], on[attribute] = (render(side) for side in switched(faces, attribute))
        progress(stage, len(INTERVENABLE), len(INTERVENABLE))
        return cls(off, on)

    def effects(self, models: Sequence[Classifier]) -> Floats:
        """Mean change of every probability, [attribute of ``INTERVENABLE``, head]; as ``synthetic.effect``."""
        rows = []
        with undisturbed(*models):
            for attribute in INTERVENABLE:
                on, off = (torch.sigmoid(respond(side[attribute], models)) for side in (self.on, self.off))
                rows.append((on - off).double().mean(dim=0).numpy())
        return np.stack(rows)


def true_effects(models: Sequence[Classifier], faces: Faces) -> Floats:
    """Mean change of every probability when one attribute alone is switched on, [head, attribute of ``INTERVENABLE``].

    Renders the faces for this call alone; ``Interventions`` keeps them for many.
    """
    with undisturbed(*models):
        table: Floats = effect(lambda images: torch.sigmoid(respond(images, list(models))), faces).double().numpy().T
    return table
