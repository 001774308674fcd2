"""Figs. 3 and 6: single images, seen through counterfactuals of one head or of a head and its composition."""

from __future__ import annotations

from dataclasses import replace

import torch

from cfalign._counterfactuals.batch import reconstruct
from cfalign._errors import BadInput
from cfalign._explanation.explanation import Explanation, explain
from cfalign._explanation.options import ExplainOptions
from cfalign._heads.composition import parse
from cfalign._heads.scoring import logits
from cfalign._models.guard import undisturbed
from cfalign._paper.material import Material

LOOKED = 256
"""Images looked through for one to show."""
SURE = 0.85


def study(material: Material, *bases: str, options: ExplainOptions | None = None) -> Explanation:
    """The image, among the first ``LOOKED``, on which the least sure of the bases scores closest to ``SURE``; explained
    for them all. A surer one would need a longer walk than most, and look worse.

    BadInput when no image is predicted positive by every base, unless the options let negative predictions rise.
    """
    options = options or ExplainOptions()
    compositions = [parse(text, material.classifier) for text in bases]
    loaded = material.images.load(list(range(min(LOOKED, len(material.images.ids)))))
    with torch.no_grad(), undisturbed(material.autoencoder, material.classifier):
        x0 = torch.cat([reconstruct(part, material.autoencoder)[1] for part in loaded.images.split(64)])
        seen = {material.classifier: torch.cat([logits(part, [material.classifier]) for part in x0.split(64)])}
    scores = torch.stack([c.score(seen) for c in compositions]).min(dim=0).values
    best = int((scores - SURE).abs().masked_fill(scores < 0.5, torch.inf).argmin())
    if not scores[best] >= 0.5 and options.increase:
        best = int(scores.argmax())
    elif not scores[best] >= 0.5:
        raise BadInput(f"None of {len(x0)} images is predicted positive by all of {', '.join(bases)}.")
    explained = explain(
        loaded.images[best], compositions, autoencoder=material.autoencoder, classifier=material.classifier,
        options=options,
    )  # fmt: skip
    return replace(explained, name=material.images.ids[loaded.indices[best]])
