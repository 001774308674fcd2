"""Which images are trained on, and which are held out for the measurement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfalign._errors import BadInput
from cfalign.datasets import Labels

LEAST_TRAIN = 64
LEAST_HELD_OUT = 8
_TRAIN = ("train", "training")
_HELD_OUT = ("val", "valid", "validation")
_PERSONS = ("identity", "person", "person_id", "subject", "subject_id", "patient", "patient_id")


@dataclass(frozen=True)
class Split:
    """Positions of images; no image is in both parts."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    kept_out: int
    """Images in neither part: in another part of the table, or without a row."""
    how: str
    """The rule of the split, in a few words."""


def split_images(candidates: Sequence[int], *, labels: Labels | None, share: float, seed: int) -> Split:
    """Split the images at these positions.

    A column ``split`` decides: "train" is trained on, "val" is held out, and other parts are left out. Without a part
    "val", or without such a column, a random ``share`` is held out. Where the table has a column that names persons
    (identity, person_id, patient_id, …), whole persons are held out, so that nobody is in both parts. Raises BadInput
    for a column ``split`` without a part "train".
    """
    if labels is None or labels.split is None:
        train, held_out, how = _random(candidates, labels=labels, share=share, seed=seed)
        return Split(train, held_out, 0, how)
    parts = labels.split
    train = tuple(i for i in candidates if parts[i] in _TRAIN)
    held_out = tuple(i for i in candidates if parts[i] in _HELD_OUT)
    how = "column split"
    if not train:
        named = ", ".join(sorted({part for part in parts if part})) or "nothing"
        raise BadInput(f'The column "split" sends no image to "train"; it holds {named}.')
    if not held_out:
        train, held_out, random = _random(train, labels=labels, share=share, seed=seed)
        how = f'column split without a part "val": {random}'
    return Split(train, held_out, len(candidates) - len(train) - len(held_out), how)


def enough(train: int, held_out: int, *, skipped: int) -> None:
    """Raise BadInput where too few images are left."""
    lost = f" ({skipped} could not be read)" if skipped else ""
    if train < LEAST_TRAIN:
        raise BadInput(f"Training needs at least {LEAST_TRAIN} images, got {train}{lost}; give more images.")
    if held_out < LEAST_HELD_OUT:
        raise BadInput(
            f"The measurement needs at least {LEAST_HELD_OUT} held-out images, got {held_out}{lost}; give more "
            'images, a larger held_out, or a larger part "val" of the column "split".'
        )


def _random(
    candidates: Sequence[int], *, labels: Labels | None, share: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    column = next((name for name in _PERSONS if labels is not None and name in labels.extra), None)
    groups: dict[object, list[int]] = defaultdict(list)
    for i in candidates:
        person = labels.extra[column][i] if labels is not None and column is not None else None
        groups[i if person is None else person].append(i)
    wanted = round(share * len(candidates))
    held_out: list[int] = []
    members = list(groups.values())
    for group in np.random.default_rng(seed).permutation(len(members)):
        if len(held_out) >= wanted:
            break
        held_out += members[group]
    chosen = set(held_out)
    how = "random" if column is None else f"random, by {column}"
    return tuple(i for i in candidates if i not in chosen), tuple(sorted(held_out)), how
