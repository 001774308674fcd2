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
from cfalign.synthetic import INTERVENABLE, Faces, render, switched


@dataclass(frozen=True)
class Interventions:
    """Faces with one attribute alone off and on, rendered once for many classifiers."""

    off: Mapping[str, Tensor]
    on: Mapping[str, Tensor]

    @classmethod
    def on_faces(cls, faces: Faces, *, progress: Progress = silent, stage: str = "faces") -> Interventions:
        """Of every attribute that interventions can set."""
        off, on = {}, {}
        for k, attribute in enumerate(INTERVENABLE):
            progress(stage, k, len(INTERVENABLE))
            off[attribute], on[attribute] = (render(side) for side in switched(faces, attribute))
        progress(stage, len(INTERVENABLE), len(INTERVENABLE))
        return cls(off, on)

    def effects(self, models: Sequence[Classifier]) -> Floats:
        """Mean change of every probability, [attribute of ``INTERVENABLE``, head]; as ``synthetic.effect``."""
        with undisturbed(*models):
            rows = [
                torch.sigmoid(respond(self.on[a], models)) - torch.sigmoid(respond(self.off[a], models))
                for a in INTERVENABLE
            ]
        return np.stack([row.double().mean(dim=0).numpy() for row in rows])
