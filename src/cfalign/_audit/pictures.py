"""The images behind the findings, original, x0 and counterfactual, and the scores along the ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor

from cfalign._audit.measurement import WalkSettings
from cfalign._counterfactuals.batch import Batch, Models, Pairs, along, evaluate, every_logit
from cfalign._counterfactuals.gradient import find_rays
from cfalign._counterfactuals.methods import walk
from cfalign._counterfactuals.options import DescentOptions, Method, SearchOptions
from cfalign._counterfactuals.origins import origins
from cfalign._findings import Finding, Sample
from cfalign._heads.panel import Panel, weights
from cfalign._models.guard import device_of
from cfalign._results import Floats, StartsAt
from cfalign._runs.codec import file_name, write_parquet, written
from cfalign._runs.columns import Column
from cfalign._runs.run import Run, residual_of
from cfalign._types import Autoencoder
from cfalign.datasets import ImageSource

STEPS = 10


@dataclass(frozen=True)
class Strip:
    """One (image, base) pair to show; images [c, h, w] in [0, 1]."""

    original: Tensor
    reconstruction: Tensor | None
    """None where the residual of the image stays: x0 is the original."""
    counterfactual: Tensor
    scores: Floats
    """Panel scores along the ray, [step, column]."""
    lambdas: Floats
    """[step]"""
    frames: Tensor | None = None
    """[step, c, h, w], where they were asked for."""

    @property
    def start(self) -> StartsAt:
        """What x0 is."""
        return StartsAt.IMAGE if self.reconstruction is None else StartsAt.RECONSTRUCTION

    @property
    def pictures(self) -> dict[str, Tensor]:
        """The images by what they are called, each once."""
        return {name: getattr(self, name) for name in self.start.pictures}


@dataclass(frozen=True)
class Extent:
    """How far a run has walked a pair."""

    lambda_: float
    distance: float


ENDS = ("image_id", "base", "lambda", "distance")
"""The columns of ``responses`` that tell where walks end."""


def extents(responses: pl.DataFrame) -> dict[tuple[str, str], Extent]:
    """The end of every walk of a run's ``responses``, by (image id, base)."""
    table = responses.select(ENDS)
    return {(image_id, base): Extent(lam, distance) for image_id, base, lam, distance in table.iter_rows()}


