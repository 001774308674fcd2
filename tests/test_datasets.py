"""Images and labels as users have them: real files, made here, in every odd form that we know of."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cfalign.datasets.decoding as decoding_module
import worlds
from cfalign._errors import BadInput
from cfalign.datasets import (
    ImageFolder,
    ImageSource,
    ImageWarning,
    TensorImages,
    in_batches,
    open_images,
    read_labels,
)

HALF_LEVEL = 0.5 / 255


def gradient(width: int = 8, height: int = 8) -> Image.Image:
    """An RGB image whose every pixel differs: red grows to the right, green downwards."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([columns * 255 // max(width - 1, 1), rows * 255 // max(height - 1, 1), columns * 0 + 40], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def only(folder: Path, *, size: int | None = None, crop: str = "square") -> torch.Tensor:
    """The single image of a folder, [3, h, w]."""
    loaded = ImageFolder(folder, size=size, crop=crop).load([0])  # type: ignore[arg-type]
    assert loaded.skipped == ()
    return loaded.images[0]


def reason(folder: Path, *, size: int | None = 8) -> str:
    loaded = ImageFolder(folder, size=size).load([0])
    assert loaded.images.shape[0] == 0
    assert loaded.indices == ()
    (skipped,) = loaded.skipped
    assert "\n" not in skipped.reason
    assert str(folder) not in skipped.reason
    return skipped.reason


def as_floats(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.float32) / 255).permute(2, 0, 1)


# ------------------------------------------------------------------ folders


def test_ids_are_sorted_relative_paths_of_visible_image_files(tmp_path: Path) -> None:
    for name in (
        "b.png",
        "a/z.JPG",
        "a/c/d.webp",
        "a.bmp",
        "t.tiff",
        ".hidden.png",
        ".cache/x.png",
        "notes.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("not an image")
        else:
            gradient().save(path)
    source = ImageFolder(tmp_path, size=8)
    assert source.ids == ("a.bmp", "a/c/d.webp", "a/z.JPG", "b.png", "t.tiff")
    assert source.source == tmp_path.name
    assert source.shape == (8, 8)
    assert isinstance(source, ImageSource)
    loaded = source.load(range(5))
    assert loaded.images.shape == (5, 3, 8, 8)
    assert loaded.images.dtype == torch.float32
    assert loaded.indices == (0, 1, 2, 3, 4)
    torch.testing.assert_close(loaded.images[3], as_floats(gradient()), rtol=0, atol=0)


def test_load_keeps_the_order_asked_for_and_skips_only_what_is_broken(tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (4, 4), (i * 10,) * 3).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"")
    loaded = ImageFolder(tmp_path, size=4).load(np.array([3, 1, 0, 3]).tolist())
    assert loaded.indices == (3, 0, 3)
    assert len(loaded) == 3
    assert (loaded.images[:, 0, 0, 0] * 255).round().tolist() == [30, 0, 30]
    assert [(s.image_id, s.reason) for s in loaded.skipped] == [("1.png", "empty file (0 bytes)")]


@pytest.mark.parametrize("bad", [-1, 4])
def test_no_such_position(tmp_path: Path, bad: int) -> None:
    gradient().save(tmp_path / "x.png")
    with pytest.raises(IndexError):
        ImageFolder(tmp_path, size=4).load([bad])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nowhere", "No such image folder"),
        (lambda p: _written(p / "x.png"), "got the file .*; name the folder that holds it"),
        (lambda p: p, r"expected \.jpg, \.png, .* or the like, in sub-folders too; got an empty folder"),
        (lambda p: _written(p / "x.txt").parent, r"expected \.jpg.* got 1 \.txt \(no image\)"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=message):
        ImageFolder(make(tmp_path), size=8)


def _written(path: Path) -> Path:
    path.write_bytes(b"x")
    return path


def test_bad_size(tmp_path: Path) -> None:
    gradient().save(tmp_path / "x.png")
    with pytest.raises(BadInput, match="at least 1, or None; got 0"):
        ImageFolder(tmp_path, size=0)


