"""Where in the image effects lie: counterfactuals split by regions, after everything else of an audit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cfalign._analysis.statistics import generator
from cfalign._audit.measurement import Base, MeasuredPairs, SeenImages, look, walk_all
from cfalign._audit.pictures import save_png
from cfalign._audit.plan import Plan
from cfalign._audit.shards import people_of
from cfalign._audit.subject import Subject
from cfalign._audit.unnamed import Sought
from cfalign._discovery.walks import ends_of, explained
from cfalign._errors import BadInput
from cfalign._findings import RegionShare
from cfalign._heads.panel import Panel
from cfalign._models.guard import device_of
from cfalign._regions.masks import Regions, regions_of
from cfalign._regions.split import region_scores, shares
from cfalign._results import Floats
from cfalign._runs.codec import file_name, write_rows
from cfalign._runs.columns import Column
from cfalign._runs.progress import Progress
from cfalign._runs.run import FILES, Run

FOLDER = "regions"


def refuse_unreadable(plan: Plan) -> None:
    """Raises BadInput for regions that cannot be read, before any work."""
    if plan.options.regions.spec is not None:
        names = regions_of(plan.options.regions.spec).names
        if len(names) != len(set(names)):
            raise BadInput("--regions: two regions have one name.")


def split(run: Run, plan: Plan, subject: Subject, sought: Sought | None, progress: Progress) -> None:
    """Split the counterfactuals of every attribute, of the audited heads and of their unnamed features by region."""
    spec, file = plan.options.regions.spec, run.path / FILES[RegionShare]
    if spec is None or file.is_file():
        return
    work = _Work(plan, subject, regions_of(spec))
    work.walk(run.scores(), progress)
    if sought is not None:
        work.walk_features(sought, progress)
    found = work.shares(run.scores())
    for (audited, attribute), picture in work.pictures(found).items():
        save_png(run, map_of(audited, attribute), picture)
    write_rows(file, found, RegionShare)


def map_of(audited: str, attribute: str) -> str:
    """The picture of the regions in which an attribute moves a head, relative to the run."""
    return f"{FOLDER}/{file_name(audited)}/{file_name(attribute)}.png"


@dataclass
class _Split:
    """Changes of one base's counterfactuals, part by part."""

    ids: list[str] = field(default_factory=list)
    own: list[Floats] = field(default_factory=list)
    whole: list[Floats] = field(default_factory=list)
    inside: list[Floats] = field(default_factory=list)
    rest: list[Floats] = field(default_factory=list)


