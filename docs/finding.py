"""Draws docs/finding.png, the picture at the head of the README: `python docs/finding.py [FILE]`, about five seconds.

One face of `cfalign demo`, whose glasses are taken off in steps, and the answers of two classifiers of big lips on the
way. The face was chosen: it has glasses and big lips, and the honest classifier keeps its answer.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor
from walks import GREY, RED, draw_walk, frames, scores

import cfalign as cfa

FACE = 276
DROP = 0.8


def main(target: Path) -> None:
    """Walks, asks both classifiers, and draws into `target`."""
    honest = cfa.classifiers.load("embedded")
    audited = cfa.classifiers.load("embedded:big_lips_from_eyeglasses")
    images = frames(demo_face(FACE), honest["eyeglasses"], steps=5, drop=DROP)
    draw_walk(
        images,
        {
            "another “big lips”\nclassifier stays": (GREY, scores(honest, "big_lips", images)),
            "audited “big lips”\nclassifier falls": (RED, scores(audited, "big_lips", images)),
        },
        title="Take the glasses off, and this classifier sees no big lips.",
        under="glasses come off,\nlips stay",
        target=target,
    )


def demo_face(number: int) -> Tensor:
    """The image `face_00NNN` of `cfalign demo`, [1, 3, 64, 64] in [0, 1]."""
    planted = {("big_lips", "eyeglasses"): 0.9, ("chubby", "pale_skin"): 0.9}
    faces = cfa.synthetic.sample(1000, seed=1, correlations=planted)
    return cfa.synthetic.render(faces[number : number + 1])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("finding.png"))
