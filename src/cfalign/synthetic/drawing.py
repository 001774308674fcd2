"""Anti-aliased shapes on a batch of images: signed distances in, pixels out.

Coordinates are in units of half an image, y downwards, (0, 0) in the middle. Distances are negative inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

SIZE = 64
PIXEL = 2.0 / SIZE
MARGIN = 0.13
"""How far pose can move a point of the head up or down in the picture."""

Number = float | Tensor
"""A constant, or one value per image as [n, 1, 1]."""


@dataclass
class Painting:
    """A batch of images being painted, and the coordinates of the frames that shapes are drawn in.

    `x`, `y` [n, h, w]: head frame. `side` = |face x|: one shape drawn with it appears on both sides. `front`:
    the face's own x, moved by yaw; `tip`: the same for the nose, moved further. `value`: factor -> [n, 1, 1].
    `skin`, `hair`: colours [n, 3, 1, 1]; `nuisance`: name -> [n, 1, 1].
    """

    canvas: Tensor
    x: Tensor
    y: Tensor
    front: Tensor
    side: Tensor
    tip: Tensor
    value: dict[str, Tensor]
    nuisance: dict[str, Tensor]
    skin: Tensor
    hair: Tensor

    def paint(self, alpha: Tensor, colour: Tensor) -> None:
        """Cover with `colour` [n, 3, 1, 1] where `alpha` [n, h, w] is one."""
        self.canvas.lerp_(colour.expand_as(self.canvas), alpha.unsqueeze(1))

    def shade(self, alpha: Tensor, gain: float) -> None:
        """Multiply brightness by `gain` where `alpha` [n, h, w] is one."""
        self.canvas.mul_((1 + (gain - 1) * alpha).unsqueeze(1))

    def rows(self, top: float, bottom: float) -> Painting:
        """The part of the picture that holds `top` to `bottom` of the head, whatever the pose.

        It is a view: painting on it paints here. Drawing small layers on few rows makes rendering fast.
        """
        first = max(0, math.floor((top - MARGIN + 1) / PIXEL))
        last = min(SIZE, math.ceil((bottom + MARGIN + 1) / PIXEL))
        fields = ("x", "y", "front", "side", "tip")
        parts = {name: getattr(self, name)[:, first:last] for name in fields}
        return replace(self, canvas=self.canvas[:, :, first:last], **parts)


def mix(off: float, on: float, value: Tensor) -> Tensor:
    """Linear in a factor: `off` at 0, `on` at 1."""
    return off + (on - off) * value


def presence(value: Tensor) -> Tensor:
    """How much of an object is there: 0 up to a value of 0.2, 1 from 0.9, linear between."""
    return ((value - 0.2) / 0.7).clamp(0, 1)


def rgb(red: float, green: float, blue: float) -> Tensor:
    """A constant colour, [1, 3, 1, 1]."""
    return torch.tensor([red, green, blue]).view(1, 3, 1, 1)


def hue(angle: Tensor, saturation: float, lightness: float) -> Tensor:
    """A colour per image [n, 3, 1, 1] from a hue [n, 1, 1] in turns; a cosine palette, so it is smooth."""
    phase = torch.tensor([0.0, 1 / 3, 2 / 3]).view(1, 3, 1, 1)
    wave = torch.cos(2 * torch.pi * (angle.unsqueeze(1) - phase))
    return (lightness + saturation * wave).clamp(0, 1)


def cover(distance: Tensor) -> Tensor:
    """Pixel coverage of a shape from its signed distance: one inside, zero outside, one pixel of ramp."""
    return (0.5 - distance / PIXEL).clamp(0, 1)


def soft(squared: Tensor) -> Tensor:
    """A bump of compact support from a squared relative distance: 1 at 0, 0 from 1 on."""
    return (1 - squared).clamp_min(0) ** 2


def ellipse(dx: Tensor, dy: Tensor, a: Number, b: Number) -> Tensor:
    """Radial distance to an ellipse of half axes `a`, `b` around the origin of (dx, dy)."""
    relative = torch.sqrt((dx / a) ** 2 + (dy / b) ** 2 + 1e-8)
    return torch.sqrt(dx * dx + dy * dy + 1e-8) * (1 - 1 / relative)


def blob(dx: Tensor, dy: Tensor, a: Number, b: Number) -> Tensor:
    """Soft coverage of an ellipse, fading out towards its edge."""
    return soft((dx / a) ** 2 + (dy / b) ** 2)


def segment(x: Tensor, y: Tensor, start: tuple[Number, Number], end: tuple[Number, Number]) -> Tensor:
    """Distance to the straight line from `start` to `end` (zero on it; subtract the half thickness)."""
    ex, ey = end[0] - start[0], end[1] - start[1]
    px, py = x - start[0], y - start[1]
    along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0, 1)
    return torch.sqrt((px - ex * along) ** 2 + (py - ey * along) ** 2 + 1e-8)


def band(dx: Tensor, dy: Tensor, length: Number, thickness: Tensor) -> Tensor:
    """Distance to a band of half `length` along x and half `thickness` (may vary along x) around dy = 0."""
    return torch.maximum(dy.abs() - thickness, dx.abs() - length)


def below(y: Tensor, line: Tensor) -> Tensor:
    """Distance to the area above `line` (a function of x, however steep), positive below it."""
    slope = torch.diff(line, dim=2, append=line[:, :, -1:]) / PIXEL
    return (y - line) / torch.sqrt(1 + slope * slope)


def between(y: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
    """Distance to the strip from `top` to `bottom` (functions of x)."""
    return torch.maximum(top - y, y - bottom)
