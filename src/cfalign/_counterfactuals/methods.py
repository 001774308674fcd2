"""Ways to make a counterfactual, behind one interface: a batch of pairs and its aims in, the ends of the walks out.

==================  =====================================================================================
``latent-shift``    one direction, the gradient at z0 (Eq. 1): one backward pass; the paper's, the default
``iterated``        the gradient is taken anew after every step
``latent-cf``       z is optimised: distance of the score from its aim plus distance from z0 (Latent-CF)
``pixels``          the same in pixel space, without the autoencoder (Wachter et al.): the adversarial baseline
``completion``      the smallest region that switches the base off is filled with what images of the kind have there
==================  =====================================================================================

Pairs of different bases share batches: a pair is a row of weights over the concatenated heads of the classifiers, so
one backward pass through the decoder yields the directions of a whole batch whatever its bases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from torch import Tensor

from cfalign._counterfactuals.batch import Batch, Models, PixelSpace, check_images, norms, pairs_of, times
from cfalign._counterfactuals.completion import pictures_of, rays_to_completions
from cfalign._counterfactuals.gradient import Rays, find_rays
from cfalign._counterfactuals.options import EstimateOptions, Method, SearchOptions
from cfalign._counterfactuals.origins import Origins, origins
from cfalign._counterfactuals.ray import Ends, ends_at, walk_rays
from cfalign._counterfactuals.stepwise import descend
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition
from cfalign._models.components import Components
from cfalign._models.guard import device_of, undisturbed
from cfalign._results import Counterfactuals, Floats
from cfalign._types import Autoencoder, Classifier


@dataclass(frozen=True)
class Walks:
    """The pairs of a batch, walked to every aim."""

    batch: Batch
    """Where the method walked: in pixels, the images are their own latents."""
    ends: tuple[Ends, ...]
    """One for every aim, in that order."""
    direction: Tensor
    """Unit vectors from z0 to the first end, [pair, *latent]; on rays those of the rays, also without an end."""
    regions: Floats | None = None
    """Of ``completion``: left, top, width and height of the completed region as shares of the sides, [pair, 4]."""
    reach: Floats | None = None
    """Of ``completion``: distance from the image to its whole completion, [pair]."""


def walk(batch: Batch, *aims: SearchOptions, rays: Rays | None = None) -> Walks:
    """Counterfactuals of every pair by the method that the first of ``aims`` names, for one drop after another.

    The drops come from small to large: a later walk goes on where the earlier one ended, or on the same ray. ``rays``:
    those of ``latent-shift``, where they are known. Raises
    BadInput for a black box whose gradient may not be estimated, or not by this method.
    """
    method = aims[0].method
    if method == "auto":
        raise BadInput("The method auto chooses per base in audits and banks; name one method here.")
    if method == "latent-shift":
        return _on_rays(batch, rays or find_rays(batch, eligible=aims[0].eligible), aims)
    if method == "completion":
        return _completed(batch.in_pixels(), aims, pictures_of(batch.models.autoencoder))
    return _in_steps(batch.in_pixels() if method == "pixels" else batch, aims)


def _completed(batch: Batch, aims: Sequence[SearchOptions], components: Components) -> Walks:
    """The first end is searched on the way to the completion; a further one is the whole completion."""
    rays, found = rays_to_completions(batch, aims[-1], components)
    first = walk_rays(batch, rays, aims[0])
    first = replace(first, evaluations=first.evaluations + found.looks)
    whole = [ends_at(batch, rays, aim, found.values, found.images) for aim in aims[1:]]
    ends = tuple(replace(one, lambdas=np.full(len(one), np.nan)) for one in (first, *whole))
    return Walks(batch, ends, rays.direction, found.boxes, rays.start.reach)


def _on_rays(batch: Batch, rays: Rays, aims: Sequence[SearchOptions]) -> Walks:
    ends: list[Ends] = []
    for aim in aims:
        ends.append(walk_rays(batch, rays, aim, earlier=ends[-1] if ends else None))
    return Walks(batch, tuple(ends), rays.direction)


def _in_steps(batch: Batch, aims: Sequence[SearchOptions]) -> Walks:
    for classifier in batch.models.classifiers:
        if not classifier.differentiable:
            raise BadInput(
                f"Classifier {classifier.name!r} is a black box: its gradient can be estimated for the method "
                f"latent-shift only, not for {aims[0].method}."
            )
    start, first = descend(batch, aims[0])
    ends = [first]
    for aim in aims[1:]:
        ends.append(descend(batch, aim, earlier=(start, ends[-1]))[1])
    away = first.kept[1] - batch.origin
    return Walks(batch, tuple(ends), times(away, 1 / np.maximum(norms(away), 1e-30)))


@overload
def counterfactuals(
    images: Tensor,
    base: Composition,
    *,
    autoencoder: Autoencoder | None = ...,
    method: Method | None = ...,
    drop: float | None = ...,
    options: SearchOptions | None = ...,
    estimate: EstimateOptions | None = ...,
    batch: int = ...,
) -> Counterfactuals: ...


@overload
def counterfactuals(
    images: Tensor,
    base: Sequence[Composition],
    *,
    autoencoder: Autoencoder | None = ...,
    method: Method | None = ...,
    drop: float | None = ...,
    options: SearchOptions | None = ...,
    estimate: EstimateOptions | None = ...,
    batch: int = ...,
) -> tuple[Counterfactuals, ...]: ...


def counterfactuals(
    images: Tensor,
    base: Composition | Sequence[Composition],
    *,
    autoencoder: Autoencoder | None = None,
    method: Method | None = None,
    drop: float | None = None,
    options: SearchOptions | None = None,
    estimate: EstimateOptions | None = None,
    batch: int = 64,
) -> Counterfactuals | tuple[Counterfactuals, ...]:
    """Counterfactual images that lower the score of ``base``, by any method.

    Args:
        images: [n, c, h, w], floating, in [0, 1].
        base: a head or composition, e.g. ``clf["smiling"]``. For several, one result each: images are encoded once,
            and decoded at z0 once for all bases of the same classifiers.
        autoencoder: any object with ``encode`` and ``decode``; not needed for ``pixels``, which starts from the images
            themselves.
        method: replaces that of ``options``.
        drop: replaces that of ``options``: by how much the score falls, a probability unless the base is a composition
            on probabilities.
        options: the search.
        estimate: how ``latent-shift`` finds the gradient of a black box; refused by default.
        batch: images per pass.

    Every image has an entry; its ``outcome`` says why the search stopped. The models are left as they came. Raises
    BadInput for images of another shape, type or range, BadModel where a model breaks its contract.

    >>> clf, ae = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    >>> x = cfa.synthetic.render(cfa.synthetic.sample(1, seed=0))
    >>> found = cfa.counterfactuals(x, clf["smiling"], autoencoder=ae, method="iterated")
    >>> found.images.shape, found.outcomes[0].landed
    (torch.Size([1, 3, 64, 64]), True)
    """
    options = options or SearchOptions()
    options = options if method is None else replace(options, method=method)
    options = options if drop is None else replace(options, drop=drop)
    in_pixels = options.method == "pixels"
    if autoencoder is None and not in_pixels:
        raise BadInput(f"The method {options.method} needs an autoencoder; only 'pixels' does without.")
    check_images(images)
    bases = bases_of(base)
    found: dict[int, Counterfactuals] = {}
    encoder = PixelSpace() if autoencoder is None or in_pixels else autoencoder
    classifiers = dict.fromkeys(classifier for one in bases for classifier in one.classifiers)
    with undisturbed(encoder, *classifiers):
        x = images.detach().clone()
        x = x.to(device_of(next(iter(classifiers)) if in_pixels else encoder)) if bases else x
        start = Origins(x, x, x) if in_pixels else origins(x, encoder, search=options, batch=batch)
        for numbers in _alike(bases):
            some = [bases[number] for number in numbers]
            models = Models(encoder, some[0].classifiers, batch)
            walks = walk(Batch(start, pairs_of(*some, count=len(x)), models, estimate), options)
            found |= dict(zip(numbers, _by_base(walks.ends[0], start.images, len(some)), strict=True))
    results = tuple(found[number] for number in range(len(bases)))
    return results[0] if isinstance(base, Composition) else results


def bases_of(given: object) -> tuple[Composition, ...]:
    """The bases of a call. Raises BadInput for anything but compositions, such as a head's name."""
    several = (given,) if isinstance(given, str | Composition) or not isinstance(given, Iterable) else tuple(given)
    for one in several:
        if not isinstance(one, Composition):
            got = repr(one) if isinstance(one, str) else type(one).__name__
            raise BadInput(f'Expected a head or composition as base, such as classifier["smiling"], got {got}.')
    return several


