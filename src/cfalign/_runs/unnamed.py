"""The unnamed features of a run as its file ``unnamed.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cfalign._errors import BadInput
from cfalign._findings import UnnamedFeature
from cfalign._runs.codec import Misfit, built, file_name, plain, read_json, write_json

UNNAMED = "unnamed.json"
UNNAMED_FOLDER = "unnamed"
"""Their pictures."""
MATERIAL = "images.safetensors"
"""Of a feature that was found: what a head of it is learnt from."""
NAMED = "named"
"""The folder of the heads that were made of features. It is no part of the run: it stays where the run starts again."""
JUDGE = "judge"
"""The folder of the judge of a named feature, in that of its head."""


@dataclass(frozen=True)
class Unnamed:
    """The content of the file."""

    features: tuple[UnnamedFeature, ...]


def folder_of(feature: UnnamedFeature) -> str:
    """The folder of a feature, relative to its run."""
    return f"{UNNAMED_FOLDER}/{file_name(feature.audited)}/{feature.number}"


def write_unnamed(folder: Path, features: Sequence[UnnamedFeature]) -> None:
    """Write the features of a run in this folder."""
    write_json(folder / UNNAMED, plain(Unnamed(tuple(features))))


def has_unnamed(folder: Path) -> bool:
    """Whether features were sought."""
    return (folder / UNNAMED).is_file()


def read_unnamed(folder: Path) -> tuple[UnnamedFeature, ...]:
    """The features of a run in this folder; none where none were sought. Raises BadInput for a damaged file."""
    if not has_unnamed(folder):
        return ()
    file = folder / UNNAMED
    try:
        found: Unnamed = built(Unnamed, read_json(file))
    except Misfit as error:
        raise BadInput(f"{file} {error}: it was changed or damaged; run the audit again.") from error
    return found.features
