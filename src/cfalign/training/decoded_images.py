"""All images decoded once, as bytes: in memory, or on disk where they would fill it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cfalign._runs.codec import write_json, written
from cfalign._runs.progress import Progress
from cfalign.datasets import ImageSource, Skipped, in_batches

IN_MEMORY = 2 * 1024**3
_BATCH = 256
_BYTES = "pixels.bin"
_INDEX = "pixels.json"
FILES = (_BYTES, _INDEX)


@dataclass(frozen=True)
class DecodedImages:
    """Images as bytes."""

    values: UInt8[Tensor, "image channel height width"]
    indices: tuple[int, ...]
    """Position in the source of each of them."""
    skipped: tuple[Skipped, ...]

    def rows(self, wanted: Sequence[int]) -> Tensor:
        """Rows [k] in ``values`` of those of these source positions that could be read."""
        row_of = {index: row for row, index in enumerate(self.indices)}
        return torch.tensor([row_of[i] for i in wanted if i in row_of], dtype=torch.int64)

    def images(
        self, rows: Tensor, *, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "image channel height width"]:
        """Images [k, c, h, w] in [0, 1], channels last in memory, which convolutions read faster."""
        return self.values[rows].to(device, memory_format=torch.channels_last).float().div_(255)


def decode_all(
    source: ImageSource, indices: Sequence[int], *, folder: Path, progress: Progress, limit: int = IN_MEMORY
) -> DecodedImages:
    """The images at these positions. Above ``limit`` bytes they lie in ``folder``, where a second call finds them.

    Raises StorageFailed when the disk has no room for them.
    """
    shape = (3, *source.shape)
    if len(indices) * int(np.prod(shape)) <= limit:
        values = torch.empty((len(indices), *shape), dtype=torch.uint8)
        kept: list[int] = []
        skipped: list[Skipped] = []
        for images, batch_indices, batch_skipped in _decoded(source, indices, progress=progress):
            values[len(kept) : len(kept) + len(images)] = images
            kept += batch_indices
            skipped += batch_skipped
        return DecodedImages(values[: len(kept)], tuple(kept), tuple(skipped))
    key = hashlib.sha256(f"{source.fingerprint()} {list(indices)}".encode()).hexdigest()
    if not _present(folder, key):
        _write(source, indices, folder=folder, key=key, progress=progress)
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    # Copy-on-write, because torch warns about memory that it may not write to.
    mapped = np.memmap(folder / _BYTES, dtype=np.uint8, mode="c", shape=(len(index["indices"]), *shape))
    return DecodedImages(
        torch.from_numpy(mapped),  # type: ignore[no-untyped-call, unused-ignore]
        tuple(index["indices"]),
        tuple(Skipped(*pair) for pair in index["skipped"]),
    )


def forget(folder: Path) -> None:
    """Remove what ``decode_all`` keeps on disk."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _present(folder: Path, key: str) -> bool:
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return index.get("key") == key and (folder / _BYTES).is_file()


def _write(source: ImageSource, indices: Sequence[int], *, folder: Path, key: str, progress: Progress) -> None:
    kept: list[int] = []
    skipped: list[tuple[str, str]] = []
    with written(folder / _BYTES) as temporary, temporary.open("wb") as handle:
        for images, batch_indices, batch_skipped in _decoded(source, indices, progress=progress):
            handle.write(images.numpy().tobytes())
            kept += batch_indices
            skipped += [(s.image_id, s.reason) for s in batch_skipped]
    write_json(folder / _INDEX, {"key": key, "indices": kept, "skipped": skipped})


def _decoded(
    source: ImageSource, indices: Sequence[int], *, progress: Progress
) -> Iterator[tuple[Tensor, tuple[int, ...], tuple[Skipped, ...]]]:
    progress("decode", 0, len(indices))
    done = 0
    for loaded in in_batches(source, batch=_BATCH, indices=indices):
        yield loaded.images.mul(255).round_().to(torch.uint8), loaded.indices, loaded.skipped
        done += len(loaded.indices) + len(loaded.skipped)
        progress("decode", done, len(indices))
