"""What the images of a run tell its autoencoder: how images of their kind differ, and how their latents do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from cfalign._analysis.statistics import generator
from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadInput
from cfalign._models.components import Components
from cfalign._models.guard import undisturbed
from cfalign._runs.codec import write_tensors
from cfalign._runs.progress import Progress, silent
from cfalign._types import Autoencoder
from cfalign.autoencoders.informed_autoencoder import (
    LEAST,
    InformedAutoencoder,
    components_of_images,
    components_of_latents,
)
from cfalign.datasets import ImageSource

SAMPLE = 1024
"""Images of the sample, at most."""
FILE = "components.safetensors"
_BATCH = 64


def informed_for(
    search: SearchOptions,
    autoencoder: Autoencoder,
    source: ImageSource,
    *,
    folder: Path | None,
    seed: int,
    progress: Progress = silent,
) -> Autoencoder:
    """The autoencoder with what the search needs to know of images; itself where nothing is missing.

    A sample of the images, drawn by the seed, tells it. ``folder``: that of the run, where the components are kept and
    found again. Raises BadInput for fewer than 64 images.
    """
    wanted = _missing(search, autoencoder)
    if not wanted:
        return autoencoder
    file = None if folder is None else folder / FILE
    if file is not None and file.is_file():
        return _with(autoencoder, load_file(file))
    ids = generator(seed, "components").permutation(len(source.ids))[:SAMPLE].tolist()

    def loads() -> Iterator[Tensor]:
        for at in range(0, len(ids), _BATCH):
            images = source.load(ids[at : at + _BATCH]).images
            if len(images):
                yield images

    count = sum(map(len, loads()))
    if count < LEAST:
        raise BadInput(
            f"{count} images tell too little of how images differ; expected at least {LEAST} for "
            f"{' and '.join(wanted.values())}."
        )
    tensors: dict[str, Tensor] = {}
    with undisturbed(autoencoder):
        for number, name in enumerate(wanted):
            progress("components", number, len(wanted))
            found = (
                components_of_images(loads, count)
                if name == "pictures"
                else components_of_latents(autoencoder, loads())
            )
            tensors |= {f"{name}.{part}": tensor.contiguous() for part, tensor in found.tensors().items()}
        progress("components", len(wanted), len(wanted))
    if file is not None:
        write_tensors(file, tensors)
    return _with(autoencoder, tensors)


def _missing(search: SearchOptions, autoencoder: Autoencoder) -> dict[str, str]:
    """What must be known and is not, with what it is for."""
    needed = {}
    if search.method in ("completion", "auto"):
        needed["pictures"] = f"search.method = {search.method!r}"
    if search.metric == "data":
        needed["metric"] = "search.metric = 'data'"
    return {name: what for name, what in needed.items() if getattr(autoencoder, name, None) is None}


def _with(autoencoder: Autoencoder, tensors: dict[str, Tensor]) -> InformedAutoencoder:
    known = {
        name: Components.of({part: tensors[f"{name}.{part}"] for part in ("mean", "directions", "deviations")})
        for name in ("pictures", "metric")
        if f"{name}.mean" in tensors
    }
    return InformedAutoencoder(autoencoder, pictures=known.get("pictures"), metric=known.get("metric"))
