"""Labels that the items of a data set bring: the index of a class, or one value per attribute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfalign._errors import BadInput
from cfalign.datasets.label_tables import target_name
from cfalign.datasets.labels import Labels, Leftover

_NAMED = 3


def labels_of_items(given: Sequence[Any], *, ids: Sequence[str], names: Sequence[str], source: str) -> Labels:
    """Labels [image, name] from the label of each item, None where it has none.

    One name: a label is 0 or 1. Several: it is the index of one of them, as a class, or has a 0, 1 or NaN for each.
    Raises BadInput for any other label, and where no item has one.
    """
    targets = tuple(map(target_name, names))
    if len(set(targets)) < len(targets):
        raise BadInput(f"label_names must differ, got {', '.join(map(repr, names))}.")
    values = np.full((len(given), len(names)), np.nan)
    for i, label in enumerate(given):
        if label is not None:
            values[i] = _row(label, len(names), f"Image {ids[i]!r} of the data set {source}")
    alone = [image_id for image_id, label in zip(ids, given, strict=True) if label is None]
    if len(alone) == len(ids):
        raise BadInput(f"label_names were given, but the items of {source} bring no label: expected (image, label).")
    return Labels(
        ids=tuple(ids),
        targets=targets,
        values=values,
        split=None,
        extra={},
        unmatched_rows=Leftover(0, ()),
        images_without_row=Leftover(len(alone), tuple(alone[:_NAMED])),
        ignored_columns={},
    )


def _row(label: Any, count: int, where: str) -> NDArray[np.float64]:
    try:
        values = np.asarray(label, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise BadInput(f"{where}: expected a label of numbers, got {type(label).__name__}.") from None
    if len(values) == 1 and count > 1:
        return _of_class(float(values[0]), count, where)
    if len(values) != count:
        raise BadInput(
            f"{where}: expected one value per label name, {count}, or the index of a class, got {len(values)}."
        )
    if not (np.isnan(values) | np.isin(values, (0, 1))).all():
        raise BadInput(f"{where}: expected 0 or 1 (NaN for unknown) per label name, got {values.tolist()[:_NAMED]}.")
    return values


def _of_class(index: float, count: int, where: str) -> NDArray[np.float64]:
    if not (index.is_integer() and 0 <= index < count):
        raise BadInput(f"{where}: expected the index of one of {count} classes, 0 to {count - 1}, got {index:g}.")
    row = np.zeros(count)
    row[int(index)] = 1
    return row
