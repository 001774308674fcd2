"""Regions of images: the cells of a grid, or masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from cfalign._counterfactuals.origins import blurred
from cfalign._errors import BadInput
from cfalign.datasets import ImageFolder

GRID = "grid:"
MOST = 16
"""Cells along a side of a grid."""
OUTSIDE = "outside "
_WHOLE = 0.9999  # above, a pixel belongs to the region wholly


class Regions(Protocol):
    """Named regions of every image."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the regions."""
        ...

    def masks(self, ids: Sequence[str], height: int, width: int) -> Tensor:
        """How far each pixel of images with these ids belongs to each region, [image, region, h, w] in [0, 1].

        NaN where an image has no mask. Edges are soft inside the region, and outside it is 0.
        """
        ...


def regions_of(spec: str) -> Regions:
    """The regions that a spec names: ``grid:4``, or a folder of masks. Raises BadInput for anything else."""
    if spec.startswith(GRID):
        return _grid(spec)
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        raise BadInput(f"--regions: expected grid:4 or a folder of masks, got {spec!r}, which is no folder.")
    return Masks(folder)


def _grid(spec: str) -> Grid:
    text = spec.removeprefix(GRID)
    if not text.isdecimal() or not 1 < int(text) <= MOST:
        raise BadInput(f"--regions: expected grid:2 to grid:{MOST}, got {spec!r}.")
    return Grid(int(text))


@dataclass(frozen=True)
class Grid:
    """Rows and columns of cells of one size."""

    side: int

    @property
    def names(self) -> tuple[str, ...]:
        """Row by row, from the top left."""
        numbers = range(1, self.side + 1)
        return tuple(f"row {row} column {column}" for row in numbers for column in numbers)

    def masks(self, ids: Sequence[str], height: int, width: int) -> Tensor:
        """See ``Regions``; cells have hard edges, so that together they are the whole image."""
        rows, columns = (torch.arange(size) * self.side // size for size in (height, width))
        cell = rows[:, None] * self.side + columns[None]
        hard = (cell[None] == torch.arange(self.side**2)[:, None, None]).float()
        return hard.expand(len(ids), -1, -1, -1)


@dataclass(frozen=True)
class Masks:
    """Masks in a folder, and what lies outside each."""

    folder: Path

    @cached_property
    def _places(self) -> dict[str, Path]:
        """Where the masks of each region are: the whole folder for one mask of all images, or a folder of its own."""
        there = [path for path in sorted(self.folder.iterdir()) if not path.name.startswith(".")]
        found = {path.name: path for path in there if path.is_dir()}
        if any(path.is_file() for path in there):
            alone = [image_id for image_id in ImageFolder(self.folder, size=64).ids if "/" not in image_id]
            found |= {name: self.folder for name in map(_stem, alone) if name not in found}
        if not found:
            raise BadInput(f"--regions: {self.folder} holds no masks; expected NAME.png, or a folder NAME of masks.")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Each region, and its outside."""
        return tuple(name for region in self._places for name in (region, OUTSIDE + region))

    def masks(self, ids: Sequence[str], height: int, width: int) -> Tensor:
        """See ``Regions``. Raises BadInput for images that are not square, and for masks that cannot be read."""
        if height != width:
            raise BadInput(f"--regions: masks need square images, got {width}x{height}; name a grid, such as grid:4.")
        parts: list[Tensor] = []
        for region, place in self._places.items():
            source = ImageFolder(place, size=height)
            known = {_stem(name): number for number, name in enumerate(source.ids)}
            wanted = [region if place == self.folder else _stem(image_id) for image_id in ids]
            drawn = {name: _hard(source, known[name]) for name in dict.fromkeys(wanted) if name in known}
            missing = torch.full((height, width), torch.nan)
            hard = torch.stack([drawn.get(name, missing) for name in wanted])
            parts += [_soft(hard), _soft(1 - hard)]
        return torch.stack(parts, dim=1)


def _stem(name: str) -> str:
    return str(Path(name).with_suffix(""))


def _hard(source: ImageFolder, number: int) -> Tensor:
    """1 inside, 0 outside, [h, w]."""
    loaded = source.load([number])
    if not len(loaded):
        raise BadInput(f"--regions: the mask {source.ids[number]} cannot be read: {loaded.skipped[0].reason}.")
    grey = loaded.images[0].mean(dim=0)
    if 0 < grey.max() <= 0.5:
        raise BadInput(
            f"--regions: the mask {source.ids[number]} is nowhere white (its brightest value is "
            f"{round(float(grey.max()) * 255)} of 255); expected white inside the region: multiply a mask of 0 and 1 "
            "by 255."
        )
    return (grey > 0.5).float()


def _soft(hard: Tensor) -> Tensor:
    """Masks [image, h, w] with edges that fade inside; 0 outside stays 0, and NaN stays NaN."""
    known = torch.nan_to_num(hard)
    faded = known * (2 * blurred(known[:, None])[:, 0] - 1).clamp(0, 1)
    faded = torch.where(faded > _WHOLE, 1.0, faded)
    return torch.where(hard.isnan(), torch.nan, faded)
