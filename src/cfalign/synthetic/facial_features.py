"""Brows, eyes, nose, mouth, cheeks, age and facial hair: the layers on the face."""

from __future__ import annotations

import torch
from torch import Tensor

from cfalign.synthetic.drawing import (
    Painting,
    band,
    between,
    blob,
    cover,
    ellipse,
    hue,
    mix,
    presence,
    rgb,
    segment,
    soft,
)
from cfalign.synthetic.person import BROW_Y, EYE_X, EYE_Y, MOUTH_Y, outline


def cheeks(painting: Painting) -> None:
    """`rosy_cheeks`: blush; `high_cheekbones`: a bright ridge over a hollow."""
    value, side, y = painting.value, painting.side, painting.y
    bones = value["high_cheekbones"]
    hollow = soft((segment(side, y, (0.25, 0.335), (0.43, 0.15)) / 0.075) ** 2)
    painting.shade(hollow * bones, 0.62)
    ridge = soft((segment(side, y, (0.24, 0.145), (0.42, 0.02)) / 0.06) ** 2)
    painting.paint(ridge * bones * 0.75, painting.skin * 0.3 + 0.72)
    blush = blob(side - 0.30, y - 0.18, 0.165, 0.135)
    painting.paint(blush * value["rosy_cheeks"] * 0.85, rgb(0.93, 0.33, 0.36))


def age(painting: Painting) -> None:
    """Not `young`: lines on the forehead, beside the eyes, and from nose and mouth downwards."""
    old = (1 - painting.value["young"]) * 0.95
    x, side, y = painting.front, painting.side, painting.y
    arch = 0.25 * x * x
    lines = torch.maximum(
        cover(band(x, y + 0.335 - arch, 0.27, torch.full_like(x, 0.009))),
        cover(band(x, y + 0.405 - arch, 0.22, torch.full_like(x, 0.009))),
    )
    for start, end in (
        ((0.36, -0.05), (0.43, -0.09)),
        ((0.36, -0.02), (0.44, -0.01)),
        ((0.135, 0.165), (0.245, 0.315)),
        ((0.225, 0.42), (0.205, 0.50)),
    ):
        lines = torch.maximum(lines, cover(segment(side, y, start, end) - 0.014))
    painting.shade(lines * old, 0.55)


def brows(painting: Painting) -> None:
    """`arched_eyebrows` bend them, `bushy_eyebrows` thicken them; `male` lowers a ridge of shadow."""
    value, y = painting.value, painting.y
    dx = painting.side - EYE_X
    painting.shade(blob(dx + 0.03, y - BROW_Y - 0.055, 0.17, 0.060) * value["male"], 0.62)
    u2 = (dx / 0.15) ** 2
    curve = mix(-0.015, 0.125, value["arched_eyebrows"]) * (u2 - 0.45)
    thickness = mix(0.012, 0.052, value["bushy_eyebrows"]) * (1.1 - 0.6 * u2.clamp(0, 1))
    brow = cover(band(dx, y - BROW_Y - curve, 0.15, thickness))
    painting.paint(brow * mix(0.80, 1.0, value["bushy_eyebrows"]), brow_colour(painting))


def brow_colour(painting: Painting) -> Tensor:
    """Hair of the face is darker than that of the head, so that it shows on every skin."""
    return painting.hair * 0.38 + rgb(0.10, 0.07, 0.06)


def eyes(painting: Painting) -> None:
    """`narrow_eyes` close the lids, `eye_shadow` colours them, `bags_under_eyes` darken the skin below."""
    value, y = painting.value, painting.y
    dx = painting.side - EYE_X
    dy = y - EYE_Y
    open_ = mix(0.082, 0.022, value["narrow_eyes"])
    lid = (1 - (dx / 0.12) ** 2).clamp_min(0)
    shadow = soft((dx / 0.165) ** 2).sqrt() * cover(between(dy, -open_ * lid - 0.085, -open_ * lid + 0.02))
    painting.paint(shadow * presence(value["eye_shadow"]) * 0.92, rgb(0.40, 0.20, 0.62))
    crescent = soft((dx / 0.15) ** 2) * cover(band(dx, dy - 0.135 + 1.6 * dx * dx, 0.14, 0.038 * lid))
    painting.paint(crescent * value["bags_under_eyes"] * 0.95, painting.skin * 0.35 + rgb(0.14, 0.06, 0.16))
    white = cover(band(dx, dy, 0.12, open_ * lid))
    painting.paint(white, rgb(0.96, 0.96, 0.96))
    gaze = torch.where(painting.front > 0, dx, -dx)
    iris = white * cover(ellipse(gaze, dy, 0.058, 0.058))
    painting.paint(iris, hue(painting.nuisance["iris_hue"] * 0.6 + 0.05, 0.10, 0.30))
    painting.paint(white * cover(ellipse(gaze, dy, 0.028, 0.028)), rgb(0.04, 0.04, 0.05))
    lash = cover(band(dx, dy + open_ * lid, 0.13, torch.full_like(dx, 0.014)))
    painting.paint(lash * 0.85, rgb(0.12, 0.08, 0.08))


