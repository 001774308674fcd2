"""Regions: composites to the bit, shares in closed form, masks of grids and folders, and the audit that writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import worlds
from cfalign import report
from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._errors import BadInput
from cfalign._explanation.explained import ExplainedRegions
from cfalign._explanation.explanation import Explanation, explain
from cfalign._explanation.options import ExplainOptions
from cfalign._explanation.region_drawing import tinted
from cfalign._findings import RegionShare
from cfalign._heads.composition import Composition, head
from cfalign._heads.panel import Panel
from cfalign._regions.masks import Grid, Masks, regions_of
from cfalign._regions.options import RegionOptions
from cfalign._regions.split import composed, region_scores, shares
from cfalign._runs.run import Run
from cfalign.datasets import TensorImages


class MeanOf(nn.Module):
    """A head whose logit is a weighted sum of the pixels."""

    differentiable = True

    def __init__(self, weights: torch.Tensor, target: str = "mean") -> None:
        super().__init__()
        self.name, self.targets = f"classifier of {target}", (target,)
        self.weights = nn.Parameter(weights)

    def logits(self, images: torch.Tensor, /) -> torch.Tensor:
        return (images * self.weights).flatten(1).sum(dim=1, keepdim=True)


def one(classifier: MeanOf) -> Panel:
    return Panel(classifier.targets, (head(classifier, classifier.targets[0]),))


def pair(n: int = 5, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.rand(2, n, 3, side, side, generator=torch.Generator().manual_seed(0))
    return drawn[0], drawn[1]


def test_pixels_outside_a_region_are_those_of_before_to_the_bit() -> None:
    before, after = pair()
    before, after = before / 3, after / 7 + 0.123
    mask = torch.zeros(5, 1, 8, 8)
    mask[:, :, 2:5, 3:6] = torch.tensor([0.3, 1.0, 0.7])
    found = composed(before, after, mask)
    outside, whole = (mask == 0).expand_as(found), (mask == 1).expand_as(found)
    assert torch.equal(found[outside], before[outside])
    assert torch.equal(found[whole], after[whole])
    between = ~(outside | whole)
    assert ((found - before) * (found - after) <= 1e-9)[between].all()


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_both_composites_are_scored_as_they_are_one_by_one(batch: int) -> None:
    before, after = pair()
    classifier = MeanOf(torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1)) / 10)
    masks = Grid(2).masks(["x"] * 5, 8, 8)
    found = region_scores(before, after, masks, one(classifier), batch=batch)
    for i in range(5):
        for r in range(4):
            m = masks[i, r][None]
            for side, weight in ((found.inside, m), (found.rest, 1 - m)):
                mixed = before[i] + weight * (after[i] - before[i])
                expected = torch.sigmoid(classifier.logits(mixed[None])).item()
                assert side[i, r, 0] == pytest.approx(expected, abs=1e-6)


def test_an_image_without_a_mask_has_no_scores() -> None:
    before, after = pair(3)
    masks = Grid(2).masks(["x"] * 3, 8, 8).clone()
    masks[1, 2] = torch.nan
    found = region_scores(before, after, masks, one(MeanOf(torch.ones(3, 8, 8))), batch=64)
    assert np.isnan(found.inside[1, 2]).all()
    assert np.isnan(found.rest[1, 2]).all()
    assert np.isfinite(np.delete(found.inside, 1, axis=0)).all()


def rows(**given: np.ndarray) -> list[RegionShare]:
    people = given.pop("people", None)
    rng = np.random.default_rng(0)
    return shares("a", "b", ["left", "right"], people=people, rng=rng, **given)


def test_shares_are_ratios_of_sums_and_both_bounds_agree_where_regions_add_up() -> None:
    rng = np.random.default_rng(0)
    own = -rng.uniform(0.5, 0.9, 40)
    inside = np.column_stack([0.3 * own, 0.1 * own])
    whole = inside.sum(axis=1)
    left, right = rows(own=own, whole=whole, inside=inside, rest=whole[:, None] - inside)
    assert left.whole == pytest.approx(0.4)
    assert (left.inside, left.lost) == pytest.approx((0.75, 0.75))
    assert (right.inside, right.lost) == pytest.approx((0.25, 0.25))
    assert left.n == 40
    assert left.inside_low == pytest.approx(0.75)


def test_regions_that_only_work_together_have_bounds_apart() -> None:
    own, whole = -np.ones(20), -np.ones(20)
    (left, _) = rows(own=own, whole=whole, inside=np.zeros((20, 2)), rest=np.zeros((20, 2)))
    assert (left.inside, left.lost) == (0, 1)


def test_where_the_whole_is_not_clear_there_are_no_shares() -> None:
    rng = np.random.default_rng(1)
    whole = rng.normal(size=30)
    whole -= whole.mean()
    (left, _) = rows(own=-np.ones(30), whole=whole, inside=whole[:, None] / [[2, 2]], rest=whole[:, None] / [[2, 2]])
    assert left.whole == pytest.approx(0, abs=1e-9)
    assert np.isnan([left.inside, left.lost, left.inside_low, left.lost_high]).all()
    (blank, _) = rows(own=np.ones(0), whole=np.ones(0), inside=np.ones((0, 2)), rest=np.ones((0, 2)))
    assert blank.n == 0
    assert np.isnan(blank.whole)


def test_people_are_drawn_instead_of_images() -> None:
    rng = np.random.default_rng(2)
    person = np.repeat(np.arange(8), 10)
    whole = -0.5 - 0.3 * rng.normal(size=8)[person]
    given = {
        "own": -np.ones(80),
        "whole": whole,
        "inside": whole[:, None] / [[2, 2]],
        "rest": whole[:, None] / [[2, 2]],
    }
    alone, grouped = rows(**given)[0], rows(**given, people=person)[0]
    assert grouped.whole_high - grouped.whole_low > 2 * (alone.whole_high - alone.whole_low)


@pytest.mark.parametrize(("side", "shape"), [(2, (8, 8)), (3, (64, 64)), (4, (10, 7))])
def test_cells_of_a_grid_are_the_whole_image_once(side: int, shape: tuple[int, int]) -> None:
    masks = Grid(side).masks(["a", "b"], *shape)
    assert masks.shape == (2, side**2, *shape)
    assert torch.equal(masks.sum(dim=1), torch.ones(2, *shape))
    assert Grid(side).names[0] == "row 1 column 1"
    assert masks[0, 0, 0, 0] == masks[0, -1, -1, -1] == 1
    assert len(Grid(side).names) == side**2


def write_mask(path: Path, box: tuple[int, int, int, int], side: int = 32) -> None:
    pixels = np.zeros((side, side), dtype=np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_a_mask_for_all_images_and_masks_by_image(tmp_path: Path) -> None:
    write_mask(tmp_path / "face.png", (8, 8, 24, 24))
    write_mask(tmp_path / "lungs" / "one.png", (0, 0, 32, 16))
    write_mask(tmp_path / "lungs" / "sub" / "two.png", (0, 16, 32, 32))
    regions = regions_of(str(tmp_path))
    assert isinstance(regions, Masks)
    assert set(regions.names) == {"face", "outside face", "lungs", "outside lungs"}
    masks = dict(
        zip(regions.names, regions.masks(["one.jpg", "sub/two.jpg", "three.jpg"], 32, 32).unbind(1), strict=True)
    )
    assert masks["face"][:, 16, 16].tolist() == [1, 1, 1]
    assert masks["face"][:, 2, 2].tolist() == [0, 0, 0]
    assert masks["outside face"][0, 2, 2] == 1
    assert masks["lungs"][:2, 4, 16].tolist() == [1, 0]
    assert masks["lungs"][:2, 28, 16].tolist() == [0, 1]
    assert masks["lungs"][2].isnan().all()
    assert masks["outside lungs"][2].isnan().all()
    hard = torch.zeros(32, 32)
    hard[8:24, 8:24] = 1
    assert (masks["face"][0][hard == 0] == 0).all()
    assert 0 < masks["face"][0, 8, 16] < 1


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("grid:1", "grid:2 to grid:16"),
        ("grid:four", "grid:2 to grid:16"),
        ("grid:99", "grid:2 to grid:16"),
        ("nowhere", "grid:4 or a folder of masks"),
    ],
)
def test_other_regions_are_refused(spec: str, expected: str) -> None:
    with pytest.raises(BadInput, match=expected):
        regions_of(spec)


def test_masks_that_would_mislead_are_refused(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), dtype=np.uint8)
    pixels[4:20, 4:20] = 1
    Image.fromarray(pixels).save(tmp_path / "lesion.png")
    with pytest.raises(BadInput, match=r"nowhere white .its brightest value is 1 of 255.; .* multiply"):
        regions_of(str(tmp_path)).masks(["a"], 32, 32)
    with pytest.raises(BadInput, match="square images, got 48x32"):
        regions_of(str(tmp_path)).masks(["a"], 32, 48)
    Image.fromarray(np.zeros((32, 32), dtype=np.uint8)).save(tmp_path / "lesion.png")
    found = regions_of(str(tmp_path)).masks(["a"], 32, 32)
    assert found[0, 0].max() == 0
    assert found[0, 1].min() == 1


def test_a_folder_without_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no masks"):
        _ = regions_of(str(tmp_path)).names


class Halves(nn.Module):
    """An autoencoder of two numbers: the brightness of the upper half of an image and that of the lower one."""

    residual = "dropped"

    def encode(self, images: torch.Tensor, /) -> torch.Tensor:
        return torch.stack([images[:, :, :4].mean(dim=(1, 2, 3)), images[:, :, 4:].mean(dim=(1, 2, 3))], dim=1)

    def decode(self, latents: torch.Tensor, /) -> torch.Tensor:
        upper, lower = (latents[:, i, None, None, None].expand(-1, 3, 4, 8) for i in range(2))
        return torch.cat([upper, lower], dim=2)


def brightness(upper: float, lower: float, target: str) -> MeanOf:
    """A head of the brightness of both halves, from −½ to ½ each."""
    weights = torch.zeros(3, 8, 8)
    weights[:, :4], weights[:, 4:] = upper / 96, lower / 96
    network = MeanOf(weights, target)
    bias = -(upper + lower) / 2
    plain = network.logits
    network.logits = lambda x: plain(x) + bias  # type: ignore[method-assign]
    return network


def halves(n: int = 60) -> TensorImages:
    z = torch.rand(n, 2, generator=torch.Generator().manual_seed(3)) * 0.8 + 0.1
    return TensorImages(Halves().decode(z).contiguous())


def audited(out: Path, *, options: AuditOptions | None = None, models: Sequence[MeanOf] | None = None) -> Run:
    subject = list(models or [brightness(10, 5, "concept")])
    return audit(
        halves(),
        subject,
        reference=brightness(12, 0, "above"),
        autoencoder=Halves(),
        options=options or AuditOptions(limit=20, regions=RegionOptions(spec="grid:2")),
        out=out,
    )


def test_an_audit_splits_every_counterfactual(tmp_path: Path) -> None:
    run = audited(tmp_path / "run")
    found = {(r.attribute, r.region): r for r in run.regions("concept")}
    assert {attribute for attribute, _ in found} == {"concept", "above"}
    for attribute in ("concept", "above"):
        upper = sum(found[attribute, f"row 1 column {c}"].inside for c in (1, 2))
        lower = sum(found[attribute, f"row 2 column {c}"].inside for c in (1, 2))
        lost = sum(found[attribute, f"row 1 column {c}"].lost for c in (1, 2))
        assert upper > 0.5
        if attribute == "above":
            assert lower == pytest.approx(0, abs=1e-6)
            assert lost == pytest.approx(1, abs=0.6)
    assert found["concept", "row 1 column 1"].whole == pytest.approx(1)
    assert run.regions("nobody") == ()
    assert (run.path / "regions" / "concept" / "above.png").is_file()
    text = report.write(run)["md"].read_text()
    assert "## Where in the image" in text
    assert "`above` moves `concept`" in text


def test_without_regions_nothing_is_written(tmp_path: Path) -> None:
    run = audited(tmp_path / "run", options=AuditOptions(limit=5))
    assert run.regions() == ()
    assert not (run.path / "regions.csv").exists()
    assert "regions" not in run.record()["settings"]


def test_who_else_is_audited_changes_no_share(tmp_path: Path) -> None:
    alone = audited(tmp_path / "alone").regions("concept")
    both = audited(tmp_path / "both", models=[brightness(3, 3, "other"), brightness(10, 5, "concept")])
    beside = both.regions("concept")
    assert [(r.attribute, r.region, r.n) for r in alone] == [(r.attribute, r.region, r.n) for r in beside]
    np.testing.assert_allclose([r.inside for r in alone], [r.inside for r in beside], atol=1e-6)


def test_bad_regions_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="grid:4"):
        audited(tmp_path / "run", options=AuditOptions(regions=RegionOptions(spec=str(tmp_path / "nowhere"))))
    assert not (tmp_path / "run").exists()


def explained(spec: str | None, **more: object) -> Explanation:
    z = torch.tensor([[0.85, 0.7]])
    heads = [brightness(12, 5, "concept"), brightness(12, 0, "above")]
    return explain(
        Halves().decode(z).contiguous(),
        heads_of(heads[0]),
        autoencoder=Halves(),
        reference=heads[1],
        options=ExplainOptions(regions=spec, saliency=False, **more),  # type: ignore[arg-type]
    )


def heads_of(model: MeanOf) -> Composition:
    return head(model, model.targets[0])


def test_one_image_is_split_as_its_composites_are_scored() -> None:
    found = explained("grid:2")
    (base,) = found.bases
    split = base.regions
    assert split is not None
    assert split.names == Grid(2).names
    before, after = base.frames[0], base.frames[-1]
    for number, model in enumerate((brightness(12, 0, "above"), brightness(12, 5, "concept"))):
        assert found.heads[number] == model.targets[0]
        start, end = (torch.sigmoid(model.logits(x[None])).item() for x in (before, after))
        assert split.whole[number] == pytest.approx(end - start, abs=1e-6)
        for region, mask in enumerate(Grid(2).masks(["x"], 8, 8)[0]):
            alone = torch.sigmoid(model.logits(composed(before, after, mask)[None])).item()
            without = torch.sigmoid(model.logits(composed(before, after, 1 - mask)[None])).item()
            assert split.inside[number, region] == pytest.approx(alone - start, abs=1e-6)
            assert split.lost[number, region] == pytest.approx(end - without, abs=1e-6)
    np.testing.assert_allclose(split.inside_shares, split.inside / split.whole[:, None])
    assert np.abs(split.inside_shares[0, 2:]).max() < 1e-6, "the head above sees nothing below"
    assert base.moved(found.heads)[0] == found.heads.index("concept")


def test_shares_of_a_score_that_hardly_moved_are_not_told() -> None:
    masks, whole = torch.ones(1, 2, 2), np.array([0.04, -0.5])
    split = ExplainedRegions(("all",), masks, whole, whole[:, None], whole[:, None])
    assert np.isnan(split.inside_shares[0]).all()
    assert np.isnan(split.lost_shares[0]).all()
    assert split.inside_shares[1, 0] == split.lost_shares[1, 0] == 1
    assert (split.strongest(0), split.strongest(1)) == ([], [0])


def test_without_regions_an_explanation_is_as_it_was(tmp_path: Path) -> None:
    (plain,), (split,) = explained(None).bases, explained("grid:2").bases
    assert plain.regions is None
    assert torch.equal(plain.frames, split.frames)
    files = explained(None).write(tmp_path)
    assert "regions" not in files
    assert "regions" not in files["numbers"].read_text()


def test_an_explanation_draws_and_keeps_its_regions(tmp_path: Path) -> None:
    files = explained("grid:2").write(tmp_path)
    with Image.open(files["regions"]) as drawn:
        assert drawn.width > 500
    (base,) = json.loads(files["numbers"].read_text())["bases"]
    kept = base["regions"]["concept"]
    assert kept["change"] == pytest.approx(base["base_after"] - base["base_before"])
    assert list(kept["regions"]) == list(Grid(2).names)
    first = kept["regions"]["row 1 column 1"]
    assert first["inside_share"] == pytest.approx(first["inside"] / kept["change"])


def test_a_change_is_tinted_where_it_lies() -> None:
    (base,) = explained("grid:2").bases
    assert base.regions is not None
    drawn = tinted(np.full((8, 8, 3), 0.5, dtype=np.float32), base.regions, 0)
    np.testing.assert_allclose(drawn[4:], 0.5, atol=1e-6)
    assert (drawn[:4, :, 0] > drawn[:4, :, 2]).all()


def test_the_command_tells_where_a_change_lies(tmp_path: Path) -> None:
    worlds.write_images(tmp_path / "images", 12)
    heads, encoder = (f"{worlds.__file__}:{name}" for name in ("heads", "autoencoder"))
    image = sorted((tmp_path / "images").iterdir())[0]
    given = ("explain", image, "--base", "young", "--classifier", heads, "--autoencoder", encoder, "--increase")
    ended = worlds.cfalign(*given, "--regions", "grid:2", "--out", "out", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "lost without" in ended.out
    assert "row 1 column" in ended.out
    assert (tmp_path / "out" / "regions.png").is_file()
    write_mask(tmp_path / "masks" / "lungs" / "other.png", (0, 0, 8, 8), side=16)
    ended = worlds.cfalign(*given, "--regions", "masks", folder=tmp_path)
    assert ended.code == 2
    assert f"'lungs' has no mask for {image.name}" in ended.err
    assert worlds.cfalign(*given, "--regions", "grid:x", folder=tmp_path).code == 2