def tell_wrong_types(folder: Path, answers: Path) -> None:
    """What is said of arguments of other types than the hints have, written to a file."""
    with answers.open("w") as file:
        for call in (
            lambda: ImageFolder(folder, size=2.5),  # type: ignore[arg-type]
            lambda: ImageFolder(folder, crop="circle"),  # type: ignore[arg-type]
            lambda: ImageFolder(folder).subset([0, 1, 2, 3, 4]),  # type: ignore[arg-type]
            lambda: ImageFolder(folder).subset(["1.png", True]),  # type: ignore[list-item]
            lambda: TensorImages(torch.zeros(2, 3, 4, 4), [1, 2]),  # type: ignore[list-item]
            lambda: open_images([folder]),  # type: ignore[arg-type]
        ):
            with pytest.raises(BadInput) as caught:
                call()
            print(caught.value, file=file)


def test_wrong_types_are_bad_input_too(five: Path, tmp_path: Path) -> None:
    """In a process of its own: in this one the hints are checked at every call, which answers first."""
    assert worlds.apart(tell_wrong_types, five, tmp_path / "answers") == 0
    assert (tmp_path / "answers").read_text().splitlines() == [
        "The image size must be a whole number of pixels, at least 1, or None; got 2.5.",
        "crop must be one of square, none, got 'circle'.",
        "A subset needs image ids (text) or a mask (one bool per image), got numbers or a mixture.",
        "A subset needs image ids (text) or a mask (one bool per image), got numbers or a mixture.",
        "Image ids must be a sequence of texts, one per image; got int.",
        "Images must be a folder, a tensor or array [n, channels, height, width], a torch data set or loader, or an "
        "image source, got list.",
    ]


def test_size_none_keeps_equal_sizes_and_names_two_that_differ(tmp_path: Path) -> None:
    gradient(10, 6).save(tmp_path / "a.png")
    gradient(12, 6).save(tmp_path / "b.png")
    _written(tmp_path / "broken.png")
    assert ImageFolder(tmp_path).shape == (6, 6)  # the centre squares agree
    assert ImageFolder(tmp_path).load([0, 1, 2]).images.shape == (2, 3, 6, 6)
    with pytest.raises(BadInput, match=r"a\.png has 10x6 and b\.png has 12x6; give a size"):
        ImageFolder(tmp_path, crop="none")
    (tmp_path / "b.png").unlink()
    torch.testing.assert_close(only_good(tmp_path), as_floats(gradient(10, 6)), rtol=0, atol=0)


def only_good(folder: Path) -> torch.Tensor:
    source = ImageFolder(folder, crop="none")
    return source.load(range(len(source))).images[0]


def test_size_none_with_nothing_readable(tmp_path: Path) -> None:
    _written(tmp_path / "x.png")
    with pytest.raises(BadInput, match=r"None of the 1 images .* \(x\.png: not an image"):
        ImageFolder(tmp_path)


def test_links_are_followed_once_and_a_loop_ends(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    real.mkdir()
    gradient().save(real / "x.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(real)
    (real / "up").symlink_to(root)
    assert ImageFolder(root, size=8).ids == ("linked/x.png",)


def test_a_folder_that_cannot_be_listed_is_an_error_not_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient().save(tmp_path / "x.png")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: str):  # type: ignore[no-untyped-def]
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BadInput, match="locked cannot be listed: permission denied"):
        ImageFolder(tmp_path, size=8)