@dataclass
class _Work:
    plan: Plan
    subject: Subject
    regions: Regions
    found: dict[str, _Split] = field(default_factory=dict)
    seen: dict[str, Tensor] = field(default_factory=dict)
    """Some image before any walk, and its masks, to draw regions on."""

    @property
    def panel(self) -> Panel:
        """The audited heads alone."""
        return Panel(self.subject.audited, tuple(self.plan.panel[a] for a in self.subject.audited))

    def walk(self, scores: pl.DataFrame, progress: Progress) -> None:
        """Walk the first counterfactuals of every base once more, and score their composites."""
        bases = [Base(b, self.plan.panel[b], "off" if b in self.plan.attributes else "drop") for b in self.plan.bases]
        wanted = self._wanted(scores, bases)
        ids, size = list(wanted), self.plan.options.chunk
        place = {image_id: i for i, image_id in enumerate(self.plan.source.ids)}
        progress("regions", 0, len(ids))
        for at in range(0, len(ids), size):
            loaded = self.plan.source.load([place[i] for i in ids[at : at + size]])
            names = [self.plan.source.ids[i] for i in loaded.indices]
            if names:
                self._part(loaded.images, names, bases, [wanted[name] for name in names])
            progress("regions", min(at + size, len(ids)), len(ids))

    def _wanted(self, scores: pl.DataFrame, bases: Sequence[Base]) -> dict[str, list[int]]:
        """The numbers of the bases that each image is walked for, in the order of the run."""
        known = scores.filter(pl.col("skipped").is_null())
        columns = [known[Column.RECONSTRUCTION.of(base.label)].to_numpy() for base in bases]
        wanted: dict[str, list[int]] = {}
        for number, column in enumerate(columns):
            able = np.flatnonzero(column >= self.plan.options.search.eligible)[: self.plan.options.regions.images]
            for image_id in known["image_id"].gather(able).to_list():
                wanted.setdefault(image_id, []).append(number)
        order = known["image_id"].to_list()
        return {image_id: wanted[image_id] for image_id in order if image_id in wanted}

    def _part(self, images: Tensor, names: Sequence[str], bases: Sequence[Base], chosen: Sequence[list[int]]) -> None:
        plan, options = self.plan, self.plan.options
        x = images.to(device_of(plan.autoencoder))
        seen = look(x, plan.panel, autoencoder=plan.autoencoder, search=options.search, batch=options.batch)
        masks = self.regions.masks(names, *x.shape[-2:])
        self._remember(seen.reconstructions, masks)
        pairs = [(row, base) for row, some in enumerate(chosen) for base in some]
        measured = walk_all(
            seen,
            pairs,
            panel=plan.panel,
            bases=bases,
            image_ids=names,
            autoencoder=plan.autoencoder,
            settings=plan.walk_settings,
        )
        for part in measured:
            self._measured(part, seen, masks, names, bases)

    def _measured(
        self, part: MeasuredPairs, seen: SeenImages, masks: Tensor, names: Sequence[str], bases: Sequence[Base]
    ) -> None:
        end = part.off or part.counterfactual
        walked = np.flatnonzero(end.ends.walked)
        if not len(walked):
            return
        image = torch.from_numpy(part.image[walked])
        before, after = seen.reconstructions[image.to(seen.reconstructions.device)], end.ends.images[walked]
        scored = region_scores(before, after, masks[image], self.panel, batch=self.plan.options.batch)
        audited = [self.plan.panel.labels.index(a) for a in self.subject.audited]
        start = seen.reconstruction_scores[part.image[walked]]
        for number in np.unique(part.base[walked]).tolist():
            label = bases[number].label
            rows = np.flatnonzero(part.base[walked] == number)
            column = self.plan.panel.labels.index(label)
            self.add(
                label,
                [names[i] for i in part.image[walked][rows]],
                own=end.scores[walked][rows, column] - start[rows, column],
                whole=end.scores[walked][rows][:, audited] - start[rows][:, audited],
                inside=scored.inside[rows] - start[rows][:, None, audited],
                rest=scored.rest[rows] - start[rows][:, None, audited],
            )

    def walk_features(self, sought: Sought, progress: Progress) -> None:
        """Walk images from one end of every unnamed feature that counts to the other.

        What is split is its effect: the change of the score beyond what the reference heads explain.
        """
        for number, feature in enumerate(sought.discovery.features):
            if not feature.found:
                continue
            tested, line = sought.discovery.tested, sought.discovery.lines[number]
            some = sought.discovery.sample.some(tested[: self.plan.options.regions.images])
            for rows, low, high in ends_of(sought.landscape, some, line, progress):
                names = [some.ids[row] for row in rows]
                self._feature_part(sought, number, names, low, high)

    def _feature_part(self, sought: Sought, number: int, names: Sequence[str], low: Tensor, high: Tensor) -> None:
        masks, batch = self.regions.masks(names, *low.shape[-2:]), self.plan.options.batch
        self._remember(low, masks)
        feature, heads = sought.discovery.features[number], sought.heads
        panel = heads.only([feature.audited, *heads.explaining])
        scored = region_scores(low, high, masks, panel, batch=batch)
        ends = region_scores(low, high, torch.ones_like(masks[:, :1]), panel, batch=batch)
        start = ends.rest

        def beyond(after: Floats) -> Floats:
            """Change of the audited score that the explaining heads do not explain, [image, region, 1]."""
            named = explained(start[..., 0], start[..., 1:], after[..., 1:], sought.discovery.coefficients[number])
            return (after[..., 0] - start[..., 0] - named)[..., None]

        self.add(
            unnamed_label(feature.audited, feature.number),
            names,
            own=np.ones(len(names)),
            whole=beyond(ends.inside)[:, 0],
            inside=beyond(scored.inside),
            rest=beyond(scored.rest),
        )

    def _remember(self, images: Tensor, masks: Tensor) -> None:
        if not self.seen:
            self.seen = {"image": images.mean(dim=0).cpu(), "masks": torch.nan_to_num(masks).amax(dim=0)}

    def add(self, label: str, ids: Sequence[str], *, own: Floats, whole: Floats, inside: Floats, rest: Floats) -> None:
        """Keep the changes of some counterfactuals of a base."""
        one = self.found.setdefault(label, _Split())
        one.ids += ids
        for into, values in ((one.own, own), (one.whole, whole), (one.inside, inside), (one.rest, rest)):
            into.append(values)

    def shares(self, scores: pl.DataFrame) -> list[RegionShare]:
        """The shares of every region, head by head."""
        numbers = people_of(scores)
        person = None if numbers is None else dict(zip(scores["image_id"].to_list(), numbers.tolist(), strict=True))
        return [
            share
            for column, audited in enumerate(self.subject.audited)
            for label, attribute in self._bases_of(audited)
            for share in self._shares(audited, column, label, attribute, person)
        ]

    def _bases_of(self, audited: str) -> Iterator[tuple[str, str]]:
        """(label of what is split, how it is called) for one audited head: its own counterfactuals come first."""
        mine = [label for label in self.found if label == audited or label in self.subject.attributes]
        yield from ((label, label) for label in sorted(mine, key=lambda label: label != audited))
        for label in self.found:
            head, mark, number = label.rpartition(UNNAMED)
            if mark and head == audited:
                yield label, f"unnamed {number}"

    def _shares(
        self, audited: str, column: int, label: str, attribute: str, person: Mapping[str, int] | None
    ) -> list[RegionShare]:
        one = self.found[label]
        column = min(column, one.whole[0].shape[1] - 1)  # walks of a feature have its own head alone
        people = None if person is None else np.array([person[i] for i in one.ids], dtype=np.int64)
        return shares(
            audited,
            attribute,
            self.regions.names,
            own=np.concatenate(one.own),
            whole=np.concatenate(one.whole)[:, column],
            inside=np.concatenate(one.inside)[:, :, column],
            rest=np.concatenate(one.rest)[:, :, column],
            people=people,
            rng=generator(self.plan.options.seed, "regions", audited, attribute),
        )

    def pictures(self, found: Sequence[RegionShare]) -> dict[tuple[str, str], Tensor]:
        """The mean image, and in red how much of what moves a head lies where; of the shares that are known."""
        if not self.seen:
            return {}
        names = list(self.regions.names)
        drawn: dict[tuple[str, str], Tensor] = {}
        for key in dict.fromkeys((s.audited, s.attribute) for s in found):
            mine = [s for s in found if (s.audited, s.attribute) == key]
            values = np.nan_to_num([s.inside for s in mine])
            if not values.any() or len(mine) != len(names):
                continue
            weights = torch.tensor(np.clip(values / max(values.max(), 1e-9), 0, 1), dtype=torch.float32)
            heat = (weights[:, None, None] * self.seen["masks"]).amax(dim=0)
            grey = self.seen["image"].mean(dim=0).expand(3, -1, -1)
            red = torch.tensor([0.70, 0.09, 0.17])[:, None, None]
            drawn[key] = grey * (1 - 0.75 * heat) + red * 0.75 * heat
        return drawn


UNNAMED = "#unnamed "


def unnamed_label(audited: str, number: int) -> str:
    """What the walks of an unnamed feature are called among the bases."""
    return f"{audited}{UNNAMED}{number}"
