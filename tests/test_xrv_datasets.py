"""Data sets of torchxrayvision over X-rays rendered here."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cfalign as cfa
import worlds
from cfalign._errors import BadInput
from cfalign.datasets import ImageFolder, open_dataset

pytest.importorskip("torchxrayvision", reason="the extra [xrv] is not installed")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning", "ignore::ResourceWarning"
)

COUNT = 6


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """The library leaves broken files open: let them be closed here, where that warning is no error."""
    yield
    gc.collect()


@pytest.fixture
def nih(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of grey images and a table as NIH publishes it; image 3 is broken."""
    folder = tmp_path / "images"
    folder.mkdir()
    lines = ["Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position"]
    for i in range(COUNT):
        rows, columns = np.mgrid[:20, :24]  # smooth: files are resized in 8 bits, which cuts what overshoots
        Image.fromarray((40 + 10 * i + 5 * rows + 2 * columns).astype(np.uint8)).save(folder / f"{i:08d}_000.png")
        finding = "Effusion|Mass" if i % 2 else "No Finding"
        lines.append(f"{i:08d}_000.png,{finding},{i},{50 + i},M,PA")
    (folder / "00000003_000.png").write_bytes(b"")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    return folder, tmp_path / "table.csv"


def test_images_and_pathologies(nih: tuple[Path, Path]) -> None:
    folder, table = nih
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    source, labels = open_dataset(f"xrv:NIH_Dataset:{folder}:{table}", size=16)
    assert source.ids == tuple(f"{i:08d}_000.png" for i in range(COUNT))
    loaded = source.load(range(COUNT))
    assert loaded.images.shape == (5, 3, 16, 16)
    assert [s.image_id for s in loaded.skipped] == ["00000003_000.png"]
    (folder / "00000003_000.png").unlink()
    files = ImageFolder(folder, size=16).load(range(COUNT - 1))
    torch.testing.assert_close(loaded.images, files.images, rtol=0, atol=1 / 255)  # those are resized in 8 bits
    assert labels is not None
    assert labels.ids == source.ids
    assert labels.column("effusion").tolist() == [0, 1] * 3
    assert labels.column("pleural_thickening").tolist() == [0] * COUNT
    assert labels.extra["patient_id"] == tuple(map(str, range(COUNT)))
    assert np.random.random() == expected  # noqa: NPY002 (the library seeds it; the user's stays as it was)
    part = source.subset(labels.column("mass") == 1)
    assert part.ids == source.ids[1::2]
    assert torch.equal(part.load([0]).images, loaded.images[1:2])


def test_the_fingerprint_follows_the_files(nih: tuple[Path, Path]) -> None:
    folder, table = nih
    spec = f"xrv:NIH_Dataset:{folder}:{table}"
    first = open_dataset(spec, size=16)[0].fingerprint()
    assert open_dataset(spec, size=16)[0].fingerprint() == first
    assert open_dataset(spec, size=8)[0].fingerprint() != first
    Image.new("L", (20, 20), 9).save(folder / "00000001_000.png")
    assert open_dataset(spec, size=16)[0].fingerprint() != first


def test_an_audit(nih: tuple[Path, Path], tmp_path: Path) -> None:
    spec = f"xrv:NIH_Dataset:{nih[0]}:{nih[1]}"
    run = cfa.audit(spec, worlds.heads(), autoencoder=worlds.autoencoder(), out=tmp_path / "run")
    record = run.record()
    assert (record["images"], record["data"]["source"]) == (5, "xrv:NIH_Dataset")
    assert [s["image_id"] for s in record["skipped"]] == ["00000003_000.png"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("xrv:NIH:{folder}", "torchxrayvision has no data set 'NIH'; nearest valid: NIH_Dataset"),
        ("xrv:NIH_Dataset:/nowhere", "No such folder of X-rays: /nowhere; write xrv:NIH_Dataset:FOLDER"),
        ("xrv:NIH_Dataset", r"No such folder of X-rays: \(none\)"),
        ("xrv:CheX_Dataset:{folder}:/nowhere.csv", "xrv:CheX_Dataset cannot be opened over .*images: "),
        ("xrv:COVID19_Dataset:{folder}", "needs csvpath beside the folder; write xrv:COVID19_Dataset:FOLDER:TABLE"),
        ("xrv:MIMIC_Dataset:{folder}", "needs csvpath, metacsvpath beside the folder, which a spec cannot give"),
    ],
)
def test_what_cannot_be_opened(nih: tuple[Path, Path], spec: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        open_dataset(spec.format(folder=nih[0]))
    assert "\n" not in str(raised.value)
