"""Pairs of a run made once more from its images and models, and whether these are the ones that it was made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from cfalign._audit.informing import informed_for
from cfalign._audit.measurement import WalkSettings, off_search
from cfalign._audit.pictures import ENDS, Strip, extents, methods_of, search_of, walked_again
from cfalign._counterfactuals.options import EstimateOptions
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition, complement, parse
from cfalign._heads.panel import Panel
from cfalign._models.guard import undisturbed
from cfalign._results import Outcome
from cfalign._runs.behind import behind_images
from cfalign._runs.columns import RAISED, Column, attribute_of
from cfalign._runs.run import Run
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import ImageSource

SAME = 0.02
"""A score walked again may differ from the run's by this much: files are decoded and batched anew."""
Pair = tuple[str, str]
"""(image id, base)."""
_NAMED = ("image_id", "base", "outcome", "base_before", "base_after")


@dataclass(frozen=True)
class AtHand:
    """The images and models of a run, as far as there are any."""

    source: ImageSource | None = None
    autoencoder: Autoencoder | None = None
    classifiers: Sequence[Classifier] = ()
    """The reference first, then what was audited: bare names are looked up in that order."""

    @property
    def walks(self) -> bool:
        """Whether counterfactuals can be made of it."""
        return self.source is not None and self.autoencoder is not None and bool(self.classifiers)


@dataclass(frozen=True)
class Facts:
    """What the run says of a pair."""

    outcome: Outcome
    before: float
    after: float


def facts(run: Run, pairs: Iterable[Pair]) -> dict[Pair, Facts]:
    """What the run says of those of the pairs that it has."""
    wanted = set(pairs)
    images = {image_id for image_id, _ in wanted}
    table = behind_images(run.shards("responses"), images, _NAMED)
    known = {(i, b): Facts(Outcome(o), before, after) for i, b, o, before, after in table.iter_rows()}
    ineligible = run.ineligible().with_columns(pl.col("image_id", "base").cast(pl.String))
    for image_id, base, before in ineligible.filter(pl.col("image_id").is_in(list(images))).iter_rows():
        known[image_id, base] = Facts(Outcome.NOT_ELIGIBLE, before, float("nan"))
    return {pair: found for pair, found in known.items() if pair in wanted}


def remade(
    pairs: Sequence[Pair], run: Run, at_hand: AtHand, *, heads: Sequence[str] = (), frames: bool = False
) -> dict[Pair, Strip]:
    """The strips of those of the pairs that have a counterfactual and whose image is there.

    ``heads``: whose scores stand behind that of the base, in the columns of ``Strip.scores``. ``frames``: whether the
    image of every step is kept. Raises BadInput where there are no models, and when the scores are not those of the
    run.
    """
    source, autoencoder, classifiers = at_hand.source, at_hand.autoencoder, at_hand.classifiers
    if source is None or autoencoder is None or not classifiers:
        raise BadInput("Counterfactuals are made again from the run's images, autoencoder and classifiers.")
    known, there = facts(run, pairs), set(source.ids)
    able = [pair for pair in pairs if pair[0] in there and pair in known and known[pair].outcome.walked]
    estimate = EstimateOptions(**run.record()["settings"].get("estimate", {}))
    ends = extents(behind_images(run.shards("responses"), {image_id for image_id, _ in able}, ENDS))
    seed = int(run.record()["seed"] or 0)
    encoder = informed_for(search_of(run), autoencoder, source, folder=run.path, seed=seed)
    strips: dict[Pair, Strip] = {}
    with undisturbed(encoder, *classifiers):
        for base in dict.fromkeys(base for _, base in able):
            labels = tuple(dict.fromkeys((base, *heads)))
            table = Panel(labels, tuple(composition_of(label, run, classifiers) for label in labels))
            search = off_search(search_of(run)) if base.startswith(RAISED) else search_of(run)
            settings = WalkSettings(search, estimate, methods=methods_of(run))
            mine = [pair for pair in able if pair[1] == base]
            strips |= walked_again(
                mine, ends, source, panel=table, autoencoder=encoder, settings=settings, frames=frames
            )
    _refuse_others(strips, known)
    _refuse_other_heads(strips, run, heads)
    return strips


def _refuse_others(strips: Mapping[Pair, Strip], known: Mapping[Pair, Facts]) -> None:
    for pair, strip in strips.items():
        said, seen = known[pair], strip.scores[[0, -1], 0]
        if not np.allclose(seen, [said.before, said.after], rtol=0.0, atol=SAME):
            raise BadInput(
                f"Image {pair[0]!r} walked again falls from {seen[0]:.3f} to {seen[1]:.3f} for {pair[1]}, but from "
                f"{said.before:.3f} to {said.after:.3f} in the run: give the images and "
                "models that the run was made of."
            )


def _refuse_other_heads(strips: Mapping[Pair, Strip], run: Run, heads: Sequence[str]) -> None:
    """The same of the heads that look: their scores at both ends are those of the run."""
    columns = [column.of(head) for column in (Column.BEFORE, Column.AFTER) for head in heads]
    images = {image_id for image_id, _ in strips}
    table = behind_images(run.shards("responses"), images, ("image_id", "base", "outcome", *columns))
    for image_id, base, _, *said in table.iter_rows() if heads else ():
        strip = strips.get((image_id, base))
        if strip is None:
            continue
        labels = dict.fromkeys((base, *heads))
        seen = strip.scores[[0, -1]][:, [list(labels).index(head) for head in heads]].ravel()
        if not np.allclose(seen, np.array(said, dtype=float), rtol=0.0, atol=SAME, equal_nan=True):
            head = heads[int(np.abs(seen - np.array(said, dtype=float)).argmax()) % len(heads)]
            raise BadInput(
                f"The head {head!r} answers image {image_id!r} otherwise than in the run: give the images and models "
                "that the run was made of."
            )


def composition_of(label: str, run: Run, classifiers: Sequence[Classifier]) -> Composition:
    """The head or composition of a base or head of the run. Raises BadInput where no classifier has it."""
    try:
        known = {c.name: c for c in classifiers}
        return complement(parse(attribute_of(label), known)) if label.startswith(RAISED) else parse(label, known)
    except BadInput:
        names = [c["name"] for c in run.record()["models"]["classifiers"]]
        given = ", ".join(c.name for c in classifiers)
        raise BadInput(
            f"Base {label!r} is no head of {given}; give all classifiers of the run: {', '.join(names)}."
        ) from None
