"""A composition tried on some images: its counterfactuals beside those of the head that it changes, and how much less
or more every other head moves along with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cfalign._analysis.alignment import relative_change
from cfalign._analysis.statistics import generator, resampled_interval, resampled_sums
from cfalign._audit.informing import informed_for
from cfalign._audit.pictures import methods_of, search_of
from cfalign._audit.remade import AtHand, composition_of
from cfalign._counterfactuals.methods import counterfactuals
from cfalign._counterfactuals.options import Method, SearchOptions
from cfalign._errors import BadInput
from cfalign._explorer.shelf import Frames, Shelved, as_bytes
from cfalign._heads.composition import Composition, parse
from cfalign._heads.panel import Panel
from cfalign._heads.scoring import respond
from cfalign._models.guard import device_of, undisturbed
from cfalign._results import Counterfactuals, Floats
from cfalign._runs.columns import attribute_of
from cfalign._types import Autoencoder
from cfalign.datasets import ImageSource, in_batches

_BATCH = 32
_LOOKED_AT = 512
"""Images that are looked at to find eligible ones."""
_RESAMPLES = 1000


@dataclass(frozen=True)
class Moved:
    """One head under both counterfactuals; NaN where nothing counts."""

    head: str
    base: float
    """Mean ψ over the counterfactuals of the base."""
    composed: float
    difference: float
    """Mean over images of composed − base."""
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Trial:
    """The outcome of a trial."""

    base: str
    composition: str
    moved: tuple[Moved, ...]
    """The largest difference first."""
    n: int
    """Images on which both moved far enough for ψ."""
    images: tuple[str, ...]
    outcomes: tuple[tuple[str, str], ...]
    """Of the base and of the composition, by image."""
    scores: tuple[tuple[float, float], ...]
    """Of the base's own head on the two counterfactuals."""
    pictures: tuple[Frames, ...]
    """By image: x0, the counterfactual of the base, that of the composition."""


def tried(one: Shelved, base: str, text: str, *, count: int, seed: int = 0) -> Trial:
    """Try a composition on up to ``count`` images that ``base`` predicts. Raises BadInput for what cannot be read."""
    with one.computing:
        hand = one.at_hand
    if hand.source is None or hand.autoencoder is None:
        raise BadInput("The models of this run are not at hand, so no counterfactual can be made.")
    owners = {c.name: c for c in hand.classifiers}
    plain, composed = composition_of(attribute_of(base), one.run, hand.classifiers), parse(text, owners)
    search = replace(search_of(one.run), method=_method(one, base))
    encoder = informed_for(search, hand.autoencoder, hand.source, folder=one.path, seed=seed)
    panel = Panel(one.heads, tuple(composition_of(head, one.run, hand.classifiers) for head in one.heads))
    with one.computing, undisturbed(encoder, *hand.classifiers):
        ids, x = _eligible(hand.source, (plain, composed), encoder, search, count)
        walks = [counterfactuals(x, head, autoencoder=encoder, options=search) for head in (plain, composed)]
        scores = [_scores(panel, images, hand) for images in (walks[0].reconstructions, *(w.images for w in walks))]
    least = float(one.record["settings"]["alignment"]["min_base_change"])
    return _told(base, str(composed), ids, walks, scores, panel, least=least, seed=seed)


def _method(one: Shelved, base: str) -> Method:
    """The method of the base in the run; ``auto`` is no method of its own."""
    asked = search_of(one.run).method
    return methods_of(one.run).get(base, "latent-shift" if asked == "auto" else asked)


def _eligible(
    source: ImageSource, heads: Sequence[Composition], encoder: Autoencoder, search: SearchOptions, count: int
) -> tuple[list[str], Tensor]:
    """The first images that every head predicts. Raises BadInput where there is none."""
    ids: list[str] = []
    found: list[Tensor] = []
    device = device_of(encoder)
    table = Panel(tuple(map(str, range(len(heads)))), tuple(heads))
    for loaded in in_batches(source, batch=_BATCH, indices=range(min(len(source.ids), _LOOKED_AT))):
        if len(ids) >= count:
            break
        x = loaded.images.to(device)
        with torch.no_grad():
            scores = table.scores(respond(x, table.classifiers))
        rows = np.flatnonzero((scores >= search.eligible).all(axis=1))
        ids += [source.ids[loaded.indices[row]] for row in rows]
        found.append(x[torch.from_numpy(rows).to(x.device)])
    if not ids:
        raise BadInput(
            f"None of the first {min(len(source.ids), _LOOKED_AT)} images has scores of {search.eligible:g} or more "
            "for both, so there is nothing to take away."
        )
    return ids[:count], torch.cat(found)[:count]


def _scores(panel: Panel, images: Tensor, hand: AtHand) -> Floats:
    parts = [respond(part, panel.classifiers).detach().cpu() for part in images.split(_BATCH)]
    return panel.scores(torch.cat(parts))


def _told(
    base: str,
    composition: str,
    ids: Sequence[str],
    walks: Sequence[Counterfactuals],
    scores: Sequence[Floats],
    panel: Panel,
    *,
    least: float,
    seed: int,
) -> Trial:
    before = scores[0]
    psi = []
    for walked, after in zip(walks, scores[1:], strict=True):
        own = walked.base_after - walked.base_before
        psi.append(relative_change(after - before, own, min_base_change=least))
    counts = np.isfinite(psi[0]).all(axis=1) & np.isfinite(psi[1]).all(axis=1)
    column = panel.labels.index(attribute_of(base))
    own_scores = [(float(a[column]), float(b[column])) for a, b in zip(*scores[1:], strict=True)]
    pictures = [torch.stack([walks[0].reconstructions[i], *(w.images[i] for w in walks)]) for i in range(len(ids))]
    return Trial(
        base=base,
        composition=composition,
        moved=_moved(psi[0][counts], psi[1][counts], panel.labels, seed),
        n=int(counts.sum()),
        images=tuple(ids),
        outcomes=tuple((str(a), str(b)) for a, b in zip(*(w.outcomes for w in walks), strict=True)),
        scores=tuple(own_scores),
        pictures=tuple(as_bytes(three) for three in pictures),
    )


def _moved(base: Floats, composed: Floats, heads: Sequence[str], seed: int) -> tuple[Moved, ...]:
    if not len(base):
        return ()
    change = composed - base
    sums, drawn = resampled_sums(change, resamples=_RESAMPLES, rng=generator(seed, "trial"))
    low, high = resampled_interval(sums / drawn[:, None], change.mean(axis=0))
    columns = (base.mean(axis=0), composed.mean(axis=0), change.mean(axis=0), low, high)
    rows = [Moved(head, *(float(c[i]) for c in columns)) for i, head in enumerate(heads)]
    return tuple(sorted(rows, key=lambda m: -abs(m.difference)))
