"""The metric of the data: walks go where latents of images differ, and leave all else as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import cfalign as cfa
from cfalign._audit.informing import FILE
from cfalign._audit.options import AuditOptions
from cfalign._counterfactuals.options import EstimateOptions, Method, SearchOptions
from cfalign._counterfactuals.origins import Metric, joined, origins, settled
from cfalign._errors import BadInput
from cfalign._models.components import Components, principal_components
from cfalign.autoencoders import InformedAutoencoder, informed
from linear_world import LATENTS, LinearAutoencoder, LinearClassifier, directions, linear_images

AE = LinearAutoencoder()
CLF = LinearClassifier(directions(2, overlap=0.4), [0.8, 0.3], ("a", "b"))
IMAGES = linear_images(60, seed=3)
DATA = SearchOptions(metric="data", residual="dropped")


def known(count: int = LATENTS, *, seed: int = 0) -> Components:
    """Some orthonormal directions with deviations that differ, in the type of the world."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.linalg.qr(torch.randn(LATENTS, LATENTS, generator=generator, dtype=torch.float64)).Q[:, :count]
    return Components(0.1 * torch.ones(LATENTS, dtype=torch.float64), w, torch.logspace(0, -1, count).double())


def moved(found: cfa.Counterfactuals) -> Tensor:
    """z_λ − z0 of those that landed, [n, latent]."""
    landed = torch.tensor([o.landed for o in found.outcomes])
    return (AE.encode(found.images) - AE.encode(found.reconstructions))[landed]


@pytest.mark.parametrize("count", [LATENTS, 3])
def test_the_walk_goes_along_the_covariance_times_the_gradient(count: int) -> None:
    metric = known(count)
    found = cfa.latent_shift(
        IMAGES, CLF["a"], autoencoder=InformedAutoencoder(AE, metric=metric), drop=0.3, options=DATA
    )
    away = moved(found)
    covariance = (metric.directions * metric.deviations**2) @ metric.directions.T
    expected = -covariance @ CLF.weight[0].detach()
    assert len(away) > 20
    assert (torch.cosine_similarity(away, expected[None]) > 1 - 1e-9).all()
    able = found.base_before > 0.5
    np.testing.assert_allclose(found.base_after[able], found.base_before[able] - 0.3, atol=0.011)


def test_lambda_is_that_of_the_equation() -> None:
    metric = known()
    found = cfa.latent_shift(IMAGES, CLF["a"], autoencoder=InformedAutoencoder(AE, metric=metric), options=DATA)
    covariance = (metric.directions * metric.deviations**2) @ metric.directions.T
    landed = np.array([o.landed for o in found.outcomes])
    score = found.base_before[landed]
    slope = torch.from_numpy(score * (1 - score))[:, None] * CLF.weight[:1].detach()
    expected = -torch.from_numpy(found.lambdas[landed])[:, None] * slope @ covariance
    torch.testing.assert_close(moved(found), expected, atol=1e-9, rtol=1e-6)


def test_with_equal_deviations_it_is_the_metric_of_the_latent() -> None:
    same = replace(known(), deviations=0.7 * torch.ones(LATENTS, dtype=torch.float64))
    found = cfa.latent_shift(IMAGES, CLF["a"], autoencoder=InformedAutoencoder(AE, metric=same), options=DATA)
    plain = cfa.latent_shift(IMAGES, CLF["a"], autoencoder=AE)
    torch.testing.assert_close(found.images, plain.images, atol=1e-3, rtol=0)
    np.testing.assert_allclose(found.distances * 0.7, plain.distances, rtol=2e-2)


@pytest.mark.parametrize("method", ["latent-shift", "iterated", "latent-cf"])
def test_what_the_components_do_not_hold_stays(method: Method) -> None:
    metric = known(3)
    search = replace(DATA, method=method)
    found = cfa.counterfactuals(IMAGES, CLF["a"], autoencoder=InformedAutoencoder(AE, metric=metric), options=search)
    away = moved(found)
    assert len(away) > 10
    outside = away - away @ metric.directions @ metric.directions.T
    assert outside.abs().max() < 1e-9


