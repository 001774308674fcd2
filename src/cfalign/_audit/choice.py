"""Which method makes the counterfactuals of a base: a walk, or a completion; the judge decides.

A walk is tried first. Where the judge does not follow nearly all of it, regions are completed on the same images, on
all of them if the first few can be switched off. The way that the judge follows further is taken, if it lands. Images
come from the end of the run's order, where few bases still need any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cfalign._audit.measurement import Base, SeenImages, WalkSettings, look, walk_all
from cfalign._counterfactuals.options import Method
from cfalign._heads.panel import Panel
from cfalign._models.guard import device_of
from cfalign._results import Floats
from cfalign._runs.progress import Progress, silent
from cfalign._types import Autoencoder
from cfalign.datasets import ImageSource

TRIED = 10
"""Images of each base."""
MOST = 1024
"""Images looked at, at most."""
FOLLOWED = 0.85
"""Share of a walk that the judge follows, from which on no completion is tried."""
FIRST, SOME = 4, 0.75
"""Images that are completed first, and the share of them that must be switched off before the others are."""
LANDS = 0.85
"""Share of the tried images that a completion must switch off."""
FEWEST = 4
"""Tried images, below which nothing is compared."""


@dataclass(frozen=True)
class Tried:
    """One method on the tried images of one base."""

    n: int
    """Images that were tried."""
    landed: float
    """Share of them that was switched off."""
    share: float
    """Change of the judge's probability per change of the base's, where switched off; NaN where the base kept still."""
    change: float
    """Mean change of the judge's probability; 0 for an image without a counterfactual."""


@dataclass(frozen=True)
class Choice:
    """The method of one base."""

    method: Method
    why: str
    """One sentence."""
    walk: Tried | None = None
    completion: Tried | None = None


def choose(
    bases: Sequence[Base],
    judges: Mapping[str, str],
    source: ImageSource,
    order: Sequence[int],
    *,
    panel: Panel,
    autoencoder: Autoencoder,
    settings: WalkSettings,
    progress: Progress = silent,
) -> dict[str, Choice]:
    """The method of every base by its label. ``order``: positions in the source, as the run takes them."""
    watched = [base for base in bases if base.label in judges]
    choices = {
        base.label: Choice("latent-shift", "No judge knows it, so it is walked.")
        for base in bases
        if base.label not in judges
    }
    trial = _Trial(judges, panel, autoencoder, settings)
    images = _images_of(watched, source, order, trial, progress)
    for number, base in enumerate(watched):
        progress("choosing methods", number, len(watched))
        walk = trial.of(base, "latent-shift", images[base.label])
        doubtful = walk.n >= FEWEST and not walk.share >= FOLLOWED
        completion = trial.completed(base, images[base.label]) if doubtful else None
        choices[base.label] = _choice(walk, completion)
    progress("choosing methods", len(watched), len(watched))
    return {base.label: choices[base.label] for base in bases}


def _choice(walk: Tried, completion: Tried | None) -> Choice:
    if walk.n < FEWEST:
        return Choice("latent-shift", f"Only {walk.n} images were positive, too few to compare, so it is walked.")
    followed = f"the judge follows {walk.share:.2f} of the walk"
    if completion is None:
        return Choice("latent-shift", f"{followed[0].upper()}{followed[1:]}, so it is walked.", walk)
    tried = "" if completion.n == walk.n else f" of the first {completion.n}"
    other = f"{completion.share:.2f} of the completion, which switches off {completion.landed:.0%}{tried}"
    better = completion.landed >= LANDS and completion.change < walk.change
    method: Method = "completion" if better else "latent-shift"
    way = "regions are completed" if better else "it is walked"
    return Choice(method, f"On {walk.n} images {followed} and {other}, so {way}.", walk, completion)


@dataclass(frozen=True)
class _Trial:
    judges: Mapping[str, str]
    panel: Panel
    autoencoder: Autoencoder
    settings: WalkSettings

    def of(self, base: Base, method: Method, images: Sequence[SeenImages]) -> Tried:
        """One method on the images of one base."""
        settings = replace(self.settings, search=replace(self.settings.search, method=method))
        rows = [self._walked(base, settings, seen) for seen in images]
        return _summary(np.concatenate(rows) if rows else np.zeros((0, 3)))

    def completed(self, base: Base, images: Sequence[SeenImages]) -> Tried:
        """Completions of the first few images, and of the others where these could be switched off."""
        first = self.of(base, "completion", [images[0].some(np.arange(len(images[0].reconstructions))[:FIRST], (0, 1))])
        return self.of(base, "completion", images) if first.landed >= SOME else first

    def _walked(self, base: Base, settings: WalkSettings, seen: SeenImages) -> Floats:
        """Change of the base, change of the judge and whether it landed, where switched off, [image, 3]."""
        count = len(seen.reconstructions)
        some = Panel(*zip(*((n, self.panel[n]) for n in (base.label, self.judges[base.label])), strict=True))
        measured = walk_all(
            seen,
            [(i, 0) for i in range(count)],
            panel=some,
            bases=[replace(base, to="both")],
            image_ids=[str(i) for i in range(count)],
            autoencoder=self.autoencoder,
            settings=settings,
        )
        rows = []
        for pairs in measured:
            assert pairs.off is not None
            change = pairs.off.scores - seen.reconstruction_scores[pairs.image]
            rows.append(np.column_stack([np.nan_to_num(change), pairs.off.ends.landed]))
        return np.concatenate(rows)


def _summary(rows: Floats) -> Tried:
    if not len(rows):
        return Tried(0, 0.0, float("nan"), 0.0)
    own, judged, landed = rows.mean(axis=0)
    return Tried(len(rows), float(landed), float(judged / own) if own < 0 else float("nan"), float(judged))


def _images_of(
    bases: Sequence[Base], source: ImageSource, order: Sequence[int], trial: _Trial, progress: Progress
) -> dict[str, list[SeenImages]]:
    """The tried images of every base, from the end of the order."""
    found: dict[str, list[SeenImages]] = {base.label: [] for base in bases}
    left = {base.label: TRIED for base in bases}
    settings, last = trial.settings, list(order)[::-1][:MOST]
    progress("choosing methods", 0, len(bases))
    for at in range(0, len(last), settings.batch):
        if not any(left.values()):
            break
        images = source.load(last[at : at + settings.batch]).images.to(device_of(trial.autoencoder))
        if not len(images):
            continue
        search = replace(settings.search, method="latent-shift")
        seen = look(images, trial.panel, autoencoder=trial.autoencoder, search=search, batch=settings.batch)
        for base in bases:
            scores = seen.reconstruction_scores[:, trial.panel.labels.index(base.label)]
            rows = np.flatnonzero(scores >= settings.search.eligible)[: left[base.label]]
            if len(rows):
                pair = [trial.panel.labels.index(n) for n in (base.label, trial.judges[base.label])]
                found[base.label].append(seen.some(rows, pair))
                left[base.label] -= len(rows)
    return found
