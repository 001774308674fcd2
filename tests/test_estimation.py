"""Gradients of black boxes by differences: exact where that is known, as good as theory says where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import cfalign as cfa
import worlds
from cfalign._audit.contact_sheet import sheet_rows
from cfalign._audit.options import AuditOptions
from cfalign._audit.remade import AtHand
from cfalign._counterfactuals.batch import Batch, Models, Pairs
from cfalign._counterfactuals.gradient import differences, directions, find_rays
from cfalign._counterfactuals.options import EstimateOptions, SearchOptions
from cfalign._counterfactuals.origins import origins
from cfalign._errors import BadInput
from cfalign._heads.panel import weights
from cfalign.classifiers import BlackBox, black_box
from cfalign.datasets import open_images
from linear_world import LATENTS, LinearAutoencoder, LinearClassifier, linear_images
from linear_world import directions as heads

CLF = LinearClassifier(heads(3, overlap=0.4), [0.8, 0.3, -0.2], ("a", "b", "c"))
AE = LinearAutoencoder()
ON = EstimateOptions(enabled=True)


def boxed() -> BlackBox:
    return black_box(lambda x: torch.sigmoid(CLF.logits(x)), CLF.targets, name=CLF.name)


def rays(classifier: object, options: EstimateOptions | None, images: int = 5) -> object:
    """Of every (image, head) pair."""
    start = origins(linear_images(images, seed=1), AE, search=SearchOptions(residual="dropped"))
    table = weights([classifier[t] for t in CLF.targets], [classifier])  # type: ignore[index, list-item]
    rows = torch.arange(3).repeat(images)
    pairs = Pairs(torch.arange(images).repeat_interleave(3), table[rows])
    return find_rays(Batch(start, pairs, Models(AE, [classifier]), options))  # type: ignore[list-item]


def test_as_many_directions_as_dimensions_give_the_gradient() -> None:
    true, found = rays(CLF, None), rays(boxed(), ON)
    torch.testing.assert_close(found.direction, true.direction, rtol=0, atol=2e-5)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.start.slope, true.start.slope, rtol=2e-5)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.start.value, true.start.value, atol=1e-5)  # type: ignore[attr-defined]


def test_fewer_directions_give_the_gradients_projection() -> None:
    """‖P g‖ / ‖g‖ is the cosine, and the slope along the estimate; its mean square is directions / dimensions."""
    options = EstimateOptions(enabled=True, evaluations=4)
    true, found = rays(CLF, None, 400), rays(boxed(), options, 400)
    cosine = (found.direction * true.direction).flatten(1).sum(dim=1)  # type: ignore[attr-defined]
    assert float((cosine**2).mean()) == pytest.approx(2 / LATENTS, rel=0.1)
    np.testing.assert_allclose(
        found.start.slope,
        cosine.numpy() * true.start.slope,
        rtol=1e-3,
        atol=1e-5,  # type: ignore[attr-defined]
    )


def test_directions_are_orthonormal_and_depend_on_seed_and_latent_alone() -> None:
    latent = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    rows = directions(latent, EstimateOptions(enabled=True, evaluations=10)).flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(5), atol=1e-6, rtol=0)
    assert directions(latent, EstimateOptions()).shape == (12, 3, 4), "no more than there are dimensions"
    assert torch.equal(rows, directions(latent.clone(), EstimateOptions(enabled=True, evaluations=10)).flatten(1))
    for other, seed in ((latent + 1, 0), (latent, 1)):
        chosen = EstimateOptions(enabled=True, evaluations=10, seed=seed)
        assert not torch.equal(rows, directions(other, chosen).flatten(1))


def test_all_bases_of_an_image_share_its_probes() -> None:
    asked: list[int] = []

    def counted(x: Tensor) -> Tensor:
        asked.append(len(x))
        return torch.sigmoid(CLF.logits(x))

    rays(black_box(counted, CLF.targets), EstimateOptions(enabled=True, evaluations=6), images=4)
    assert sum(asked) == 4 * (1 + 6), "whatever the number of heads"


def test_a_probe_where_the_score_is_not_finite_gives_no_direction() -> None:
    def evaluate(points: Tensor) -> Tensor:
        return torch.where(points[:, :1] > 1.0, torch.nan, points[:, :1])

    _, slope, _ = differences(torch.full((2,), 0.999), evaluate, EstimateOptions(enabled=True, step=0.5))
    assert slope.isnan().any()
    broken = black_box(lambda x: torch.full((len(x), 3), torch.nan), CLF.targets)
    found = rays(broken, ON)
    assert np.isnan(found.start.slope).all()  # type: ignore[attr-defined]


def test_a_black_box_is_audited_like_the_model_inside_it(tmp_path: Path) -> None:
    images = worlds.images(40)
    heads_inside = worlds.heads()
    box = black_box(lambda x: torch.sigmoid(heads_inside.logits(x)), heads_inside.targets, name=heads_inside.name)
    matrices = [
        cfa.audit(
            images,
            clf,
            autoencoder=worlds.autoencoder(),
            out=tmp_path / str(number),
            options=AuditOptions(limit=15, estimate=EstimateOptions(enabled=number == 1)),
        ).matrix()
        for number, clf in enumerate((heads_inside, box))
    ]
    psi = [m["psi"].to_numpy().astype(float) for m in matrices]
    assert np.isfinite(psi[0]).sum() > 3
    np.testing.assert_allclose(psi[1], psi[0], atol=0.02)
    assert matrices[0]["n"].to_list() == matrices[1]["n"].to_list()


def test_a_sheet_walks_the_rays_of_a_black_box_again(tmp_path: Path) -> None:
    heads_inside = worlds.heads()
    box = black_box(lambda x: torch.sigmoid(heads_inside.logits(x)), heads_inside.targets, name=heads_inside.name)
    source = open_images(worlds.images(30))
    run = cfa.audit(
        source,
        box,
        autoencoder=worlds.autoencoder(),
        out=tmp_path / "run",
        options=AuditOptions(limit=8, shown=0, estimate=ON),
    )
    rows = run.query(base=box.targets[0]).head(3)
    made = sheet_rows(rows, run, at_hand=AtHand(source, worlds.autoencoder(), [box]))
    assert len(made) == 3
    assert all(row.complete for row in made)


def test_black_boxes_are_refused_unless_asked_for(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is a black box.*--estimate"):
        cfa.audit(worlds.images(10), boxed(), autoencoder=worlds.autoencoder(), out=tmp_path / "run")
    with pytest.raises(BadInput, match=r"is a black box.*--estimate"):
        rays(boxed(), EstimateOptions())
    counterfactuals = cfa.latent_shift(linear_images(6, seed=2), boxed()["a"], autoencoder=AE, estimate=ON)
    expected = cfa.latent_shift(linear_images(6, seed=2), CLF["a"], autoencoder=AE)
    torch.testing.assert_close(counterfactuals.images, expected.images, atol=1e-3, rtol=0)


@pytest.mark.parametrize("bad", [{"evaluations": 1}, {"step": 0.0}, {"step": 2.0}, {"seed": -1}])
def test_settings_that_cannot_work_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=f"EstimateOptions.{next(iter(bad))}: expected"):
        EstimateOptions(**bad)  # type: ignore[arg-type]
