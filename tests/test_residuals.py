"""What the autoencoder cannot draw of an image stays, goes where the walk changes the picture, or is dropped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

import cfalign as cfa
from cfalign._audit.measurement import Base, WalkSettings, look, walk_all
from cfalign._audit.pictures import search_of
from cfalign._counterfactuals.batch import Batch, Models, Points, evaluate, every_logit, pairs_of
from cfalign._counterfactuals.gradient import find_rays
from cfalign._counterfactuals.options import EstimateOptions, Method, SearchOptions
from cfalign._counterfactuals.origins import Origins, gate, joined, origins, settled
from cfalign._heads.panel import panel
from cfalign._results import Floats
from cfalign._runs.columns import Column
from cfalign._types import Residual
from cfalign.classifiers import black_box
from linear_world import SHAPE, LinearAutoencoder, LinearClassifier, directions, linear_images

AE = LinearAutoencoder()
NOISE = 0.03 * torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
IMAGES = linear_images(40, seed=3) + NOISE
LEFT_OUT = IMAGES - AE.decode(AE.encode(IMAGES))
CLF = LinearClassifier(directions(2, overlap=0.4), [0.8, 0.3], ("a", "b"))
SINGLE = (
    IMAGES.float(),
    LinearAutoencoder().float(),
    LinearClassifier(directions(2, overlap=0.4), [0.8, 0.3], "ab").float(),
)
"""Images, autoencoder and heads in single precision."""
KEEPING: tuple[Residual, ...] = ("gated", "kept")


def started(residual: Residual, images: Tensor = IMAGES) -> Origins:
    return origins(images, AE, search=SearchOptions(residual=residual))


class SeesAll(LinearClassifier):
    """Beside what the autoencoder draws it sees one pattern that it does not draw."""

    def logits(self, images: Tensor, /) -> Tensor:
        pattern = torch.sign(LEFT_OUT[0])
        return super().logits(images) + (images * pattern).flatten(1).sum(dim=1, keepdim=True)


def gate_of(before: Floats, after: Floats) -> Floats:
    """The formula, image by image: [c, h, w] each → m [h, w]."""
    side = min(before.shape[1:])

    def around(values: Floats) -> Floats:
        return np.asarray(gaussian_filter(values, 1.5 * side / 64, mode="nearest", truncate=3 + 1e-9))

    variance, covariance = np.zeros((2, *before.shape[1:]))
    for old, new in zip(before, after, strict=True):
        here, there = old - around(old), new - around(new)
        variance += around(here * here)
        covariance += around(here * there)
    return np.asarray(1 - np.clip((covariance + 0.02**2) / (variance + 0.02**2), 0, 1))


@pytest.mark.parametrize("side", [64, (128, 96)])
def test_the_gate_is_its_formula(side: int | tuple[int, int]) -> None:
    size = (side, side) if isinstance(side, int) else side
    before, change = 0.2 * torch.randn(2, 3, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    change[:, :, : size[0] // 2] = 0
    found = gate(before, before + change)[:, 0].numpy()
    pairs = zip(before.numpy(), (before + change).numpy(), strict=True)
    expected = np.stack([gate_of(*pair) for pair in pairs])
    radius = 2 * int(3 * 1.5 * min(size) / 64 + 0.5)
    inside = (slice(None), slice(radius, -radius), slice(radius, -radius))
    np.testing.assert_allclose(found[inside], expected[inside], atol=5e-3)  # reach of the kernel: a ceiling, not a half
    assert np.abs(found[:, : size[0] // 4]).max() < 1e-12
    assert found.max() > 0.25


def test_the_gate_opens_where_structure_goes_and_not_where_only_the_shade_changes() -> None:
    stripes = 0.5 + 0.2 * torch.sign(torch.sin(torch.arange(64.0)))[None, None, None].expand(1, 3, 64, 64)
    flat = torch.full_like(stripes, 0.5)
    assert gate(stripes, stripes + 0.15).abs().max() < 1e-5, "brighter, and all there"
    assert gate(stripes, flat).min() > 0.95, "gone"
    half = gate(stripes, 0.5 + 0.5 * (stripes - 0.5))
    torch.testing.assert_close(half, torch.full_like(half, 0.5), atol=0.01, rtol=0)
    assert gate(stripes, 1 - stripes).min() > 0.999, "the opposite"
    assert gate(flat, stripes).abs().max() < 0.01, "what is new takes nothing away where nothing was"


def test_a_walk_starts_at_the_image_itself() -> None:
    for residual in KEEPING:
        start = started(residual)
        assert start.images is IMAGES
        there = start.completed(torch.arange(40), start.drawn)
        torch.testing.assert_close(there, IMAGES, atol=1e-12, rtol=0)
    assert torch.equal(started("dropped").images, AE.decode(AE.encode(IMAGES)))


@pytest.mark.parametrize("method", ["latent-shift", "iterated", "latent-cf"])
def test_kept_everywhere_it_is_added_to_what_is_drawn(method: Method) -> None:
    dropped, kept = (
        cfa.counterfactuals(IMAGES, CLF["a"], autoencoder=AE, options=SearchOptions(method=method, residual=residual))
        for residual in ("dropped", "kept")
    )
    assert sum(o.landed for o in dropped.outcomes) > 10
    assert dropped.outcomes == kept.outcomes, "these heads do not see what is left out"
    torch.testing.assert_close(kept.images, dropped.images + LEFT_OUT, atol=1e-9, rtol=0)
    np.testing.assert_allclose(kept.base_after, dropped.base_after, atol=1e-9)


@pytest.mark.parametrize("method", ["latent-shift", "iterated", "latent-cf"])
def test_gated_it_goes_where_the_picture_changes(method: Method) -> None:
    search = SearchOptions(method=method, residual="gated")
    found = cfa.counterfactuals(IMAGES, CLF["a"], autoencoder=AE, options=search)
    drawn = AE.decode(AE.encode(IMAGES))
    some = [i for i, o in enumerate(found.outcomes) if o.landed]
    assert len(some) > 10
    for i in some:
        ends = _ends(found.images[i], drawn[i], LEFT_OUT[i])
        np.testing.assert_allclose(found.images[i].numpy(), ends, atol=1e-6)


def _ends(image: Tensor, drawn: Tensor, left_out: Tensor) -> Floats:
    """x_λ made anew from what of it can be drawn: fixed point of D(z) + (1 − m)(x − D(z0)) in D(z)."""
    at = AE.decode(AE.encode(image[None]))[0]
    for _ in range(200):
        m = gate(drawn[None], at[None])[0]
        rest = (1 - m) * left_out
        at = AE.decode(AE.encode((image - rest)[None]))[0]
    return (at + rest).numpy()


@pytest.mark.parametrize("residual", KEEPING)
def test_the_gradient_is_that_at_the_image(residual: Residual) -> None:
    clf = SeesAll(directions(2, overlap=0.4), [0.8, 0.3], ("a", "b"))
    bent = _Bent(clf)
    batch = Batch(started(residual), pairs_of(bent["a"], count=40), Models(AE, [bent]))
    rays = find_rays(batch)
    z = AE.encode(IMAGES).requires_grad_(True)
    value = bent.logits(AE.decode(z) + LEFT_OUT)[:, 0]
    (expected,) = torch.autograd.grad(value.sum(), z)
    np.testing.assert_allclose(rays.start.value, bent.logits(IMAGES)[:, 0].detach(), atol=1e-9)
    np.testing.assert_allclose(rays.start.slope, expected.norm(dim=1), rtol=1e-9)
    torch.testing.assert_close(rays.direction, -expected / expected.norm(dim=1, keepdim=True))
    on_reconstructions = find_rays(replace(batch, origins=started("dropped")))
    assert (on_reconstructions.direction - rays.direction).norm(dim=1).max() > 0.01


class _Bent(LinearClassifier):
    """Its slope depends on all of the image."""

    def __init__(self, inner: LinearClassifier) -> None:
        super().__init__(inner.weight.detach().numpy(), inner.bias.tolist(), inner.targets)
        self.inner = inner

    def logits(self, images: Tensor, /) -> Tensor:
        return self.inner.logits(images) + 0.3 * torch.sin(3 * super().logits(images) + self.inner.logits(images))


def test_an_estimated_gradient_sees_the_image_too() -> None:
    clf = SeesAll(directions(2, overlap=0.4), [0.8, 0.3], ("a", "b"))
    boxed = black_box(lambda x: torch.sigmoid(clf.logits(x)), clf.targets, name="boxed")
    start = started("kept", IMAGES[:5])
    options = EstimateOptions(enabled=True)
    estimated = find_rays(Batch(start, pairs_of(boxed["a"], count=5), Models(AE, [boxed]), options))
    exact = find_rays(Batch(start, pairs_of(clf["a"], count=5), Models(AE, [clf])))
    np.testing.assert_allclose(estimated.start.value, exact.start.value, rtol=1e-5)
    torch.testing.assert_close(estimated.direction, exact.direction, atol=1e-5, rtol=0)


@pytest.mark.parametrize("residual", KEEPING)
def test_a_chunk_walks_as_single_images_do(residual: Residual) -> None:
    table = panel([CLF["a"], CLF["b"]], [])
    settings = WalkSettings(SearchOptions(residual=residual))
    seen = look(IMAGES, table, autoencoder=AE, search=settings.search)
    np.testing.assert_array_equal(seen.reconstruction_scores, seen.image_scores)
    ids = [str(i) for i in range(40)]
    chosen = [(i, 0) for i in range(40)]
    bases = [Base("a", CLF["a"])]
    (pool,) = walk_all(seen, chosen, panel=table, bases=bases, image_ids=ids, autoencoder=AE, settings=settings)
    alone = cfa.latent_shift(IMAGES, CLF["a"], autoencoder=AE, options=settings.search)
    torch.testing.assert_close(pool.counterfactual.ends.images, alone.images, atol=1e-9, rtol=0)
    walked = np.flatnonzero(pool.counterfactual.ends.walked)
    scores = torch.sigmoid(CLF.logits(pool.controls.images)).detach().numpy()
    np.testing.assert_allclose(pool.controls.scores[walked], scores[walked], atol=1e-12)
    left = pool.controls.images - AE.decode(AE.encode(pool.controls.images))
    assert left[walked].abs().max() > 0.01, "controls keep it too"


def test_points_of_some_images_are_completed_with_theirs() -> None:
    start = started("kept")
    rows = torch.tensor([7, 7, 2])
    points = Points(start.latents[rows], rows, start)
    seen = evaluate(points, models=Models(AE, [CLF], batch=2), read=every_logit)
    torch.testing.assert_close(seen.images, IMAGES[rows], atol=1e-12, rtol=0)
    both = joined([start[torch.arange(3)], start[torch.arange(3, 40)]])
    for name in ("latents", "images", "drawn"):
        assert torch.equal(getattr(both, name), getattr(start, name))
    assert both.residual == "kept"


def test_nothing_is_left_out_in_pixels() -> None:
    found = [
        cfa.counterfactuals(IMAGES, CLF["a"], options=SearchOptions(method="pixels", residual=residual)).images
        for residual in ("dropped", "gated")
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("residual", KEEPING)
def test_what_is_recorded_is_what_was_done(residual: Residual, tmp_path: Path) -> None:
    """Audit, strips and explanation begin at the image; the score is that of the image, and drift is none."""
    options = cfa.AuditOptions(limit=8, search=SearchOptions(residual=residual))
    images, autoencoder, clf = SINGLE
    run = cfa.audit(images, clf, autoencoder=autoencoder, bases=["a"], options=options, out=tmp_path / "run")
    assert search_of(run).residual == residual
    scores = run.scores()
    for name in ("a", "b"):
        assert scores[Column.IMAGE.of(name)].to_list() == scores[Column.RECONSTRUCTION.of(name)].to_list()
    explained = cfa.explain(
        images[0], clf["a"], autoencoder=autoencoder, options=cfa.ExplainOptions(search=options.search, increase=True)
    )
    torch.testing.assert_close(explained.bases[0].frames[0], images[0], atol=1e-6, rtol=0)


def test_runs_of_older_versions_dropped_it(tmp_path: Path) -> None:
    images, autoencoder, clf = SINGLE
    cfa.audit(
        images,
        clf,
        autoencoder=autoencoder,
        bases=["a"],
        options=cfa.AuditOptions(limit=4, search=SearchOptions(residual="dropped")),
        out=tmp_path / "run",
    )
    record = (tmp_path / "run" / "run.json").read_text()
    assert '"residual": "dropped"' in record
    (tmp_path / "run" / "run.json").write_text(record.replace('"residual": "dropped",', ""))
    assert search_of(cfa.Run(tmp_path / "run")).residual == "dropped"


def test_origins_of_no_image() -> None:
    start: Origins = started("gated", IMAGES[:0])
    assert start.completed(torch.arange(0), start.drawn).shape == (0, *SHAPE)


@pytest.mark.parametrize(
    ("own", "asked", "done"), [(None, None, "gated"), ("kept", None, "kept"), ("kept", "dropped", "dropped")]
)
def test_the_search_decides_then_the_autoencoder(
    own: Residual | None, asked: Residual | None, done: Residual, tmp_path: Path
) -> None:
    images, autoencoder, clf = SINGLE
    wrapped = cfa.autoencoders.wrap(autoencoder, size=4, residual=own)
    options = cfa.AuditOptions(limit=3, search=SearchOptions(residual=asked))
    run = cfa.audit(images, clf, autoencoder=wrapped, bases=["a"], options=options, out=tmp_path / "run")
    assert run.record()["settings"]["search"]["residual"] == done
    made = cfa.latent_shift(images, clf["a"], autoencoder=wrapped, options=options.search)
    assert torch.equal(made.reconstructions, images) == (done != "dropped")


def test_the_embedded_autoencoder_draws_all_of_a_face() -> None:
    embedded = cfa.autoencoders.load("embedded")
    assert settled(SearchOptions(), embedded).residual == "dropped"
    assert settled(SearchOptions(residual="gated"), embedded).residual == "gated"


def test_what_is_returned_is_not_what_was_given() -> None:
    images = IMAGES.clone()
    found = cfa.latent_shift(images, CLF["a"], autoencoder=AE, options=SearchOptions(residual="kept"))
    found.reconstructions.zero_()
    assert torch.equal(images, IMAGES)
