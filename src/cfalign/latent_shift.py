"""Latent shift: z_λ = z0 − λ ∂s/∂z at z0 = E(x) (Eqs. 1 and 2), for any number of (image, base) pairs at once.

Pairs of different bases share batches: a pair is a row of weights over the concatenated heads of the classifiers, so
one backward pass through the decoder yields the directions of a whole batch whatever its bases. For a head the gradient
of the logit has the same direction as that of the probability and never underflows, so it is taken there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cfalign.composition import Composition, Weights, weights
from cfalign.errors import BadInput, BadModel
from cfalign.estimation import EstimateOptions, differences
from cfalign.isolation import device_of, undisturbed
from cfalign.responses import logits
from cfalign.results import Counterfactuals, Floats
from cfalign.search import Found, Probe, Rows, SearchOptions, Start, search
from cfalign.types import Autoencoder, Classifier


@dataclass(frozen=True)
class Pairs:
    """(image, base) pairs."""

    image: Tensor
    """[pair] int64: row of the image in its batch."""
    weights: Weights
    """[pair] rows: the base of each pair."""

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Rays:
    """Start and unit direction of descent of every pair."""

    start: Start
    direction: Tensor
    """−∂value/∂z / ‖∂value/∂z‖, [pair, *latent]; zero where the gradient is."""
    backwards: int = 1
    """Backward passes that each direction took: 0 where it was estimated."""


@torch.no_grad()
def reconstruct(images: Tensor, autoencoder: Autoencoder) -> tuple[Tensor, Tensor]:
    """z0 = E(x) and x0 = D(z0).

    Raises BadModel when the reconstruction has another shape than the images or is far outside [0, 1].
    """
    latents = autoencoder.encode(images)
    decoded = autoencoder.decode(latents)
    if tuple(decoded.shape) != tuple(images.shape):
        raise BadModel(
            f"The autoencoder turned images of shape {tuple(images.shape)} into {tuple(decoded.shape)}; expected the "
            "same shape: give images of the size it was made for (--size, or an attribute `size` on the autoencoder)."
        )
    low, high = (decoded.min().item(), decoded.max().item()) if decoded.numel() else (0.0, 1.0)
    if low < -0.25 or high > 1.25:
        raise BadModel(
            f"The autoencoder's images range from {low:.3g} to {high:.3g}; expected [0, 1]: let decode return values "
            "there, e.g. (x + 1) / 2 for a decoder that ends in tanh."
        )
    return latents, decoded.clamp(0, 1)


def decode(latents: Tensor, autoencoder: Autoencoder) -> Tensor:
    """D(z), clipped to [0, 1]."""
    return autoencoder.decode(latents).clamp(0, 1)


def find_rays(
    latents: Tensor,
    pairs: Pairs,
    *,
    autoencoder: Autoencoder,
    classifiers: Sequence[Classifier],
    estimate: EstimateOptions | None = None,
    batch: int = 64,
) -> Rays:
    """Directions of steepest descent at z0; one decoder forward and one backward per pair.

    ``latents``: z0 [image, *latent]. Where a classifier is a black box its gradient is estimated, if that is enabled:
    ``estimate.evaluations`` decoder forwards per image, whatever the number of bases. BadInput otherwise.
    """
    for classifier in classifiers:
        if not classifier.differentiable and not (estimate and estimate.enabled):
            raise BadInput(
                f"Classifier {classifier.name!r} is a black box: no gradient flows through it, so it cannot be a base. "
                "Audit it through a bank of a differentiable reference classifier instead (`cfalign bank`), or let its "
                "gradient be estimated (--estimate)."
            )
    if estimate and not all(classifier.differentiable for classifier in classifiers):
        return _estimated(latents, pairs, estimate, autoencoder, classifiers, batch)
    values, slopes, directions = [], [], []
    for rows in torch.arange(len(pairs)).split(batch):
        z = latents[pairs.image[rows].to(latents.device)].detach().requires_grad_(True)
        with torch.enable_grad():
            value = pairs.weights[rows].value(logits(decode(z, autoencoder), classifiers))
            if not value.requires_grad:
                raise BadModel(
                    "No gradient flows from the classifier's logits to the latent: the classifier or the autoencoder's "
                    "decode detaches its input (torch.no_grad, .detach(), NumPy)."
                )
            (gradient,) = torch.autograd.grad(value.sum(), z)
        norm = gradient.flatten(1).double().norm(dim=1)
        safe = torch.where(norm > 0, norm, torch.ones_like(norm)).to(gradient.dtype)
        directions.append(-gradient / safe.view(-1, *[1] * (gradient.ndim - 1)))
        values.append(value.detach())
        slopes.append(norm)
    return _rays(latents, pairs, values, slopes, directions)


def _rays(
    latents: Tensor, pairs: Pairs, values: Sequence[Tensor], slopes: Sequence[Tensor], directions: Sequence[Tensor]
) -> Rays:
    empty = latents.new_zeros(0)
    start = Start(
        value=_float64(torch.cat([*values] or [empty])),
        slope=_float64(torch.cat([*slopes] or [empty])),
        on_logit=pairs.weights.on_logit.numpy(),
        norm=_float64(latents.flatten(1).norm(dim=1)[pairs.image.to(latents.device)]),
    )
    return Rays(start, torch.cat([*directions] or [latents[:0]]))


@torch.no_grad()
def _estimated(
    latents: Tensor,
    pairs: Pairs,
    estimate: EstimateOptions,
    autoencoder: Autoencoder,
    classifiers: Sequence[Classifier],
    batch: int,
) -> Rays:
    """As ``find_rays``, image by image: all pairs of an image share its probes."""
    values, slopes = torch.zeros(2, len(pairs), dtype=torch.float64)
    directions = torch.zeros(len(pairs), *latents.shape[1:], dtype=latents.dtype, device=latents.device)
    for image in pairs.image.unique().tolist():
        rows = (pairs.image == image).nonzero()[:, 0]

        def evaluate(points: Tensor, rows: Tensor = rows) -> Tensor:
            answers = torch.cat([logits(decode(p, autoencoder), classifiers) for p in points.split(batch)])
            table = [pairs.weights[row.expand(len(answers))].value(answers) for row in rows]
            return torch.stack(table, dim=1)

        value, slope, probes = differences(latents[image], evaluate, estimate)
        slope = torch.where(torch.isfinite(slope).all(dim=0), slope, torch.nan)
        gradient = slope.T.to(probes.dtype) @ probes.flatten(1)
        norm = slope.norm(dim=0)
        safe = torch.where(norm > 0, norm, torch.ones_like(norm)).to(gradient.dtype)
        values[rows], slopes[rows] = value.double().cpu(), norm.cpu()
        directions[rows.to(directions.device)] = (-gradient / safe[:, None]).view(len(rows), *latents.shape[1:])
    return replace(_rays(latents, pairs, [values], [slopes], [directions]), backwards=0)


def walk(
    latents: Tensor,
    reconstructions: Tensor,
    pairs: Pairs,
    rays: Rays,
    *,
    autoencoder: Autoencoder,
    classifiers: Sequence[Classifier],
    options: SearchOptions,
    batch: int = 64,
) -> Found:
    """Search every pair's ray; ``kept`` of the result is (images x_λ [pair, c, h, w],), ``backwards`` the ray's."""
    owner = pairs.image.to(latents.device)

    @torch.no_grad()
    def evaluate(rows: Rows, distance: Floats) -> Probe:
        values, changes, images = [], [], []
        for part in np.array_split(np.arange(len(rows)), max(1, -(-len(rows) // batch))):
            index = torch.from_numpy(rows[part])
            x0 = reconstructions[owner[index]]
            x = decode(shifted(latents[owner[index]], rays.direction[index], distance[part]), autoencoder)
            values.append(pairs.weights[index].value(logits(x, classifiers)))
            changes.append(image_change(x0, x))
            images.append(x)
        return Probe(_float64(torch.cat(values)), _float64(torch.cat(changes)), (torch.cat(images),))

    found = search(rays.start, evaluate, (reconstructions[owner],), options=options)
    return replace(found, backwards=np.full(len(pairs), rays.backwards, dtype=np.int64))


def shifted(latents: Tensor, directions: Tensor, distance: Floats) -> Tensor:
    """z0 + distance · direction, row by row."""
    steps = torch.as_tensor(distance, dtype=latents.dtype, device=latents.device)
    return latents + steps.view(-1, *[1] * (latents.ndim - 1)) * directions


def image_change(before: Tensor, after: Tensor) -> Tensor:
    """Σ|before − after| / Σ|before| per image, [n]."""
    total = before.abs().flatten(1).sum(dim=1).clamp_min(1e-12)
    return (before - after).abs().flatten(1).sum(dim=1) / total


def lambdas(found: Found, start: Start) -> Floats:
    """Latent distances as λ of Eq. 1, in units of the gradient of the score; NaN where no counterfactual was made."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(found.distance > 0, found.distance / start.score_slope(), 0.0)
    made = np.array([outcome.walked for outcome in found.outcomes], dtype=bool)
    return np.where(made, values, np.nan)


