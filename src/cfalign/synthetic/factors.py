"""What a synthetic face is made of: factors that are drawn, hair colours, and labels derived from them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from cfalign._errors import BadInput, nearest

FACTORS: tuple[str, ...] = (
    "5_o_clock_shadow",
    "arched_eyebrows",
    "bags_under_eyes",
    "bangs",
    "beard",
    "big_lips",
    "big_nose",
    "bushy_eyebrows",
    "chubby",
    "eye_shadow",
    "eyeglasses",
    "goatee",
    "high_cheekbones",
    "male",
    "mouth_slightly_open",
    "mustache",
    "narrow_eyes",
    "oval_face",
    "pale_skin",
    "pointy_nose",
    "receding_hairline",
    "rosy_cheeks",
    "sideburns",
    "smiling",
    "wavy_hair",
    "wearing_earrings",
    "wearing_hat",
    "wearing_lipstick",
    "wearing_necklace",
    "wearing_necktie",
    "young",
)
"""Continuous factors, in the column order of `Faces.factors`: CelebA's names, `beard` and `eye_shadow`."""

HAIR_COLOURS: tuple[str, ...] = ("black_hair", "blond_hair", "brown_hair", "gray_hair")
"""Exclusive hair colours, in the column order of `Faces.hair`."""

NON_CELEBA: tuple[str, ...] = ("beard", "eye_shadow")
"""Factors that CelebA does not label; the derived labels need them."""

MAKEUP_WEIGHTS: dict[str, float] = {"eye_shadow": 0.4, "wearing_lipstick": 0.35, "rosy_cheeks": 0.25}
ATTRACTIVE_WEIGHTS: dict[str, float] = {
    "young": 0.35,
    "heavy_makeup": 0.25,
    "big_nose": -0.3,
    "oval_face": 0.25,
    "bags_under_eyes": -0.25,
    "high_cheekbones": 0.2,
}
ATTRACTIVE_THRESHOLD = 0.25

DERIVED: dict[str, tuple[str, ...]] = {
    "attractive": ("young", *MAKEUP_WEIGHTS, "big_nose", "oval_face", "bags_under_eyes", "high_cheekbones"),
    "heavy_makeup": tuple(MAKEUP_WEIGHTS),
    "no_beard": ("beard", "goatee"),
}
"""Derived labels and the factors they follow from: legitimate sharing, with known weights."""

ATTRIBUTES: tuple[str, ...] = tuple(sorted((*FACTORS, *HAIR_COLOURS, *DERIVED)))
"""Every labelled attribute, sorted: the column order of `Faces.labels()`."""

INTERVENABLE: tuple[str, ...] = tuple(name for name in ATTRIBUTES if name not in DERIVED)
"""Attributes that `intervene` can set: all but the derived ones."""

GAP = 0.2
"""Sampled values lie in [0, 0.5 - GAP] or [0.5 + GAP, 1], so that every label is visible."""

OFF = (0.5 - GAP) / 2
"""Typical value of an attribute that is off: the centre of the lower side of the gap."""

ON = 1 - OFF
"""Typical value of an attribute that is on: the centre of the upper side of the gap."""


def attribute_values(
    factors: Float[Tensor, "face factor"], hair: Float[Tensor, "face colour"]
) -> Float[Tensor, "face attribute"]:
    """Continuous value of every attribute, in the order of `ATTRIBUTES`; the label is `value > 0.5`.

    Values lie in [0, 1], except `attractive`, whose weighted sum is shifted to put its threshold at 0.5.
    """
    column = {name: factors[:, i] for i, name in enumerate(FACTORS)}
    column.update({name: hair[:, i] for i, name in enumerate(HAIR_COLOURS)})
    column["heavy_makeup"] = _weighted(MAKEUP_WEIGHTS, column)
    column["no_beard"] = 1 - torch.maximum(column["beard"], column["goatee"])
    column["attractive"] = _weighted(ATTRACTIVE_WEIGHTS, column) - ATTRACTIVE_THRESHOLD + 0.5
    return torch.stack([column[name] for name in ATTRIBUTES], dim=1)


def unknown_name(name: str, valid: Iterable[str]) -> BadInput:
    """The error for a name that is not among `valid`: one sentence with the nearest valid names."""
    return BadInput(f"Unknown attribute {name!r}; {nearest(name, valid)}.")


def _weighted(weights: dict[str, float], column: dict[str, Tensor]) -> Tensor:
    total = torch.zeros_like(column["young"])
    for name, weight in weights.items():
        total = total + weight * column[name]
    return total
