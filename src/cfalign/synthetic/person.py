"""Background, body, head outline, skin and hair: the layers under the features."""

from __future__ import annotations

import torch
from torch import Tensor

from cfalign.synthetic.drawing import Painting, band, below, between, blob, cover, ellipse, hue, mix, rgb, segment, soft

EYE_Y = -0.05
EYE_X = 0.215
BROW_Y = -0.215
MOUTH_Y = 0.35
HAIRLINE_Y = -0.47


def backdrop(painting: Painting) -> None:
    """A calm wall: one muted colour, a little lighter on top."""
    colour = hue(painting.nuisance["background_hue"], 0.09, 0.53) + 0.10 * (
        painting.nuisance["background_tone"].unsqueeze(1) - 0.5
    )
    painting.canvas = (colour - 0.05 * painting.y.unsqueeze(1)).clamp(0, 1).contiguous()


def back_hair(painting: Painting) -> None:
    """Hair behind the head, falling to the shoulders; waves scallop its edge and band its surface."""
    wavy = painting.value["wavy_hair"]
    x, y = painting.x.abs(), painting.y
    wave = torch.sin(17.0 * y + 0.6) * ((y + 0.45) * 4).clamp(0, 1)
    amount = mix(-0.01, 0.075, wavy).clamp_min(0)
    top = ellipse(x, y + 0.24, 0.645, 0.655)
    edge = 0.635 + amount * (wave + 0.35)
    sides = torch.maximum(x - edge, between(y, torch.full_like(y, -0.24), 0.60 - 0.25 * (x - 0.45)))
    inside = cover(torch.minimum(top, sides))
    painting.paint(inside, painting.hair * 0.82)
    band_light = (0.5 + 0.5 * torch.sin(17.0 * y - 9.0 * (x - 0.5) + 0.6)) * ((y + 0.4) * 4).clamp(0, 1)
    strand = inside * (mix(-0.12, 0.75, wavy).clamp_min(0) * band_light)
    painting.paint(strand, painting.hair * 1.25 + 0.10)
    straight = inside * soft(((x - 0.575) / 0.05) ** 2) * (0.55 * (1 - wavy)) * ((y + 0.5) * 3).clamp(0, 1)
    painting.paint(straight, painting.hair * 1.15 + 0.05)


def body(painting: Painting) -> None:
    """Clothes and neck; `male` broadens shoulders and neck and adds an Adam's apple."""
    male, x, y = painting.value["male"], painting.x.abs(), painting.y
    slope = mix(0.62, 0.06, male)
    painting.paint(cover(0.765 + slope * x * x - y), hue(painting.nuisance["clothes_hue"], 0.13, 0.36))
    width = mix(0.165, 0.32, male)
    narrowing = (1 - (y - 0.76) / 0.15).clamp(0, 1)
    neck = cover(torch.maximum(x - width * narrowing, y - 0.91))
    painting.paint(neck * (y > 0).float(), painting.skin * 0.90)
    painting.shade(neck * soft(((y - 0.60) / 0.14) ** 2), 0.80)
    apple = blob(x, y - 0.76, 0.07, 0.075) * mix(-0.1, 0.8, male).clamp_min(0)
    painting.shade(apple, 0.72)


def ears(painting: Painting) -> None:
    """Two ears in front of the hair."""
    ear = cover(ellipse(painting.x.abs() - 0.505, painting.y + 0.02, 0.075, 0.13))
    painting.paint(ear, painting.skin * 0.88)
    painting.shade(cover(ellipse(painting.x.abs() - 0.515, painting.y + 0.02, 0.03, 0.075)), 0.82)


def outline(painting: Painting) -> Tensor:
    """Distance to the outline of the face. `oval_face` lengthens and tapers it, `chubby` fills the cheeks
    beside the mouth, `male` squares the jaw."""
    value, y = painting.value, painting.y
    oval = value["oval_face"]
    cheek = 0.11 * value["chubby"] * soft(((y - 0.27) / 0.36) ** 2)
    x = (painting.x.abs() - cheek).clamp_min(0)
    height = torch.where(y > 0, mix(0.545, 0.70, oval), 0.74)
    power = torch.where(y > 0, mix(1.90, 3.7, value["male"]) - 0.25 * oval, 2.2)
    width = mix(0.515, 0.445, oval)
    relative = ((x / width + 1e-4) ** power + (y.abs() / height + 1e-4) ** power) ** (1 / power)
    return torch.sqrt(x * x + y * y + 1e-8) * (1 - 1 / relative)