def _alike(bases: Sequence[Composition]) -> list[list[int]]:
    """Numbers of the bases, those of the same classifiers together."""
    groups: dict[tuple[Classifier, ...], list[int]] = {}
    for number, base in enumerate(bases):
        groups.setdefault(tuple(base.classifiers), []).append(number)
    return list(groups.values())


def _by_base(ends: Ends, reconstructions: Tensor, bases: int) -> Iterator[Counterfactuals]:
    """The counterfactuals of each base; the pairs of ``ends`` stand base by base, each with every image."""
    count = len(reconstructions)
    for number in range(bases):
        rows = slice(number * count, (number + 1) * count)
        yield Counterfactuals(
            images=ends.images[rows],
            reconstructions=reconstructions,
            lambdas=ends.lambdas[rows],
            distances=ends.distances[rows],
            outcomes=ends.outcomes[rows],
            evaluations=ends.evaluations[rows],
            base_before=ends.base_before[rows],
            base_after=ends.base_after[rows],
            image_change=ends.image_change[rows],
            backwards=ends.backwards[rows],
            logits=None if ends.logits is None else ends.logits[rows],
        )


@overload
def latent_shift(
    images: Tensor,
    base: Composition,
    *,
    autoencoder: Autoencoder,
    drop: float | None = ...,
    options: SearchOptions | None = ...,
    estimate: EstimateOptions | None = ...,
    batch: int = ...,
) -> Counterfactuals: ...


