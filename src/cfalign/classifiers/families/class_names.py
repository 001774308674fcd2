"""Names of the classes of published models as targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cfalign._errors import BadInput
from cfalign._heads.names import in_words


def class_targets(names: Sequence[str]) -> tuple[str, ...]:
    """Targets of the classes, all different: classes of the same name get their index behind it, nameless ones too."""
    plain = [in_words(name) or f"class_{index}" for index, name in enumerate(names)]
    while len(set(plain)) < len(plain):
        plain = [f"{n}_{i}" if plain.count(n) > 1 else n for i, n in enumerate(plain)]
    return tuple(plain)


def names_of(count: int, path: Path, *, own: Sequence[str] | None, published: Sequence[str] | None) -> tuple[str, ...]:
    """Targets for the ``count`` outputs of a checkpoint: its own names, else the published ones if they are as many,
    else ``class_0``, ``class_1``, …

    Raises BadInput when the checkpoint names another number of classes than it has outputs.
    """
    if own is not None:
        if len(own) != count:
            raise BadInput(f"{path} names {len(own)} classes, but has {count} outputs; expected a name for each.")
        return class_targets(own)
    if published is not None and len(published) == count:
        return class_targets(published)
    return tuple(f"class_{i}" for i in range(count))
