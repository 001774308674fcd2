"""The images behind the findings: original, reconstruction, counterfactual, and the scores along the ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor

from cfalign._counterfactuals.batch import Scene, along, one_pair, reconstruct
from cfalign._counterfactuals.gradient import find_rays
from cfalign._counterfactuals.methods import make
from cfalign._counterfactuals.options import DescentOptions, EstimateOptions, SearchOptions
from cfalign._heads.panel import Panel
from cfalign._models.guard import device_of
from cfalign._results import Finding, Floats, Sample
from cfalign._runs.codec import file_name, write_parquet, written
from cfalign._runs.columns import Column
from cfalign._runs.run import Run
from cfalign._types import Autoencoder
from cfalign.datasets import ImageSource

STEPS = 10
KINDS = ("original", "reconstruction", "counterfactual")


@dataclass(frozen=True)
class Strip:
    """One (image, base) pair to show; images [c, h, w] in [0, 1]."""

    original: Tensor
    reconstruction: Tensor
    counterfactual: Tensor
    scores: Floats
    """Panel scores along the ray, [step, column]."""
    lambdas: Floats
    """[step]"""


def shown(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """The (image id, base) pairs that the findings show, each once."""
    return list(dict.fromkeys((s.image_id, s.base) for f in findings for s in f.samples))


def walked_again(
    pairs: Sequence[tuple[str, str]],
    run: Run,
    source: ImageSource,
    *,
    panel: Panel,
    autoencoder: Autoencoder,
    search: SearchOptions | None = None,
    estimate: EstimateOptions | None = None,
    batch: int,
) -> dict[tuple[str, str], Strip]:
    """Strips of pairs in ``STEPS`` equal steps on the straight line to the counterfactual.

    A ray is walked once more, up to the λ of the run; any other method of ``search`` makes its counterfactual anew.
    """
    table = run.responses().select("image_id", "base", "lambda", "distance")
    known = {(i, b): (lam, d) for i, b, lam, d in table.iter_rows()}
    place = {image_id: i for i, image_id in enumerate(source.ids)}
    strips = {}
    for image_id, base in pairs:
        lam, distance = known[image_id, base]
        loaded = source.load([place[image_id]])
        if not len(loaded):
            continue
        x = loaded.images.to(device_of(autoencoder))
        z0, x0 = reconstruct(x, autoencoder)
        pair, owners = one_pair(panel[base]), panel[base].classifiers
        scene = Scene(z0, x0, pair, autoencoder, owners, estimate, batch)
        if search is None or search.method == "latent-shift":
            direction = find_rays(
                z0, pair, autoencoder=autoencoder, classifiers=owners, estimate=estimate, batch=batch
            ).direction  # fmt: skip
        else:
            made = make(scene, search)
            scene, direction, distance = made.scene, made.direction, float(made.ends[0].distance[0])
        fractions = np.arange(STEPS + 1) / STEPS
        images, scores = along(
            scene.latents, direction, distance * fractions, panel=panel, autoencoder=scene.autoencoder, batch=batch
        )  # fmt: skip
        strips[image_id, base] = Strip(x[0], images[0], images[-1], scores, lam * fractions)
    return strips


def search_of(run: Run) -> SearchOptions:
    """How a run's counterfactuals were searched."""
    values = dict(run.record()["settings"]["search"])
    return SearchOptions(**{**values, "descent": DescentOptions(**values.get("descent", {}))})


def kept(run: Run, image_id: str, base: str) -> dict[str, Path]:
    """The images that a run holds of a pair, by kind; empty when it was not shown."""
    files = {kind: run.path / "images" / file_name(base) / f"{file_name(image_id)}.{kind}.png" for kind in KINDS}
    return files if all(file.is_file() for file in files.values()) else {}


def save(
    strips: Mapping[tuple[str, str], Strip], run: Run, *, labels: Sequence[str]
) -> dict[tuple[str, str], dict[str, str]]:
    """Write PNGs and curves; gives the files of every pair, relative to the run directory."""
    files, curves = {}, []
    for (image_id, base), strip in strips.items():
        files[image_id, base] = {
            kind: _save_png(run, f"images/{file_name(base)}/{file_name(image_id)}.{kind}.png", getattr(strip, kind))
            for kind in KINDS
        }
        steps = len(strip.lambdas)
        head = {
            "image_id": [image_id] * steps,
            "base": [base] * steps,
            "step": range(steps),
            "lambda": strip.lambdas,
        }
        scores = pl.DataFrame(strip.scores, schema=Column.WALK.columns(labels))
        curves.append(pl.DataFrame(head).hstack(scores))
    if curves:
        write_parquet(run.path / "curves" / "00000.parquet", pl.concat(curves))
    return files


def with_files(findings: Sequence[Finding], files: Mapping[tuple[str, str], dict[str, str]]) -> list[Finding]:
    """The findings with the paths of their images; samples without an image are left out."""

    def samples(finding: Finding) -> tuple[Sample, ...]:
        pairs = ((s, files.get((s.image_id, s.base))) for s in finding.samples)
        return tuple(replace(s, files=paths) for s, paths in pairs if paths)

    return [replace(f, samples=samples(f)) for f in findings]


def _save_png(run: Run, name: str, image: Tensor) -> str:
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    with written(run.path / name) as temporary:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(temporary, format="PNG")
    return name
