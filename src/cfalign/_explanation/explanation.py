"""One image explained: the walk of every base, what changed, and how the other heads answered."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfalign._counterfactuals.batch import (
    Batch,
    Models,
    along,
    evaluate,
    every_logit,
    image_change,
    pairs_of,
)
from cfalign._counterfactuals.methods import walk
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.origins import Origins, origins, settled
from cfalign._errors import BadInput
from cfalign._explanation.explained import ExplainedBase, ExplainedImage
from cfalign._explanation.notebook import explanation_html
from cfalign._explanation.options import Difference, ExplainOptions
from cfalign._explanation.regions import masks_of, split_walk
from cfalign._explanation.saliency import saliency_maps
from cfalign._explanation.writing import write_explanation
from cfalign._heads.composition import Composition, complement, head, parse
from cfalign._heads.panel import Panel, panel
from cfalign._heads.reference import Reference, judged
from cfalign._heads.scoring import respond
from cfalign._models.device import on_device
from cfalign._models.guard import device_of, undisturbed
from cfalign._results import Floats
from cfalign._runs.progress import ShowProgress, told_to, with_bars
from cfalign._types import Autoencoder, Classifier
from cfalign.autoencoders import side_of
from cfalign.datasets import open_images, read_image
from cfalign.datasets.dataset_items import image_of, pixels_of
from cfalign.datasets.torch_loader import is_torch_data

Bases = str | Composition | Sequence[str | Composition]
Image = Any
"""A file, a tensor, an item of a torch data set, or a data set of one image."""


@dataclass(frozen=True, repr=False)
class Explanation(ExplainedImage):
    """One image and the walks of its bases, as ``explain`` gives it.

    >>> clf, ae = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    >>> face = cfa.synthetic.render(cfa.synthetic.sample(1, seed=0))
    >>> cfa.explain(face, clf["smiling"], autoencoder=ae)
    Explanation of 'image': smiling 0.97 → 0.37 (reached)
    """

    def __repr__(self) -> str:
        walks = (f"{b.base} {b.base_scores[0]:.2f} → {b.base_scores[-1]:.2f} ({b.outcome})" for b in self.bases)
        return f"Explanation of {self.name!r}: {', '.join(walks)}"

    def _repr_html_(self) -> str:
        return explanation_html(self)

    def write(self, out: str | Path, *, transitions: Sequence[str | Path] = ()) -> dict[str, Path]:
        """Write figure, numbers, alignment plots and the transition into the folder ``out``; gives the files by name.

        ``transitions``: files ending in .gif, .webp or .mp4 (which needs the extra ``[video]``) instead of
        ``transition.gif``. Raises BadInput for another ending, StorageFailed when the disk refuses.
        """
        return write_explanation(self, out, transitions=transitions)


@with_bars
def explain(
    image: Image,
    base: Bases,
    *,
    autoencoder: Autoencoder,
    classifier: Classifier | None = None,
    reference: Classifier | Reference | None = None,
    downstream: Sequence[str] | None = None,
    options: ExplainOptions | None = None,
    progress: ShowProgress = None,
) -> Explanation:
    """Why does ``base`` answer as it does on one image?

    Args:
        image: a file, a tensor [c, h, w] (or [1, c, h, w]) in [0, 1], or an item of a torch data set: (image, label), a
            dict, an array or a picture of Pillow.
        base: a head or composition, or several; texts such as ``"smiling + 0.3*young"`` are read with ``classifier``.
        autoencoder: any object with ``encode`` and ``decode``.
        classifier: what is explained; needed where a base is a text.
        reference: whose heads look at the walk; the classifier's own by default. The judge of a ``Reference`` looks
            too: its heads are called ``judge:…``.
        downstream: names of those heads that look; all by default.
        options: search, direction, frames, maps, regions.
        progress: True shows bars; a function is called with (stage, done, total) after every base.

    Raises BadInput for a base that is not predicted (``ExplainOptions.increase`` raises it instead), and as
    ``latent_shift`` does. The models are left as they came.
    """
    progress, options = told_to(progress), options or ExplainOptions()
    known = reference if isinstance(reference, Reference) or reference is None else Reference(reference)
    heads = None if known is None else known.classifier
    owners = [c for c in (classifier, heads) if c is not None]
    bases = _bases(base, owners)
    table = _panel(bases, classifier, heads, downstream, owners)
    if known is not None:
        table, _ = judged(table, table.labels, known.judge)
    x, name = _opened(image, side_of(autoencoder, asked=options.size), options.bit_depth)
    regions = None if options.regions is None else masks_of(options.regions, name, x)
    options = replace(options, search=settled(options.search, autoencoder))
    with on_device(options.device), undisturbed(autoencoder, *table.classifiers):
        x = x.to(device_of(autoencoder))
        start = origins(x, autoencoder, search=options.search)
        at_x = table.scores(respond(x, table.classifiers))[0]
        at_x0 = at_x if start.images is x else table.scores(respond(start.images, table.classifiers))[0]
        scores = {b: float(at_x0[table.compositions.index(b)]) for b in bases}
        if not options.increase:
            _refuse_negative(name, table, scores, options.search)
        explained: list[ExplainedBase] = []
        for each in bases:
            progress("explain", len(explained), len(bases))
            found = _explained(
                each, scores[each], start, table=table, autoencoder=autoencoder, options=options, regions=regions
            )
            explained.append(found)
        progress("explain", len(explained), len(bases))
    return Explanation(name, x[0].cpu(), table.labels, at_x, tuple(explained), options)


def _bases(given: Bases, owners: Sequence[Classifier]) -> list[Composition]:
    several = [given] if isinstance(given, str | Composition) else list(given)
    if not several:
        raise BadInput('An explanation needs at least one base, e.g. "smiling".')
    if not owners and any(isinstance(b, str) for b in several):
        raise BadInput(f"The base {several[0]!r} is a text; give the classifier that it is a head of as well.")
    known = {c.name: c for c in owners}
    return list(dict.fromkeys(parse(b, known) if isinstance(b, str) else b for b in several))


def _panel(
    bases: Sequence[Composition],
    classifier: Classifier | None,
    reference: Classifier | None,
    downstream: Sequence[str] | None,
    owners: Sequence[Classifier],
) -> Panel:
    """The heads that look, then the bases."""
    looking = reference or classifier
    watched = [looking] if looking is not None else list(dict.fromkeys(c for b in bases for c in b.classifiers))
    if downstream is None:
        heads = [head(c, target) for c in watched for target in c.targets]
    else:
        known = {c.name: c for c in dict.fromkeys([*watched, *owners])}
        heads = [parse(text, known) for text in dict.fromkeys(downstream)]
    return panel(heads, [(b.classifiers[0].name, b) for b in bases])


def _opened(image: Image, size: int | None, bit_depth: int | None) -> tuple[Tensor, str]:
    """The image [1, c, h, w] and what it is called."""
    if not isinstance(image, Tensor | str | os.PathLike):
        return _of_item(image, size)
    if isinstance(image, Tensor):
        x = image[None] if image.ndim == 3 else image
        if x.ndim != 4 or len(x) != 1 or not x.is_floating_point() or not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):
            raise BadInput(
                f"Expected one image [c, h, w], floating, in [0, 1]; got {image.dtype} of shape {tuple(image.shape)}."
            )
        return x.detach(), "image"
    if size is None:
        raise BadInput(
            "The autoencoder does not say which size of images it works on; say it (--size, in Python "
            "ExplainOptions(size=...)), or give a tensor instead of a file."
        )
    return read_image(image, size=size, bit_depth=bit_depth)[None], Path(image).name


def _of_item(image: Image, size: int | None) -> tuple[Tensor, str]:
    """An item of a torch data set, or the only one that there is."""
    if not is_torch_data(image):
        where = "The image to explain"
        shape = None if size is None else (size, size)
        return pixels_of(image_of(image, where=where), size=shape, where=where)[None], "image"
    source = open_images(image, size=size)
    if len(source.ids) > 1:
        raise BadInput(
            f"An explanation takes one image, got a data set of {len(source.ids)}; give one of its items, dataset[0]."
        )
    return source.load([0]).images, source.ids[0]


def _refuse_negative(name: str, table: Panel, scores: Mapping[Composition, float], search: SearchOptions) -> None:
    for base, score in scores.items():
        if score < search.eligible:
            label = table.labels[table.compositions.index(base)]
            raise BadInput(
                f"{name}: {label} scores {score:.2f} on the {search.start}, below {search.eligible:g}, so there is no "
                "prediction to take away; use --increase (in Python ExplainOptions(increase=True)) to raise the score "
                "instead."
            )


def mirrored(base: Composition, options: SearchOptions) -> tuple[Composition, SearchOptions]:
    """What is descended to raise ``base``, and the search that belongs to it.

    A drop of the complement is a rise of the score; the floor, mirrored, is a ceiling, and the eligible are those not
    predicted.
    """
    if base.sum_of_logits is not None:
        return complement(base), replace(options, eligible=1 - options.eligible)
    return complement(base), replace(options, floor=options.floor - 1, eligible=-options.eligible)


def _explained(
    base: Composition,
    score: float,
    start: Origins,
    *,
    table: Panel,
    autoencoder: Autoencoder,
    options: ExplainOptions,
    regions: tuple[tuple[str, ...], Tensor] | None,
) -> ExplainedBase:
    raised = score < options.search.eligible
    descended, search = mirrored(base, options.search) if raised else (base, options.search)
    models = Models(autoencoder, base.classifiers, options.batch)
    walks = walk(Batch(start, pairs_of(descended, count=1), models), search)
    ends, batch = walks.ends[0], walks.batch
    fractions = np.arange(options.steps + 1) / options.steps
    walked = along(batch.latents, walks.direction, ends.distances[:, None] * fractions)
    every = replace(batch.models, classifiers=table.classifiers)
    seen = evaluate(batch.points(walked, each=len(fractions)), models=every, read=every_logit)
    frames, scores = seen.images, table.scores(seen.values)
    outcome = ends.outcomes[0]
    split = None
    if outcome.walked and regions is not None:
        split = split_walk(frames, scores, *regions, panel=table, batch=options.batch)
    if not outcome.walked:
        frames, scores = start.images.expand_as(frames), np.repeat(scores[:1], len(scores), axis=0)
    column = table.compositions.index(base)
    return ExplainedBase(
        base=table.labels[column],
        increased=raised,
        outcome=outcome,
        evaluations=int(ends.evaluations[0]),
        lambdas=ends.lambdas[0] * fractions,
        frames=frames.cpu(),
        scores=scores,
        base_scores=scores[:, column],
        psi=_psi(scores, column, table, options.min_base_change),
        image_change=float(image_change(frames[:1], frames[-1:])[0]),
        difference=difference_map(frames, options.difference).cpu(),
        saliency=saliency_maps(start.images, base) if options.saliency else {},
        regions=split,
    )


def _psi(scores: Floats, column: int, table: Panel, least: float) -> dict[str, float]:
    change = scores[-1] - scores[0]
    own = change[column]
    defined = abs(own) >= least
    return {
        label: float(change[at] / own) if defined else float("nan")
        for at, label in enumerate(table.labels)
        if at != column
    }


def difference_map(frames: Tensor, kind: Difference) -> Tensor:
    """Where frames [step, c, h, w] differ from the first, [h, w]; see ``ExplainOptions.difference``."""
    if kind == "int":
        changes = frames.diff(dim=0).abs().sum(dim=0)
    else:
        away = (frames[1:] - frames[:1]).abs()
        changes = {"mean": away.mean(dim=0), "max": away.amax(dim=0), "first-last": away[-1]}[kind]
    return torch.as_tensor(changes).mean(dim=0)
