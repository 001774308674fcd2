"""What a folder holds is read or counted by kind, and what makes images dark is said."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cfalign
import worlds
from cfalign._errors import BadInput
from cfalign.datasets import ImageFolder, ImageWarning, open_images, read_image, read_labels
from cfalign.datasets.file_kinds import ENDINGS, image_kind, kind_of
from cfalign.datasets.inventory import Inventory, LeftOut

ROWS, COLUMNS = np.mgrid[0:16, 0:16]
RAMP = (ROWS * 16 + COLUMNS) / 255  # every grey value of 8 bits once


def photos(folder: Path, endings: tuple[str, ...] = (".png",) * 4) -> Path:
    """An image per ending."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, ending in enumerate(endings):
        Image.fromarray((RAMP * 255).astype(np.uint8)).convert("RGB").save(folder / f"{i}{ending}")
    return folder


def counted(inventory: Inventory) -> dict[str, int]:
    assert inventory.given == inventory.images + inventory.labels + sum(kind.count for kind in inventory.left_out)
    return sum((Counter({kind.what: kind.count}) for kind in inventory.left_out), Counter())


def deep(folder: Path, bits: int, *, count: int = 4, scale: float = 1.0, name: str = "png") -> Path:
    """Ramps of so many bits in files of 16."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        values = np.round(RAMP * scale * (2**bits - 1)).astype(np.uint16)
        Image.fromarray(values).save(folder / f"{bits}_{i}.{name}")
    return folder


# ------------------------------------------------------------------ which files are read


def test_every_kind_that_pillow_reads_is_an_image(tmp_path: Path) -> None:
    endings = (
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".gif",
        ".jfif",
        ".jpe",
        ".dib",
        ".avif",
        ".bmp",
        ".tiff",
        ".webp",
        ".png",
    )
    folder = photos(tmp_path, endings)
    source = ImageFolder(folder, size=16)
    assert len(source.ids) == len(endings)
    assert source.inventory.left_out == ()
    loaded = source.load(range(len(endings)))
    assert loaded.skipped == ()
    for image, image_id in zip(loaded.images, source.ids, strict=True):
        expected = RAMP.round() if image_id.endswith(".pbm") else RAMP
        assert float((image[0] - torch.from_numpy(expected)).abs().mean()) < (0.5 if "pbm" in image_id else 0.05), (
            image_id
        )


def test_what_is_no_image_is_counted_by_kind(tmp_path: Path) -> None:
    folder = photos(tmp_path)
    for name in (
        "a.txt",
        "b.txt",
        "labels.csv",
        "Thumbs.db",
        ".DS_Store",
        ".cache/x.png",
        "sub/._0.png",
        "notes",
        "LICENSE",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"words")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = ImageFolder(folder, size=8)
    assert len(source.ids) == 4
    assert counted(source.inventory) == {
        ".txt": 2,
        ".csv": 1,
        ".db": 1,
        "hidden": 3,
        "no known ending": 1,
        "LICENSE": 1,
    }
    assert source.inventory.lost == 0
    hidden = next(kind for kind in source.inventory.left_out if kind.what == "hidden")
    assert set(hidden.examples) == {".DS_Store", ".cache/x.png", "sub/._0.png"}


@pytest.mark.parametrize("ending", [".jp2", ".dng", ".psd", ".svg", ".nii.gz", ".npy"])
def test_an_image_that_is_not_read_is_warned_of(tmp_path: Path, ending: str) -> None:
    folder = photos(tmp_path)
    (folder / f"x{ending}").write_bytes(b"\0" * 200)
    with pytest.warns(ImageWarning, match=r"1 of 5 images in .* are left out: 1 \..*convert it to PNG or TIFF\)\."):
        source = ImageFolder(folder, size=8)
    assert (source.inventory.given, source.inventory.images, source.inventory.lost) == (5, 4, 1)
    assert source.subset(["0.png"]).inventory == source.inventory


def test_one_lost_image_in_a_hundred_is_counted_and_not_warned_of() -> None:
    kind = LeftOut(".jp2", "not read", 1, lost=True, examples=("a.jp2",))
    assert Inventory(100, 99, left_out=(kind,)).warnings("x") == ()
    assert Inventory(99, 98, left_out=(kind,)).warnings("x") == (
        "1 of 99 images in x are left out: 1 .jp2 (not read).",
    )
    assert Inventory(99, 98, left_out=(kind,)).summary() == "Left out 1 of 99 files: 1 .jp2 (not read)."


@pytest.mark.parametrize(
    ("package", "ending", "head", "extra"),
    [
        ("pillow_heif", ".HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        ("pydicom", ".dcm", b"\0" * 128 + b"DICM", "dicom"),
    ],
)
def test_a_missing_package_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, ending: str, head: bytes, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    folder = photos(tmp_path)
    for name in (f"a{ending}", "without", "misnamed.jpg"):
        (folder / name).write_bytes(head)
    with pytest.warns(
        ImageWarning, match=rf"2 of 7 images .*{package.replace('_', '-')}: pip install \"cfalign\[{extra}\]\""
    ):
        source = ImageFolder(folder, size=8)
    (skipped,) = source.load(range(len(source.ids))).skipped
    assert skipped.image_id == "misnamed.jpg"
    assert f'pip install "cfalign[{extra}]"' in skipped.reason
    (tmp_path / "only").mkdir()
    (folder / f"a{ending}").rename(tmp_path / "only" / f"a{ending}")
    with pytest.raises(BadInput, match=rf"No image in .*got 1 {ending.lower()} \(needs the package .*{extra}\]\"\)"):
        ImageFolder(tmp_path / "only", size=8)


def test_a_file_without_a_known_ending_is_an_image_when_it_begins_like_one(tmp_path: Path) -> None:
    folder = photos(tmp_path, (".png", ".jpg", ".gif", ".tif", ".webp", ".avif"))
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / ("scan" if i == 0 else f"1.2.840.{i}"))
    (folder / "1.2.999").write_bytes(b"words")
    source = ImageFolder(folder, size=8)
    assert len(source.ids) == 6
    assert source.load(range(6)).skipped == ()
    assert counted(source.inventory) == {"no known ending": 1}


def test_what_cannot_be_opened_is_counted_and_never_waited_for(tmp_path: Path) -> None:
    folder = photos(tmp_path)
    os.mkfifo(folder / "pipe")
    (folder / "gone").symlink_to(folder / "nowhere")
    source = ImageFolder(folder, size=8)
    assert counted(source.inventory) == {"no known ending": 2}
    assert {kind.reason for kind in source.inventory.left_out} == {
        "does not begin like an image",
        "cannot be opened: no such file or directory",
    }


def test_data_sets_in_a_folder_say_how_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match=r"got 1 \.parquet \(a table: where it holds the images, write hf:FOLDER\)"):
        ImageFolder(tmp_path, size=8)


def test_a_film_is_no_photograph() -> None:
    assert image_kind(b"\0\0\0\x18ftypisom\0\0\0\0mp42") is None
    assert image_kind(b"\0\0\0\x18ftypmif1\0\0\0\0avif") == "AVIF"
    assert image_kind(b"\0\0\0\x18ftypmif1\0\0\0\0heic") == "HEIF"
    assert image_kind(b"") is None


def test_names_with_odd_endings_are_few_kinds(tmp_path: Path) -> None:
    folder = photos(tmp_path)
    for i in range(30):
        (folder / f"x.{i}").write_bytes(b"words")
        (folder / f"x.a{i}\nb").write_bytes(b"words")
        (folder / f"x.\x1b[31m{i}").write_bytes(b"words")
    assert counted(ImageFolder(folder, size=8).inventory) == {"no known ending": 90}


def test_an_ending_that_is_known_needs_no_look_inside() -> None:
    def head() -> bytes:
        raise AssertionError("it was opened")

    for name in ("a.png", "a.JPG", "a.jp2", "a.csv", ".x.png", "DICOMDIR"):
        kind_of(name, head)
    assert all(ending == ending.lower() and ending.startswith(".") for ending in ENDINGS)


# ------------------------------------------------------------------ names


def test_names_in_both_unicode_forms(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Müller ärztin.png") for form in ("NFC", "NFD"))
    for folder, name in (("one", composed), ("two", apart)):
        photos(tmp_path / folder, (".png",))
        (tmp_path / folder / "0.png").rename(tmp_path / folder / name)
    source = ImageFolder(tmp_path, size=8)
    assert source.load([0, 1]).skipped == ()
    for form in ("NFC", "NFD"):
        names = [unicodedata.normalize(form, f"{place}/Müller ärztin.png") for place in ("one", "two")]
        (tmp_path / "labels.csv").write_text("image,hat\n" + "".join(f"{n},{i}\n" for i, n in enumerate(names)))
        assert read_labels(tmp_path / "labels.csv", ids=source.ids).values.ravel().tolist() == [0, 1]
        assert source.subset(names[1:]).ids == source.ids[1:]


# ------------------------------------------------------------------ bits of grey values


def test_twelve_bits_in_files_of_sixteen_are_warned_of_and_mended(tmp_path: Path) -> None:
    folder = deep(tmp_path / "scans", 12)
    with pytest.warns(
        ImageWarning, match=r"hold values from 0 to 4095, and white is 65535; .* give --bit-depth 12 \(in Py"
    ):
        dark = open_images(folder, size=16)
    assert float(dark.load([0]).images.max()) == pytest.approx(4095 / 65535)
    told = open_images(folder, size=16, bit_depth=12)
    torch.testing.assert_close(told.load([0]).images[0, 0].double(), torch.from_numpy(RAMP), rtol=0, atol=1.5e-4)
    assert told.fingerprint() != dark.fingerprint()
    meant = open_images(folder, size=16, bit_depth=16)
    torch.testing.assert_close(meant.load([0]).images, dark.load([0]).images, rtol=0, atol=0)
    with pytest.warns(ImageWarning, match="12_0.png are dark: .* --bit-depth 12"):
        read_image(folder / "12_0.png", size=8)
    assert float(read_image(folder / "12_0.png", size=16, bit_depth=12).max()) == 1


@pytest.mark.parametrize(("bits", "asked"), [(8, 8), (10, 10), (11, 12), (14, 14), (15, 15)])
def test_the_depth_that_is_named_holds_the_values(tmp_path: Path, bits: int, asked: int) -> None:
    with pytest.warns(ImageWarning, match=f"give --bit-depth {asked} "):
        open_images(deep(tmp_path / "scans", bits, name="tif"), size=8)


def test_sixteen_bits_say_nothing_and_a_mixture_is_warned_of(tmp_path: Path) -> None:
    folder = deep(tmp_path / "scans", 16)
    assert open_images(folder, size=8).ids[0] == "16_0.png"
    deep(folder, 12, count=2)
    with pytest.warns(
        ImageWarning, match=r"2 of 6 grey images of 16 bits .* hold no value above 4095, and others more"
    ):
        open_images(folder, size=8)


def test_values_beyond_the_depth_are_refused_image_by_image(tmp_path: Path) -> None:
    folder = deep(tmp_path / "scans", 12, count=1)
    deep(folder, 14, count=1)
    loaded = open_images(folder, size=8, bit_depth=12).load([0, 1])
    assert [s.reason for s in loaded.skipped] == ["integer grey values reach from 0 to 16383; expected 0 to 4095"]


@pytest.mark.parametrize("depth", [0, 17, 2.5, "12"])
def test_a_bad_depth(tmp_path: Path, depth: object) -> None:
    with pytest.raises((BadInput, TypeError), match=r"bit depth must be a whole number from 1 to 16|bit_depth"):
        ImageFolder(photos(tmp_path), size=8, bit_depth=depth)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="A bit depth is for image files, got Tensor"):
        open_images(torch.zeros(1, 3, 4, 4), bit_depth=12)


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_significant_bits_of_a_png_count_whether_the_values_were_spread_or_not(tmp_path: Path, bits: int) -> None:
    few = np.round(RAMP * (2**bits - 1)).astype(np.uint16)
    shifted = few << (16 - bits)
    forms = {
        "plain": few,
        "shifted": shifted,
        "repeated": shifted | (few >> (2 * bits - 16)),
        "dark": shifted // 4 * 4 // 8,
    }
    forms["dark"] = (few // 16) << (16 - bits)
    for name, values in forms.items():
        file = tmp_path / f"{name}.png"
        Image.fromarray(values).save(file)
        content = file.read_bytes()
        file.write_bytes(content[:33] + chunk(b"sBIT", bytes([bits])) + content[33:])
    source = ImageFolder(tmp_path, size=16)
    images = dict(zip(source.ids, source.load(range(4)).images[:, 0], strict=True))
    for name in ("plain", "shifted", "repeated"):
        assert float((images[f"{name}.png"] - torch.from_numpy(RAMP)).abs().max()) < 2 ** (1 - bits), name
    assert float(images["dark.png"].max()) == pytest.approx(1 / 16, abs=0.01)


def test_a_tiff_says_its_bits(tmp_path: Path) -> None:
    values = np.round(RAMP * 4095).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "depth.tif", tiffinfo={281: 4095})
    assert float(ImageFolder(tmp_path, size=16).load([0]).images.max()) == 1
    Image.fromarray(values).save(tmp_path / "depth.tif", tiffinfo={281: 4090})  # what this one image holds
    with pytest.warns(ImageWarning, match="--bit-depth 12"):
        ImageFolder(tmp_path, size=16)


def test_a_pgm_says_its_white(tmp_path: Path) -> None:
    values = np.round(RAMP * 4095).astype(">u2")
    (tmp_path / "x.pgm").write_bytes(b"P5 16 16 4095\n" + values.tobytes())
    image = ImageFolder(tmp_path, size=16).load([0]).images[0, 0]
    torch.testing.assert_close(image.double(), torch.from_numpy(RAMP), rtol=0, atol=2e-4)


def test_dark_and_constant_folders(tmp_path: Path) -> None:
    for name, value, how in (("masks", 1, "almost black"), ("white", 255, "almost constant")):
        folder = tmp_path / name
        folder.mkdir()
        for i in range(8):
            Image.new("RGB", (4, 4), (value,) * 3).save(folder / f"{i}.png")
        with pytest.warns(ImageWarning, match=rf"{name} are {how}: the values of 8 that were looked at lie between"):
            ImageFolder(folder, size=4)
    Image.new("L", (4, 4), 1).save(tmp_path / "masks" / "0.png")
    told = ImageFolder(tmp_path / "masks", size=4, bit_depth=1).load([0])
    assert float(told.images.min()) == 1


def test_a_tensor_that_was_divided_twice_is_almost_black() -> None:
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert open_images(images).ids[0] == "000000"
    with pytest.warns(ImageWarning, match=r"images in tensor are almost black: the values of 8 .* check their scale"):
        open_images(images / 255)
    with pytest.warns(ImageWarning, match="images in array are almost constant"):
        open_images(np.full((9, 3, 4, 4), 200, dtype=np.uint8))


def test_colours_of_sixteen_bits_cannot_be_scaled(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + bytes([0, 128]) * 12 for _ in range(4))
    header = (4).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    assert ImageFolder(tmp_path, size=4).load([0]).skipped == ()
    (skipped,) = ImageFolder(tmp_path, size=4, bit_depth=12).load([0]).skipped
    assert skipped.reason.startswith("colours of 16 bits, of which the upper 8 are read")


# ------------------------------------------------------------------ commands


def test_an_audit_tells_and_records_what_it_left_out(tmp_path: Path) -> None:
    folder = worlds.write_images(tmp_path / "images", 8)
    (folder / "phone.jp2").write_bytes(b"x")
    (folder / "labels.csv").write_text("image\n")
    given = worlds.options(
        images=folder,
        classifier=f"{worlds.__file__}:heads",
        autoencoder=f"{worlds.__file__}:autoencoder",
        out=tmp_path / "run",
    )
    ended = worlds.cfalign("audit", *given, folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "1 of 9 images in" in ended.err
    assert "Left out 2 of 10 files:\n  1 .jp2: a kind of image that is not read" in ended.out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["skipped"] == []
    inventory = record["inventory"]
    assert (inventory["given"], inventory["images"]) == (10, 8)
    assert [(k["what"], k["count"], k["lost"], k["examples"]) for k in inventory["left_out"]] == [
        (".jp2", 1, True, ["phone.jp2"]),
        (".csv", 1, False, ["labels.csv"]),
    ]
    assert inventory["warnings"] == [
        "1 of 9 images in images are left out: 1 .jp2 (a kind of image that is not read: convert it to PNG or TIFF)."
    ]
    report = (tmp_path / "run" / "report.md").read_text()
    assert "The images were opened with a warning: `1 of 9 images in images are left out" in report
    (folder / "more.csv").write_text("image\n")  # a table beside the images is no other data
    again = worlds.cfalign("audit", *given, folder=tmp_path)
    assert again.code == 0, again.err


def test_an_audit_of_a_bank_keeps_what_the_bank_was_told(tmp_path: Path) -> None:
    folder = worlds.write_images(tmp_path / "images", 8)
    (folder / "phone.jp2").write_bytes(b"x")
    with pytest.warns(ImageWarning, match="1 of 9 images"):
        made = cfalign.bank(folder, worlds.heads(), autoencoder=worlds.autoencoder(), out=tmp_path / "bank")
    run = cfalign.audit(made, worlds.heads(), out=tmp_path / "run")
    assert run.record()["inventory"] == made.run.record()["inventory"]
    assert run.record()["inventory"]["left_out"][0]["what"] == ".jp2"


def test_one_image_is_explained_at_its_bit_depth(tmp_path: Path) -> None:
    file = deep(tmp_path, 12, count=1) / "12_0.png"
    given = {"autoencoder": worlds.autoencoder(), "classifier": worlds.heads()}
    options = cfalign.ExplainOptions(size=16, bit_depth=12, saliency=False, increase=True)
    told = cfalign.explain(file, worlds.heads()["smiling"], **given, options=options)  # type: ignore[arg-type]
    assert float(told.image.max()) == 1
    with pytest.warns(ImageWarning, match="--bit-depth 12"):
        cfalign.explain(
            file,
            worlds.heads()["smiling"],
            **given,  # type: ignore[arg-type]
            options=cfalign.ExplainOptions(size=16, saliency=False, increase=True),
        )


def test_a_command_takes_the_bit_depth(tmp_path: Path) -> None:
    folder = deep(tmp_path / "scans", 12, count=6)
    given = worlds.options(
        images=folder,
        classifier=f"{worlds.__file__}:heads",
        autoencoder=f"{worlds.__file__}:autoencoder",
    )
    ended = worlds.cfalign("audit", *given, "--out", tmp_path / "dark", folder=tmp_path)
    assert ended.err.count("--bit-depth 12") == 1
    ended = worlds.cfalign("audit", *given, "--bit-depth", "12", "--out", tmp_path / "run", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "--bit-depth" not in ended.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["inventory"]["bit_depth"] == 12
