"""Glasses, hat, earrings, necklace and tie: objects that grow with the value of their factor."""

from __future__ import annotations

import torch

from cfalign.synthetic.drawing import Scene, band, between, cover, ellipse, hue, mix, presence, rgb
from cfalign.synthetic.head import EYE_X, EYE_Y


def eyeglasses(scene: Scene) -> None:
    """Dark rims, a bridge, temples and a faint tint."""
    amount = presence(scene.value["eyeglasses"])
    dx, dy = scene.side - EYE_X, scene.y - EYE_Y - 0.01
    lens = ellipse(dx, dy, mix(0.13, 0.180, amount), mix(0.10, 0.150, amount))
    scene.paint(cover(lens) * amount * 0.22, rgb(0.75, 0.86, 0.92))
    thickness = mix(0.004, 0.024, amount)
    rim = cover(lens.abs() - thickness)
    bridge = cover(band(scene.side, dy + 0.03 - 0.8 * scene.side**2, 0.05, thickness))
    temple = cover(torch.maximum(dy.abs() - thickness, (scene.side - 0.445).abs() - 0.07))
    frame = torch.maximum(rim, torch.maximum(bridge, temple))
    scene.paint(frame * amount, rgb(0.10, 0.09, 0.13))


def hat(scene: Scene) -> None:
    """A cap on the crown, with a band and a brim; the hairline and the forehead stay free."""
    amount = presence(scene.value["wearing_hat"])
    x, y = scene.x, scene.y
    colour = hue(scene.nuisance["hat_hue"], 0.30, 0.45)
    base = mix(-0.84, -0.635, amount)
    dome = torch.maximum(ellipse(x, y - base, mix(0.12, 0.64, amount), mix(0.06, 0.36, amount)), y - base)
    scene.paint(cover(dome) * (amount * 2).clamp(0, 1), colour)
    ribbon = torch.maximum(between(y, base - 0.11, base - 0.03), dome)
    scene.paint(cover(ribbon) * amount, colour * 0.45)
    brim = ellipse(x, y - base, mix(0.15, 0.80, amount), mix(0.01, 0.055, amount))
    scene.paint(cover(brim) * (amount * 2).clamp(0, 1), colour * 0.75)


def earrings(scene: Scene) -> None:
    """Gold drops under the ears that grow with the factor."""
    amount = presence(scene.value["wearing_earrings"])
    dx, dy = scene.x.abs() - 0.535, scene.y - 0.175
    drop = ellipse(dx, dy, mix(0.02, 0.065, amount), mix(0.02, 0.095, amount))
    scene.paint(cover(drop) * amount, rgb(0.97, 0.80, 0.18))
    scene.paint(cover(ellipse(dx + 0.015, dy + 0.02, 0.018, 0.022)) * amount, rgb(1.0, 0.97, 0.75))


def necklace(scene: Scene) -> None:
    """A string of pearls around the base of the neck."""
    amount = presence(scene.value["wearing_necklace"])
    x, y = scene.x, scene.y
    beads = mix(0.010, 0.034, amount) * (0.75 + 0.25 * torch.cos(x * 62))
    arc = band(x, y - 0.80 + 1.3 * x * x, 0.33, beads)
    scene.paint(cover(arc - 0.012) * amount * 0.5, rgb(0.25, 0.22, 0.30))
    scene.paint(cover(arc) * amount, rgb(0.95, 0.97, 1.0))


def necktie(scene: Scene) -> None:
    """A knot under the collar and a blade that widens downwards."""
    amount = presence(scene.value["wearing_necktie"])
    x, y = scene.x.abs(), scene.y
    colour = hue(scene.nuisance["tie_hue"] * 0.2 - 0.1, 0.33, 0.42)
    size = mix(0.35, 1.0, amount)
    blade = torch.maximum(x - size * (0.075 + 0.6 * (y - 0.88).clamp_min(0)), 0.86 - y)
    scene.paint(cover(blade) * amount, colour)
    knot = torch.maximum(x - size * (0.105 - 0.4 * (y - 0.84)), (y - 0.865).abs() - 0.035)
    scene.paint(cover(knot) * amount, colour * 0.62)
