"""Which value is white in a grey image of more than 8 bits, and what a folder's values look like.

White is what the user says (a bit depth), else what the file says (the bits per sample of a TIFF, a maximum there that
is all bits of a number, the chunk sBIT of a PNG whose values were not spread over 16 bits), else all 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ALL_BITS = 16
_BITS_PER_SAMPLE, _LARGEST_SAMPLE = 258, 281
_USUAL = (8, 10, 12, 14, 15)
_WHITE: int = 2**ALL_BITS - 1
FEW_BITS = 12
_NARROW = 0.1
"""Images none of whose values is above this are almost black; images whose values lie closer together are constant."""
_MANY = 4
"""Fewer images may be dark by chance."""
_FEW = 4
_CHUNKS = 64
_ADVICE = (
    "check how they were saved (where grey values use fewer bits than their file has, give --bit-depth, in Python "
    "bit_depth)"
)


@dataclass(frozen=True)
class Levels:
    """Grey values of a few images, spread over all of them."""

    sampled: int
    """Images whose header was read."""
    deep: tuple[tuple[int, int], ...]
    """The least and the greatest value of grey ones of more than 8 bits, whose bits neither file nor user tells."""
    scaled: tuple[tuple[float, float], ...]
    """The same of others in [0, 1], up to the first that shows that they are neither dark nor constant."""
    several_frames: int
    """Images with several frames, of which the first is read."""

    def warnings(self, where: str) -> Iterator[str]:
        """What is odd about the images, and what helps."""
        if self.deep and max(high for _, high in self.deep) < 2 ** (ALL_BITS - 1):
            yield self._few_bits(where)
        elif 4 * (shallow := self._shallow()) >= len(self.deep) > 0:
            yield (
                f"{shallow} of {len(self.deep)} grey images of 16 bits that were looked at in {where} hold no value "
                f"above {2**FEW_BITS - 1}, and others more: white is {_WHITE} for all of them; put those of {FEW_BITS} "
                f"bits into a folder of their own and give --bit-depth {FEW_BITS} (in Python bit_depth={FEW_BITS})."
            )
        if (sentence := darkness(self.scaled, where, advice=_ADVICE)) is not None:
            yield sentence
        if self.several_frames:
            yield (
                f"{self.several_frames} of {self.sampled} images that were looked at in {where} hold several frames: "
                "the first of each is read."
            )

    def _few_bits(self, where: str) -> str:
        lowest, highest = min(low for low, _ in self.deep), max(high for _, high in self.deep)
        bits = next(usual for usual in (*_USUAL, ALL_BITS) if highest < 2**usual)
        return (
            f"The grey images of 16 bits in {where} are dark: {len(self.deep)} that were looked at hold values from "
            f"{lowest} to {highest}, and white is {_WHITE}; where they use {bits} bits, give --bit-depth {bits} (in "
            f"Python bit_depth={bits}), and --bit-depth {ALL_BITS} where they are meant so."
        )

    def _shallow(self) -> int:
        return sum(high < 2**FEW_BITS for _, high in self.deep)


def darkness(scaled: Sequence[tuple[float, float]], where: str, *, advice: str) -> str | None:
    """That images with these extremes are almost black or almost constant; None where they are not, or are few."""
    if len(scaled) < _MANY or vary(scaled):
        return None
    lowest, highest = min(low for low, _ in scaled), max(high for _, high in scaled)
    how = "almost black" if highest <= _NARROW else "almost constant"
    return (
        f"The images in {where} are {how}: the values of {len(scaled)} that were looked at lie between {lowest:.3g} "
        f"and {highest:.3g}, where 0 is black and 1 is white; {advice}."
    )


def vary(scaled: Sequence[tuple[float, float]]) -> bool:
    """Whether images with these extremes, in [0, 1], are together neither almost black nor almost constant."""
    return bool(scaled) and max(high for _, high in scaled) - min(low for low, _ in scaled) > _NARROW


def reach_white(deep: Sequence[tuple[int, int]]) -> bool:
    """Whether a few images with these extremes use all 16 bits, each of them more than a few."""
    return len(deep) >= _FEW and all(high >= 2 ** (ALL_BITS - 1) for _, high in deep)


def said_bits(image: Image.Image) -> int | None:
    """The bits that the file of an open grey image says it uses, below 16; None where it says nothing.

    To be asked before the pixels are loaded, which closes the file.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        per_sample = tags.get(_BITS_PER_SAMPLE, (ALL_BITS,))[0]
        return _below_16(per_sample) or _below_16(_whole_bits(tags.get(_LARGEST_SAMPLE, (0,))[0]))
    file = getattr(image, "fp", None)
    return _below_16(_significant_bits(file)) if image.format == "PNG" and file is not None else None


def white_of(values: NDArray[np.float32], *, said: int | None, png: bool, bit_depth: int | None) -> int:
    """The value that is white. ``said``: the bits that the file says; ``png``: whether it may have spread them."""
    if bit_depth is not None:
        return int(2**bit_depth - 1)
    if said is None or (png and _spread(values, said)):
        return _WHITE
    return int(2**said - 1)


def _below_16(bits: int | None) -> int | None:
    return bits if bits is not None and 8 <= bits < ALL_BITS else None


def _whole_bits(largest: float) -> int | None:
    """The bits of a maximum such as 4095; None for any other, which is what this one image happens to hold."""
    bits = int(largest).bit_length()
    return bits if largest == 2**bits - 1 else None


def _significant_bits(file: IO[bytes]) -> int | None:
    """What the chunk sBIT of a PNG says; the file is left where it was."""
    before = file.tell()
    try:
        file.seek(8)
        for _ in range(_CHUNKS):
            head = file.read(8)
            if head[4:] == b"sBIT":
                return (file.read(1) or b"\0")[0]
            if len(head) < 8 or head[4:] == b"IDAT":
                return None
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
        return None
    finally:
        file.seek(before)


def _spread(values: NDArray[np.float32], bits: int) -> bool:
    """Whether the values were spread over 16 bits, as PNG asks: one is larger than the bits hold, or all of them are
    what such a value becomes (shifted, with the upper bits repeated below, or multiplied).
    """
    if values.max(initial=0) >= 2**bits:
        return True
    whole = np.unique(values).astype(np.int64)
    few = whole >> (ALL_BITS - bits)
    shifted = few << (ALL_BITS - bits)
    repeated = shifted | (few >> max(2 * bits - ALL_BITS, 0))
    multiplied = np.round(few * (_WHITE / (2**bits - 1))).astype(np.int64)
    return bool(((whole == shifted) | (whole == repeated) | (whole == multiplied)).all())
