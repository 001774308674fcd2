"""Whatever lies in a folder, a shard or a column: it is read or counted, in words, and nothing of it is run."""

from __future__ import annotations

import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from cfalign._errors import CfalignError
from cfalign.datasets import EncodedImages, ImageFolder, ImageWarning, open_images
from cfalign.datasets.decoding import Content
from cfalign.datasets.families.image_columns import image_of
from cfalign.datasets.inventory import Inventory, inventory_of
from image_files import MADE, odd_cell, odd_file

BATCH = 20  # files of one folder, members of one shard, rows of one column


def check(source: object, count: int) -> None:
    """Every one of ``count`` is an image, labels or left out; every image is read or skipped with a reason."""
    found = inventory_of(source)
    assert isinstance(found, Inventory)
    assert found.given == count == found.images + found.labels + sum(kind.count for kind in found.left_out)
    assert all(kind.reason and "\n" not in kind.reason for kind in found.left_out)
    assert all(isinstance(sentence, str) and sentence.endswith(".") for sentence in found.warnings("here"))
    loaded = source.load(range(found.images))  # type: ignore[attr-defined]
    assert len(loaded) + len(loaded.skipped) == found.images
    assert all(s.reason and "\n" not in s.reason for s in loaded.skipped)
    assert torch.isfinite(loaded.images).all()
    assert not len(loaded) or (float(loaded.images.min()) >= 0 and float(loaded.images.max()) <= 1)
    source.fingerprint()  # type: ignore[attr-defined]


def folder_of(place: Path, rng: np.random.Generator, trap: Path) -> int:
    place.mkdir()
    for i in range(BATCH):
        ending, content = odd_file(rng, trap=trap)
        name = f"{rng.choice(['', '', 'sub/', '.hidden/', 'ä/'])}{rng.choice(['', '', '.'])}{i:03d}{ending}"
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(content)
    return BATCH


def shard_of(place: Path, rng: np.random.Generator, trap: Path) -> int:
    with tarfile.open(place, str(rng.choice(["w", "w", "w:gz"]))) as tar:
        for i in range(BATCH):
            ending, content = odd_file(rng, trap=trap)
            key = f"{rng.choice(['', './', 'a/', '.'])}{i:03d}" if rng.random() < 0.9 else "same"
            info = tarfile.TarInfo(f"{key}{rng.choice(['', f'.{i}'])}{ending}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return BATCH


class Cells:
    """The images of cells, as a column of a data set gives them."""

    def __init__(self, cells: list[object]) -> None:
        self.cells = cells

    def __getitem__(self, row: int, /) -> Content:
        return image_of(self.cells[row], folder=Path("nowhere"))


def opened(kind: str, seed: int, place: Path) -> tuple[object, int]:
    """Some files, members or cells as a source, and how many there are."""
    rng, trap = np.random.default_rng(seed), place / "trap"
    if kind == "folder":
        count = folder_of(place / "folder", rng, trap)
        return ImageFolder(place / "folder", size=8, bit_depth=[None, None, 12][seed % 3]), count
    if kind == "rows":
        cells = Cells([odd_cell(rng, trap=trap) for _ in range(BATCH)])
        return EncodedImages([str(i) for i in range(BATCH)], cells, name="rows", size=8), BATCH
    shard = place / "a.tar"
    count = shard_of(shard, rng, trap)
    if seed % 4 < 3:
        return open_images(f"webdataset:{shard}", size=8), count
    content = bytearray(shard.read_bytes())  # damage to the tar itself: how many members it holds is unknown
    for at in rng.integers(0, len(content), 5):
        content[at] = int(rng.integers(0, 256))
    shard.write_bytes(content)
    source = open_images(f"webdataset:{shard}", size=8)
    return source, source.inventory.given  # type: ignore[attr-defined]


def look(kind: str, seed: int, place: Path) -> str:
    """Make some files of this kind and read them: what they were refused for, or nothing."""
    (folder := place / f"{kind}{seed}").mkdir()
    sentence = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ImageWarning)
        try:
            source, count = opened(kind, seed, folder)
        except CfalignError as error:
            sentence = str(error)
        else:
            check(source, count)
    assert "\n" not in sentence
    assert not (folder / "trap").exists(), "a pickle was run"
    return sentence


@pytest.mark.parametrize("kind", ["folder", "shard", "rows"])
def test_some_files_are_read_or_counted(tmp_path: Path, kind: str) -> None:
    for seed in range(3):
        look(kind, seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "shard", "rows"])
def test_many_files_are_read_or_counted(tmp_path: Path, kind: str) -> None:
    refused = [sentence for seed in range(100, 160) if (sentence := look(kind, seed, tmp_path))]  # 20 files each
    assert len(refused) < 30, refused


def test_every_kind_is_handled_undamaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i, (name, make) in enumerate(MADE.items()):
        (tmp_path / f"{i:03d}{name.partition(' ')[0]}").write_bytes(make(rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        source = ImageFolder(tmp_path, size=8)
    check(source, len(MADE))
    skipped = {s.image_id for s in source.load(range(len(source))).skipped}
    refused = [name for i, name in enumerate(MADE) if f"{i:03d}{name.partition(' ')[0]}" in skipped]
    whole = {".png I", ".tif I", ".tif F", ".tif LAB", ".dcm"}  # some values of these are out of range
    assert {name for name in refused if name not in whole} == {
        ".png bomb",
        ".png large",
        ".ppm bomb",
        ".ppm cut",
        ".jpg empty",
        ".jpg page",
        ".png eps",
    }