@overload
def latent_shift(
    images: Tensor,
    base: Sequence[Composition],
    *,
    autoencoder: Autoencoder,
    drop: float | None = ...,
    options: SearchOptions | None = ...,
    estimate: EstimateOptions | None = ...,
    batch: int = ...,
) -> tuple[Counterfactuals, ...]: ...


def latent_shift(
    images: Tensor,
    base: Composition | Sequence[Composition],
    *,
    autoencoder: Autoencoder,
    drop: float | None = None,
    options: SearchOptions | None = None,
    estimate: EstimateOptions | None = None,
    batch: int = 64,
) -> Counterfactuals | tuple[Counterfactuals, ...]:
    """Counterfactual images x_λ = D(z0 − λ ∂s/∂z) that lower the score s of ``base`` (Eqs. 1 and 2).

    The same as ``counterfactuals(..., method="latent-shift")``, whose arguments and errors it shares.

    >>> clf, ae = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    >>> x = cfa.synthetic.render(cfa.synthetic.sample(1, seed=0))
    >>> cfa.latent_shift(x, clf["smiling"], autoencoder=ae, drop=0.5).outcomes[0].landed
    True
    """
    if options is not None and options.method != "latent-shift":
        raise BadInput(
            f"latent_shift makes no counterfactuals by {options.method}; counterfactuals(..., method=…) does."
        )
    return counterfactuals(
        images, base, autoencoder=autoencoder, drop=drop, options=options, estimate=estimate, batch=batch
    )
