"""Draws counterfactuals of ten attributes, images/strips.webp, and of four, images/few.webp.

    python docs/gallery.py [FOLDER]     # about half a minute

The face of each row is the first one in which a network that was trained independently (the judge) sees the attribute
before and no longer sees it afterwards; no face comes twice. None was chosen by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor
from walks import draw_sheet, frames, scores

import cfalign as cfa

METHODS = {
    "eyeglasses": "latent-shift",
    "smiling": "latent-shift",
    "wearing_hat": "iterated",  # hats need more than one direction
    "beard": "latent-shift",
    "wearing_lipstick": "latent-shift",
    "bangs": "latent-shift",
    "blond_hair": "latent-shift",
    "pale_skin": "latent-shift",
    "eye_shadow": "latent-shift",
    "wearing_necklace": "latent-shift",
}
"""By attribute: how its counterfactual is made."""
FEW = ("eyeglasses", "bangs", "blond_hair", "pale_skin")
"""Those that the README shows."""
CLEAR, GONE = 0.8, 0.3
"""Scores of the judge before at least, and afterwards at most."""
DROP, STEPS, FACES = 0.85, 5, 200


def main(folder: Path) -> None:
    """A row per attribute: a face on its way to the counterfactual."""
    faces = cfa.synthetic.render(cfa.synthetic.sample(FACES, seed=3))
    used: set[int] = set()
    walks = {attribute: first_gone(faces, attribute, used) for attribute in METHODS}
    for file, attributes, side in (("strips.webp", tuple(METHODS), 96), ("few.webp", FEW, 120)):
        rows = [(attribute.replace("_", " "), walks[attribute]) for attribute in attributes]
        draw_sheet(rows, folder / file, side=side)


def first_gone(faces: Tensor, attribute: str, used: set[int]) -> list[Tensor]:
    """The walk of the first face that counts."""
    heads, judge = cfa.classifiers.load("embedded"), cfa.classifiers.load("embedded:oracle")
    before = zip(scores(heads, attribute, faces), scores(judge, attribute, faces), strict=True)
    clear = [number for number, pair in enumerate(before) if min(pair) > CLEAR and number not in used]
    for number in clear:
        face, method = faces[number : number + 1], METHODS[attribute]
        images = frames(face, heads[attribute], steps=STEPS, drop=DROP, method=method)
        first, *_, last = scores(judge, attribute, images)
        if first > CLEAR and last < GONE:
            used.add(number)
            return list(images)
    raise SystemExit(f"No face loses {attribute} in the eyes of the judge.")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")
