"""DICOM and HEIC files, made here: windows, inversion, frames, compression, orientation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cfalign.datasets import ImageFolder, ImageWarning, read_image

SIDE = 16
RAMP = np.add.outer(np.arange(SIDE) * SIDE, np.arange(SIDE)) / (SIDE * SIDE - 1)


def write_dicom(file: Path, pixels: Any, *, photometric: str = "MONOCHROME2", bits: int = 12, **more: Any) -> Path:
    """A secondary capture of these pixels, [row, column], with more elements by keyword."""
    pydicom = pytest.importorskip("pydicom", reason="the extra [dicom] is not installed")
    uid = pytest.importorskip("pydicom.uid")
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = more.pop("syntax", uid.ExplicitVRLittleEndian)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = uid.SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.Rows, made.Columns = SIDE, SIDE
    made.SamplesPerPixel = 3 if photometric == "RGB" else 1
    if photometric == "RGB":
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = photometric
    made.BitsAllocated, made.BitsStored, made.HighBit = 8 * pixels.dtype.itemsize, bits, bits - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    for name, value in more.items():
        setattr(made, name, value)
    made.save_as(file, enforce_file_format=True)
    return file


def grey(file: Path) -> np.ndarray[Any, Any]:
    """The image of a file, all of whose channels are one."""
    image = read_image(file, size=SIDE)
    assert torch.equal(image[0], image[1])
    return image[0].double().numpy()


def stored(bits: int = 12) -> Any:
    return np.round(RAMP * (2**bits - 1)).astype(np.uint16)


def test_without_a_window_all_stored_bits_are_the_range(tmp_path: Path) -> None:
    np.testing.assert_allclose(grey(write_dicom(tmp_path / "a.dcm", stored())), RAMP, atol=2e-4)
    inverted = write_dicom(tmp_path / "b.dcm", stored(), photometric="MONOCHROME1")
    np.testing.assert_allclose(grey(inverted), 1 - RAMP, atol=2e-4)
    signed = np.round(RAMP * 4095 - 2048).astype(np.int16)
    np.testing.assert_allclose(grey(write_dicom(tmp_path / "c.dcm", signed)), RAMP, atol=2e-4)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_first_window_counts_after_slope_and_intercept(tmp_path: Path, function: str, photometric: str) -> None:
    values = stored() * 0.5 - 1024
    centre, width = -40.0, 400.0
    scaled = {
        "LINEAR": (values - (centre - 0.5)) / (width - 1) + 0.5,
        "LINEAR_EXACT": (values - centre) / width + 0.5,
        "SIGMOID": 1 / (1 + np.exp(-4 * (values - centre) / width)),
    }[function].clip(0, 1)
    file = write_dicom(
        tmp_path / "ct",
        stored(),
        photometric=photometric,
        RescaleSlope=0.5,
        RescaleIntercept=-1024,
        WindowCenter=[centre, 5],
        WindowWidth=[width, 10],
        VOILUTFunction=function,
    )
    np.testing.assert_allclose(grey(file), scaled if photometric == "MONOCHROME2" else 1 - scaled, atol=1e-6)


def test_a_window_is_that_of_the_reference_implementation(tmp_path: Path) -> None:
    pixels = pytest.importorskip("pydicom.pixels", reason="the extra [dicom] is not installed")
    pydicom = pytest.importorskip("pydicom")
    file = write_dicom(tmp_path / "a.dcm", stored(), WindowCenter=1500, WindowWidth=900)
    header = pydicom.dcmread(file)
    windowed = pixels.apply_windowing(header.pixel_array, header) / 4095
    np.testing.assert_allclose(grey(file), windowed, atol=1e-6)


def test_a_table_of_values_of_interest(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra [dicom] is not installed")
    table = pydicom.Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.LUTData = np.linspace(65535, 0, 256).round().astype("<u2").tobytes()
    pixels = np.round(RAMP * 255).astype(np.uint8)
    file = write_dicom(tmp_path / "a.dcm", pixels, bits=8, VOILUTSequence=[table])
    np.testing.assert_allclose(grey(file), 1 - RAMP, atol=1e-4)


def test_windows_of_a_frame(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra [dicom] is not installed")
    window, groups = pydicom.Dataset(), pydicom.Dataset()
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 1024, 2048, "LINEAR_EXACT"
    groups.FrameVOILUTSequence = [window]
    file = write_dicom(tmp_path / "a.dcm", stored(), SharedFunctionalGroupsSequence=[groups])
    np.testing.assert_allclose(grey(file), (stored() / 2048).clip(0, 1), atol=1e-6)


def test_colours_and_frames(tmp_path: Path) -> None:
    colours = np.stack([RAMP * 255, RAMP * 0, 255 - RAMP * 255], axis=-1).round().astype(np.uint8)
    image = read_image(write_dicom(tmp_path / "a.dcm", colours, photometric="RGB", bits=8), size=SIDE)
    np.testing.assert_allclose(image.numpy(), colours.transpose(2, 0, 1) / 255, atol=1e-6)
    (tmp_path / "a.dcm").unlink()
    frames = np.stack([stored(), stored() * 0])
    write_dicom(tmp_path / "b.dcm", frames, NumberOfFrames=2)
    with pytest.warns(ImageWarning, match="1 of 1 images .* hold several frames: the first of each is read"):
        source = ImageFolder(tmp_path)
    assert source.shape == (SIDE, SIDE)
    assert float(source.load([0]).images.max()) == 1


def test_a_file_that_begins_like_a_tiff_is_read(tmp_path: Path) -> None:
    plain = write_dicom(tmp_path / "plain.dcm", stored())
    both = tmp_path / "both.dcm"
    both.write_bytes(b"II*\0".ljust(128, b"\0") + plain.read_bytes()[128:])
    np.testing.assert_array_equal(grey(both), grey(plain))


def test_files_that_hold_no_image_are_skipped_with_a_reason(tmp_path: Path) -> None:
    uid = pytest.importorskip("pydicom.uid", reason="the extra [dicom] is not installed")
    encapsulated = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0abcd\xfe\xff\xdd\xe0\0\0\0\0"
    write_dicom(tmp_path / "a.dcm", stored(), syntax=uid.JPEGLosslessSV1, PixelData=encapsulated)
    whole = write_dicom(tmp_path / "b.dcm", stored()).read_bytes()
    (tmp_path / "b.dcm").write_bytes(whole[:-200])
    large = write_dicom(tmp_path / "c.dcm", stored())
    write_dicom(large, stored(), Rows=60_000, Columns=60_000)
    (tmp_path / "d.dcm").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "e.dcm").write_bytes(whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20]))
    source = ImageFolder(tmp_path, size=8)
    reasons = {s.image_id: s.reason for s in source.load(range(len(source))).skipped}
    assert reasons["a.dcm"].startswith("the pixels are compressed as JPEG Lossless")
    assert "60000x60000 pixels" in reasons["c.dcm"]
    assert reasons["d.dcm"] == "a DICOM file without pixels"
    assert set(reasons) >= {"a.dcm", "b.dcm", "c.dcm", "d.dcm"}
    assert all("\n" not in reason for reason in reasons.values())


def test_a_phone_s_photograph_is_upright(tmp_path: Path) -> None:
    plugin = pytest.importorskip("pillow_heif", reason="the extra [heic] is not installed")
    plugin.register_heif_opener()
    wide = Image.new("RGB", (64, 32), "black")
    wide.paste((255, 0, 0), (0, 0, 32, 16))
    turned = Image.Exif()
    turned[0x0112] = 6
    wide.save(tmp_path / "a.HEIC", quality=95)
    wide.save(tmp_path / "b.heic", quality=95, exif=turned.tobytes())
    (tmp_path / "c.jpg").write_bytes((tmp_path / "a.HEIC").read_bytes())
    (tmp_path / "d.heic").write_bytes((tmp_path / "a.HEIC").read_bytes()[:200])
    source = ImageFolder(tmp_path, size=16, crop="none")
    loaded = source.load(range(4))
    assert [s.image_id for s in loaded.skipped] == ["d.heic"]
    places = [(2, 2), (2, 13), (2, 2)]  # where the red corner is
    for image, (row, column) in zip(loaded.images, places, strict=True):
        assert image[:, row, column].tolist() == pytest.approx([1, 0, 0], abs=0.05)
        assert image[:, 13, 2].tolist() == pytest.approx([0, 0, 0], abs=0.05)
