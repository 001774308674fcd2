"""From faces to pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from cfalign._errors import BadInput
from cfalign.synthetic import accessories, facial_features, person
from cfalign.synthetic.drawing import PIXEL, SIZE, Painting
from cfalign.synthetic.factors import FACTORS
from cfalign.synthetic.sampling import NUISANCE, Faces

NOISE = 0.006
"""Standard deviation of the pixel noise."""


def render(faces: Faces, *, batch: int = 32) -> Float[Tensor, "face 3 64 64"]:
    """Draw `faces` as RGB images in [0, 1]; the result does not depend on `batch`.

    About 32 images at a time are fastest on a CPU, whose cache they fit. Raises `BadInput` for a batch < 1.
    """
    if batch < 1:
        raise BadInput(f"Expected a batch of at least 1 face, got {batch}.")
    images = torch.empty(len(faces), 3, SIZE, SIZE)
    with torch.no_grad(), _flushed_denormals():
        for start in range(0, len(faces), batch):
            images[start : start + batch] = _draw(faces[start : start + batch])
    return images


def _draw(faces: Faces) -> Tensor:
    painting = _scene(faces)
    person.backdrop(painting)
    person.back_hair(painting)
    person.body(painting.rows(0.0, 1.2))
    accessories.necklace(painting.rows(0.58, 0.90))
    accessories.necktie(painting.rows(0.80, 1.2))
    person.ears(painting.rows(-0.18, 0.14))
    person.face(painting.rows(-0.80, 0.86))
    facial_features.cheeks(painting.rows(-0.06, 0.43))
    facial_features.age(painting.rows(-0.45, 0.54))
    facial_features.facial_hair(painting.rows(-0.22, 0.86))
    facial_features.nose(painting.rows(-0.14, 0.36))
    facial_features.mouth(painting.rows(0.15, 0.62))
    facial_features.eyes(painting.rows(-0.25, 0.16))
    person.front_hair(painting.rows(-1.2, 0.18))
    facial_features.brows(painting.rows(-0.38, -0.06))
    accessories.eyeglasses(painting.rows(-0.25, 0.16))
    accessories.earrings(painting.rows(0.05, 0.31))
    accessories.hat(painting.rows(-1.2, -0.54))
    person.light(painting)
    return (painting.canvas + NOISE * _noise(faces.noise)).clamp(0, 1)


def _scene(faces: Faces) -> Painting:
    """The head frame of every face: where each pixel lies in it. Pose stays within `drawing.MARGIN`."""
    value = {name: faces.factors[:, i, None, None] for i, name in enumerate(FACTORS)}
    nuisance = {name: faces.nuisance[:, i, None, None] for i, name in enumerate(NUISANCE)}
    centred = {name: 2 * values - 1 for name, values in nuisance.items()}
    ticks = (torch.arange(SIZE) + 0.5) * PIXEL - 1
    u = ticks.view(1, 1, SIZE) - 0.030 * centred["shift_x"]
    v = ticks.view(1, SIZE, 1) - 0.025 * centred["shift_y"] + 0.03
    roll, scale = 0.05 * centred["roll"], 1 + 0.03 * centred["scale"]
    x = (torch.cos(roll) * u + torch.sin(roll) * v) / scale
    y = (torch.cos(roll) * v - torch.sin(roll) * u) / scale
    front = x - 0.035 * centred["yaw"]
    return Painting(
        canvas=torch.empty(0),
        x=x,
        y=y,
        front=front,
        side=front.abs(),
        tip=x - 0.060 * centred["yaw"],
        value=value,
        nuisance=nuisance,
        skin=person.skin_colour(value["pale_skin"], nuisance["skin_tone"]),
        hair=person.hair_colour(faces.hair),
    )


def _noise(seeds: Tensor) -> Tensor:
    """One field of standard normal noise per seed, whatever batch the seed is in: [n, 1, h, w]."""
    fields = torch.empty(len(seeds), 1, SIZE, SIZE)
    generator = torch.Generator()
    for field, seed in zip(fields, seeds.tolist(), strict=True):
        field.normal_(generator=generator.manual_seed(seed))
    return fields


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Denormal numbers cost a factor of four; count them as zero inside, and leave the setting as it was."""
    before = flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def flushes_denormals() -> bool:
    """Whether this thread counts denormal numbers as zero (torch can set this but not tell it)."""
    half_of_smallest = torch.tensor([torch.finfo(torch.float32).tiny]) * 0.5
    return float(half_of_smallest) == 0.0