@pytest.mark.skipif(os.name != "posix", reason="needs names of bytes")
def test_a_name_that_is_not_utf8_gets_an_id_that_is(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(_png())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    source = ImageFolder(tmp_path, size=8)
    assert source.ids == ("caf\\xe9.png",)
    assert source.load([0]).indices == (0,)
    source.fingerprint()


def _png() -> bytes:
    buffer = io.BytesIO()
    gradient().save(buffer, "PNG")
    return buffer.getvalue()


# ------------------------------------------------------------------ pixels: modes


def test_grey_and_bilevel_become_three_equal_channels(tmp_path: Path) -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(ramp).save(tmp_path / "a.png")
    Image.fromarray(ramp > 100).save(tmp_path / "b.png")  # mode "1"
    images = ImageFolder(tmp_path).load([0, 1]).images
    for channel in range(3):
        assert (images[0, channel] * 255).round().to(torch.uint8).tolist() == ramp.tolist()
        assert images[1, channel].tolist() == (ramp > 100).astype(float).tolist()


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    half_red = np.zeros((4, 4, 4), dtype=np.uint8)
    half_red[..., 0], half_red[..., 3] = 255, 128
    half_red[0, 0] = (0, 0, 0, 0)
    Image.fromarray(half_red).save(tmp_path / "a_rgba.png")
    grey = np.zeros((4, 4, 2), dtype=np.uint8)
    grey[..., 1] = 128
    Image.fromarray(grey, "LA").save(tmp_path / "b_la.png")
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "c_index.png", transparency=0)
    palette.save(tmp_path / "d_bytes.png", transparency=b"\x00\x80")  # Pillow warns about this kind
    Image.new("RGB", (4, 4), (0, 255, 0)).save(tmp_path / "e_key.png", transparency=(0, 255, 0))
    Image.new("L", (4, 4), 7).save(tmp_path / "f_grey_key.png", transparency=7)
    images = ImageFolder(tmp_path).load(range(6)).images
    half = 127 / 255

    def pixel(i: int, row: int, column: int) -> list[float]:
        return images[i, :, row, column].tolist()

    assert pixel(0, 0, 0) == [1, 1, 1]
    assert pixel(0, 1, 1) == pytest.approx([1, half, half], abs=HALF_LEVEL)
    assert pixel(1, 1, 1) == pytest.approx([half] * 3, abs=HALF_LEVEL)
    assert pixel(2, 0, 0) == [1, 1, 1]
    assert pixel(2, 1, 1) == [0, 0, 1]
    assert pixel(3, 0, 0) == [1, 1, 1]
    assert pixel(3, 1, 1) == pytest.approx([half, half, 1], abs=HALF_LEVEL)
    assert pixel(4, 2, 2) == [1, 1, 1]
    assert pixel(5, 2, 2) == [1, 1, 1]


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "x.bmp")
    assert (only(tmp_path)[:, 0, 0] * 255).round().tolist() == [10, 200, 30]


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_sixteen_bits_are_scaled_by_65535_and_never_squeezed_into_eight(tmp_path: Path, name: str) -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / name)
    image = only(tmp_path)
    assert float((image - torch.from_numpy(values / 65535).float()).abs().max()) < 1e-6
    assert len(torch.unique(image)) == 64
    small = only(tmp_path, size=4)
    eight_bit = Image.fromarray((values / 257).round().astype(np.uint8)).resize((4, 4), Image.Resampling.BICUBIC)
    assert float((small - as_floats(eight_bit)).abs().max()) <= 1 / 255


def test_big_endian_sixteen_bit_tiff(tmp_path: Path) -> None:
    image = Image.frombytes("I;16B", (2, 2), struct.pack(">4H", 0, 257, 32768, 65535))
    image.save(tmp_path / "x.tif")
    assert (only(tmp_path)[0] * 65535).round().tolist() == [[0, 257], [32768, 65535]]


def test_integers_of_32_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535], [32768, 1]], dtype=np.int32)).save(tmp_path / "x.tif")
    assert (only(tmp_path)[1] * 65535).round().tolist() == [[0, 65535], [32768, 1]]
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(tmp_path / "x.tif")
    assert reason(tmp_path) == "integer grey values reach from 0 to 70000; expected 0 to 65535"


def test_float_tiff_must_hold_0_to_1(tmp_path: Path) -> None:
    values = np.array([[0, 0.1], [0.123456, 1]], dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "x.tif")
    torch.testing.assert_close(only(tmp_path)[2], torch.from_numpy(values), rtol=0, atol=0)
    Image.fromarray(values * 255).save(tmp_path / "x.tif")
    assert reason(tmp_path) == "float grey values reach from 0 to 255; expected 0 to 1"
    Image.fromarray(values * np.float32("nan")).save(tmp_path / "x.tif")
    assert "nan" in reason(tmp_path)


