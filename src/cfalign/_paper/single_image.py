"""One image explained by the counterfactuals of one or more bases, for Figs. 3, 4, 5 and 6."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cfalign._counterfactuals.origins import origins
from cfalign._errors import BadInput
from cfalign._explanation.drawing import explanation_figure
from cfalign._explanation.explanation import Explanation, explain
from cfalign._explanation.options import ExplainOptions
from cfalign._heads.composition import Composition, parse
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._paper.figure_inputs import FigureInputs
from cfalign._paper.figure_job import FigureJob

LOOKED = 256
"""Number of images among which the shown one is chosen."""
SURE = 0.85
"""The preferred score of the shown image."""
BATCH = 64


def explained_image(inputs: FigureInputs, *bases: str, options: ExplainOptions | None = None) -> Explanation:
    """Explain one image for all bases: the one of the first ``LOOKED`` whose lowest score is closest to ``SURE``.

    An image with higher scores would need a longer walk than most, and look worse. Raises BadInput if no image is
    predicted positive by every base, unless the options let negative predictions rise.
    """
    options = options or ExplainOptions()
    compositions = [parse(text, inputs.classifier) for text in bases]
    loaded = inputs.images.load(list(range(min(LOOKED, len(inputs.images.ids)))))
    scores = _least_scores(inputs, loaded.images, compositions)
    best = int((scores - SURE).abs().masked_fill(scores < 0.5, torch.inf).argmin())
    if not scores[best] >= 0.5:
        if not options.increase:
            raise BadInput(
                f"Expected an image that all of {', '.join(bases)} predict positive, got none among "
                f"{len(scores)} images."
            )
        best = int(scores.argmax())
    explained = explain(
        loaded.images[best],
        compositions,
        autoencoder=inputs.autoencoder,
        classifier=inputs.classifier,
        options=options,
    )
    return replace(explained, name=inputs.images.ids[loaded.indices[best]])


def _least_scores(inputs: FigureInputs, images: Tensor, compositions: list[Composition]) -> Tensor:
    """Lowest score of the compositions where walks would start, [image]."""
    classifier, autoencoder = inputs.classifier, inputs.autoencoder
    search = ExplainOptions().search
    with torch.no_grad(), undisturbed(autoencoder, classifier):
        start = origins(images, autoencoder, search=search, batch=BATCH).images
        seen = {classifier: respond(start, [classifier], batch=BATCH)}
    return torch.stack([composition.score(seen) for composition in compositions]).min(dim=0).values


def draw_explained(job: FigureJob, name: str, *bases: str) -> dict[str, Any]:
    """Draw ``explained_image`` as ``name``; returns its numbers by base."""
    explained = explained_image(job.inputs, *bases, options=ExplainOptions(saliency=False))
    job.save(name, explanation_figure(explained))
    numbers = {base.base: {"outcome": base.outcome.value, "psi": dict(base.psi)} for base in explained.bases}
    return {"image": explained.name, **numbers}
