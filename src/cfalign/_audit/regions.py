"""Where in the image effects lie: counterfactuals split by regions, after everything else of an audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cfalign._audit.measurement import Base, MeasuredPairs, SeenImages, look, walk_all
from cfalign._audit.plan import Plan
from cfalign._audit.region_splits import Splits, first_eligible, unnamed_label
from cfalign._audit.subject import Subject
from cfalign._audit.unnamed import Sought
from cfalign._discovery.walks import ends_of, explained
from cfalign._errors import BadInput
from cfalign._findings import RegionShare
from cfalign._heads.panel import Panel
from cfalign._models.guard import device_of
from cfalign._regions.masks import regions_of
from cfalign._regions.split import region_scores
from cfalign._results import Floats
from cfalign._runs.progress import Progress
from cfalign._runs.run import FILES, Run


def refuse_unreadable(spec: str | None) -> None:
    """Raises BadInput for regions that cannot be read, before any work."""
    if spec is not None:
        names = regions_of(spec).names
        if len(names) != len(set(names)):
            raise BadInput("--regions: two regions have one name.")


def split(run: Run, plan: Plan, subject: Subject, sought: Sought | None, progress: Progress) -> None:
    """Split the counterfactuals of every attribute, of the audited heads and of their unnamed features by region."""
    spec = plan.options.regions.spec
    if spec is None or (run.path / FILES[RegionShare]).is_file():
        return
    splits = Splits(regions_of(spec), subject.audited, subject.attributes, plan.options.seed)
    work = _Work(plan, subject, splits)
    work.walk(run.scores(), progress)
    if sought is not None:
        work.walk_features(sought, progress)
    splits.write(run)


@dataclass
class _Work:
    plan: Plan
    subject: Subject
    splits: Splits

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
        labels = [base.label for base in bases]
        options = self.plan.options
        first = first_eligible(scores, labels, eligible=options.search.eligible, count=options.regions.images)
        wanted: dict[str, list[int]] = {}
        for number, label in enumerate(labels):
            for image_id in first[label]:
                wanted.setdefault(image_id, []).append(number)
        return {image_id: wanted[image_id] for image_id in scores["image_id"].to_list() if image_id in wanted}

    def _part(self, images: Tensor, names: Sequence[str], bases: Sequence[Base], chosen: Sequence[list[int]]) -> None:
        plan, options = self.plan, self.plan.options
        x = images.to(device_of(plan.autoencoder))
        seen = look(x, plan.panel, autoencoder=plan.autoencoder, search=options.search, batch=options.batch)
        masks = self.splits.regions.masks(names, *x.shape[-2:])
        self.splits.remember(seen.reconstructions, masks)
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
            self.splits.add(
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
        masks, batch = self.splits.regions.masks(names, *low.shape[-2:]), self.plan.options.batch
        self.splits.remember(low, masks)
        feature, heads = sought.discovery.features[number], sought.heads
        panel = heads.only([feature.audited, *heads.explaining])
        scored = region_scores(low, high, masks, panel, batch=batch)
        ends = region_scores(low, high, torch.ones_like(masks[:, :1]), panel, batch=batch)
        start = ends.rest

        def beyond(after: Floats) -> Floats:
            """Change of the audited score that the explaining heads do not explain, [image, region, 1]."""
            named = explained(start[..., 0], start[..., 1:], after[..., 1:], sought.discovery.coefficients[number])
            return (after[..., 0] - start[..., 0] - named)[..., None]

        self.splits.add(
            unnamed_label(feature.audited, feature.number),
            names,
            own=np.ones(len(names)),
            whole=beyond(ends.inside)[:, 0],
            inside=beyond(scored.inside),
            rest=beyond(scored.rest),
        )
