"""What a judge says of counterfactuals: means over what landed, shares, ranks, intervals, and the detail of images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import cfalign as cfa
import worlds
from cfalign._analysis.alignment import Row
from cfalign._audit.bank import bank
from cfalign._audit.options import AuditOptions
from cfalign._counterfactuals.options import Residual, SearchOptions
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign._results import Floats, Outcome
from cfalign.benchmarks import Semantics, semantics
from cfalign.benchmarks.semantics import AttributeSemantics, JudgedEnd
from cfalign.benchmarks.semantics.measure import _followed
from cfalign.benchmarks.semantics.realism import _energies, detail, recognised
from linear_world import LinearAutoencoder, LinearClassifier, directions, linear_images

JUDGED = ("judge:smiling", "judge:eyeglasses", "judge:young")
RNG = np.random.default_rng(1)


def seen(change: Floats, base: float = -0.6) -> JudgedEnd:
    count = len(change)
    before = np.full((count, 3), 0.9)
    own = np.full(count, 0.9)
    row = Row(
        base="smiling",
        image=np.arange(count, dtype=np.int64),
        outcomes=(Outcome.REACHED,) * count,
        base_before=own,
        base_after=own + base,
        before=before,
        after=before + change,
        null=before,
    )
    return _followed(row, JUDGED, JUDGED[0], 0)


def test_the_share_is_what_the_judge_sees_per_what_the_head_sees() -> None:
    found = seen(np.array([[-0.4, 0.1, 0.0], [-0.2, 0.1, 0.0]]))
    assert (found.n, found.base_change, found.judge_change) == (2, pytest.approx(-0.6), pytest.approx(-0.3))
    assert found.share == pytest.approx(0.5)
    assert found.judge_after == pytest.approx(0.6)
    assert (found.rank, found.runner_up, found.runner_up_change) == (1, "eyeglasses", pytest.approx(0.1))
    assert found.ci_low <= found.share <= found.ci_high


def test_the_rank_is_that_of_the_mean_change_and_the_wrong_direction_is_last() -> None:
    second = seen(np.tile([-0.2, 0.5, 0.1], (4, 1)))
    assert (second.rank, second.runner_up) == (2, "eyeglasses")
    wrong = seen(np.tile([0.9, 0.1, -0.1], (4, 1)))
    assert wrong.rank == len(JUDGED)


def test_the_interval_is_that_of_the_mean_over_images() -> None:
    own = RNG.normal(-0.5, 0.2, size=400)
    found = seen(np.stack([own, np.zeros(400), np.zeros(400)], axis=1))
    error = own.std() / np.sqrt(400) / 0.6
    assert (found.ci_high - found.ci_low) == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_nothing_that_counts_is_undefined_and_not_of_the_first_rank() -> None:
    found = seen(np.zeros((0, 3)))
    assert (found.n, found.rank) == (0, 3)
    assert np.isnan([found.share, found.ci_low, found.judge_change]).all()


def test_the_headline_is_over_attributes() -> None:
    first, second = seen(np.tile([-0.3, 0.1, 0.0], (3, 1))), seen(np.tile([-0.12, 0.5, 0.1], (3, 1)))
    some = [AttributeSemantics(str(i), 0.5 + i / 2, 0.9, 0.8, end, end) for i, end in enumerate((first, second))]
    headline = Semantics(tuple(some), seed=0, told_apart=0.6).headline
    assert headline == {
        "heads": 2,
        "rank1_heads": 1,
        "share_mean": pytest.approx(0.35),
        "share_off_mean": pytest.approx(0.35),
        "landed": pytest.approx(0.75),
        "score_kept": pytest.approx(0.1),
        "detail": pytest.approx(float("nan"), nan_ok=True),
        "told_apart": 0.6,
    }


def test_a_network_tells_a_blur_from_an_untouched_image_and_not_one_untouched_image_from_another() -> None:
    images = torch.rand(400, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = [i % 2 == 0 for i in range(400)]
    split = ["train" if i < 240 else "val" for i in range(400)]
    assert 0.3 < recognised(images, changed, split, seed=0) < 0.7
    images[::2] = torch.nn.functional.avg_pool2d(images[::2], 3, stride=1, padding=1)
    assert recognised(images, changed, split, seed=0) > 0.99
    assert np.isnan(recognised(images[:40], changed[:40], split[:40], seed=0))


def test_detail_is_the_energy_where_the_picture_changed() -> None:
    before = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    half = before.clone()
    half[..., 32:] = 0.5 + 0.5 * (half[..., 32:] - 0.5)  # half as much contrast on the right
    assert _energies(before, before, before).tolist() == [0.0, 0.0]
    energy, after = _energies(before, before, half).tolist()
    assert after / energy == pytest.approx(0.25, rel=0.1)
    blurred = 0.5 + 0.5 * (before - 0.5)
    assert _energies(before, blurred, half)[0] > 0, "what changed is what differs from the start of the walk"
    right, down = before[..., 1:] - before[..., :-1], before[..., 1:, :] - before[..., :-1, :]
    everywhere = right.pow(2).sum() + down.pow(2).sum()
    assert energy == pytest.approx(float(everywhere) / 2, rel=0.1)


def world(slope: float = 1.0) -> tuple[Tensor, Reference, LinearAutoencoder]:
    heads = directions(2, overlap=0.2)
    clf = LinearClassifier(heads, [0.8, 0.3], ("a", "b")).float()
    judge = LinearClassifier(slope * heads, [0.8, 0.3], ("a", "b"), name="other").float()
    noise = 0.02 * torch.randn(40, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    return linear_images(40, seed=3).float() + noise, Reference(clf, judge), LinearAutoencoder().float()


def test_a_judge_that_is_the_head_follows_wholly(tmp_path: Path) -> None:
    images, reference, autoencoder = world()
    found = semantics(images, reference, autoencoder=autoencoder, out=tmp_path, options=AuditOptions(limit=20))
    assert [a.attribute for a in found.attributes] == ["a", "b"]
    for a in found.attributes:
        assert a.drop.share == pytest.approx(1) == a.off.share
        assert a.off.judge_after < a.drop.judge_after
        assert (a.landed, a.drop.rank) == (1, 1)
    assert found.headline["score_kept"] < 1e-5, "these heads see nothing but what the autoencoder draws"


@pytest.mark.parametrize("residual", ["gated", "dropped"])
def test_detail_is_compared_with_the_image_where_the_walk_changed_it(residual: Residual, tmp_path: Path) -> None:
    """The walk starts at the image or at its reconstruction: a bank holds the one or both."""
    images, reference, autoencoder = world()
    search = SearchOptions(residual=residual)
    options = AuditOptions(limit=40, search=search, both_ways=False)
    made = bank(images, reference, autoencoder=autoencoder, attributes=["a"], options=options, out=tmp_path)
    own = reference.classifier["a"]  # type: ignore[index]
    found = cfa.latent_shift(images, own, autoencoder=autoencoder, options=search)
    landed = torch.tensor([o.landed for o in found.outcomes])
    every = (images, found.reconstructions, found.images)
    energies = _energies(*((x[landed] * 255).round() / 255 for x in every))
    assert detail(made)["a", "counterfactual"] == pytest.approx(float(energies[1] / energies[0]), rel=0.01)
    assert torch.equal(found.reconstructions, images) == (residual == "gated")


def test_it_is_the_change_of_the_judge_on_the_counterfactuals(tmp_path: Path) -> None:
    images, reference, autoencoder = world(slope=0.5)
    search = SearchOptions(residual="dropped")
    options = AuditOptions(limit=40, search=search)
    found = semantics(images, reference, autoencoder=autoencoder, out=tmp_path, attributes=["a"], options=options)
    made = cfa.latent_shift(images, reference.classifier["a"], autoencoder=autoencoder, options=search)  # type: ignore[index]
    landed = torch.tensor([o.landed for o in made.outcomes])
    assert reference.judge is not None
    before, after = (
        torch.sigmoid(reference.judge.logits(x).detach())[landed, 0] for x in (made.reconstructions, made.images)
    )
    (a,) = found.attributes
    assert a.drop.n == int(landed.sum()) > 10
    assert a.drop.judge_change == pytest.approx(float((after - before).mean()), abs=1e-5)
    own = torch.tensor(made.base_after - made.base_before)[landed].mean()
    assert a.drop.share == pytest.approx(float((after - before).mean() / own), abs=1e-4)


def test_it_needs_a_judge_that_knows_the_attributes(tmp_path: Path) -> None:
    images, reference, autoencoder = world()
    with pytest.raises(BadInput, match="judge"):
        semantics(images, Reference(reference.classifier), autoencoder=autoencoder, out=tmp_path)


def test_photographs_with_a_table_are_enough(tmp_path: Path) -> None:
    """Heads, judge and autoencoder are trained; a second call trains nothing, and says the same."""
    rng = np.random.default_rng(0)
    worlds.write_images(tmp_path / "images", 120)
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    rows = [f"{name},{'train' if i < 90 else 'val'},{rng.integers(2)},{i % 2}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,split,odd,even", *rows]) + "\n")
    words = ("semantics", "--images", "images", "--labels", "labels.csv", "--size", "16", "--limit", "5", "--json")
    first = worlds.cfalign("benchmark", *words, folder=tmp_path)
    assert first.code == 0, first.err
    again = worlds.cfalign("benchmark", *words, folder=tmp_path)
    assert json.loads(again.out) == json.loads(first.out)
    assert json.loads(first.out)["headline"]["heads"] == 2
    assert (tmp_path / "runs" / "semantics" / "judge" / "classifier.safetensors").is_file()


def test_own_models_need_no_images_to_be_trained_on(tmp_path: Path) -> None:
    worlds.write_images(tmp_path / "images", 30)
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    rows = [f"{name},val,{i % 2}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,split,even", *rows]) + "\n")
    models = [word for name in ("heads", "judge", "autoencoder") for word in (f"--{name}", f"{worlds.__file__}:{name}")]
    words = ("semantics", "--images", "images", "--labels", "labels.csv", *models, "--limit", "5", "--json")
    ended = worlds.cfalign("benchmark", *words, folder=tmp_path)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["headline"]["heads"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--heads", "embedded"), "--heads"),
        (("--images", "images"), "--labels"),
        (("--positive", "a=b", "--images", "images"), "--positive"),
    ],
)
def test_flags_without_effect_are_refused(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    worlds.write_images(tmp_path / "images", 3)
    ended = worlds.cfalign("benchmark", "semantics", *words, folder=tmp_path)
    assert ended.code == 2
    assert said in ended.err
