"""Data sets of torchxrayvision (extra ``xrv``): ``xrv:CLASS:FOLDER[:TABLE]``, e.g. ``xrv:NIH_Dataset:images/``.

The grey values of the library, −1024 … 1024, become [0, 1]. Its pathologies are the labels; unknown ones are NaN.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfalign._errors import BadInput, nearest
from cfalign._models.extras import imported
from cfalign._results import Skipped
from cfalign.datasets.aligned_labels import labels_from
from cfalign.datasets.decoding import content_digest, grey_pixels
from cfalign.datasets.image_source import Keep, Loaded, checked_indices, described, with_rows
from cfalign.datasets.label_columns import as_text
from cfalign.datasets.labels import Labels

EXTRA = "xrv"
SIDE = 224
"""Side of the images where none is given: that of the library's classifiers."""
_NAMES = ("Image Index", "imageid", "ImageID", "image_id", "filename", "dicom_id", "Path", "name")
_HALF = 1024.0


class XRayImages:
    """A data set of torchxrayvision as float32 [k, 3, size, size] in [0, 1]: the centre square, resized as files are.

    Ids are the names of the images in the library's table, or row numbers where it has none. An image that the library
    cannot read becomes ``Skipped``.
    """

    def __init__(self, dataset: Any, *, folder: Path, name: str, size: int) -> None:
        self._dataset = dataset
        self._folder = folder
        self.ids: tuple[str, ...] = _ids(dataset)
        self.shape: tuple[int, int] = (size, size)
        self.source = name
        self._rows: Sequence[int] = range(len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return described("XRayImages", self)

    def load(self, indices: Sequence[int], /) -> Loaded:
        """Read the images at these positions, one by one."""
        wanted = checked_indices(indices, count=len(self.ids))
        images: list[torch.Tensor] = []
        good: list[int] = []
        skipped: list[Skipped] = []
        with _own_randomness():
            for i in wanted:
                try:
                    grey = np.asarray(self._dataset[self._rows[i]]["img"], dtype=np.float32)[0]
                    pixels = np.clip((grey / _HALF + 1) / 2, 0, 1)
                    images.append(torch.from_numpy(grey_pixels(pixels, size=self.shape, crop="square").copy()))
                    good.append(i)
                except Exception as error:  # the library's readers answer broken files with many types
                    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
                    skipped.append(Skipped(self.ids[i], reason.lower()))
        stacked = torch.stack(images) if images else torch.empty(0, 3, *self.shape)
        return Loaded(images=stacked, indices=tuple(good), skipped=tuple(skipped))

    def subset(self, keep: Keep, /) -> XRayImages:
        """The images with these ids (in this order) or that a mask keeps; see ``ImageSource.subset``."""
        return with_rows(self, keep)

    def fingerprint(self) -> str:
        """SHA-256 over shape and ids, and for each image over the file of its name, or else over its pixels."""
        digest = hashlib.sha256(f"xrays {self.shape}\n".encode())
        files: dict[str, Path] = {}
        for path in sorted(self._folder.rglob("*")):
            files |= {path.name: path, path.stem: path}
        for i, image_id in enumerate(self.ids):
            file = files.get(Path(image_id).name)
            content = self.load([i]).images.numpy().tobytes() if file is None else content_digest(file).encode()
            digest.update(f"{len(image_id)} {image_id} {hashlib.sha256(content).hexdigest()}\n".encode())
        return digest.hexdigest()


def open_xrv(spec: str, *, size: int | None, bit_depth: int | None = None) -> tuple[XRayImages, Labels | None]:
    """Images and pathologies of a class of torchxrayvision over a folder; TABLE is its csv where it ships none.

    Raises BadInput without the extra ``xrv``, for an unknown class or folder, for a class that needs more than a folder
    and a table, and for files that the library refuses.
    """
    if bit_depth is not None:
        raise BadInput(
            "A bit depth has no effect on xrv: data sets, which torchxrayvision scales itself; leave it out."
        )
    package = imported("torchxrayvision", extra=EXTRA)
    kind, _, rest = spec.partition(":")
    place, _, table = rest.partition(":")
    known = {
        name for name, item in vars(package.datasets).items() if name.endswith("_Dataset") and inspect.isclass(item)
    }
    if kind not in known:
        raise BadInput(f"torchxrayvision has no data set {kind!r}; {nearest(kind, sorted(known))}.")
    folder = Path(place).expanduser()
    if not place or not folder.is_dir():
        raise BadInput(f"No such folder of X-rays: {place or '(none)'}; write xrv:{kind}:FOLDER.")
    dataset = _made(getattr(package.datasets, kind), kind, folder, table)
    source = XRayImages(dataset, folder=folder, name=f"xrv:{kind}", size=SIDE if size is None else size)
    if not source.ids:
        raise BadInput(f"xrv:{kind} must list at least one image for {folder}, got none.")
    values = np.asarray(dataset.labels, dtype=np.float64)
    columns = {name: [as_text(float(v)) for v in values[:, i]] for i, name in enumerate(map(str, dataset.pathologies))}
    if "patientid" in getattr(dataset, "csv", ()):
        columns["patient_id"] = [as_text(str(person)) for person in dataset.csv["patientid"]]
    return source, labels_from(columns, ids=source.ids, where=f"xrv:{kind}")


def _made(kind: Any, name: str, folder: Path, table: str) -> Any:
    needed = [
        parameter.name
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.default is inspect.Parameter.empty and parameter.name != "imgpath"
    ]
    if needed and (needed != ["csvpath"] or not table):
        what = f"; write xrv:{name}:FOLDER:TABLE." if needed == ["csvpath"] else ", which a spec cannot give."
        raise BadInput(f"xrv:{name} needs {', '.join(needed)} beside the folder{what}")
    given = {"imgpath": str(folder)} | ({"csvpath": str(Path(table).expanduser())} if table else {})
    try:
        with _own_randomness():
            return kind(**given)
    except Exception as error:  # the library answers with many types
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BadInput(f"xrv:{name} cannot be opened over {folder}: {reason}.") from error


def _ids(dataset: Any) -> tuple[str, ...]:
    table: Any = getattr(dataset, "csv", {})
    for column in _NAMES:
        if column in table and table[column].is_unique and len(table) == len(dataset):
            return tuple(map(str, table[column]))
    return tuple(f"{row:06d}" for row in range(len(dataset)))


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Leave NumPy's global generator as it was: the library seeds it and draws from it."""
    state = np.random.get_state()  # noqa: NPY002 (the global one is what has to be kept)
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
