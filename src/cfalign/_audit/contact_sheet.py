"""The rows of a contact sheet: what a run holds of its images, and what its models make of the rest once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from torch import Tensor

from cfalign._audit.bank import Bank, kept_strips
from cfalign._audit.informing import informed_for
from cfalign._audit.measurement import WalkSettings, off_search
from cfalign._audit.pictures import ENDS, Strip, extents, kept, methods_of, search_of, walked_again
from cfalign._counterfactuals.options import EstimateOptions
from cfalign._errors import BadInput
from cfalign._figures.plots.contact_sheet import SheetRow
from cfalign._figures.plots.pixels import Pixels
from cfalign._heads.composition import Composition, complement, parse
from cfalign._heads.panel import Panel
from cfalign._models.guard import undisturbed
from cfalign._results import Outcome
from cfalign._runs.columns import RAISED, Column, attribute_of
from cfalign._runs.run import Run
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import ImageSource

SAME = 0.02
"""A score walked again may differ from the run's by this much: files are decoded and batched anew."""


@dataclass(frozen=True)
class SheetModels:
    """What the rows that a run does not show are made of."""

    autoencoder: Autoencoder | None = None
    classifiers: Sequence[Classifier] = ()
    """The reference first, then what was audited: bare names are looked up in that order."""


def lacking(rows: pl.DataFrame, run: Run) -> list[tuple[str, str]]:
    """The (image id, base) pairs of a query's answer that have a counterfactual whose images the run does not hold."""
    if not {"image_id", "base"} <= set(rows.columns):
        return []
    known = _facts(run)
    pairs = dict.fromkeys(rows.select("image_id", "base").iter_rows())
    return [pair for pair in pairs if pair in known and known[pair].outcome.walked and not kept(run, *pair)]


def sheet_rows(
    rows: pl.DataFrame,
    run: Run,
    *,
    source: ImageSource | None = None,
    models: SheetModels | None = None,
    bank: Bank | None = None,
) -> list[SheetRow]:
    """The pairs of a query's answer with their images: those that the run or its bank holds, else walked again.

    ``rows`` needs the columns ``image_id`` and ``base``; a pair is shown once. Without ``bank``, or ``source`` and
    ``models``, the rows that need them come without images. BadInput for another bank than that of the run, and for
    models or images that give other scores than the run has.
    """
    missing = next((name for name in ("image_id", "base") if name not in rows.columns), None)
    if missing:
        raise BadInput(f"A sheet needs the columns image_id and base; the answer has no {missing}: select it too.")
    models = models or SheetModels()
    known = _facts(run)
    answers = {(row["image_id"], row["base"]): row for row in rows.iter_rows(named=True)}
    unknown = next((pair for pair in answers if pair not in known), None)
    if unknown:
        raise BadInput(f"The run has no row of image {unknown[0]!r} and base {unknown[1]!r}.")
    strips: dict[tuple[str, str], Strip] = {}
    if bank is not None:
        strips = _banked(lacking(rows, run), run, bank)
    elif source is not None and models.autoencoder is not None and models.classifiers:
        there = set(source.ids)
        wanted = [p for p in answers if not kept(run, *p) and p[0] in there and known[p].outcome.walked]
        strips = _walked(wanted, run, source, models.autoencoder, models.classifiers, known)
    return [
        _row(pair, _caption(pair, answer, known[pair]), _images(pair, run, strips.get(pair), source))
        for pair, answer in answers.items()
    ]


def _row(pair: tuple[str, str], caption: str, images: Mapping[str, Pixels]) -> SheetRow:
    shown = (images.get(name) for name in ("original", "reconstruction", "counterfactual"))
    return SheetRow(*pair, caption, *shown)


@dataclass(frozen=True)
class _Facts:
    """What the run says of a pair."""

    outcome: Outcome
    before: float
    after: float


def _facts(run: Run) -> dict[tuple[str, str], _Facts]:
    table = run.pairs().select("image_id", "base", "outcome", "base_before", "base_after").collect()
    return {(i, b): _Facts(Outcome(o), before, after) for i, b, o, before, after in table.iter_rows()}