def facial_hair(painting: Painting) -> None:
    """Stubble on the lower face, a beard along the jaw, a tuft on the chin, a moustache, sideburns."""
    value, x, y, side = painting.value, painting.front, painting.y, painting.side
    distance = outline(painting)
    chin = mix(0.545, 0.70, value["oval_face"])
    lower = cover(distance) * ((y - 0.17 - 0.25 * (0.4 - side).clamp_min(0)) * 8).clamp(0, 1)
    stubble = lower * ((distance + 0.34) * 6).clamp(0, 1)
    upper_lip = blob(x, y - 0.27, 0.24, 0.085)
    stubble = torch.maximum(stubble, upper_lip)
    painting.paint(stubble * value["5_o_clock_shadow"] * 0.85, painting.skin * 0.33 + rgb(0.16, 0.19, 0.24))
    dark = brow_colour(painting)
    jaw = torch.maximum(distance - 0.07, -0.09 - distance)
    jaw = torch.maximum(jaw, 0.13 - y)
    painting.paint(cover(jaw + (1 - presence(value["beard"])) * 0.09) * presence(value["beard"]), dark * 1.15)
    amount = presence(value["goatee"])
    grow = mix(0.55, 1.0, amount)
    tuft = x.abs() - grow * (0.085 + 0.55 * (y - 0.46)) * (1 - ((y - chin) / 0.13).clamp_min(0) ** 2)
    tuft = torch.maximum(tuft, between(y, torch.full_like(y, 0.475), chin + 0.13 * grow))
    painting.paint(cover(tuft) * amount, dark * 0.5)
    amount = presence(value["mustache"])
    droop = 0.9 * x * x
    thickness = (0.055 - 0.70 * x * x).clamp_min(0.016) * (0.4 + 0.6 * amount)
    painting.paint(cover(band(x, y - 0.272 - droop, 0.205, thickness)) * amount, dark)
    amount = presence(value["sideburns"])
    length = mix(0.06, 0.19, value["sideburns"])
    burns = torch.maximum((painting.x.abs() - 0.435).abs() - 0.045, (y - 0.0).abs() - length)
    painting.paint(cover(burns) * amount, dark)


def nose(painting: Painting) -> None:
    """`big_nose` widens the wings and the ball, `pointy_nose` draws the ridge out into a sharp tip."""
    value, y, x = painting.value, painting.y, painting.tip
    big, pointy = value["big_nose"], value["pointy_nose"]
    width = mix(0.055, 0.19, big)
    t = ((y + 0.06) / 0.22).clamp(0, 1)
    body = cover(between(y, torch.full_like(y, -0.06), torch.full_like(y, 0.15)))
    body = body * cover(x.abs() - (0.030 + (width - 0.02) * t * t))
    painting.shade(body * 0.6, 0.90)
    wings = cover(ellipse(x.abs() - width * 0.72, y - 0.15, width * 0.42 + 0.012, width * 0.34 + 0.018))
    painting.shade(wings, 0.68)
    ball = cover(ellipse(x, y - 0.145, width * 0.68, width * 0.36 + 0.03))
    painting.paint(ball, painting.skin * 0.95)
    holes = cover(ellipse(x.abs() - width * 0.55, y - 0.19, width * 0.22 + 0.006, 0.017))
    painting.shade(holes, 0.40)
    sharp = presence(pointy)
    long = mix(0.0, 0.15, sharp)
    taper = (1 - (y - 0.03) / (0.12 + long)).clamp(0, 1)
    spike = cover(torch.maximum(x.abs() - 0.075 * taper, between(y, torch.full_like(y, 0.03), 0.15 + long)))
    painting.paint(spike * sharp, painting.skin * 0.92 + 0.07)
    for sign in (-1.0, 1.0):
        edge = segment(x * sign, y, (0.068, 0.06), (0.0, 0.155 + long))
        painting.shade(cover(edge - 0.011) * sharp, 0.52)
    ridge = cover(segment(x, y, (0.0, -0.10), (0.0, 0.12)) - 0.014)
    painting.paint(ridge * sharp * 0.8, painting.skin * 0.4 + 0.58)


def mouth(painting: Painting) -> None:
    """`smiling` bends it, `mouth_slightly_open` parts it, `big_lips` thicken, `wearing_lipstick` colours."""
    value, y, x = painting.value, painting.y, painting.front
    smile, open_ = value["smiling"], value["mouth_slightly_open"]
    width = mix(0.155, 0.215, smile)
    u2 = (x / width) ** 2
    arch = (1 - u2).clamp_min(0)
    middle = y - MOUTH_Y - mix(-0.045, 0.125, smile) * (0.5 - u2)
    gap = 0.062 * presence(open_) * arch
    full = mix(0.018, 0.090, value["big_lips"])
    shape = torch.maximum(between(middle, -gap - full * 0.85 * arch, gap + full * arch), x.abs() - width)
    natural = painting.skin * torch.tensor([0.84, 0.66, 0.66]).view(1, 3, 1, 1)
    red = rgb(0.80, 0.03, 0.14)
    amount = presence(value["wearing_lipstick"]).unsqueeze(1)
    painting.paint(cover(shape), natural * (1 - amount) + red * amount)
    inner = torch.maximum(middle.abs() - gap, x.abs() - width)
    painting.paint(cover(inner) * presence(open_).clamp_max(1), rgb(0.20, 0.05, 0.06))
    teeth = torch.maximum(between(middle, -gap, -gap * 0.1), x.abs() - width * 0.8)
    painting.paint(cover(teeth) * presence(open_), rgb(0.97, 0.96, 0.93))
    line = cover(band(x, middle, width, torch.full_like(x, 0.010)))
    painting.paint(line * (1 - presence(open_)) * 0.8, rgb(0.25, 0.08, 0.08))
    corner = MOUTH_Y + mix(-0.045, 0.125, smile) * -0.5
    dimple = segment(painting.side - width - 0.02, y, (0.0, corner - 0.05), (0.015, corner + 0.03))
    painting.shade(cover(dimple - 0.010) * presence(smile), 0.62)