def face(painting: Painting) -> None:
    """Skin inside the outline, rounded by soft shading; the fold of a double chin where `chubby`."""
    distance = outline(painting)
    chubby = painting.value["chubby"]
    inside = cover(distance)
    chin = mix(0.545, 0.70, painting.value["oval_face"])
    roll = cover(ellipse(painting.x, painting.y - chin + 0.03, mix(0.12, 0.34, chubby), mix(0.02, 0.135, chubby)))
    painting.paint(roll * (chubby * 2 - 0.4).clamp(0, 1), painting.skin * 0.86)
    painting.paint(inside, painting.skin)
    painting.shade(inside * ((distance + 0.13) / 0.13).clamp(0, 1) ** 2, 0.84)
    painting.shade(cover(distance.abs() - 0.010) * (painting.y > 0.2).float(), 0.86)


def front_hair(painting: Painting) -> None:
    """Hair above the hairline with a parting; `receding_hairline` cuts two bays, `bangs` hang in between."""
    value, x, y = painting.value, painting.front.abs(), painting.y
    bay = soft(((x - 0.345) / 0.185) ** 2) * mix(-0.03, 0.30, value["receding_hairline"])
    centre = 0.06 * value["receding_hairline"] * soft((x / 0.4) ** 2)
    line = HAIRLINE_Y + 1.35 * x * x - bay - centre
    scalp = torch.maximum(ellipse(painting.x, y + 0.24, 0.645, 0.655), below(y, line))
    inside = cover(scalp)
    painting.paint(inside, painting.hair)
    shine = blob(painting.x.abs() - 0.27, y + 0.70, 0.20, 0.11) * inside
    painting.paint(shine * 0.45, painting.hair * 1.2 + 0.12)
    parting(painting, inside)
    bangs(painting)


def parting(painting: Painting, inside: Tensor) -> None:
    """A line of scalp, a little off the middle, from the hairline to the crown."""
    where = 0.12 * torch.sign(painting.nuisance["parting_side"] - 0.5)
    line = segment(painting.x, painting.y, (where, HAIRLINE_Y), (where * 0.6, -0.82))
    painting.paint(cover(line - 0.012) * inside * 0.55, painting.skin * 0.85)


def bangs(painting: Painting) -> None:
    """A fringe over the middle of the forehead that grows down to the brows."""
    amount = painting.value["bangs"]
    x, y = painting.front.abs(), painting.y
    teeth = 0.012 * torch.cos(painting.front * 42)
    bottom = HAIRLINE_Y - 0.17 + mix(-0.02, 0.385, amount) + teeth - 0.12 * x * x
    fringe = cover(torch.maximum(x - mix(0.20, 0.31, amount), between(y, torch.full_like(y, -0.62), bottom)))
    painting.paint(fringe, painting.hair * 0.90)
    strands = fringe * (0.5 + 0.5 * torch.cos(painting.front * 42)) * 0.35
    painting.paint(strands, painting.hair * 1.15 + 0.06)
    painting.shade(cover(band(x, y - bottom - 0.012, 0.29, torch.full_like(x, 0.016))) * amount * 0.5, 0.7)


def light(painting: Painting) -> None:
    """A gentle gradient of light over the whole picture."""
    angle = torch.pi * (0.15 + 0.7 * painting.nuisance["light_angle"])
    strength = 0.05 + 0.07 * painting.nuisance["light_strength"]
    slope = torch.cos(angle) * painting.x - torch.sin(angle) * painting.y
    gain = 1 + strength * slope + 0.10 * (painting.nuisance["brightness"] - 0.5)
    painting.canvas.mul_(gain.unsqueeze(1))


def skin_colour(pale: Tensor, tone: Tensor) -> Tensor:
    """Skin [n, 3, 1, 1]: tan to pale by the factor, a little darker or redder by the nuisance."""
    amount = pale.unsqueeze(1)
    colour = rgb(0.76, 0.53, 0.38) * (1 - amount) + rgb(0.99, 0.87, 0.81) * amount
    return colour + (tone.unsqueeze(1) - 0.5) * rgb(0.03, 0.05, 0.05)


def hair_colour(weights: Tensor) -> Tensor:
    """Hair [n, 3, 1, 1] from weights [n, 4] as in `HAIR_COLOURS`, squared: the main one dominates.

    Written out term by term, since a matrix product rounds differently in batches of different size.
    """
    black, blond, brown, gray = (weights**2)[:, :, None, None, None].unbind(dim=1)
    mixed = black * rgb(0.08, 0.07, 0.08) + blond * rgb(0.88, 0.70, 0.33)
    mixed = mixed + brown * rgb(0.42, 0.22, 0.10) + gray * rgb(0.74, 0.75, 0.79)
    return mixed / (black + blond + brown + gray)