def test_a_black_box_is_probed_in_the_metric() -> None:
    blind = cfa.classifiers.black_box(lambda x: CLF.logits(x).sigmoid(), CLF.targets, name="blind")
    ae = InformedAutoencoder(AE, metric=known(3))
    exact = cfa.latent_shift(IMAGES, CLF["a"], autoencoder=ae, options=DATA)
    estimate = EstimateOptions(enabled=True, evaluations=6)
    found = cfa.latent_shift(IMAGES, blind["a"], autoencoder=ae, options=DATA, estimate=estimate)
    torch.testing.assert_close(found.images, exact.images, atol=1e-4, rtol=0)


def test_images_tell_what_differs() -> None:
    ae = informed(AE, IMAGES.repeat(4, 1, 1, 1), mirrored=False)
    latents = AE.encode(IMAGES).float()
    exact = torch.linalg.svdvals(latents - latents.mean(0)) / len(latents) ** 0.5
    assert ae.metric is not None
    capped = exact.clamp_max(float(exact[-1]))  # fewer components than are capped: all count as the weakest
    torch.testing.assert_close(ae.metric.deviations, capped, atol=1e-4, rtol=1e-3)
    assert ae.pictures is not None
    assert ae.residual == "dropped", "all else is the autoencoder's own"
    with pytest.raises(BadInput, match="60 images tell too little of how images differ; expected at least 64"):
        informed(AE, IMAGES)


def test_capped_components_count_as_the_next_one() -> None:
    drawn = torch.randn(300, 6, generator=torch.Generator().manual_seed(1))
    vectors = drawn * torch.tensor([9.0, 4, 3, 2, 1, 0.5])
    plain = principal_components(lambda: [vectors], vectors=300, values=6, count=6)
    capped = plain.capped(2)
    assert torch.equal(capped.deviations[:3], plain.deviations[2].repeat(3))
    assert torch.equal(capped.deviations[3:], plain.deviations[3:])
    assert torch.equal(plain.capped(0).deviations, plain.deviations)


def test_the_search_takes_the_metric_that_is_known() -> None:
    assert settled(SearchOptions(), AE).metric == "latent"
    assert settled(SearchOptions(), InformedAutoencoder(AE, metric=known())).metric == "data"
    assert settled(SearchOptions(metric="latent"), InformedAutoencoder(AE, metric=known())).metric == "latent"
    with pytest.raises(BadInput, match="needs to know how latents differ, which autoencoder 'LinearAutoencoder'"):
        origins(IMAGES, AE, search=DATA)


def test_parts_of_origins_join() -> None:
    ae = InformedAutoencoder(AE, metric=known(3))
    whole, *parts = (origins(some, ae, search=DATA) for some in (IMAGES, IMAGES[:20], IMAGES[20:]))
    both = joined(parts)
    assert isinstance(both.metric, Metric)
    assert whole.metric is not None
    torch.testing.assert_close(both.metric.origins, whole.metric.origins)
    rows = torch.tensor([3, 25])
    points = both.latents[rows] + 0.1
    torch.testing.assert_close(both[rows].decoded(torch.arange(2), points, ae), whole.decoded(rows, points, ae))


def test_an_audit_tells_its_autoencoder_and_keeps_what_it_told(tmp_path: Path) -> None:
    x = linear_images(80, seed=5).float()
    ae, clf = LinearAutoencoder().float(), LinearClassifier(directions(2, overlap=0.4), [0.8, 0.3], "ab").float()
    options = AuditOptions(limit=10, chunk=16, search=SearchOptions(metric="data"))
    run = cfa.audit(x, clf, autoencoder=ae, options=options, out=tmp_path / "run")
    assert (run.path / FILE).is_file()
    assert run.record()["settings"]["search"]["metric"] == "data"
    before = run.counterfactuals()
    for shard in run.shards("responses")[1:]:
        shard.unlink()
    assert cfa.audit(x, clf, autoencoder=ae, options=options, out=tmp_path / "run").counterfactuals().equals(before)
    plain = cfa.audit(x, clf, autoencoder=ae, options=AuditOptions(limit=10, chunk=16), out=tmp_path / "plain")
    assert not plain.counterfactuals()["distance"].equals(before["distance"])
    with pytest.raises(BadInput, match="60 images tell too little of how images differ; expected at least 64 for"):
        cfa.audit(x[:60], clf, autoencoder=ae, options=options, out=tmp_path / "few")
