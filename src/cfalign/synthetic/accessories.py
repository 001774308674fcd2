"""Glasses, hat, earrings, necklace and tie: objects that grow with the value of their factor."""

from __future__ import annotations

import torch

from cfalign.synthetic.drawing import Painting, band, between, cover, ellipse, hue, mix, presence, rgb
from cfalign.synthetic.person import EYE_X, EYE_Y


def eyeglasses(painting: Painting) -> None:
    """Dark rims, a bridge, temples and a faint tint."""
    amount = presence(painting.value["eyeglasses"])
    dx, dy = painting.side - EYE_X, painting.y - EYE_Y - 0.01
    lens = ellipse(dx, dy, mix(0.13, 0.180, amount), mix(0.10, 0.150, amount))
    painting.paint(cover(lens) * amount * 0.22, rgb(0.75, 0.86, 0.92))
    thickness = mix(0.004, 0.024, amount)
    rim = cover(lens.abs() - thickness)
    bridge = cover(band(painting.side, dy + 0.03 - 0.8 * painting.side**2, 0.05, thickness))
    temple = cover(torch.maximum(dy.abs() - thickness, (painting.side - 0.445).abs() - 0.07))
    frame = torch.maximum(rim, torch.maximum(bridge, temple))
    painting.paint(frame * amount, rgb(0.10, 0.09, 0.13))


def hat(painting: Painting) -> None:
    """A cap on the crown, with a band and a brim; the hairline and the forehead stay free."""
    amount = presence(painting.value["wearing_hat"])
    x, y = painting.x, painting.y
    colour = hue(painting.nuisance["hat_hue"], 0.30, 0.45)
    base = mix(-0.84, -0.635, amount)
    dome = torch.maximum(ellipse(x, y - base, mix(0.12, 0.64, amount), mix(0.06, 0.36, amount)), y - base)
    painting.paint(cover(dome) * (amount * 2).clamp(0, 1), colour)
    ribbon = torch.maximum(between(y, base - 0.11, base - 0.03), dome)
    painting.paint(cover(ribbon) * amount, colour * 0.45)
    brim = ellipse(x, y - base, mix(0.15, 0.80, amount), mix(0.01, 0.055, amount))
    painting.paint(cover(brim) * (amount * 2).clamp(0, 1), colour * 0.75)


def earrings(painting: Painting) -> None:
    """Gold drops under the ears that grow with the factor."""
    amount = presence(painting.value["wearing_earrings"])
    dx, dy = painting.x.abs() - 0.535, painting.y - 0.175
    drop = ellipse(dx, dy, mix(0.02, 0.065, amount), mix(0.02, 0.095, amount))
    painting.paint(cover(drop) * amount, rgb(0.97, 0.80, 0.18))
    painting.paint(cover(ellipse(dx + 0.015, dy + 0.02, 0.018, 0.022)) * amount, rgb(1.0, 0.97, 0.75))


def necklace(painting: Painting) -> None:
    """A string of pearls around the base of the neck."""
    amount = presence(painting.value["wearing_necklace"])
    x, y = painting.x, painting.y
    beads = mix(0.010, 0.034, amount) * (0.75 + 0.25 * torch.cos(x * 62))
    arc = band(x, y - 0.80 + 1.3 * x * x, 0.33, beads)
    painting.paint(cover(arc - 0.012) * amount * 0.5, rgb(0.25, 0.22, 0.30))
    painting.paint(cover(arc) * amount, rgb(0.95, 0.97, 1.0))


def necktie(painting: Painting) -> None:
    """A knot under the collar and a blade that widens downwards."""
    amount = presence(painting.value["wearing_necktie"])
    x, y = painting.x.abs(), painting.y
    colour = hue(painting.nuisance["tie_hue"] * 0.2 - 0.1, 0.33, 0.42)
    size = mix(0.35, 1.0, amount)
    blade = torch.maximum(x - size * (0.075 + 0.6 * (y - 0.88).clamp_min(0)), 0.86 - y)
    painting.paint(cover(blade) * amount, colour)
    knot = torch.maximum(x - size * (0.105 - 0.4 * (y - 0.84)), (y - 0.865).abs() - 0.035)
    painting.paint(cover(knot) * amount, colour * 0.62)
