"""The rows of a contact sheet: what a run holds of its images, and what its models make of the rest once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from torch import Tensor

from cfalign._audit.bank import Bank, kept_strips
from cfalign._audit.pictures import Strip, kept
from cfalign._audit.remade import AtHand, Facts, facts, remade
from cfalign._errors import BadInput
from cfalign._figures.plots.contact_sheet import SheetRow
from cfalign._figures.plots.pixels import Pixels
from cfalign._runs.columns import Column
from cfalign._runs.run import Run
from cfalign.datasets import ImageSource


def lacking(rows: pl.DataFrame, run: Run) -> list[tuple[str, str]]:
    """The (image id, base) pairs of a query's answer that have a counterfactual whose images the run does not hold."""
    if not {"image_id", "base"} <= set(rows.columns):
        return []
    pairs = dict.fromkeys(rows.select("image_id", "base").iter_rows())
    known = facts(run, pairs)
    return [pair for pair in pairs if pair in known and known[pair].outcome.walked and not kept(run, *pair)]


def sheet_rows(
    rows: pl.DataFrame,
    run: Run,
    *,
    at_hand: AtHand | None = None,
    bank: Bank | None = None,
) -> list[SheetRow]:
    """The pairs of a query's answer with their images: those that the run or its bank holds, else walked again.

    ``rows`` needs the columns ``image_id`` and ``base``; a pair is shown once. Without ``bank``, or images and models
    ``at_hand``, the rows that need them come without images. BadInput for another bank than that of the run, and for
    models or images that give other scores than the run has.
    """
    missing = next((name for name in ("image_id", "base") if name not in rows.columns), None)
    if missing:
        raise BadInput(f"A sheet needs the columns image_id and base; the answer has no {missing}: select it too.")
    at_hand = at_hand or AtHand()
    answers = {(row["image_id"], row["base"]): row for row in rows.iter_rows(named=True)}
    known = facts(run, answers)
    unknown = next((pair for pair in answers if pair not in known), None)
    if unknown:
        raise BadInput(f"The run has no row of image {unknown[0]!r} and base {unknown[1]!r}.")
    strips: dict[tuple[str, str], Strip] = {}
    if bank is not None:
        strips = _banked(lacking(rows, run), run, bank)
    elif at_hand.walks:
        strips = remade([pair for pair in answers if not kept(run, *pair)], run, at_hand)
    return [
        _row(pair, _caption(pair, answer, known[pair]), _images(pair, run, strips.get(pair), at_hand.source))
        for pair, answer in answers.items()
    ]


def _row(pair: tuple[str, str], caption: str, images: Mapping[str, Pixels]) -> SheetRow:
    shown = (images.get(name) for name in ("original", "reconstruction", "counterfactual"))
    return SheetRow(*pair, caption, *shown)


def _banked(pairs: Sequence[tuple[str, str]], run: Run, bank: Bank) -> dict[tuple[str, str], Strip]:
    if run.record()["data"].get("bank") != bank.identity():
        raise BadInput(
            f"The run {run.path} was not made of the bank {bank.run.path}; give the bank that it was made of."
        )
    return kept_strips(bank, pairs, run, labels=())


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


def _caption(pair: tuple[str, str], answer: Mapping[str, object], said: Facts) -> str:
    """Image, base and its scores, then every number that the query asked for and these do not say."""
    told = {"image_id", "base", "outcome", "lambda", "base_before", "base_after", "base_change"}
    lines = [pair[0], f"{pair[1]} {said.before:.2f} → {said.after:.2f} ({said.outcome})"]
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
