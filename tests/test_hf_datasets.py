"""Data sets of Hugging Face, made here: saved to a folder, as Parquet, as folders of images, streamed."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cfalign as cfa
import worlds
from cfalign._errors import BadInput
from cfalign.datasets import ImageWarning, in_batches, open_dataset, open_images
from cfalign.datasets.families.huggingface import read_parts

datasets = pytest.importorskip("datasets", reason="the extra [data] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

COUNT = 12


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def encoded(value: int, *, side: int = 8) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 0)).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def made(count: int = COUNT, *, start: int = 0) -> Any:
    rows = range(start, start + count)
    return datasets.Dataset.from_dict(
        {
            "image": [{"bytes": b"no image", "path": None} if i == 5 else encoded(10 * i) for i in rows],
            "animal": [i % 3 if i != 4 else -1 for i in rows],
            "smiling": [i % 2 for i in rows],
            "hat": [None if i == 2 else i > 6 for i in rows],
            "tags": [[0] if i % 2 else [0, 1] for i in rows],
            "weight": [i / 7 for i in rows],
            "person": [f"p{i // 2}" for i in rows],
            "caption": ["words " * 50 for _ in rows],
        },
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "animal": datasets.ClassLabel(names=["cat", "dog", "Guinea Pig"]),
                "smiling": datasets.ClassLabel(names=["no", "yes"]),
                "hat": datasets.Value("bool"),
                "tags": datasets.Sequence(datasets.ClassLabel(names=["indoors", "tie"])),
                "weight": datasets.Value("float32"),
                "person": datasets.Value("string"),
                "caption": datasets.Value("string"),
            }
        ),
    )


def check(source: Any, labels: Any, *, split: str) -> None:
    assert source.ids == tuple(f"{split}/{i}" for i in range(COUNT))
    loaded = source.load([11, 0, 5, 4])
    assert loaded.indices == (11, 0, 4)
    assert (loaded.images[:, 0, 0, 0] * 255).round().tolist() == [110, 0, 40]
    assert [s.image_id for s in loaded.skipped] == [f"{split}/5"]
    assert labels.ids == source.ids
    assert labels.targets == ("cat", "dog", "guinea_pig", "smiling", "indoors", "tie", "hat")
    nan = np.nan
    np.testing.assert_array_equal(labels.column("dog"), [0, 1, 0, 0, nan, 0, 0, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(labels.column("hat"), [0, 0, nan, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert labels.column("smiling").tolist() == [0, 1] * 6
    assert labels.column("tie").tolist() == [1, 0] * 6
    assert labels.extra["person"][:3] == ("p0", "p0", "p1")
    assert "caption" not in labels.extra


def test_saved_to_disk(tmp_path: Path) -> None:
    made().save_to_disk(str(tmp_path / "one"))
    source, labels = open_dataset(f"hf:{tmp_path / 'one'}", size=8)
    check(source, labels, split="all")
    assert source.source == "hf:one"
    assert labels is not None
    assert labels.split is None
    again = open_images(f"hf:{tmp_path / 'one'}", size=8)
    assert again.fingerprint() == source.fingerprint()
    assert source.subset(["all/7"]).load([0]).indices == (0,)


def test_several_splits_are_a_column_and_one_can_be_asked_for(tmp_path: Path) -> None:
    parts = datasets.DatasetDict({"train": made(), "validation": made(3, start=20)})
    parts.save_to_disk(str(tmp_path / "two"))
    source, labels = open_dataset(f"hf:{tmp_path / 'two'}")
    assert source.ids[-1] == "validation/2"
    assert labels is not None
    assert labels.split == ("train",) * 12 + ("val",) * 3
    assert (source.load([14]).images[0, 0, 0, 0] * 255).round() == 220
    check(*open_dataset(f"hf:{tmp_path / 'two'}:train"), split="train")
    cut, _ = open_dataset(f"hf:{tmp_path / 'two'}:train[3:5]")
    assert (cut.load([0, 1]).images[:, 0, 0, 0] * 255).round().tolist() == [30, 40]
    with pytest.raises(BadInput, match="has no split 'valid'; nearest valid: validation"):
        open_dataset(f"hf:{tmp_path / 'two'}:valid")


def test_parquet_and_folders_of_images(tmp_path: Path) -> None:
    (tmp_path / "table" / "data").mkdir(parents=True)
    made().to_parquet(str(tmp_path / "table" / "data" / "train-0.parquet"))
    check(*open_dataset(f"hf:{tmp_path / 'table'}", size=8), split="train")
    for name in ("landbird", "waterbird"):
        worlds.write_images(tmp_path / "birds" / name, 2)
    source, labels = open_dataset(f"hf:{tmp_path / 'birds'}", size=16)
    assert labels is not None
    assert labels.targets == ("waterbird",)
    assert labels.values[:, 0].tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(source.load([3]).images[0], worlds.images(2)[1], rtol=0, atol=0.5 / 255 + 1e-6)


def png(value: int) -> bytes:
    return encoded(value)["bytes"]


@pytest.mark.parametrize("form", ["binary", "struct", "large", "base64", "url", "name"])
def test_images_without_a_declared_type_are_known_by_their_cells(tmp_path: Path, form: str) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cells = [png(20 * i) for i in range(12)]
    if form == "struct":
        column = arrow.array([{"bytes": c, "path": None} for c in cells])
    elif form in ("binary", "large"):
        column = arrow.array(cells, arrow.binary() if form == "binary" else arrow.large_binary())
    elif form == "name":
        (tmp_path / "pictures").mkdir()
        for i, c in enumerate(cells):
            (tmp_path / "pictures" / f"{i}.png").write_bytes(c)
        column = arrow.array([f"pictures/{i}.png" for i in range(12)])
    else:
        start = "data:image/png;base64," if form == "url" else ""
        column = arrow.array([start + base64.b64encode(c).decode() for c in cells])
    table = arrow.table({"hat": [i % 2 for i in range(12)], "picture": column})
    parquet.write_table(table, tmp_path / "train.parquet")
    for spec in (f"hf:{tmp_path}", f"hf:{tmp_path / 'train.parquet'}") if form != "name" else (f"hf:{tmp_path}:train",):
        source, labels = open_dataset(spec, size=8)
        assert source.ids == tuple(f"train/{i}" for i in range(12))
        loaded = source.load(range(12))
        assert (loaded.images[:, 0, 0, 0] * 255).round().tolist() == [20 * i for i in range(12)]
        assert labels is not None
        assert labels.targets == ("hat",)
        assert (source.inventory.given, source.inventory.images) == (12, 12)  # type: ignore[attr-defined]


def test_rows_that_hold_no_image_are_skipped_with_their_reason(tmp_path: Path) -> None:
    cells = [png(200), None, b"", b"words", *[png(200)] * 4]
    made = datasets.Dataset.from_dict({"image": cells}, features=datasets.Features({"image": datasets.Value("binary")}))
    made.save_to_disk(str(tmp_path / "set"))
    loaded = open_images(f"hf:{tmp_path / 'set'}", size=8).load(range(8))
    assert loaded.indices == (0, 4, 5, 6, 7)
    assert [s.reason for s in loaded.skipped][:2] == ["the row has no image"] * 2
    assert loaded.skipped[2].reason.startswith("not an image")


def test_further_columns_of_images_are_told(tmp_path: Path) -> None:
    cells = [png(20 * i) for i in range(12)]
    kind = datasets.Value("binary")
    features = datasets.Features({"depth": kind, "img": kind, "mask": kind})
    datasets.Dataset.from_dict(dict.fromkeys(features, cells), features=features).save_to_disk(str(tmp_path / "set"))
    with pytest.warns(ImageWarning, match="hf:set has 3 columns of images: 'img' is read, 'depth', 'mask' not"):
        open_images(f"hf:{tmp_path / 'set'}", size=8)


def test_a_data_set_without_images_names_its_columns_and_the_way_to_declare_one(tmp_path: Path) -> None:
    rows = {"pixels": [[1, 2], [3, 4]], "raw": [b"1", b"2"], "link": ["https://x/1.png", "https://x/2.png"]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(BadInput, match=r"got pixels \(\w+\), raw \(binary\), link \(string\); .*cast_column") as raised:
        open_images(f"hf:{tmp_path / 'set'}", size=8)
    assert "'link' holds addresses, which are not fetched" in str(raised.value)


def test_images_of_a_folder_that_became_no_rows_are_lost(tmp_path: Path) -> None:
    images = worlds.write_images(tmp_path / "birds" / "a", 4)
    (images / "phone.heic").write_bytes(b"x")
    with pytest.warns(ImageWarning, match=r"1 of 5 images in hf:birds are left out: 1 image file \(in no .*\.heic"):
        source = open_images(f"hf:{tmp_path / 'birds'}", size=8)
    assert len(source.ids) == 4


def test_a_stream_delivers_the_same(tmp_path: Path) -> None:
    made().to_parquet(str(tmp_path / "part.parquet"))
    streamed = datasets.load_dataset("parquet", data_files=str(tmp_path / "part.parquet"), streaming=True)
    assert isinstance(streamed["train"], datasets.IterableDataset)
    source, labels = read_parts(datasets, dict(streamed), name="hf:owner/name", size=8)
    check(source, labels, split="train")
    assert [i for batch in in_batches(source, batch=5) for i in batch.indices] == [i for i in range(12) if i != 5]
    stored = read_parts(datasets, {"train": made()}, name="hf:owner/name", size=8)[0]
    assert source.fingerprint() == stored.fingerprint()
    (spool,) = {span.path for span in (source._contents[0], source._contents[11])}  # type: ignore[union-attr]
    assert spool.is_file()
    part = source.subset(["train/3"])
    del source
    assert part.load([0]).indices == (0,)
    del part
    assert not spool.exists()


def test_an_audit(tmp_path: Path) -> None:
    images = worlds.write_images(tmp_path / "images", 8)
    made = datasets.Dataset.from_dict({"image": [str(p) for p in sorted(images.iterdir())]})
    made.cast_column("image", datasets.Image()).save_to_disk(str(tmp_path / "set"))
    for _ in range(2):  # the second time it finds its run
        run = cfa.audit(
            f"hf:{tmp_path / 'set'}", worlds.heads(), autoencoder=worlds.autoencoder(), out=tmp_path / "run"
        )
    assert run.record()["images"] == 8
    assert run.record()["data"]["source"] == "hf:set"


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"No such folder: \./nowhere|No such folder: nowhere"):
        open_dataset("hf:./nowhere")
    datasets.Dataset.from_dict({"x": [1]}).save_to_disk(str(tmp_path / "bare"))
    with pytest.raises(BadInput, match="must have a column of images, got x"):
        open_dataset(f"hf:{tmp_path / 'bare'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"The data set .*empty' \(the folder\) cannot be opened: ") as raised:
        open_dataset(f"hf:{tmp_path / 'empty'}")
    assert "\n" not in str(raised.value)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match=r"'owner/nowhere' \(no folder here, and on the hub\) cannot be opened: "):
        open_dataset("hf:owner/nowhere:train")
