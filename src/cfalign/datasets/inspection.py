"""A look at some images of a source as it is opened: how many bits they use, whether they are dark, how many frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from cfalign.datasets.decoding import Content, Crop, Size, decode, grey_range, look, quiet
from cfalign.datasets.grey_levels import ALL_BITS, Levels, reach_white, vary
from cfalign.datasets.unreadable import Unreadable

_LOOKED_AT = 32
"""Images whose header is read, spread evenly over all."""
_DECODED = 8
"""At most so many of each sort are decoded."""
Found = TypeVar("Found")


def spread(count: int) -> range:
    """The rows that are looked at, of so many."""
    return range(0, count, max(1, -(-count // _LOOKED_AT)))


def levels_of(contents: Sequence[Content], *, size: Size, crop: Crop, bit_depth: int | None) -> Levels | None:
    """Grey values of these images; None where none can be read."""
    with quiet():
        seen = [(content, found) for content in contents if (found := _or_none(look, content)) is not None]
        deep = [content for content, found in seen if found.deep and bit_depth is None]
        others = [content for content, found in seen if not found.deep or bit_depth is not None]
        whole = _taken(deep, grey_range, enough=reach_white)
        judged = () if bit_depth == ALL_BITS else others  # who asks for all bits means them as they are
        scaled = _taken(judged, partial(_extremes, size=size, crop=crop, bit_depth=bit_depth), enough=vary)
    if not seen:
        return None
    return Levels(
        sampled=len(seen),
        deep=tuple(whole),
        scaled=tuple(scaled),
        several_frames=sum(found.several_frames for _, found in seen),
    )


def _taken(
    contents: Iterable[Content], read: Callable[[Content], Found], *, enough: Callable[[list[Found]], bool]
) -> list[Found]:
    """What is read of the first images, until it is enough."""
    found: list[Found] = []
    for content in contents:
        if len(found) == _DECODED or enough(found):
            break
        one = _or_none(read, content)
        found += [] if one is None else [one]
    return found


def _or_none(read: Callable[[Content], Found], content: Content) -> Found | None:
    try:
        return read(content)
    except (Unreadable, OSError):
        return None


def _extremes(content: Content, *, size: Size, crop: Crop, bit_depth: int | None) -> tuple[float, float]:
    values = decode(content, size=size, crop=crop, bit_depth=bit_depth)
    return float(values.min()), float(values.max())