def shown(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """The (image id, base) pairs that the findings show, each once."""
    return list(dict.fromkeys((s.image_id, s.base) for f in findings for s in f.samples))


def walked_again(
    pairs: Sequence[tuple[str, str]],
    ends: Mapping[tuple[str, str], Extent],
    source: ImageSource,
    *,
    panel: Panel,
    autoencoder: Autoencoder,
    settings: WalkSettings,
    frames: bool = False,
) -> dict[tuple[str, str], Strip]:
    """Strips of (image id, base) pairs in ``STEPS`` equal steps on the straight line to the counterfactual, with the
    ``frames`` of all steps where wanted.

    A ray is walked once more, up to its end in ``ends``; any other method makes its counterfactual anew. An image is
    encoded once for all of its bases. Pairs whose image cannot be read are left out.
    """
    place = {image_id: i for i, image_id in enumerate(source.ids)}
    ids = list(dict.fromkeys(image_id for image_id, _ in pairs))
    strips: dict[tuple[str, str], Strip] = {}
    for at in range(0, len(ids), settings.batch):
        loaded = source.load([place[image_id] for image_id in ids[at : at + settings.batch]])
        if not len(loaded):
            continue
        x = loaded.images.to(device_of(autoencoder))
        start = origins(x, autoencoder, search=settings.search, batch=settings.batch)
        row = {source.ids[i]: number for number, i in enumerate(loaded.indices)}
        for group in _groups([pair for pair in pairs if pair[0] in row], panel, settings):
            models = Models(autoencoder, panel[group[0][1]].classifiers, settings.batch)
            table = weights([panel[base] for _, base in group], models.classifiers)
            images = torch.tensor([row[image_id] for image_id, _ in group])
            batch = Batch(start, Pairs(images, table), models, settings.estimate)
            mine = settings.of(group[0][1])
            strips |= zip(group, _strips(batch, [ends[pair] for pair in group], x, panel, mine, frames), strict=True)
    return {pair: strips[pair] for pair in pairs if pair in strips}


def _groups(pairs: Sequence[tuple[str, str]], panel: Panel, settings: WalkSettings) -> Iterable[list[tuple[str, str]]]:
    """The pairs by the modules that their bases need, and by method."""
    groups: dict[tuple[object, ...], list[tuple[str, str]]] = {}
    for pair in pairs:
        method = settings.of(pair[1]).search.method
        groups.setdefault((method, *panel[pair[1]].classifiers), []).append(pair)
    return groups.values()


def _strips(
    batch: Batch, ends: Sequence[Extent], originals: Tensor, panel: Panel, settings: WalkSettings, frames: bool
) -> Iterator[Strip]:
    """The strips of a batch's pairs, in order."""
    distances = np.array([end.distance for end in ends])
    if settings.search.method == "latent-shift":
        direction = find_rays(batch).direction
    else:
        walks = walk(batch, settings.search)
        batch, direction, distances = walks.batch, walks.direction, walks.ends[0].distances
    fractions = np.arange(STEPS + 1) / STEPS
    models = replace(batch.models, classifiers=panel.classifiers)
    walked = along(batch.origin, direction, distances[:, None] * fractions)
    points = batch.points(walked, each=len(fractions))
    seen = evaluate(points, models=models, read=every_logit, keep_images=frames)
    scores = panel.scores(seen.values).reshape(len(ends), len(fractions), -1)
    drawn = settings.search.start is StartsAt.RECONSTRUCTION
    last = evaluate(batch.points(walked[STEPS :: STEPS + 1]), models=models, read=every_logit).images
    for i, (owner, end) in enumerate(zip(batch.pairs.image.tolist(), ends, strict=True)):
        yield Strip(
            original=originals[owner],
            reconstruction=batch.origins.images[owner] if drawn else None,
            counterfactual=last[i],
            scores=scores[i],
            lambdas=end.lambda_ * fractions,
            frames=seen.images[i * len(fractions) : (i + 1) * len(fractions)] if frames else None,
        )


def methods_of(run: Run) -> dict[str, Method]:
    """The method of every base that has one of its own."""
    return {label: one["method"] for label, one in run.record().get("methods", {}).items()}


def search_of(run: Run) -> SearchOptions:
    """How a run's counterfactuals were searched."""
    settings = run.record()["settings"]
    values = {**settings["search"], "residual": residual_of(settings)}
    return SearchOptions(**{**values, "descent": DescentOptions(**values.get("descent", {}))})


def kept(run: Run, image_id: str, base: str) -> dict[str, Path]:
    """The images that a run holds of a pair, by what they are called; empty when it was not shown."""
    names = run.start.pictures
    files = {name: run.path / "images" / file_name(base) / f"{file_name(image_id)}.{name}.png" for name in names}
    return files if all(file.is_file() for file in files.values()) else {}


def save(
    strips: Mapping[tuple[str, str], Strip], run: Run, *, labels: Sequence[str]
) -> dict[tuple[str, str], dict[str, str]]:
    """Write PNGs and curves; gives the files of every pair, relative to the run directory."""
    files, curves = {}, []
    for (image_id, base), strip in strips.items():
        files[image_id, base] = {
            name: save_png(run, f"images/{file_name(base)}/{file_name(image_id)}.{name}.png", image)
            for name, image in strip.pictures.items()
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


def save_png(run: Run, name: str, image: Tensor) -> str:
    """Write an image [c, h, w] in [0, 1] at a path relative to the run, which is returned."""
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    with written(run.path / name) as temporary:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(temporary, format="PNG")
    return name
