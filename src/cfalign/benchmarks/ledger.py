"""A benchmark's folder: whose it is, which parts are measured already, and how far the work has come.

A benchmark may take hours. What it has measured stays in its folder, each part beside the settings it was measured
with, and is found again; measurements of other settings are refused, never mixed in.
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
    """The folder ``out``, or a temporary one if there is none. Raises BadInput if ``out`` is a file."""
    if out is None:
        with TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder = Path(out).expanduser()
    if folder.is_file():
        raise BadInput(f"--out {out} is a file; name a folder to be made, or one of a run to resume.")
    yield folder


def claim(folder: Path, identity: Mapping[str, Any], *, file: str) -> None:
    """Make an empty folder this benchmark's own by writing ``file``, or find that it is.

    Raises RunMismatch if the folder belongs to other settings, and BadInput if it holds something else.
    """
    known = folder / file
    if known.is_file():
        refuse_other(_read(known), as_json(identity), folder)
    elif folder.is_dir() and any(folder.iterdir()):
        raise BadInput(f"--out {folder} holds files of something else; give an empty or new folder.")
    else:
        write_json(known, identity)


def measured_once(file: Path, settings: Mapping[str, Any], key: str, measure: Callable[[], Any]) -> Any:
    """What ``measure`` returns, as JSON, from ``file`` if it is there already; ``key`` is its name in the file.

    Raises RunMismatch if the file was measured with other settings, and BadInput if it cannot be read.
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
        raise BadInput(f"{file} cannot be read: {error}.") from error
    return content


def fingerprints(models: Mapping[str, Classifier]) -> dict[str, str]:
    """What identifies each model, for the settings of a part."""
    return {name: fingerprint(model) for name, model in models.items()}


def numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of JSON with NaN again where it has null."""
    return {name: float("nan") if value is None else value for name, value in row.items()}


def staged(progress: Progress, done: int, total: int) -> Progress:
    """Progress inside one of several parts: every stage is told with the part's number, such as ``audit 2/7``."""
    return lambda stage, at, of: progress(f"{stage} {done + 1}/{total}", at, of)
