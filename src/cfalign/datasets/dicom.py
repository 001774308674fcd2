"""DICOM files (extra ``dicom``) as grey or colour images.

Grey values are rescaled (slope and intercept, or the table of the modality), then the file's own table of values of
interest is applied, or its first window; without both, all values that its stored bits can hold count as the range.
MONOCHROME1 is inverted, so that white is dense in every file. Of several frames the first is read.
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfalign._errors import BadInput
from cfalign._models.extras import imported
from cfalign.datasets.unreadable import Unreadable

EXTRA = "dicom"
_DEFLATED = b"1.2.840.10008.1.2.1.99\0"
_META = 4096
_FRAME_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_OF_A_FRAME = ("FrameVOILUTSequence", "PixelValueTransformationSequence")


def read_dicom(stream: IO[bytes]) -> Image.Image:
    """The first frame: mode "F" in [0, 1], or "RGB". ``info["frames"]`` says how many there are. Raises Unreadable."""
    header = _header(stream)
    pixels = _first_frame(stream, header)
    if header.PhotometricInterpretation == "PALETTE COLOR":
        pixels = _package().pixels.apply_color_lut(pixels, header)[..., :3]
        image = _colour(pixels, bits=8 * pixels.dtype.itemsize)
    elif pixels.ndim == 3:
        image = _colour(pixels, bits=int(header.BitsStored))
    else:
        image = Image.fromarray(_grey(pixels, header))
    image.info["frames"] = _frames(header)
    return image


def blank_dicom(stream: IO[bytes]) -> Image.Image:
    """A black image that has the size and the ``info`` of the first frame, from the header. Raises Unreadable."""
    header = _header(stream)
    image = Image.new("1", (int(header.Columns), int(header.Rows)))
    image.info["frames"] = _frames(header)
    return image


def _frames(header: Any) -> int:
    """How many frames a header tells of."""
    return int(header.get("NumberOfFrames") or 1)


def _package() -> Any:
    try:
        package = imported("pydicom", extra=EXTRA)
        imported("pydicom.pixels", extra=EXTRA)
    except BadInput as error:
        raise Unreadable('DICOM needs the package pydicom: pip install "cfalign[dicom]"') from error
    return package


def _header(stream: IO[bytes]) -> Any:
    package = _package()
    stream.seek(0)
    if _DEFLATED[:-1] in stream.read(_META):  # it would be inflated whole, whatever its size
        raise Unreadable("a deflated DICOM file: write it with another transfer syntax")
    stream.seek(0)
    header = package.dcmread(stream, stop_before_pixels=True)
    if "Rows" not in header or "Columns" not in header:
        raise Unreadable("a DICOM file without pixels")
    width, height, limit = int(header.Columns), int(header.Rows), Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise Unreadable(f"{width}x{height} pixels, more than the limit of {limit} (decompression bomb?)")
    for groups in _FRAME_GROUPS:
        for group in (header.get(groups) or ())[:1]:
            for name in _OF_A_FRAME:
                for values in (group.get(name) or ())[:1]:
                    header.update(values)
    return header


def _first_frame(stream: IO[bytes], header: Any) -> NDArray[Any]:
    stream.seek(0)
    try:
        return np.asarray(_package().pixels.pixel_array(stream, index=0))
    except RuntimeError as error:  # no decoder for its compression, or none that can read it
        name = header.file_meta.TransferSyntaxUID.name
        raise Unreadable(
            f"the pixels are compressed as {name}, which cannot be decoded here: install what pydicom needs for it "
            "(pylibjpeg or gdcm), or write the file uncompressed"
        ) from error


def _colour(pixels: NDArray[Any], *, bits: int) -> Image.Image:
    if pixels.dtype == np.uint8 and bits == 8:
        return Image.fromarray(np.ascontiguousarray(pixels))
    scaled = pixels.astype(np.float32) * (255 / (2**bits - 1))
    return Image.fromarray(np.clip(np.round(scaled), 0, 255).astype(np.uint8))


def _grey(pixels: NDArray[Any], header: Any) -> NDArray[np.float32]:
    processing = _package().pixels
    low, high = _stored_range(header)
    values = np.asarray(processing.apply_modality_lut(pixels, header))
    if (table := header.get("ModalityLUTSequence")) is not None:
        low, high = 0.0, float(2 ** int(table[0].LUTDescriptor[2]) - 1)
    else:
        slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
        low, high = low * slope + intercept, high * slope + intercept
    if (table := header.get("VOILUTSequence")) is not None:
        shown = np.asarray(processing.apply_voi(values, header), dtype=np.float64)
        unit = shown / (2 ** int(table[0].LUTDescriptor[2]) - 1)
    elif (window := _window(header)) is not None:
        unit = _windowed(values.astype(np.float64), *window)
    else:
        unit = (values.astype(np.float64) - low) / (high - low)
    unit = np.clip(unit, 0, 1)
    shown = 1 - unit if header.PhotometricInterpretation == "MONOCHROME1" else unit
    return np.asarray(shown, dtype=np.float32)


def _stored_range(header: Any) -> tuple[float, float]:
    bits = int(header.BitsStored)
    return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if header.PixelRepresentation else (0.0, 2.0**bits - 1)


def _window(header: Any) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; None without a usable one."""
    centre, width = (_first(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    least = 1.0 if function == "LINEAR" else 0.0
    return (centre, width, function) if centre is not None and width is not None and width > least else None


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value) if np.isscalar(value) or not hasattr(value, "__len__") else _first(next(iter(value), None))


def _windowed(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """[0, 1] by the three functions of the standard (part 3, C.11.2.1)."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    return (values - (centre - 0.5)) / (width - 1) + 0.5
