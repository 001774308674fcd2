"""Draws docs/finding.png, the picture at the head of the README: `python docs/finding.py [FILE]`, about five seconds.

One face of `cfalign demo`, whose glasses are taken off, and the answers of three heads before and after. The face was
chosen: it has glasses and big lips, and the honest head keeps its answer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

import cfalign as cfa

FACE = 276
DROP = 0.8
WIDTH, HEIGHT = 13.0, 4.0
RED, GREY, LINE = "#b2182b", "#4a525c", "#dfe3e8"

Classifier = cfa.classifiers.WrappedClassifier
Row = tuple[str, str, float, float]
"""Label and colour of a head, its score before and after."""


def main(target: Path) -> None:
    """Computes the counterfactual and draws it into `target`."""
    honest = cfa.classifiers.load("embedded")
    audited = cfa.classifiers.load("embedded:big_lips_from_eyeglasses")
    found = cfa.latent_shift(
        demo_face(FACE),
        honest["eyeglasses"],
        autoencoder=cfa.autoencoders.load("embedded"),
        drop=DROP,
    )
    before, after = found.reconstructions.detach(), found.images.detach()
    rows = [
        ("“eyeglasses” (lowered)", GREY, *score(honest, "eyeglasses", before, after)),
        ("“big lips” (audited)", RED, *score(audited, "big_lips", before, after)),
        ("“big lips” (honest)", GREY, *score(honest, "big_lips", before, after)),
    ]
    draw(before[0], after[0], rows, target)


def demo_face(number: int) -> Tensor:
    """The image `face_00NNN` of `cfalign demo`, [1, 3, 64, 64] in [0, 1]."""
    planted = {("big_lips", "eyeglasses"): 0.9, ("chubby", "pale_skin"): 0.9}
    faces = cfa.synthetic.sample(1000, seed=1, correlations=planted)
    return cfa.synthetic.render(faces[number : number + 1])


def score(classifier: Classifier, target: str, before: Tensor, after: Tensor) -> tuple[float, float]:
    """The probabilities that the head gives the two images."""
    with torch.no_grad():
        logits = classifier.logits(torch.cat([before, after]))[:, classifier.targets.index(target)]
    start, end = torch.sigmoid(logits).tolist()
    return start, end


def draw(before: Tensor, after: Tensor, rows: list[Row], target: Path) -> None:
    """Three images, then a line per head from its score before to its score after."""
    figure = plt.figure(figsize=(WIDTH, HEIGHT), dpi=100)
    figure.text(0.012, 0.9, "Without glasses, this “big lips” classifier sees no big lips.", size=23, weight="bold")
    panel = 2.5 / WIDTH
    for place, title in enumerate(("image", "counterfactual", "what changed")):
        axes = figure.add_axes((0.012 + place * (panel + 0.008), 0.05, panel, 2.5 / HEIGHT))
        axes.set_title(title, size=17, pad=9)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(LINE)
        if title == "what changed":
            change = (after - before).mean(dim=0)
            axes.imshow(change.numpy(), cmap="RdBu_r", vmin=-0.3, vmax=0.3, interpolation="bicubic")
        else:
            shown = before if title == "image" else after
            axes.imshow(shown.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="bicubic")
    left = 3 * (panel + 0.008) + 0.035
    scores(figure.add_axes((left, 0.05, 0.985 - left, 2.5 / HEIGHT)), rows)
    figure.savefig(target, metadata={"Software": None})
    plt.close(figure)


def scores(axes: Axes, rows: list[Row]) -> None:
    """One line per head on a scale from 0 to 1: a ring where its score was, an arrow to where it is."""
    for place, (label, colour, start, end) in enumerate(rows):
        y, weight = -place, "bold" if colour == RED else "normal"
        axes.text(0, y, label, size=17, color=colour, weight=weight)
        axes.text(1, y, f"{start:.2f} → {end:.2f}", size=17, color=colour, weight=weight, ha="right")
        line = y - 0.3
        axes.plot([0, 1], [line, line], color=LINE, linewidth=7, solid_capstyle="round", zorder=0)
        axes.plot(start, line, "o", markersize=12, markerfacecolor="white", markeredgecolor=colour, markeredgewidth=2.5)
        if abs(end - start) > 0.05:
            look = {"arrowstyle": "-|>", "linewidth": 3.5, "shrinkA": 8, "shrinkB": 0, "mutation_scale": 24}
            axes.annotate("", (end, line), (start, line), arrowprops={"color": colour, **look})
    axes.set(xlim=(-0.015, 1.015), ylim=(1 - len(rows) - 0.5, 0.35))
    axes.set_title("scores before → after", size=17, pad=9)
    axes.axis("off")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("finding.png"))
