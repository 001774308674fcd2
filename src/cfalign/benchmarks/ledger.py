"""The folder of a benchmark: its settings, the parts that are measured already, and the progress of the work.

A benchmark may take hours. Measured parts stay in its folder, each with its settings, and are read when the benchmark
is run again. A folder with other settings is refused: measurements of different settings are never mixed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cfalign._errors import BadInput
from cfalign._models.fingerprint import fingerprint
from cfalign._runs.codec import as_json, write_json
from cfalign._runs.progress import Progress
from cfalign._runs.record import refuse_other
from cfalign._types import Classifier


@contextmanager
def workplace(out: str | Path | None) -> Iterator[Path]:
    """The folder ``out``, or a temporary one for None. Raises BadInput if ``out`` is a file."""
    if out is None:
        with TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder = Path(out).expanduser()
    if folder.is_file():
        raise BadInput(
            f"Expected a folder as --out, got the file {out}: name a new folder, or that of a run to resume."
        )
    yield folder


def claim(folder: Path, identity: Mapping[str, Any], *, file: str) -> None:
    """Write ``identity`` into ``file`` of an empty folder, or compare it with what an earlier call wrote.

    Raises RunMismatch if the folder belongs to other settings, and BadInput if it holds files of something else.
    """
    known = folder / file
    if known.is_file():
        refuse_other(_read(known), as_json(identity), folder)
    elif folder.is_dir() and any(folder.iterdir()):
        raise BadInput(
            f"Expected an empty or new folder as --out, but {folder} holds files of something else: give another one."
        )
    else:
        write_json(known, identity)


def measured_once(file: Path, settings: Mapping[str, Any], key: str, measure: Callable[[], Any]) -> Any:
    """The JSON form of what ``measure`` returns, read from ``file`` if that exists, otherwise measured and written.

    ``key``: name of the measurement in the file. Raises RunMismatch if the file was measured with other settings, and
    BadInput if it cannot be read.
    """
    settings = as_json(settings)
    if file.is_file():
        content = _read(file)
        refuse_other(content["settings"], settings, file.parent)
        return content[key]
    measured = measure()
    write_json(file, {"settings": settings, key: measured})
    return as_json(measured)


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(
            f"Expected JSON in {file}, which cannot be read: {error}. Delete the file to measure it again."
        ) from error
    return content


def fingerprints(models: Mapping[str, Classifier]) -> dict[str, str]:
    """The fingerprint of each model, for the settings of a part."""
    return {name: fingerprint(model) for name, model in models.items()}


def numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of JSON with NaN in the place of null."""
    return {name: float("nan") if value is None else value for name, value in row.items()}


def staged(progress: Progress, done: int, total: int) -> Progress:
    """Progress inside one of several parts: the name of every stage gets the part's number, such as ``audit 2/7``."""
    return lambda stage, at, of: progress(f"{stage} {done + 1}/{total}", at, of)
