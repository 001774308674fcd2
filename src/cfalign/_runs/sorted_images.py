"""Images in the order of the audited heads' scores, as the file ``sorted_images.json`` of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cfalign._errors import BadInput
from cfalign._findings import SortedImages
from cfalign._runs.codec import Misfit, built, file_name, plain, read_json, write_json

SORTED = "sorted_images.json"
THUMBNAILS = "thumbnails"
"""The folder of their pictures."""


@dataclass(frozen=True)
class _Content:
    """The content of the file."""

    heads: tuple[SortedImages, ...]


def thumbnail_of(image_id: str) -> str:
    """The thumbnail of an image, relative to its run."""
    return f"{THUMBNAILS}/{file_name(image_id)}.jpg"


def write_sorted(folder: Path, heads: Sequence[SortedImages]) -> None:
    """Write those of a run in this folder."""
    write_json(folder / SORTED, plain(_Content(tuple(heads))))


def read_sorted(folder: Path) -> tuple[SortedImages, ...]:
    """Those of a run in this folder; none in runs of older versions. Raises BadInput for a damaged file."""
    file = folder / SORTED
    if not file.is_file():
        return ()
    try:
        found: _Content = built(_Content, read_json(file))
    except Misfit as error:
        raise BadInput(f"{file} {error}: it was changed or damaged; run the audit again.") from error
    return found.heads
