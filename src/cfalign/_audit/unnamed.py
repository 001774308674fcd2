"""Unnamed features of the audited heads: sought after everything else, and kept in the run's folder ``unnamed``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cfalign._analysis.statistics import People, generator
from cfalign._audit.informing import informed_for
from cfalign._audit.options import AuditOptions
from cfalign._audit.pictures import save_png
from cfalign._audit.plan import Plan
from cfalign._audit.shards import people_of
from cfalign._audit.subject import Subject
from cfalign._discovery.discovery import Discovery, discover_in
from cfalign._discovery.landscape import Heads, Landscape
from cfalign._discovery.options import FEWEST
from cfalign._discovery.walks import examples_of, originals_of
from cfalign._errors import BadInput
from cfalign._findings import Shown, UnnamedFeature
from cfalign._runs.codec import file_name, write_parquet, write_tensors
from cfalign._runs.columns import GROUP
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run
from cfalign._runs.unnamed import MATERIAL, UNNAMED_FOLDER, folder_of, has_unnamed, write_unnamed
from cfalign._types import Autoencoder
from cfalign.datasets import ImageSource
from cfalign.datasets.grouped_images import groups_of

EXAMPLES = 400
"""Images that are walked for the head of a name, at most."""


@dataclass(frozen=True)
class Sought:
    """What was found, and from where it was looked at."""

    discovery: Discovery
    landscape: Landscape
    heads: Heads


def refuse_unknown(source: ImageSource, subject: Subject) -> None:
    """Raises BadInput where nothing can tell what is unnamed: without reference heads, or with too few images."""
    if set(subject.audited) & set(subject.attributes):
        raise BadInput(
            "Unnamed features (--discover) are what reference heads do not explain, and the audited classifier is its "
            "own reference here: give other heads of these images by --reference (reference=)."
        )
    if len(source.ids) < FEWEST:
        raise BadInput(f"Unnamed features (--discover) need at least {FEWEST} images, got {len(source.ids)}.")


def sought_in(
    source: ImageSource,
    subject: Subject,
    *,
    autoencoder: Autoencoder,
    options: AuditOptions,
    positions: Sequence[int],
    folder: Path | None = None,
    progress: Progress = silent,
) -> Sought:
    """The unnamed features of every audited head, found on images at these positions of the source.

    ``options``: seed, batch, search and discovery count. ``folder``: where what the images tell the autoencoder is
    kept. Raises BadInput where fewer than 60 images can be used.
    """
    search = replace(options.search, metric="data")
    informed = informed_for(search, autoencoder, source, folder=folder, seed=options.seed, progress=progress)
    landscape = Landscape.of(source, informed, search, options.batch)
    heads = Heads(subject.panel, subject.audited, subject.attributes, tuple(subject.judges.values()))
    found = discover_in(
        landscape,
        heads,
        positions,
        _people(source, positions),
        options=options.discovery,
        seed=options.seed,
        progress=progress,
    )
    return Sought(found, landscape, heads)


def seek(run: Run, plan: Plan, subject: Subject, progress: Progress, *, again: bool = False) -> Sought | None:
    """Find the unnamed features of every audited head, and write them with their pictures.

    Nothing is done where none are asked for, or they are there already, unless they are needed ``again``. Raises
    BadInput where fewer than 60 images can be used.
    """
    options = plan.options
    if not options.discovery.features or (has_unnamed(run.path) and not again):
        return None
    sought = sought_in(
        plan.source,
        subject,
        autoencoder=plan.autoencoder,
        options=options,
        positions=plan.order()[: options.discovery.images].tolist(),
        folder=run.path / UNNAMED_FOLDER,
        progress=progress,
    )
    write_features(run, sought, options.seed, progress)
    return sought


def write_features(run: Run, sought: Sought, seed: int, progress: Progress) -> None:
    """Write features with their pictures, and what a head of each is learnt from, into the folder of a run."""
    pictured = _Pictured(run, sought.landscape.source, sought.discovery, sought.landscape, seed)
    features = tuple(pictured.feature(number, progress) for number in range(len(sought.discovery.features)))
    _write_lines(run, sought.discovery)
    write_unnamed(run.path, features)


def _people(source: ImageSource, positions: Sequence[int]) -> People | None:
    groups = groups_of(source)
    if groups is None:
        return None
    ids = [source.ids[i] for i in positions]
    table = pl.DataFrame(
        {"image_id": ids, GROUP: [groups[i] for i in ids]}, schema={"image_id": pl.String, GROUP: pl.String}
    )
    return people_of(table)


@dataclass(frozen=True)
class _Pictured:
    """Features whose pictures are written."""

    run: Run
    source: ImageSource
    found: Discovery
    landscape: Landscape
    seed: int

    def feature(self, number: int, progress: Progress) -> UnnamedFeature:
        """A feature with the paths of its pictures."""
        feature, pictures = self.found.features[number], self.found.pictures[number]
        folder = folder_of(feature)
        tested = self.found.sample.some(self.found.tested)
        places = tested.coordinates @ self.found.lines[number].direction
        column = self.found.columns[feature.audited]
        walked = []
        for row in sorted(pictures.ends, key=lambda row: places[row]):
            names = dict(zip(("original", "low", "high"), pictures.ends[row], strict=True))
            place = float((places[row] - places.mean()) / (places.std() or 1.0))
            shown = Shown(tested.ids[row], place, float(tested.scores[row, column]), {})
            walked.append(replace(shown, files=self._files(folder, shown.image_id, names)))
        if feature.found:
            self._keep_material(folder, number, progress)
        strongest = float(pictures.difference.max()) or 1.0
        return replace(
            feature,
            lowest=self._originals(folder, feature.lowest),
            highest=self._originals(folder, feature.highest),
            walked=tuple(walked),
            difference=save_png(self.run, f"{folder}/difference.png", (pictures.difference / strongest)[None]),
        )

    def _keep_material(self, folder: str, number: int, progress: Progress) -> None:
        """What a head of the feature is learnt from, so that a name needs neither images nor models."""
        sample, line = self.found.sample, self.found.lines[number]
        some, others = (sample.some(rows) for rows in np.split(np.arange(len(sample)), [EXAMPLES]))
        rng = generator(self.seed, "examples", folder)
        material = {
            "images": examples_of(self.landscape, some, line, rng, progress),
            "positions": torch.from_numpy(self.found.positions(number)),
        }
        if len(others):
            material["others"] = originals_of(self.landscape, others, progress)
        write_tensors(self.run.path / folder / MATERIAL, material)

    def _originals(self, folder: str, shown: tuple[Shown, ...]) -> tuple[Shown, ...]:
        place = {image_id: i for i, image_id in enumerate(self.source.ids)}
        found = []
        for one in shown:
            images = self.source.load([place[one.image_id]]).images
            files = self._files(folder, one.image_id, {"original": images[0]}) if len(images) else {}
            found.append(replace(one, files=files))
        return tuple(found)

    def _files(self, folder: str, image_id: str, images: Mapping[str, Tensor]) -> dict[str, str]:
        return {
            what: save_png(self.run, f"{folder}/{file_name(image_id)}.{what}.png", image)
            for what, image in images.items()
        }


def _write_lines(run: Run, found: Discovery) -> None:
    """What a name needs: the direction of every feature, both ends, and where every image lies."""
    write_tensors(
        run.path / UNNAMED_FOLDER / "lines.safetensors",
        {
            "directions": torch.from_numpy(np.stack([line.direction for line in found.lines])),
            "ends": torch.tensor([[line.low, line.high] for line in found.lines], dtype=torch.float64),
        },
    )
    tested = np.zeros(len(found.sample), dtype=bool)
    tested[found.tested] = True
    places = {f"{f.audited}:{f.number}": found.positions(i) for i, f in enumerate(found.features)}
    table = pl.DataFrame({"image_id": list(found.sample.ids), "tested": tested, **places})
    write_parquet(run.path / UNNAMED_FOLDER / "positions.parquet", table)
