"""Counterfactuals by completion: the region that is left out, what is put there, and where the search stops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import cfalign as cfa
from cfalign._counterfactuals.batch import Batch, Models, pairs_of
from cfalign._counterfactuals.completion import (
    AREA,
    FLOOR,
    NOISE,
    complete,
    completed_elsewhere,
    find_regions,
    first_boxes,
    rectangles,
)
from cfalign._counterfactuals.methods import walk
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.origins import Origins
from cfalign._errors import BadInput
from cfalign._heads.composition import head
from cfalign._models.components import Components, principal_components
from cfalign._results import Floats
from cfalign.classifiers import black_box, wrap

SIDE = 32
SHAPE = (3, SIDE, SIDE)


def smooth(count: int, *, seed: int, edge: float = 0.0) -> Tensor:
    """Images whose colours change slowly from side to side, [n, 3, SIDE, SIDE]."""
    generator = torch.Generator().manual_seed(seed)
    down, across = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    waves = torch.stack([torch.ones_like(down), down, across, down * across, down**2, across**2])
    amounts = 0.08 * torch.randn(count, 3, 6, generator=generator)
    return (0.5 + torch.einsum("ncw,wij->ncij", amounts, waves) + edge).clamp(0, 1)


def components_of(images: Tensor, count: int = 18) -> Components:
    vectors = images.flatten(1)
    return principal_components(
        lambda: vectors.split(100),
        vectors=len(vectors),
        values=vectors.shape[1],
        count=count,
        generator=torch.Generator().manual_seed(0),
    )


KNOWN = components_of(smooth(400, seed=1))


class Smooth:
    """Draws smooth images, and knows their components."""

    name, size = "smooth", SIDE
    pictures = KNOWN

    def encode(self, images: Tensor, /) -> Tensor:
        return KNOWN.coordinates(images)

    def decode(self, latents: Tensor, /) -> Tensor:
        return (KNOWN.away(latents) + KNOWN.mean).view(-1, *SHAPE)


class Badge(torch.nn.Module):
    """Sees whether a white badge is at rows 4 to 12, columns 8 to 20."""

    def forward(self, images: Tensor) -> Tensor:
        inside = images[:, :, 4:12, 8:20].mean(dim=(1, 2, 3))
        return (40 * (inside - 0.8))[:, None]


class Red(torch.nn.Module):
    """Sees whether the image is red, wherever one looks."""

    def forward(self, images: Tensor) -> Tensor:
        return (20 * (images[:, 0].mean(dim=(1, 2)) - 0.4))[:, None]


def badged(count: int, *, seed: int = 5) -> Tensor:
    images = smooth(count, seed=seed)
    images[:, :, 4:12, 8:20] = 0.97
    return images


CLF = wrap(Badge(), targets=["badge"], name="badge")


def dense(image: Tensor, region: Tensor) -> Floats:
    """The completion by the normal equations, for one image."""
    x, mean, w, s = (t.double().numpy() for t in (image.flatten(), KNOWN.mean, KNOWN.directions, KNOWN.deviations))
    m = region.expand_as(image).flatten().double().numpy()
    a = w * s
    trust = ((1 - m) / NOISE) ** 2
    u = np.linalg.solve(np.eye(len(s)) + a.T @ (trust[:, None] * a), a.T @ (trust * (x - mean)))
    filled = np.clip(a @ u + mean, 0, 1)
    return np.asarray(x + m * (filled - x)).reshape(image.shape)


def test_a_completion_is_the_posterior_mean() -> None:
    images, boxes = badged(5), torch.tensor([[0.2, 0.1, 0.5, 0.3]]).repeat(5, 1)
    regions = rectangles(boxes, SIDE, SIDE)
    found = complete(images, regions, KNOWN, steps=60)
    for i in range(5):
        np.testing.assert_allclose(found[i].numpy(), dense(images[i], regions[i]), atol=2e-4)


def test_what_is_outside_the_region_stays_to_the_last_bit() -> None:
    images = badged(3)
    regions = (rectangles(torch.tensor([[0.25, 0.125, 0.4, 0.25]]).repeat(3, 1), SIDE, SIDE) > 0.5).float()
    found = complete(images, regions, KNOWN)
    outside = (regions == 0).expand_as(images)
    assert torch.equal(found[outside], images[outside])
    truth = smooth(3, seed=5)
    assert (found - truth).abs().max() < 0.1, "what was under the badge is continued from around it"


def test_soft_rectangles_have_the_area_of_their_boxes() -> None:
    boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.1, 0.4, 0.6, 0.2], [-0.2, 0.0, 0.5, 1.0]])
    areas = rectangles(boxes, 64, 48).mean(dim=(1, 2, 3))
    torch.testing.assert_close(areas, torch.tensor([0.25, 0.12, 0.3]), atol=0.02, rtol=0)


def scene(images: Tensor, classifier: cfa.Classifier = CLF) -> Batch:
    start = Origins(images, images, images)
    return Batch(start, pairs_of(head(classifier, "badge"), count=len(images)), Models(Smooth(), (classifier,)))


def test_the_region_is_about_as_large_as_what_switches_the_base_off() -> None:
    images = badged(8)
    found = find_regions(scene(images).in_pixels(), SearchOptions(), KNOWN)
    badge = torch.zeros(1, 1, SIDE, SIDE)
    badge[..., 4:12, 8:20] = 1
    regions = rectangles(torch.from_numpy(found.boxes).float(), SIDE, SIDE)
    covered = (regions * badge).sum(dim=(1, 2, 3)) / badge.sum()
    assert (covered > 0.5).all(), covered
    assert regions.mean() < 2.5 * badge.mean()
    assert (found.values < np.log(FLOOR / (1 - FLOOR)) + 0.5).all()
    np.testing.assert_allclose(CLF.logits(found.images)[:, 0], found.values, atol=1e-4)


def test_no_region_that_was_tried_is_better() -> None:
    images = badged(3)
    batch = scene(images).in_pixels()
    found = find_regions(batch, SearchOptions(), KNOWN)
    goal = np.log(FLOOR / (1 - FLOOR))
    start = CLF.logits(images)[:, 0].numpy()

    def cost(values: Floats, regions: Tensor) -> Floats:
        return np.asarray(np.maximum(values - goal, 0) / (start - goal) + AREA * regions.mean(dim=(1, 2, 3)).numpy())

    chosen = cost(found.values, rectangles(torch.from_numpy(found.boxes).float(), SIDE, SIDE))
    for box in first_boxes():
        regions = rectangles(box.repeat(3, 1), SIDE, SIDE)
        values = CLF.logits(complete(images, regions, KNOWN))[:, 0].numpy()
        assert (chosen <= cost(values, regions) + 1e-5).all()


def test_it_lands_on_the_line_to_the_completion() -> None:
    images = badged(6)
    found = cfa.counterfactuals(images, CLF["badge"], autoencoder=Smooth(), method="completion", drop=0.6)
    assert all(outcome.landed for outcome in found.outcomes)
    np.testing.assert_allclose(found.base_before - found.base_after, 0.6, atol=0.011)
    assert np.isnan(found.lambdas).all(), "there is no gradient, and no λ of Eq. 1"
    assert (found.backwards == 0).all()
    assert (found.evaluations > len(first_boxes())).all()
    change = (found.images - images).flatten(1)
    again = cfa.counterfactuals(images, CLF["badge"], autoencoder=Smooth(), method="completion", drop=0.3)
    other = (again.images - images).flatten(1)
    assert (torch.cosine_similarity(change, other) > 0.9999).all()


def test_the_further_end_is_the_whole_completion() -> None:
    images = badged(4)
    walks = walk(scene(images), SearchOptions(method="completion"), SearchOptions(method="completion", drop=0.85))
    assert walks.regions is not None
    whole = complete(images, rectangles(torch.from_numpy(walks.regions).float(), SIDE, SIDE), KNOWN)
    torch.testing.assert_close(walks.ends[1].images, whole, atol=1e-3, rtol=0)
    assert (walks.ends[1].distances >= walks.ends[0].distances).all()
    assert all(outcome.landed for outcome in walks.ends[1].outcomes)


def test_the_whole_completion_keeps_to_the_bound_on_the_image() -> None:
    images = badged(4)
    free, bound = (SearchOptions(method="completion", drop=0.85, max_image_change=most) for most in (None, 1e-4))
    found = walk(scene(images), SearchOptions(method="completion"), free).ends[1]
    kept = walk(scene(images), SearchOptions(method="completion"), bound).ends[1]
    assert (found.image_change > 1e-4).all()
    assert [outcome.value for outcome in kept.outcomes] == ["image_limit"] * 4
    assert torch.equal(kept.images, images)
    assert (kept.distances == 0).all()


def test_a_pair_does_not_depend_on_the_others() -> None:
    images = badged(5)
    together = walk(scene(images), SearchOptions(method="completion"))
    alone = walk(scene(images[2:3]), SearchOptions(method="completion"))
    assert together.regions is not None
    assert alone.regions is not None
    np.testing.assert_allclose(together.regions[2], alone.regions[0], atol=1e-6)
    torch.testing.assert_close(together.ends[0].images[2], alone.ends[0].images[0], atol=1e-5, rtol=0)


def test_a_control_is_completed_elsewhere_by_as_much() -> None:
    images = badged(3)
    boxes = np.tile([0.2, 0.1, 0.5, 0.25], (3, 1))
    places = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    found = completed_elsewhere(images, boxes, places, np.array([1.0, 0.5, 0.0]), KNOWN)
    regions = rectangles(torch.tensor([[0.0, 0.75, 0.5, 0.25], [0.5, 0.0, 0.5, 0.25]]), SIDE, SIDE)
    whole = torch.cat([complete(images[i : i + 1], regions[i : i + 1], KNOWN) for i in range(2)])
    torch.testing.assert_close(found[0], whole[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], (images[1] + whole[1]) / 2, atol=1e-5, rtol=0)
    assert torch.equal(found[2], images[2])


def test_a_base_that_no_region_switches_off_ends_at_a_limit() -> None:
    everywhere = wrap(Red(), targets=["badge"], name="red")
    found = cfa.counterfactuals(smooth(6, seed=9), everywhere["badge"], autoencoder=Smooth(), method="completion")
    walked = [outcome for outcome in found.outcomes if outcome.walked]
    assert walked
    assert not any(outcome.landed for outcome in walked)


def test_a_black_box_may_be_a_base() -> None:
    blind = black_box(lambda x: torch.sigmoid(Badge()(torch.as_tensor(x))), ["badge"], name="blind")
    images = badged(3)
    found = cfa.counterfactuals(images, blind["badge"], autoencoder=Smooth(), method="completion")
    seen = cfa.counterfactuals(images, CLF["badge"], autoencoder=Smooth(), method="completion")
    assert all(outcome.landed for outcome in found.outcomes)
    torch.testing.assert_close(found.images, seen.images, atol=5e-3, rtol=0)


def test_images_must_be_those_that_the_components_know() -> None:
    with pytest.raises(BadInput, match=r"3072 values, but the images have shape \[3, 16, 16\]"):
        find_regions(scene(torch.rand(2, 3, 16, 16)).in_pixels(), SearchOptions(), KNOWN)

    class Ignorant:
        def encode(self, images: Tensor, /) -> Tensor:
            return images

        decode = encode

    with pytest.raises(BadInput, match="autoencoder 'Ignorant' knows none"):
        cfa.counterfactuals(badged(1), CLF["badge"], autoencoder=Ignorant(), method="completion")
