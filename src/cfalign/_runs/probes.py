"""What the models of a run answer to a few fixed images, so that no run is resumed by models that answer otherwise.

A hash of code and weights does not know everything: a model may read a file, a clock, the environment, or a library
that has changed. Its answers tell. They are kept in ``run.json`` and asked for anew whenever the run is given again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cfalign._errors import BadModel, ModelWarning, warn
from cfalign._heads.scoring import respond
from cfalign._models.autoencoding import decoded, encoded
from cfalign._models.guard import device_of, undisturbed
from cfalign._models.passes import in_passes
from cfalign._models.probe_images import DRAWN, probe_images
from cfalign._results import Floats
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import ImageSource

REAL = 4
"""How many of the run's own images are asked about, before the drawn ones."""
TOLERANCE = 2e-3
"""Differences up to this times 1 + |value| are rounding: of other threads, batches or devices."""
UNSTEADY = 0.05
"""Differences above this times 1 + |value| between two answers to the same images are no rounding."""
NOTHING = 1e-6
"""Differences of probabilities up to this are rounding where a probability has no digits left."""
CLIPPED = 17
"""Logits of probabilities that are clipped, as a black box's are, are smaller than this."""
WIDEST = 64
"""Numbers that are kept per image; more heads are mixed into so many sums."""
AGAIN = "the same images are given again, as something in it is random or counts"
BESIDE = "other images are in the batch, as batch normalisation in training mode does"
HASH_ALONE = (
    "so results depend on more than the image, and whether it is the same model when a run is resumed is told by its "
    "code and weights alone"
)
Answers = Sequence[Sequence[float | None]]
"""Numbers per image; None where one is not finite."""


def first_images(source: ImageSource) -> Tensor:
    """Up to four images of a source, [n, c, h, w]; fewer where some cannot be read."""
    images = source.load(range(min(REAL, len(source.ids)))).images
    return images if len(images) else torch.zeros(0, 3, *source.shape)


def probe(
    classifiers: Sequence[tuple[Classifier, str]], autoencoder: Autoencoder | None, images: Tensor, *, batch: int
) -> dict[str, Any]:
    """The part ``probes`` of ``run.json``: the answers of every model to images of the run, [n, c, h, w], and to drawn
    ones of the same shape.

    A ModelWarning tells of a model that answers otherwise when it is asked again, or in another batch.
    """
    asked = (images[:REAL], probe_images((images.shape[1], images.shape[2], images.shape[3])))
    found: dict[str, Any] = {"real": len(asked[0]), "drawn": DRAWN, "classifiers": []}
    with undisturbed(*(classifier for classifier, _ in classifiers), autoencoder):
        for classifier, role in classifiers:
            answers = _asked(_scorer(classifier, batch), asked, f"Classifier {classifier.name!r}")
            found["classifiers"].append({"name": classifier.name, "role": role, **_told(answers, classifier)})
        if autoencoder is not None:
            answers = _asked(_reconstructor(autoencoder, batch), asked, "The autoencoder")
            name = getattr(autoencoder, "name", type(autoencoder).__name__)
            found["autoencoder"] = {"name": name, **_told(answers, autoencoder)}
    return found


def _told(answers: dict[str, Any], model: Any) -> dict[str, Any]:
    """The answers with the notes of the model first: how it is read, and which of its weights."""
    noted = type(model).__module__.startswith("cfalign.")  # what users call so is something else
    own = getattr(model, "notes", ()) if noted else ()
    return {**answers, "notes": [*own, *answers["notes"]]}


def _scorer(classifier: Classifier, batch: int) -> Callable[[Tensor], Floats]:
    def answer(images: Tensor) -> Floats:
        given = images.to(device_of(classifier))
        return _narrowed(respond(given, [classifier], batch=batch).detach().cpu().double().numpy())

    return answer


def _narrowed(logits: Floats) -> Floats:
    """Logits [n, head] as they are, or many of them as sums with fixed signs."""
    heads = logits.shape[1]
    if heads <= WIDEST:
        return logits
    signs = np.random.default_rng(heads).choice([-1.0, 1.0], size=(heads, WIDEST))
    return np.asarray(np.nan_to_num(logits, nan=0.0, posinf=12.0, neginf=-12.0).clip(-12, 12) @ signs / np.sqrt(heads))


