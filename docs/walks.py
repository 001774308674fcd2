"""Pictures of walks and sheets of images, for the scripts of docs/ that draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import cfalign as cfa

RED, INK, GREY, RULE = "#b2182b", "#1f2328", "#4a525c", "#dfe3e8"
WIDTH, HEIGHT = 13.0, 5.4
SIDE = 96
"""Of an image on a sheet, in pixels."""

Sheet = Sequence[tuple[str, Sequence[Tensor]]]
"""Rows: what stands at the left, and the images [c, h, w] in [0, 1]."""


def frames(
    face: Tensor,
    base: cfa.Composition,
    *,
    steps: int,
    drop: float,
    increase: bool = False,
    method: Literal["latent-shift", "iterated"] = "latent-shift",
) -> Tensor:
    """A face [1, c, h, w] on its way to the counterfactual of `base`, [steps + 1, c, h, w] in [0, 1]."""
    search = cfa.SearchOptions(drop=drop, method=method)
    options = cfa.ExplainOptions(search=search, steps=steps, increase=increase, saliency=False)
    ae = cfa.autoencoders.load("embedded")
    (walk,) = cfa.explain(face, base, autoencoder=ae, options=options).bases
    return torch.stack(list(walk.frames)).clamp(0, 1)


def scores(classifier: cfa.classifiers.WrappedClassifier, target: str, images: Tensor) -> list[float]:
    """The probabilities that a head gives the images."""
    with torch.no_grad():
        logits = classifier.logits(images)[:, classifier.targets.index(target)]
    return torch.sigmoid(logits).tolist()


def draw_walk(
    images: Tensor, lines: Mapping[str, tuple[str, Sequence[float]]], *, title: str, under: str, target: Path
) -> None:
    """The images in a row; below each, the scores of the heads on it.

    `lines`: label of a head → its colour and its scores, one per image; `under`: what the row of images shows.
    """
    figure = plt.figure(figsize=(WIDTH, HEIGHT), dpi=100)
    figure.text(0.012, 0.91, title, size=23, weight="bold", color=INK)
    left, right, count = 0.07, 0.8, len(images)
    step = (right - left) / count
    for place, image in enumerate(images):
        axes = figure.add_axes((left + place * step, 0.555, step * 0.96, step * 0.96 * WIDTH / HEIGHT))
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="bicubic")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(RULE)
    figure.text(right + 0.012, 0.7, under, size=17, color=GREY, va="center")
    chart = figure.add_axes((left, 0.03, right - left, 0.47))
    for label, (colour, values) in lines.items():
        draw_line(chart, values, label=label, colour=colour)
    chart.set(xlim=(-0.5, count - 0.5), ylim=(-0.02, 1.1), xticks=[], yticks=[0, 0.5, 1])
    framed(chart)
    figure.savefig(target, metadata={"Software": None} if target.suffix == ".png" else None)
    plt.close(figure)


def draw_pairs(
    images: tuple[Tensor, Tensor],
    arrows: Mapping[str, tuple[str, Sequence[float], Sequence[float]]],
    *,
    title: str,
    target: Path,
) -> None:
    """The same images without and with an attribute; below each pair, arrows from one score to the other.

    `arrows`: label of a head → its colour, and its scores of both.
    """
    figure = plt.figure(figsize=(WIDTH, 6.6), dpi=100)
    figure.text(0.012, 0.93, title, size=23, weight="bold", color=INK)
    left, right, count = 0.1, 0.83, len(images[0])
    step = (right - left) / count
    for row, (name, several) in enumerate(zip(("without", "with"), images, strict=True)):
        bottom = 0.66 - 0.255 * row
        figure.text(left - 0.012, bottom + 0.115, name, size=15, color=GREY, ha="right", va="center")
        for place, image in enumerate(several):
            side = step * 0.92
            axes = figure.add_axes((left + place * step + step * 0.04, bottom, side, side * WIDTH / 6.6))
            axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="bicubic")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color(RULE)
    chart = figure.add_axes((left, 0.03, right - left, 0.34))
    for shift, (label, (colour, before, after)) in zip((-0.14, 0.14), arrows.items(), strict=True):
        draw_arrows(chart, before, after, shift=shift, colour=colour)
        height = 0.72 if shift < 0 else 0.42
        chart.text(count - 0.42, height, label, size=16, color=colour, weight="bold" if colour == RED else "normal")
    chart.set(xlim=(-0.5, count - 0.5), ylim=(-0.06, 1.06), xticks=[], yticks=[0, 0.5, 1])
    framed(chart)
    figure.savefig(target)
    plt.close(figure)


def draw_arrows(axes: Axes, before: Sequence[float], after: Sequence[float], *, shift: float, colour: str) -> None:
    """A ring at each score before, and an arrow to the score after where it has moved."""
    for place, (start, end) in enumerate(zip(before, after, strict=True)):
        at = place + shift
        axes.plot(at, start, "o", markersize=11, markerfacecolor="white", markeredgecolor=colour, markeredgewidth=2.5)
        if abs(end - start) > 0.1:
            look = {"arrowstyle": "-|>", "linewidth": 3.5, "shrinkA": 7, "shrinkB": 0, "mutation_scale": 22}
            axes.annotate("", (at, end), (at, start), arrowprops={"color": colour, **look})


def framed(axes: Axes) -> None:
    """Scores as a quiet scale."""
    axes.tick_params(labelsize=14, colors=GREY, length=0)
    axes.set_ylabel("score", size=15, color=GREY)
    axes.grid(axis="y", color=RULE)
    axes.spines[:].set_visible(False)


def draw_line(axes: Axes, values: Sequence[float], *, label: str, colour: str) -> None:
    """The scores of one head, with the first and the last as numbers and its label at the end."""
    heavy = colour == RED
    axes.plot(range(len(values)), values, "o-", color=colour, linewidth=4 if heavy else 3, markersize=9, zorder=3)
    above = -20 if heavy else 11
    for place in (0, len(values) - 1):
        at = (place, values[place])
        number = {"size": 15, "color": colour, "ha": "center", "weight": "bold" if heavy else "normal"}
        axes.annotate(f"{values[place]:.2f}", at, (0, above), textcoords="offset points", **number)
    end = (len(values) - 1 + 0.24, values[-1])
    axes.annotate(label, end, (0, 0), textcoords="offset points", size=16, color=colour, va="center",
                  weight="bold" if heavy else "normal", annotation_clip=False)  # fmt: skip


def draw_sheet(rows: Sheet, target: Path, *, side: int = SIDE) -> None:
    """Rows of images with a label each, as WebP."""
    names = max(len(name) for name, _ in rows) * 9 + 16
    across = max(len(images) for _, images in rows)
    sheet = Image.new("RGB", (names + across * (side + 4), len(rows) * (side + 4)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for row, (name, images) in enumerate(rows):
        top = row * (side + 4)
        pen.text((4, top + side // 2), name, fill=INK, font=font, anchor="lm")
        for place, image in enumerate(images):
            sheet.paste(
                picture(image).resize((side, side), Image.Resampling.BICUBIC), (names + place * (side + 4), top)
            )
    save(sheet, target)


def picture(image: Tensor) -> Image.Image:
    """An image [c, h, w] in [0, 1]."""
    return Image.fromarray((image.permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def opened(file: Path) -> Tensor:
    """The image [c, h, w] in [0, 1] of a file."""
    pixels = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1)


def save(image: Image.Image, target: Path) -> None:
    """As WebP, small."""
    image.convert("RGB").save(target, quality=88, method=6)