def latent_shift(
    images: Tensor,
    base: Composition,
    *,
    autoencoder: Autoencoder,
    drop: float | None = None,
    options: SearchOptions | None = None,
    estimate: EstimateOptions | None = None,
    batch: int = 64,
) -> Counterfactuals:
    """Counterfactual images that lower the score of ``base``.

    ``images`` [n, c, h, w] in [0, 1]; ``base`` a head or composition, e.g. ``clf["smiling"]``; ``drop`` replaces
    ``options.drop``; ``estimate``: how the gradient of a black box is found, refused by default. Every image has an
    entry; see ``Outcome`` for why a search stopped. The models are left as they came. Raises BadInput for images of
    another shape, type or range.
    """
    options = options or SearchOptions()
    options = options if drop is None else replace(options, drop=drop)
    if options.method != "latent-shift":
        raise BadInput(
            f"latent_shift makes no counterfactuals by {options.method}; counterfactuals(..., method=…) does."
        )
    check_images(images)
    classifiers = base.classifiers
    with undisturbed(autoencoder, *classifiers):
        device = device_of(autoencoder)
        parts = [reconstruct(part.to(device), autoencoder) for part in images.split(batch)]
        latents, x0 = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        rows = torch.zeros(len(images), dtype=torch.int64)
        pairs = Pairs(torch.arange(len(images)), weights([base], classifiers)[rows])
        rays = find_rays(
            latents, pairs, autoencoder=autoencoder, classifiers=classifiers, estimate=estimate, batch=batch
        )  # fmt: skip
        found = walk(
            latents,
            x0,
            pairs,
            rays,
            autoencoder=autoencoder,
            classifiers=classifiers,
            options=options,
            batch=batch,
        )
    start = rays.start
    return Counterfactuals(
        images=found.kept[0],
        reconstructions=x0,
        lambdas=lambdas(found, start),
        distances=found.distance,
        outcomes=found.outcomes,
        evaluations=found.evaluations,
        base_before=start.score(start.value),
        base_after=start.score(found.value),
        image_change=found.image_change,
        backwards=found.backwards,
    )


def check_images(images: Tensor) -> None:
    """BadInput for images of another shape, type or range than [n, c, h, w], floating, [0, 1]."""
    if images.ndim != 4:
        raise BadInput(f"Images must have shape [n, channel, height, width], got {tuple(images.shape)}.")
    if not images.is_floating_point():
        raise BadInput(f"Images must be floating, in [0, 1], got {images.dtype}; divide bytes by 255.")
    if images.numel() and not (images.min() >= -1e-3 and images.max() <= 1 + 1e-3) and not images.isnan().any():
        raise BadInput(f"Images must be in [0, 1], got values from {images.min():.3g} to {images.max():.3g}.")


def _float64(tensor: Tensor) -> Floats:
    result: Floats = tensor.detach().cpu().double().numpy()
    return result
