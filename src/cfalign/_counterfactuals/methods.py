"""Ways to make a counterfactual, behind one interface: pairs and the drops wanted of them in, ends of searches out.

==================  =====================================================================================
``latent-shift``    one direction, the gradient at z0 (Eq. 1): one backward pass; the paper's, the default
``iterated``        the gradient is taken anew after every step
``latent-cf``       z is optimised: distance of the score from its aim plus distance from z0 (Latent-CF)
``pixels``          the same in pixel space, without the autoencoder (Wachter et al.): the adversarial baseline
==================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cfalign._counterfactuals.batch import Pairs, PixelSpace, Scene, check_images, reconstruct
from cfalign._counterfactuals.gradient import Rays, find_rays
from cfalign._counterfactuals.options import EstimateOptions, Method, SearchOptions
from cfalign._counterfactuals.ray import Found, lambdas, walk
from cfalign._counterfactuals.stepwise import descend
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition
from cfalign._heads.panel import weights
from cfalign._models.guard import device_of, undisturbed
from cfalign._results import Counterfactuals, Floats
from cfalign._types import Autoencoder


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


@dataclass(frozen=True)
class Made:
    """Counterfactuals of the pairs of a scene, [pair, ...]."""

    scene: Scene
    """Where the method walked: in pixels, the images are their own latents."""
    ends: tuple[Found, ...]
    """One for every drop asked for, in that order; ``kept[0]`` are the images."""
    base_before: Floats
    base_after: Floats
    """At the first end."""
    lambdas: Floats
    """Of the first end, in units of the gradient of the score; NaN but for ``latent-shift``."""
    direction: Tensor
    """Unit vectors from z0 to the first end, [pair, *latent]; for ``latent-shift`` the ray's, also without an end."""


def make(scene: Scene, *aims: SearchOptions) -> Made:
    """Counterfactuals of every pair by the method that the first of ``aims`` names, for one drop after another, from
    small to large: a later one goes on where the earlier one ended, or on the same ray.

    BadInput for a black box whose gradient may not be estimated, or not by this method.
    """
    return _METHODS[aims[0].method](scene, aims)


def _on_rays(scene: Scene, aims: Sequence[SearchOptions]) -> Made:
    rays = find_rays(
        scene.latents, scene.pairs, autoencoder=scene.autoencoder, classifiers=scene.classifiers,
        estimate=scene.estimate, batch=scene.batch,
    )  # fmt: skip
    seen, ends = rays, []
    for options in aims:
        found = walk(
            scene.latents, scene.reconstructions, scene.pairs, seen,
            autoencoder=scene.autoencoder, classifiers=scene.classifiers, options=options, batch=scene.batch,
        )  # fmt: skip
        seen = _further(rays, found)
        ends.append(found)
    start = rays.start
    return Made(
        scene, tuple(ends), start.score(start.value), start.score(ends[0].value), lambdas(ends[0], start),
        rays.direction,
    )  # fmt: skip


def _further(rays: Rays, found: Found) -> Rays:
    """The same rays with the slope seen up to the counterfactual, which predicts better how far there is to go."""
    start = rays.start
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = (start.value - found.value) / found.distance
    slope = np.where((found.distance > 0) & (seen > 0), seen, start.slope)
    return replace(rays, start=replace(start, slope=slope), backwards=0)


def _in_steps(scene: Scene, aims: Sequence[SearchOptions]) -> Made:
    for classifier in scene.classifiers:
        if not classifier.differentiable:
            raise BadInput(
                f"Classifier {classifier.name!r} is a black box: its gradient can be estimated for the method "
                f"latent-shift only, not for {aims[0].method}."
            )
    start, found = descend(scene, aims[0])
    ends = [found]
    for options in aims[1:]:
        ends.append(descend(scene, options, earlier=(start, ends[-1]))[1])
    away = ends[0].kept[1] - scene.origin
    norm = away.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, *[1] * (away.ndim - 1))
    blank = np.full(len(scene.pairs), np.nan)
    return Made(scene, tuple(ends), start.score(start.value), start.score(found.value), blank, away / norm)


def _in_pixels(scene: Scene, aims: Sequence[SearchOptions]) -> Made:
    return _in_steps(scene.in_pixels(), aims)


_METHODS: Mapping[str, Callable[[Scene, Sequence[SearchOptions]], Made]] = {
    "latent-shift": _on_rays,
    "iterated": _in_steps,
    "latent-cf": _in_steps,
    "pixels": _in_pixels,
}


def counterfactuals(
    images: Tensor,
    base: Composition,
    *,
    autoencoder: Autoencoder | None = None,
    method: Method | None = None,
    drop: float | None = None,
    options: SearchOptions | None = None,
    estimate: EstimateOptions | None = None,
    batch: int = 64,
) -> Counterfactuals:
    """Counterfactual images that lower the score of ``base``, by any method.

    ``images`` [n, c, h, w] in [0, 1]; ``autoencoder``: any object with ``encode`` and ``decode``, not needed for
    ``pixels``, which starts from the images themselves; ``method`` and ``drop`` replace those of ``options``;
    ``estimate``: how ``latent-shift`` finds the gradient of a black box, refused by default. Every image has an entry.
    The models are left as they came. Raises BadInput for images of another shape, type or range.
    """
    options = options or SearchOptions()
    options = options if method is None else replace(options, method=method)
    options = options if drop is None else replace(options, drop=drop)
    if options.method != "pixels" and autoencoder is None:
        raise BadInput(f"The method {options.method} needs an autoencoder; only 'pixels' does without.")
    if options.method == "latent-shift" and autoencoder is not None:
        return latent_shift(
            images, base, autoencoder=autoencoder, options=options, estimate=estimate, batch=batch
        )  # fmt: skip
    check_images(images)
    pairs = Pairs(torch.arange(len(images)), weights([base], base.classifiers)[torch.zeros(len(images)).long()])
    models = base.classifiers if options.method == "pixels" else (autoencoder, *base.classifiers)
    with undisturbed(*models):
        scene = _scene(images, pairs, None if options.method == "pixels" else autoencoder, base, batch)
        made = make(scene, options)
    found = made.ends[0]
    return Counterfactuals(
        images=found.kept[0], reconstructions=scene.reconstructions, lambdas=made.lambdas, distances=found.distance,
        outcomes=found.outcomes, evaluations=found.evaluations, base_before=made.base_before,
        base_after=made.base_after, image_change=found.image_change, backwards=found.backwards,
    )  # fmt: skip


def _scene(images: Tensor, pairs: Pairs, autoencoder: Autoencoder | None, base: Composition, batch: int) -> Scene:
    if autoencoder is None:
        x = images.to(device_of(base.classifiers[0]))
        return Scene(x, x, pairs, autoencoder=PixelSpace(), classifiers=base.classifiers, batch=batch)
    parts = [reconstruct(part.to(device_of(autoencoder)), autoencoder) for part in images.split(batch)]
    z, x0 = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    return Scene(z, x0, pairs, autoencoder=autoencoder, classifiers=base.classifiers, batch=batch)