def _banked(pairs: Sequence[tuple[str, str]], run: Run, bank: Bank) -> dict[tuple[str, str], Strip]:
    if run.record()["data"].get("bank") != bank.identity():
        raise BadInput(
            f"The run {run.path} was not made of the bank {bank.run.path}; give the bank that it was made of."
        )
    return kept_strips(bank, pairs, run, labels=())


def _walked(
    pairs: Sequence[tuple[str, str]],
    run: Run,
    source: ImageSource,
    autoencoder: Autoencoder,
    classifiers: Sequence[Classifier],
    known: Mapping[tuple[str, str], _Facts],
) -> dict[tuple[str, str], Strip]:
    """Strips of the pairs; BadInput when their scores are not those of the run."""
    strips: dict[tuple[str, str], Strip] = {}
    estimate = EstimateOptions(**run.record()["settings"].get("estimate", {}))
    ends = extents(run.counterfactuals(ENDS))
    seed = int(run.record()["seed"] or 0)
    autoencoder = informed_for(search_of(run), autoencoder, source, folder=run.path, seed=seed)
    with undisturbed(autoencoder, *classifiers):
        for base in dict.fromkeys(base for _, base in pairs):
            table = Panel((base,), (_composition(base, run, classifiers),))
            search = off_search(search_of(run)) if base.startswith(RAISED) else search_of(run)
            mine = [pair for pair in pairs if pair[1] == base]
            settings = WalkSettings(search, estimate, methods=methods_of(run))
            strips |= walked_again(mine, ends, source, panel=table, autoencoder=autoencoder, settings=settings)
    for pair, strip in strips.items():
        facts, seen = known[pair], strip.scores[[0, -1], 0]
        if not np.allclose(seen, [facts.before, facts.after], rtol=0.0, atol=SAME):
            raise BadInput(
                f"Image {pair[0]!r} walked again falls from {seen[0]:.3f} to {seen[1]:.3f} for {pair[1]}, but from "
                f"{facts.before:.3f} to {facts.after:.3f} in the run: give the images and "
                "models that the run was made of."
            )
    return strips


def _composition(base: str, run: Run, classifiers: Sequence[Classifier]) -> Composition:
    try:
        known = {c.name: c for c in classifiers}
        return complement(parse(attribute_of(base), known)) if base.startswith(RAISED) else parse(base, known)
    except BadInput:
        names = [c["name"] for c in run.record()["models"]["classifiers"]]
        given = ", ".join(c.name for c in classifiers)
        raise BadInput(
            f"Base {base!r} is no head of {given}; give all classifiers of the run: {', '.join(names)}."
        ) from None


def _images(pair: tuple[str, str], run: Run, strip: Strip | None, source: ImageSource | None) -> dict[str, Pixels]:
    """The pictures of a row by what they are called; the original alone, or nothing, where there are no more."""
    if files := kept(run, *pair):
        return {name: _opened(file) for name, file in files.items()}
    if strip is not None:
        return {name: pixels(image) for name, image in strip.pictures.items()}
    if source is None or pair[0] not in source.ids:
        return {}
    loaded = source.load([source.ids.index(pair[0])]).images
    return {"original": pixels(loaded[0])} if len(loaded) else {}


def _opened(file: Path) -> Pixels:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)


def pixels(image: Tensor) -> Pixels:
    """[c, h, w] in [0, 1] as [h, w, 3]."""
    values: Pixels = image.detach().cpu().float().clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()
    return values


def _caption(pair: tuple[str, str], answer: Mapping[str, object], facts: _Facts) -> str:
    """Image, base and its scores, then every number that the query asked for and these do not say."""
    told = {"image_id", "base", "outcome", "lambda", "base_before", "base_after", "base_change"}
    lines = [pair[0], f"{pair[1]} {facts.before:.2f} → {facts.after:.2f} ({facts.outcome})"]
    for name, value in answer.items():
        kind, _, head = name.partition(".")
        before, signed = answer.get(Column.BEFORE.of(head)), kind in ("psi", "change")
        if name in told or not isinstance(value, float) or (kind == Column.BEFORE and Column.AFTER.of(head) in answer):
            continue
        if kind == Column.AFTER and isinstance(before, float):
            lines.append(f"{head} {before:.2f} → {value:.2f}")
        else:
            lines.append(f"{name} {value:+.2f}" if signed else f"{name} {value:.2f}")
    return "\n".join(lines[:6])
