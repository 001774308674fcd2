"""The JSON beside an exported model, with what the model's file does not contain."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from cfalign._errors import BadInput, nearest
from cfalign._heads.names import head_names
from cfalign.classifiers.outputs import Link
from cfalign.classifiers.preprocessing import resized_and_normalised

EXAMPLE = '{"targets": ["smiling", "young"], "link": "sigmoid", "normalize": [[0.5], [0.5]], "size": 224}'
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Description:
    """Content of the JSON; None for keys that it does not have."""

    link: Link
    """The function from outputs to probabilities."""
    targets: tuple[str, ...] | None = None
    """Names of the outputs, in lower snake case."""
    normalize: tuple[Numbers, Numbers] | None = None
    """Means and standard deviations of images in [0, 1], one number per channel."""
    size: int | None = None
    """Side of the square images that the model expects."""
    channels: int | None = None
    """Number of input channels, 1 or 3; a model of 1 gets the mean over the channels."""


def description_file(file: Path) -> Path:
    """The JSON of a model file: ``model.pt.json``, else ``model.json``. Raises BadInput where there is neither."""
    first, second = file.with_name(f"{file.name}.json"), file.with_suffix(".json")
    for path in (first, second):
        if path.is_file():
            return path
    raise BadInput(
        f"{file} does not say what its outputs are: write {first.name} (or {second.name}) beside it, such as {EXAMPLE}."
    )


def read_description(path: Path) -> Description:
    """The checked content. Raises BadInput for the first mistake."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as JSON: {str(error).rstrip('.')}; expected {EXAMPLE}.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds a {type(content).__name__}; expected an object such as {EXAMPLE}.")
    names = [f.name for f in fields(Description)]
    unknown = next((key for key in content if key not in names), None)
    if unknown is not None:
        raise BadInput(f"Unknown key {unknown!r} in {path}; {nearest(unknown, names)}.")
    if content.get("link") not in get_args(Link):
        came = repr(content["link"]) if "link" in content else "no link"
        raise BadInput(
            f"{path} must say how outputs become probabilities, link: {', '.join(get_args(Link))}; got {came}."
        )
    try:
        return _checked(content)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _checked(content: dict[str, Any]) -> Description:
    size, channels = content.get("size"), content.get("channels")
    if size is not None and (type(size) is not int or size < 1):
        raise BadInput(f"size must be a whole number of pixels, got {size!r}.")
    if channels is not None and (type(channels) is not int or channels not in (1, 3)):
        raise BadInput(f"channels must be 1 or 3, got {channels!r}.")
    targets = content.get("targets")
    if targets is not None:
        if not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
            raise BadInput(f"targets must be a list of names, got {targets!r}.")
        targets = head_names(targets)
    normalize = content.get("normalize")
    if normalize is not None:
        if not isinstance(normalize, list) or len(normalize) != 2:
            raise BadInput(f"normalize must be [means, stds], one number per channel; got {normalize!r}.")
        told = resized_and_normalised(None, (normalize[0], normalize[1]))
        mean, std = told.mean or (), told.std or ()
        if len(mean) not in (1, channels or 3):
            raise BadInput(f"normalize has {len(mean)} means, but the model takes {channels or 3} channel(s).")
        normalize = (mean, std)
    return Description(content["link"], targets, normalize, size, channels)


def describe(file: Path, *, size: int | None, channels: int | None) -> Description:
    """The JSON beside a model file, completed by the ``size`` and ``channels`` of the file.

    Raises BadInput where JSON and file differ.
    """
    place = description_file(file)
    content = read_description(place)
    for name, own in (("size", size), ("channels", channels)):
        stated = getattr(content, name)
        if own is not None and stated not in (None, own):
            raise BadInput(f"{place} says {name} {stated}, but the input of {file.name} has {own}.")
    return replace(content, size=content.size or size, channels=content.channels or channels)


def target_names(outputs: int, description: Description, file: Path) -> tuple[str, ...]:
    """One target per output: those of the JSON, or ``class_0``, ``class_1``, …"""
    targets = description.targets
    if targets is None:
        return tuple(f"class_{i}" for i in range(outputs))
    if len(targets) != outputs:
        where = description_file(file).name
        raise BadInput(f"{file} has {outputs} outputs, but {where} names {len(targets)} targets.")
    return targets