def test_resizing_floats_stays_in_range(tmp_path: Path) -> None:
    edge = np.zeros((16, 16), dtype=np.float32)
    edge[:, 8:] = 1  # bicubic overshoots here
    Image.fromarray(edge).save(tmp_path / "x.tif")
    image = only(tmp_path, size=11)
    assert float(image.min()) == 0
    assert float(image.max()) == 1


@pytest.mark.parametrize("name", ["x.jpg", "x.tif"])
def test_cmyk_colours_are_plausible(tmp_path: Path, name: str) -> None:
    for ink, expected in {
        (0, 255, 255, 0): (1, 0, 0),
        (255, 0, 255, 0): (0, 1, 0),
        (0, 0, 0, 255): (0, 0, 0),
        (0, 0, 0, 0): (1, 1, 1),
    }.items():
        Image.new("CMYK", (16, 16), ink).save(tmp_path / name)
        with Image.open(tmp_path / name) as stored:
            assert stored.mode == "CMYK"
        assert only(tmp_path)[:, 8, 8].tolist() == pytest.approx(expected, abs=0.03)


def test_first_frame_of_several(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("a.tif", "b.png", "c.webp"):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    frames[0].save(tmp_path / "d.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(ImageWarning, match=r"4 of 4 images .* hold several frames: the first of each is read"):
        source = ImageFolder(tmp_path)
    for image in source.load(range(4)).images:
        assert image[:, 4, 4].tolist() == [1, 0, 0]


def test_content_counts_not_the_extension(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(_png())
    torch.testing.assert_close(only(tmp_path), as_floats(gradient()), rtol=0, atol=0)


# ------------------------------------------------------------------ pixels: geometry


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tif"])
def test_exif_orientation_turns_the_picture_upright(tmp_path: Path, name: str, orientation: int) -> None:
    upright = Image.new("RGB", (32, 16), "black")
    upright.paste((255, 0, 0), (0, 0, 16, 8))  # top left
    upright.paste((0, 0, 255), (16, 8, 32, 16))  # bottom right
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation in back else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / name, exif=exif, quality=95)
    image = only(tmp_path, crop="none")
    assert image.shape == (3, 16, 32)
    assert image[:, 4, 8].tolist() == pytest.approx([1, 0, 0], abs=0.05)
    assert image[:, 12, 24].tolist() == pytest.approx([0, 0, 1], abs=0.05)
    assert image[:, 4, 24].tolist() == pytest.approx([0, 0, 0], abs=0.05)


def test_broken_exif_leaves_the_picture_alone(tmp_path: Path) -> None:
    gradient(16, 16).save(tmp_path / "x.jpg", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff" + b"\xff" * 40)
    assert only(tmp_path, crop="none").shape == (3, 16, 16)


def test_centre_square_then_antialiased_resize(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste((0, 0, 255), (10, 0, 30, 20))
    wide.save(tmp_path / "x.png")
    assert only(tmp_path, size=10).amax((1, 2)).tolist() == [0, 0, 1]
    stretched = only(tmp_path, size=10, crop="none")
    assert stretched[:, 5, 0].tolist() == pytest.approx([1, 0, 0], abs=0.02)
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "x.png")
    inner = only(tmp_path, size=16)[:, :, 2:-2]
    assert float((inner - 0.5).abs().max()) < 0.02  # without antialiasing: 0 or 1


def test_large_jpegs_decoded_at_a_reduced_scale_look_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 17, 3), dtype=np.uint8)).resize((1700, 1200))
    smooth.save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as whole:
        decoded = whole.convert("RGB").crop((250, 0, 1450, 1200))
    expected = as_floats(decoded.resize((32, 32), Image.Resampling.BICUBIC))
    difference = (only(tmp_path, size=32) - expected).abs()
    assert float(difference.max()) < 0.04
    assert float(difference.mean()) < 0.01


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24))
def test_any_frame_fits_any_size(tmp_path_factory: pytest.TempPathFactory, width: int, height: int, size: int) -> None:
    folder = tmp_path_factory.mktemp("any")
    Image.new("RGB", (width, height), (51, 102, 204)).save(folder / "x.png")
    image = only(folder, size=size)
    assert image.shape == (3, size, size)
    assert (image.flatten(1).T * 255).round().unique(dim=0).tolist() == [[51, 102, 204]]