def _reconstructor(autoencoder: Autoencoder, batch: int) -> Callable[[Tensor], Floats]:
    """Of every image: the length of its latent, and its reconstruction in 4 × 4 fields of each channel."""

    @torch.no_grad()
    def answer(images: Tensor) -> Floats:
        given = images.to(device_of(autoencoder))
        parts = in_passes(lambda rows: _again(autoencoder, given[rows]), len(given), most=batch)
        return np.asarray(torch.cat(parts).numpy())

    return answer


def _again(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    latents = encoded(autoencoder, images)
    drawn = decoded(autoencoder, latents)
    if drawn.shape != images.shape:
        raise BadModel("Its images have another shape.")  # said when they are audited
    length = latents.flatten(1).double().pow(2).mean(dim=1, keepdim=True).sqrt()
    fields = functional.adaptive_avg_pool2d(drawn.double(), 4).flatten(1)
    return torch.cat([length, fields], dim=1).cpu()


def _asked(answer: Callable[[Tensor], Floats], asked: Sequence[Tensor], who: str) -> dict[str, Any]:
    """The answers to every group of images, None for a group that the model cannot take, and how steady they are."""
    found: list[Floats | None] = []
    for group in asked:
        try:
            found.append(answer(group) if len(group) else None)
        except BadModel:  # it may take nothing but real images, and what these raise is said when they are audited
            found.append(None)
    known = next(((group, rows) for group, rows in zip(asked, found, strict=True) if rows is not None), None)
    noise, note = (0.0, None) if known is None else _noise(answer, *known, who)
    kept = [None if rows is None else [[_number(v) for v in row] for row in rows.tolist()] for rows in found]
    return {"answers": kept, "noise": _number(noise), "notes": [] if note is None else [note]}


def _noise(answer: Callable[[Tensor], Floats], images: Tensor, first: Floats, who: str) -> tuple[float, str | None]:
    """How far the answers to the first two images move when they are asked about alone, in units of 1 + |value|, and
    a sentence where that is no rounding.
    """
    try:
        alone = answer(images[:2])
        moved = _difference(first[:2], alone)
        if moved <= UNSTEADY:
            return moved, None
        again = _difference(alone, answer(images[:2]))
    except BadModel:
        return 0.0, None
    sentence = f"{who} answers otherwise when {AGAIN if again > UNSTEADY else BESIDE}; {HASH_ALONE}."
    warn(sentence, ModelWarning, stacklevel=2)
    return moved, sentence


def _number(value: float) -> float | None:
    return float(f"{value:.7g}") if np.isfinite(value) else None


def _difference(one: Floats, other: Floats) -> float:
    """The largest difference of two tables, in units of 1 + |value|; infinite where only one is not finite."""
    known = np.isfinite(one)
    if one.shape != other.shape or (known != np.isfinite(other)).any():
        return float("inf")
    one, other = one[known], other[known]
    least, most = np.minimum(abs(one), abs(other)), np.maximum(abs(one), abs(other))
    without_digits = (np.abs(_probability(one) - _probability(other)) <= NOTHING) & (most < CLIPPED)
    moved = np.where(without_digits, 0.0, np.abs(one - other) / (1 + least))
    return float(moved.max(initial=0.0))


def _probability(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -40, 40))))


def changed_answers(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What has changed between two parts ``probes``: one clause for every model whose answers differ."""
    before = [*old["classifiers"], *([old["autoencoder"]] if "autoencoder" in old else [])]
    after = [*new["classifiers"], *([new["autoencoder"]] if "autoencoder" in new else [])]
    for one, other in zip(before, after, strict=True):
        moved = _moved(one, other)
        if moved is not None:
            role = other.get("role")
            who = f"the autoencoder {other['name']!r}" if role is None else f"the classifier {other['name']!r} ({role})"
            yield f"{who} now answers the same images otherwise ({moved})"


def _moved(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """How far a model's answers have moved; None where that is rounding, or the model is not steady."""
    noise = max(_noise_of(one), _noise_of(other))
    if noise > UNSTEADY:
        return None
    allowed = max(TOLERANCE, 4 * noise)
    largest = 0.0
    for rows, again in zip(one["answers"], other["answers"], strict=True):
        if rows is not None and again is not None:
            largest = max(largest, _difference(_table(rows), _table(again)))
        elif rows is not again:
            return "it could answer, and now cannot" if again is None else "it could not answer, and now can"
    if largest <= allowed:
        return None
    return "by NaN" if np.isinf(largest) else f"by up to {largest:.2g} of 1 + |answer|"


def _noise_of(model: Mapping[str, Any]) -> float:
    return float("inf") if model["noise"] is None else float(model["noise"])


def _table(rows: Answers) -> Floats:
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)
