"""Which images are trained on, and which are held out for the measurement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

import numpy as np

from cfalign._errors import BadInput
from cfalign.datasets import Labels

LEAST_TRAIN = 64
LEAST_HELD_OUT = 8
Half = Literal["all", "first", "second"]
"""Which of the training images are trained on."""
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


def split_images(
    candidates: Sequence[int],
    *,
    labels: Labels | None,
    share: float,
    seed: int,
    ids: Sequence[str] = (),
    half: Half = "all",
) -> Split:
    """Split the images at these positions.

    A column ``split`` decides: "train" is trained on, "val" is held out, and other parts are left out. Without a part
    "val", or without such a column, a random ``share`` is held out. Where the table has a column that names persons
    (identity, person_id, patient_id, …), whole persons are held out, so that nobody is in both parts. Raises BadInput
    for a column ``split`` without a part "train".

    ``half``: train on one half of the training images only, by a hash of the person or else of the image's id, so that
    the halves are the same whatever the seed and the order, and nobody is in both. ``ids``: of all images.
    """
    whole = _split(candidates, labels=labels, share=share, seed=seed)
    if half == "all":
        return whole
    column = _person_column(labels)
    train = tuple(i for i in whole.train if _is_second(i, ids, labels, column) == (half == "second"))
    how = f"{whole.how}; {half} half of the training images, by {column or 'image'}"
    return replace(whole, train=train, kept_out=whole.kept_out + len(whole.train) - len(train), how=how)


def _is_second(image: int, ids: Sequence[str], labels: Labels | None, column: str | None) -> bool:
    person = labels.extra[column][image] if labels is not None and column is not None else None
    return sha256(f"{column} {person}".encode() if person is not None else ids[image].encode()).digest()[0] % 2 == 1


def _split(candidates: Sequence[int], *, labels: Labels | None, share: float, seed: int) -> Split:
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


def _person_column(labels: Labels | None) -> str | None:
    """The column that names persons, where there is one."""
    return next((name for name in _PERSONS if labels is not None and name in labels.extra), None)


def _random(
    candidates: Sequence[int], *, labels: Labels | None, share: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    column = _person_column(labels)
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
