"""Which images are trained on, and which are held out for the measurement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

import numpy as np

from cfalign._errors import BadInput, nearest
from cfalign.datasets import Labels, target_name
from cfalign.datasets.labels import Texts

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
    """Images in neither part: in another part of the table, without a row, or in the other half."""
    how: str
    """The rule of the split, in a few words."""
    other_half: int = 0
    """Training images of the half that is not trained on."""


@dataclass(frozen=True)
class Persons:
    """Who is on the images, where the labels say so."""

    column: str | None
    """Of the labels; None where none names persons."""
    names: Texts | None

    def of(self, image: int) -> str | int:
        """The person on the image at this position, or the position itself for an image that stands alone."""
        name = None if self.names is None else self.names[image]
        return image if name is None else name

    def groups(self, images: Sequence[int]) -> list[list[int]]:
        """These images by person, in the order of their first image."""
        found: dict[object, list[int]] = defaultdict(list)
        for image in images:
            found[self.of(image)].append(image)
        return list(found.values())


def split_images(
    candidates: Sequence[int],
    *,
    labels: Labels | None,
    share: float,
    seed: int,
    half: Half = "all",
    person_column: str | None = None,
    halved: Sequence[int] | None = None,
) -> Split:
    """Split the images at these positions.

    A column ``split`` decides: "train" is trained on, "val" is held out, and other parts are left out. Without a part
    "val", or without such a column, a random ``share`` is held out. Nobody is on both sides of what is drawn here:
    whole persons are held out, and a person's images are in one half. Who is on an image says the column
    ``person_column``, else one that names persons (identity, person_id, patient_id, …), where the table has one; an
    image without a name stands alone.

    ``half``: train on one half of the training images only. The halves are drawn over the positions ``halved`` (by
    default the candidates), before images are held out and by a hash of the persons or else of the ids, so that they
    are the same whatever the seed and the order. They are as equal as whole persons allow; of an odd number of images,
    the first half has one more.

    Raises BadInput for a column ``split`` without a part "train", and for a ``person_column`` that the labels lack or
    that is blank.
    """
    persons = persons_of(labels, person_column)
    whole = _split(candidates, labels=labels, persons=persons, share=share, seed=seed)
    if half == "all":
        return whole
    parts = None if labels is None else labels.split
    everyone = [i for i in (candidates if halved is None else halved) if parts is None or parts[i] in _TRAIN]
    chosen = _halves(everyone, persons, None if labels is None else labels.ids)[half == "second"]
    train = tuple(i for i in whole.train if i in chosen)
    other = len(whole.train) - len(train)
    how = f"{whole.how}; {half} half of the training images, by {persons.column or 'image'}"
    return replace(whole, train=train, kept_out=whole.kept_out + other, how=how, other_half=other)


def persons_of(labels: Labels | None, column: str | None) -> Persons:
    """Who is on the images, by this column, else by one that names persons.

    Raises BadInput where the labels lack the column, and where it is blank.
    """
    if column is None:
        known = next((name for name in _PERSONS if labels is not None and name in labels.extra), None)
        return Persons(known, None if labels is None or known is None else labels.extra[known])
    if labels is None:
        raise BadInput(f"person_column: expected labels with a column {column!r}, got no labels; give some.")
    where = "the labels" if labels.reading is None else labels.reading.table
    name = target_name(column)
    if name not in labels.extra and name not in labels.targets:
        rest = "the others are attributes, so leave it out, and halves are drawn by image"
        if labels.extra:
            rest = nearest(name, labels.extra)
        raise BadInput(
            f"person_column: expected a column of {where} that says who is on an image, got {column!r}; {rest}."
        )
    names = labels.texts(name)
    if all(cell is None for cell in names):
        raise BadInput(
            f"person_column: expected a column of {where} that says who is on an image, got {column!r}, which is blank "
            "for all images; name another one, or leave it out, and halves are drawn by image."
        )
    return Persons(column, names)


def _halves(images: Sequence[int], persons: Persons, ids: Sequence[str] | None) -> tuple[set[int], set[int]]:
    """Both halves: whole persons in the order of their size, then of their hash, each to the half that is smaller."""

    def hashed(group: list[int]) -> bytes:
        person = persons.of(group[0])
        if isinstance(person, int):
            return sha256(str(person if ids is None else ids[person]).encode()).digest()
        return sha256(f"{target_name(persons.column or '')} {person}".encode()).digest()

    halves: tuple[set[int], set[int]] = (set(), set())
    for group in sorted(persons.groups(images), key=lambda group: (-len(group), hashed(group))):
        halves[len(halves[1]) < len(halves[0])].update(group)
    return halves


def _split(candidates: Sequence[int], *, labels: Labels | None, persons: Persons, share: float, seed: int) -> Split:
    if labels is None or labels.split is None:
        train, held_out, how = _random(candidates, persons=persons, share=share, seed=seed)
        return Split(train, held_out, 0, how)
    parts = labels.split
    train = tuple(i for i in candidates if parts[i] in _TRAIN)
    held_out = tuple(i for i in candidates if parts[i] in _HELD_OUT)
    how = "column split"
    if not train:
        named = ", ".join(sorted({part for part in parts if part})) or "nothing"
        raise BadInput(
            f'The column "split" sends no image to "train"; it holds {named}. Say train and val there, or take the '
            "column out of the table, so that images are held out at random."
        )
    if not held_out:
        train, held_out, random = _random(train, persons=persons, share=share, seed=seed)
        how = f'column split without a part "val": {random}'
    elif both := {persons.of(i) for i in train} & {persons.of(i) for i in held_out}:
        how = f"column split, which has {len(both)} persons of {persons.column} in both parts"
    return Split(train, held_out, len(candidates) - len(train) - len(held_out), how)


def enough(train: int, held_out: int, *, skipped: int, other_half: int = 0) -> None:
    """Raise BadInput where too few images are left. ``other_half``: images of the half that is not trained on."""
    lost = [f"{skipped} could not be read"] if skipped else []
    remedy = "give more images"
    if other_half and train < LEAST_TRAIN:
        lost += [f"held out: {held_out}", f"in the other half: {other_half}"]
        remedy = "give more labelled images"
        if train + other_half >= LEAST_TRAIN:
            remedy += ", or set half=all to learn from both halves"
    why = f" ({', '.join(lost)})" if lost else ""
    if train < LEAST_TRAIN:
        raise BadInput(f"Training needs at least {LEAST_TRAIN} images, got {train}{why}; {remedy}.")
    if held_out < LEAST_HELD_OUT:
        raise BadInput(
            f"The measurement needs at least {LEAST_HELD_OUT} held-out images, got {held_out}{why}; give more "
            'images, a larger held_out, or a larger part "val" of the column "split".'
        )


def _random(
    candidates: Sequence[int], *, persons: Persons, share: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    wanted = round(share * len(candidates))
    held_out: list[int] = []
    groups = persons.groups(candidates)
    for group in np.random.default_rng(seed).permutation(len(groups)):
        if len(held_out) >= wanted:
            break
        held_out += groups[group]
    chosen = set(held_out)
    how = "random" if persons.column is None else f"random, by {persons.column}"
    return tuple(i for i in candidates if i not in chosen), tuple(sorted(held_out)), how
