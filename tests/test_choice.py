"""Which method makes the counterfactuals of a base: walked or completed, as the judge says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import cfalign as cfa
from cfalign._audit.choice import FOLLOWED, LANDS, Choice, Tried, _choice
from cfalign._audit.options import AuditOptions
from cfalign._audit.preparation import FILE
from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign.classifiers import wrap
from cfalign.report import html, load
from test_completion import SIDE, Smooth, smooth

AUTO = SearchOptions(method="auto")


class Two(torch.nn.Module):
    """A badge at rows 4 to 12, columns 8 to 20, and a red image. ``edges``: the badge is seen by its edge alone."""

    def __init__(self, *, edges: bool) -> None:
        super().__init__()
        self.edges = edges

    def forward(self, images: Tensor) -> Tensor:
        inside = images[:, :, 4:12, 8:20].mean(dim=(1, 2, 3))
        around = images[:, :, 4:12, 22:30].mean(dim=(1, 2, 3))
        badge = 30 * (inside - around - 0.25) if self.edges else 30 * (inside - 0.75)
        return torch.stack([badge, 15 * (images[:, 0].mean(dim=(1, 2)) - 0.5)], dim=1)


CLF = wrap(Two(edges=False), targets=["badge", "red"], name="heads")
JUDGE = wrap(Two(edges=True), targets=["badge", "red"], name="judge")


def scene(count: int = 96) -> Tensor:
    images = smooth(count, seed=2)
    images[::2, :, 4:12, 8:20] = 0.97
    return images


def test_a_base_is_walked_where_the_judge_follows_and_completed_where_it_does_not(tmp_path: Path) -> None:
    options = AuditOptions(limit=12, chunk=32, search=AUTO, both_ways=False)
    made = cfa.bank(scene(), Reference(CLF, JUDGE), autoencoder=Smooth(), options=options, out=tmp_path / "bank")
    methods = made.run.record()["methods"]
    assert {label: one["method"] for label, one in methods.items()} == {"badge": "completion", "red": "latent-shift"}
    assert methods["badge"]["walk"]["share"] < FOLLOWED
    assert methods["badge"]["completion"]["landed"] >= LANDS
    assert methods["red"]["completion"] is None, "nothing is completed where the judge follows the walk"
    rows = made.run.counterfactuals()
    region = rows.filter(rows["base"] == "badge").select("region_left", "region_top", "region_width", "region_height")
    assert np.isfinite(region.to_numpy()).all()
    assert np.isnan(rows.filter(rows["base"] == "red")["region_left"].to_numpy()).all()
    assert np.isnan(rows.filter(rows["base"] == "badge")["lambda"].to_numpy()).all()

    run = cfa.audit(made, wrap(Two(edges=True), targets=["badge", "red"], name="other"), out=tmp_path / "audit")
    assert run.record()["methods"] == methods
    page = html(load(run))
    assert "regions are completed" in page
    assert "completed</em>, filled with what such" in page


def test_a_stopped_run_keeps_its_choice(tmp_path: Path) -> None:
    options = AuditOptions(limit=8, chunk=16, search=AUTO, both_ways=False)
    chosen = {"autoencoder": Smooth(), "options": options, "out": tmp_path / "bank"}
    before = cfa.bank(scene(), Reference(CLF, JUDGE), **chosen).run.counterfactuals()
    file = tmp_path / "bank" / FILE
    decided = json.loads(file.read_text())
    decided["badge"]["why"] = "Because it was so."
    file.write_text(json.dumps(decided))
    for shard in sorted((tmp_path / "bank" / "responses").iterdir())[1:]:
        shard.unlink()
    again = cfa.bank(scene(), Reference(CLF, JUDGE), **chosen)
    assert again.run.record()["methods"]["badge"]["why"] == "Because it was so."
    assert again.run.counterfactuals().equals(before)


def test_without_a_judge_every_base_is_walked(tmp_path: Path) -> None:
    options = AuditOptions(limit=4, chunk=32, search=AUTO, both_ways=False)
    made = cfa.bank(scene(64), CLF, autoencoder=Smooth(), options=options, out=tmp_path)
    assert {one["why"] for one in made.run.record()["methods"].values()} == {"No judge knows it, so it is walked."}


WALK = Tried(16, 1.0, 0.5, -0.4)


@pytest.mark.parametrize(
    ("walk", "completion", "method", "why"),
    [
        (Tried(3, 1.0, 0.2, -0.1), None, "latent-shift", "Only 3 images were positive, too few to compare"),
        (Tried(16, 1.0, 0.8, -0.6), None, "latent-shift", "The judge follows 0.80 of the walk, so it is walked."),
        (WALK, Tried(16, 0.9, 0.9, -0.7), "completion", "0.90 of the completion, which switches off 90%, so regions"),
        (WALK, Tried(16, 0.8, 0.9, -0.7), "latent-shift", "which switches off 80%, so it is walked."),
        (WALK, Tried(16, 0.9, 0.9, -0.3), "latent-shift", "so it is walked."),
    ],
)
def test_the_rule(walk: Tried, completion: Tried | None, method: str, why: str) -> None:
    found = _choice(walk, completion)
    assert isinstance(found, Choice)
    assert found.method == method
    assert why in found.why


def test_one_image_has_no_choice() -> None:
    with pytest.raises(BadInput, match="The method auto chooses per base in audits and banks; name one method here"):
        cfa.counterfactuals(scene(2), CLF["badge"], autoencoder=Smooth(), method="auto")


def test_images_tell_what_a_completion_needs(tmp_path: Path) -> None:
    class Plain:
        name, size = "plain", SIDE

        def encode(self, images: Tensor, /) -> Tensor:
            return Smooth().encode(images)

        def decode(self, latents: Tensor, /) -> Tensor:
            return Smooth().decode(latents)

    options = AuditOptions(limit=4, chunk=32, search=SearchOptions(method="completion"), both_ways=False)
    run = cfa.audit(
        scene(), CLF, bases=["badge"], downstream=["badge"], autoencoder=Plain(), options=options, out=tmp_path
    )
    assert (run.path / "components.safetensors").is_file()
    assert set(run.counterfactuals()["outcome"].to_list()) <= {"reached", "floor", "lambda_limit"}
