"""Do-interventions: one attribute set, everything else bit-identical, and what that does to scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from cfalign._errors import BadInput
from cfalign._models.passes import in_passes
from cfalign.synthetic.factors import DERIVED, FACTORS, HAIR_COLOURS, INTERVENABLE, OFF, ON, unknown_name
from cfalign.synthetic.renderer import render
from cfalign.synthetic.sampling import Faces

Score = Callable[[Tensor], Tensor]
"""Images [n, 3, 64, 64] in [0, 1] to scores [n, heads] (or [n] for a single head)."""


def intervene(faces: Faces, attribute: str, value: float) -> Faces:
    """The same faces with `attribute` set to `value` in [0, 1] and nothing else changed.

    A hair colour takes `value` as its weight; the rest goes to the face's other colours in their own
    proportion (to the next of `HAIR_COLOURS` if it has none). Raises `BadInput` for a value
    outside [0, 1], an unknown name, or a derived attribute.
    """
    if not 0 <= value <= 1:
        raise BadInput(f"Expected a value in [0, 1] for {attribute}, got {value}.")
    if attribute in DERIVED:
        causes = ", ".join(DERIVED[attribute])
        raise BadInput(f"{attribute!r} is derived; intervene on its factors instead: {causes}.")
    if attribute in HAIR_COLOURS:
        return replace(faces, hair=_recoloured(faces.hair, HAIR_COLOURS.index(attribute), value))
    if attribute not in FACTORS:
        raise unknown_name(attribute, INTERVENABLE)
    factors = faces.factors.clone()
    factors[:, FACTORS.index(attribute)] = value
    return replace(faces, factors=factors)


def _recoloured(hair: Tensor, colour: int, value: float) -> Tensor:
    others = hair.clone()
    others[:, colour] = 0
    total = others.sum(dim=1, keepdim=True)
    fallback = torch.zeros_like(hair)
    fallback[:, (colour + 1) % hair.shape[1]] = 1
    others = torch.where(total > 0, others / total.clamp_min(1e-12), fallback) * (1 - value)
    others[:, colour] = value
    return others


def switched(faces: Faces, attribute: str) -> tuple[Faces, Faces]:
    """The same faces with `attribute` off and on, at the typical `OFF` and `ON`; errors as `intervene`."""
    return intervene(faces, attribute, OFF), intervene(faces, attribute, ON)


def effect(score: Score, faces: Faces, *, batch: int = 32) -> Float[Tensor, "attribute head"]:
    """Mean change of each score when one attribute alone is switched from off to on.

    Rows in the order of `INTERVENABLE`, columns as `score` returns them, in the unit of the score. No
    gradients are kept. Raises `BadInput` when there are no faces.
    """
    if len(faces) == 0:
        raise BadInput("Expected at least one face to measure effects on, got none.")
    rows = []
    with torch.no_grad():
        for attribute in INTERVENABLE:
            off, on = (_scores(score, side, batch) for side in switched(faces, attribute))
            rows.append((on - off).mean(dim=0))
    return torch.stack(rows)


def _scores(score: Score, faces: Faces, batch: int) -> Tensor:
    scores = torch.cat(in_passes(lambda rows: score(render(faces[rows], batch=batch)), len(faces), most=batch))
    return scores[:, None] if scores.ndim == 1 else scores