# ------------------------------------------------------------------ files that are no images


def test_truncated_jpeg(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / "x.jpg")
    data = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(data[: len(data) // 2])
    assert "truncated" in reason(tmp_path)
    (tmp_path / "x.jpg").write_bytes(data[:10])
    assert reason(tmp_path)


def test_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("<html>404</html>")
    assert reason(tmp_path).startswith("not an image")


def test_other_formats_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    assert reason(tmp_path).startswith("not an image")


def test_decompression_bomb(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side, expected in ((10_000, "10000x10000 pixels"), (40_000, "more pixels than Pillow accepts")):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        (tmp_path / "x.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        )
        assert expected in reason(tmp_path)


def test_missing_target_of_a_link_and_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to(tmp_path / "gone.png")
    assert reason(tmp_path) == "no such file or directory"
    (tmp_path / "x.png").unlink()
    os.mkfifo(tmp_path / "x.png")
    assert reason(tmp_path) == "not a regular file"
    ImageFolder(tmp_path, size=8).fingerprint()  # does not wait for a writer either


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient().save(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    if os.access(tmp_path / "x.png", os.R_OK):  # root reads everything

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    assert reason(tmp_path) == "permission denied"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_never_raises_or_warns(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"]))
    buffer = io.BytesIO()
    gradient(24, 24).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damage")
    (folder / "x.png").write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    loaded = ImageFolder(folder, size=8).load([0])
    assert len(loaded) + len(loaded.skipped) == 1
    assert torch.isfinite(loaded.images).all()


def test_warning_filters_are_left_as_they_were_even_with_several_loaders(tmp_path: Path) -> None:
    gradient().save(tmp_path / "x.png")
    source = ImageFolder(tmp_path, size=8)
    before = list(warnings.filters)
    threads = [threading.Thread(target=source.load, args=([0] * 20,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


# ------------------------------------------------------------------ fingerprints, subsets, batches


@pytest.fixture
def five(tmp_path: Path) -> Path:
    for i in range(5):
        Image.new("RGB", (6, 6), (i * 20,) * 3).save(tmp_path / f"{i}.png")
    return tmp_path


def test_fingerprint_follows_content_not_place_or_time(five: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    first = ImageFolder(five, size=6).fingerprint()
    copy = tmp_path_factory.mktemp("copy")
    for path in five.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
        os.utime(copy / path.name, (0, 0))
    assert ImageFolder(copy, size=6).fingerprint() == first
    assert ImageFolder(copy).fingerprint() == first  # the same pixels arrive
    assert ImageFolder(copy, size=5).fingerprint() != first
    (copy / "0.png").rename(copy / "00.png")
    assert ImageFolder(copy, size=6).fingerprint() != first
    (copy / "00.png").rename(copy / "0.png")
    Image.new("RGB", (6, 6), "pink").save(copy / "3.png")
    assert ImageFolder(copy, size=6).fingerprint() != first
    source = ImageFolder(five, size=6)
    assert source.subset(["0.png", "1.png"]).fingerprint() != source.subset(["1.png", "0.png"]).fingerprint()


def test_fingerprint_reads_pieces_of_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    read = []
    update = hashlib.sha256

    class Counting:
        def __init__(self, data: bytes = b"") -> None:
            self.inner = update(data)

        def update(self, data: bytes) -> None:
            read.append(len(data))
            self.inner.update(data)

        def hexdigest(self) -> str:
            return self.inner.hexdigest()

    monkeypatch.setattr(decoding_module.hashlib, "sha256", Counting)
    content = bytearray(1_000_000)
    seen = set()
    for place in (None, 0, 500_000, 999_999):  # start, middle and end count
        changed = bytearray(content)
        if place is not None:
            changed[place] = 1
        path.write_bytes(changed)
        seen.add(ImageFolder(tmp_path, size=8).fingerprint())
    assert len(seen) == 4
    assert sum(read) < 4 * 50_000


def test_subset_by_ids_and_by_mask(five: Path) -> None:
    source = ImageFolder(five, size=6)
    named = source.subset(["3.png", "1.png"])
    assert named.ids == ("3.png", "1.png")
    assert (named.load([0, 1]).images[:, 0, 0, 0] * 255).round().tolist() == [60, 20]
    mask = [True, False, False, False, True]
    for keep in (mask, np.array(mask), torch.tensor(mask)):
        assert source.subset(keep).ids == ("0.png", "4.png")
    assert source.subset(named.ids).subset(["1.png"]).ids == ("1.png",)
    assert len(source) == 5  # unchanged


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (["9.png"], r"No image has the id '9.png'; nearest valid"),
        (["1.png", "1.png"], "got '1.png' twice"),
        ([True], "expected 5, got 1"),
        ([False] * 5, "keeps none of the 5 images"),
        ([], "keeps none of the 5 images"),
        ("1.png", "got the text"),
    ],
)
def test_subsets_that_cannot_be(five: Path, keep, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=message):
        ImageFolder(five, size=6).subset(keep)


def test_batches_cover_everything_in_order(five: Path) -> None:
    source = ImageFolder(five, size=6)
    assert [loaded.indices for loaded in in_batches(source, batch=2)] == [(0, 1), (2, 3), (4,)]
    assert [loaded.indices for loaded in in_batches(source, batch=2, indices=[4, 0, 2])] == [(4, 0), (2,)]
    with pytest.raises(BadInput, match="at least 1"):
        next(in_batches(source, batch=0))


# ------------------------------------------------------------------ tensors


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_arrive_as_float32_copies(kind: torch.dtype) -> None:
    images = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(kind).requires_grad_()
    source = TensorImages(images)
    assert source.ids == ("000000", "000001", "000002")
    assert source.shape == (4, 5)
    loaded = source.load([2, 0])
    assert loaded.images.dtype == torch.float32
    assert not loaded.images.requires_grad
    torch.testing.assert_close(loaded.images, images.detach()[[2, 0]].float(), rtol=0, atol=0)
    loaded.images.zero_()
    assert images.detach().abs().sum() > 0
    assert isinstance(source, ImageSource)


def test_uint8_is_scaled_and_one_channel_becomes_three() -> None:
    pixels = np.array([[[[0, 51], [255, 102]]]], dtype=np.uint8)
    for images in (pixels, torch.from_numpy(pixels)):
        image = TensorImages(images, ["x"]).load([0]).images[0]
        assert image.shape == (3, 2, 2)
        assert image[1].tolist() == pytest.approx(np.array([[0, 0.2], [1, 0.4]]))


def test_arrays_of_any_layout() -> None:
    base = np.random.default_rng(0).random((4, 5, 6, 3)).astype(">f8")
    base.setflags(write=False)  # torch would warn
    view = base.transpose(0, 3, 1, 2)[::-1, :, ::-1]
    loaded = TensorImages(view).load(range(4))
    np.testing.assert_allclose(loaded.images.numpy(), view, atol=1e-7)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4), r"shape \[n, channels, height, width\], got \[3, 4, 4\]; for one image"),
        (torch.zeros(2, 4, 4, 3), r"channels last\? permute"),
        (torch.zeros(2, 2, 4, 4), r"1 or 3 channels on axis 1, got 2"),
        (torch.zeros(0, 3, 4, 4), "at least one pixel, got the shape"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), r"got torch\.int64"),
        (np.zeros((1, 3, 4, 4), dtype=np.uint16), "got uint16"),
        (np.zeros((1, 3, 4, 4), dtype=bool), "got bool"),
        (torch.full((1, 3, 4, 4), torch.nan), "got NaN or infinity in '000000'"),
        (torch.full((1, 3, 4, 4), torch.inf), "got NaN or infinity in '000000'"),
        (torch.full((1, 3, 4, 4), 255.0), "got 255 to 255.*divide by 255"),
        (torch.full((1, 3, 4, 4), -1.5), "got -1.5 to -1.5.*undo the normalisation"),
    ],
)
def test_tensors_that_are_no_images(images, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=message):
        TensorImages(images)


def test_the_bad_image_is_named_in_any_chunk() -> None:
    images = torch.zeros(600, 1, 2, 2)
    images[555, 0, 1, 1] = 1.2
    with pytest.raises(BadInput, match=r"to 1\.2, the farthest in '000555'"):
        TensorImages(images)
    images[555, 0, 1, 1] = 1.00005  # rounding
    assert float(TensorImages(images).load([555]).images.max()) == 1
    images[555, 0, 1, 1] = torch.nan
    with pytest.raises(BadInput, match="got NaN or infinity in '000555'"):
        TensorImages(images)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a"], "expected 2, got 1"),
        (["a", "a"], "got 'a' twice"),
        ("ab", "texts"),
    ],
)
def test_bad_ids(ids, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=message):
        TensorImages(torch.zeros(2, 3, 4, 4), ids)


def test_tensor_fingerprint_and_subset() -> None:
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    source = TensorImages(images, list("abcde"))
    some = source.subset(["d", "b"])
    torch.testing.assert_close(some.load([0, 1]).images, images[[3, 1]], rtol=0, atol=0)
    assert some.fingerprint() == TensorImages(images[[3, 1]].numpy(), ["d", "b"]).fingerprint()
    assert some.fingerprint() != source.subset(["b", "d"]).fingerprint()
    changed = images.clone()
    changed[4, 0, 0, 0] += 1e-3
    assert TensorImages(changed.clamp(0, 1), list("abcde")).fingerprint() != source.fingerprint()


def test_tensors_are_cropped_and_resized_on_request() -> None:
    images = torch.zeros(1, 3, 8, 16)
    images[..., 4:12] = 1
    loaded = TensorImages(images, size=4).load([0])
    assert loaded.images.shape == (1, 3, 4, 4)
    assert float(loaded.images.min()) == 1
    with pytest.raises(BadInput, match="at least 1"):
        TensorImages(images, size=0)


# ------------------------------------------------------------------ open_images


def test_open_images_takes_what_users_have(five: Path) -> None:
    assert isinstance(open_images(five, size=4), ImageFolder)
    assert isinstance(open_images(str(five)), ImageFolder)
    assert isinstance(open_images(torch.zeros(1, 3, 4, 4)), TensorImages)
    assert open_images(np.zeros((1, 1, 4, 4), dtype=np.uint8), size=2).shape == (2, 2)
    source = ImageFolder(five, size=4)
    assert open_images(source) is source
    assert open_images(source, size=4) is source
    with pytest.raises(BadInput, match="must deliver 8x8, got 4x4"):
        open_images(source, size=8)


# ------------------------------------------------------------------ real photographs


def test_photographs_and_their_labels_align(shared_data: Path) -> None:
    celeba = ImageFolder(shared_data / "celeba" / "images", size=64)
    table_file = shared_data / "celeba" / "labels.csv"
    assert len(celeba.ids) == 8_945
    labels = read_labels(table_file, ids=celeba.ids)
    assert len(labels.targets) == 40
    assert not np.isnan(labels.values).any()
    assert (labels.in_split("train").sum(), labels.in_split("val").sum()) == (7_934, 1_011)
    assert labels.unmatched_rows.count == labels.images_without_row.count == 0
    assert set(labels.extra) == {"identity"}
    naive = pl.read_csv(table_file)
    assert tuple(naive["image"]) == celeba.ids
    assert np.array_equal(labels.values, naive.select(labels.targets).to_numpy())
    val = celeba.subset(labels.in_split("val"))
    loaded = val.load(range(200))
    assert loaded.images.shape == (200, 3, 64, 64)
    assert loaded.skipped == ()
    assert 0.2 < float(loaded.images.mean()) < 0.7
    assert len(val.fingerprint()) == 64
