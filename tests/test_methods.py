"""Methods of making counterfactuals: known answers, landing, cost, and what must not matter, for all of them alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from torch import Tensor, nn

import worlds
from cfalign import report
from cfalign._audit.audit import audit
from cfalign._audit.bank import bank, load_bank
from cfalign._audit.options import AuditOptions
from cfalign._counterfactuals.batch import Batch, Models, Pairs, pairs_of
from cfalign._counterfactuals.methods import counterfactuals, latent_shift, walk
from cfalign._counterfactuals.options import OF_A_WALK, DescentOptions, EstimateOptions, Method, SearchOptions
from cfalign._counterfactuals.origins import origins
from cfalign._errors import BadInput, RunMismatch
from cfalign._explanation.explanation import explain
from cfalign._explanation.options import ExplainOptions
from cfalign._heads.composition import head
from cfalign._heads.panel import weights
from cfalign._rectification.options import RectificationOptions
from cfalign._results import Counterfactuals, Outcome
from cfalign.classifiers import black_box
from cfalign.datasets import TensorImages
from linear_world import (
    BASIS,
    SHAPE,
    FromSingle,
    HeadsFromSingle,
    LinearAutoencoder,
    LinearClassifier,
    directions,
    linear_images,
)

METHODS = OF_A_WALK
STEPPING = METHODS[1:]
WEIGHTS = directions(3, overlap=0.4)
BIAS = (0.8, 0.3, -0.2)
IMAGES = linear_images(24)


class Bent(nn.Module):
    """Not linear, in the latent alone: the gradient turns along the way."""

    name = "bent"
    targets = ("a", "b")
    differentiable = True

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(6)
        self.first = nn.Parameter(torch.from_numpy(BASIS.numpy() @ rng.normal(size=(8, 10)) * 3))
        self.second = nn.Parameter(torch.from_numpy(rng.normal(size=(10, 2))))

    def logits(self, images: Tensor, /) -> Tensor:
        return torch.tanh((images.flatten(1) - 0.5) @ self.first) @ self.second + 1.0


class Counting(LinearAutoencoder):
    """Counts images that go through."""

    def __init__(self) -> None:
        super().__init__()
        self.decoded, self.with_gradient = 0, 0

    def decode(self, latents: Tensor, /) -> Tensor:
        self.decoded += len(latents)
        self.with_gradient += len(latents) * latents.requires_grad
        return super().decode(latents)


class Unused:
    """Fails when it is asked for anything."""

    def encode(self, images: Tensor, /) -> Tensor:
        raise AssertionError("the autoencoder was used")

    def decode(self, latents: Tensor, /) -> Tensor:
        raise AssertionError("the autoencoder was used")


def classifier() -> LinearClassifier:
    return LinearClassifier(WEIGHTS, BIAS, ("a", "b", "c"))


def bent(target: str = "a") -> Any:

    return head(Bent(), target)


def found(method: Method, base: Any = None, images: Tensor = IMAGES, **options: Any) -> Counterfactuals:
    given = SearchOptions(method=method, **options)
    return counterfactuals(images, base or bent(), autoencoder=LinearAutoencoder(), options=given)


def inside(made: Counterfactuals) -> Any:
    """Where no pixel was clipped."""
    flat = made.images.flatten(1)
    return ((flat > 0) & (flat < 1)).all(dim=1).numpy()


@pytest.mark.parametrize("optimiser", ["adam", "gradient"])
@pytest.mark.parametrize("method", METHODS)
def test_the_known_answer_of_a_linear_world(method: Method, optimiser: Any) -> None:
    """One linear head: the nearest point that meets the aim lies on the ray, at a distance known exactly."""
    if method == "pixels" and optimiser == "adam":
        pytest.skip("Adam steps along the signs of pixels, not along the gradient")
    tight = {"tolerance": 1e-6, "max_evaluations": 60}
    descent = DescentOptions(optimiser=optimiser, distance_weight=0.0, max_steps=2000)
    made = found(method, classifier()["a"], descent=descent, **tight)
    z = LinearAutoencoder().encode(IMAGES).numpy()
    start, norm = z @ WEIGHTS[0] + BIAS[0], np.linalg.norm(WEIGHTS[0])
    p = expit(start)
    eligible = p >= 0.5
    assert 5 < eligible.sum() < 24
    aim = np.maximum(p - 0.6, 0.05)
    distance = np.where(eligible, (start - logit(aim)) / norm, 0.0)
    np.testing.assert_allclose(made.distances, distance, atol=2e-5)
    np.testing.assert_allclose(made.base_after[eligible], aim[eligible], atol=2e-6)
    shifted = torch.from_numpy(z - distance[:, None] * WEIGHTS[0] / norm)
    change = LinearAutoencoder().decode(shifted) - LinearAutoencoder().decode(torch.from_numpy(z))
    torch.testing.assert_close(made.images - made.reconstructions, change, atol=1e-5, rtol=0)
    outcomes = [
        Outcome.NOT_ELIGIBLE if not e else Outcome.FLOOR if s < 0.65 else Outcome.REACHED
        for e, s in zip(eligible, p, strict=True)
    ]
    assert list(made.outcomes) == outcomes


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lands_and_tells_the_truth(method: Method) -> None:
    base = bent()
    made = found(method, base)
    eligible = np.array([o is not Outcome.NOT_ELIGIBLE for o in made.outcomes])
    landed = np.array([o.landed for o in made.outcomes])
    assert eligible.sum() > 10
    assert landed.sum() >= 0.8 * eligible.sum()
    aim = np.maximum(made.base_before - 0.6, 0.05)
    assert (np.abs(made.base_after - aim)[landed] <= 0.01).all()
    with torch.no_grad():
        for images, told in ((made.images, made.base_after), (made.reconstructions, made.base_before)):
            score = torch.sigmoid(base.classifiers[0].logits(images)[:, 0])
            np.testing.assert_allclose(told, score.numpy(), atol=1e-9)
    change = (made.images - made.reconstructions).flatten(1)
    whole = inside(made)
    assert whole.sum() >= 22
    np.testing.assert_allclose(made.distances[whole], change.norm(dim=1).numpy()[whole], atol=1e-9)  # orthonormal
    total = made.reconstructions.flatten(1).sum(dim=1)
    np.testing.assert_allclose(made.image_change, (change.abs().sum(dim=1) / total).numpy(), atol=1e-9)
    assert ((made.distances > 0) == (eligible & (made.evaluations > 0))).all()
    for name in ("distances", "base_before", "base_after", "image_change"):
        assert np.isfinite(getattr(made, name)).all()
    assert np.array_equal(np.isfinite(made.lambdas), eligible & (method == "latent-shift"))


def test_latent_shift_is_one_of_the_methods() -> None:
    one = latent_shift(IMAGES, bent(), autoencoder=LinearAutoencoder())
    other = found("latent-shift")
    assert torch.equal(one.images, other.images)
    assert np.array_equal(one.lambdas, other.lambdas, equal_nan=True)
    assert other.backwards.tolist() == [1] * 24


def test_a_single_step_goes_where_latent_shift_goes_and_many_go_elsewhere() -> None:
    def direction(made: Counterfactuals) -> Tensor:
        change = (made.images - made.reconstructions).flatten(1)
        return change / change.norm(dim=1, keepdim=True).clamp_min(1e-12)

    shift = found("latent-shift")
    once = found("iterated", descent=DescentOptions(max_steps=1))
    walked = torch.from_numpy((shift.distances > 0) & (once.distances > 0) & inside(shift))
    assert walked.sum() > 10
    cosine = (direction(shift) * direction(once)).sum(dim=1)[walked]
    torch.testing.assert_close(cosine, torch.ones_like(cosine), atol=1e-9, rtol=0)
    often = (direction(shift) * direction(found("iterated"))).sum(dim=1)[walked]
    assert often.min() < 0.99


def test_refreshing_the_gradient_shortens_the_way() -> None:
    shift, often = found("latent-shift"), found("iterated", descent=DescentOptions(step=0.01, max_steps=1000))
    both = np.array([a.landed and b.landed for a, b in zip(shift.outcomes, often.outcomes, strict=True)])
    assert often.distances[both].mean() < shift.distances[both].mean()


@pytest.mark.parametrize("method", METHODS)
def test_batches_and_order_do_not_matter(method: Method) -> None:
    order = np.random.default_rng(0).permutation(24)
    options = SearchOptions(method=method)
    whole = found(method)
    parts = counterfactuals(IMAGES[order], bent(), autoencoder=LinearAutoencoder(), options=options, batch=5)
    assert parts.outcomes == tuple(whole.outcomes[i] for i in order)
    assert parts.evaluations.tolist() == whole.evaluations[order].tolist()
    assert parts.backwards.tolist() == whole.backwards[order].tolist()
    torch.testing.assert_close(parts.images, whole.images[order], atol=1e-8, rtol=0)
    alone = found(method, images=IMAGES[3:4])
    torch.testing.assert_close(alone.images, whole.images[3:4], atol=1e-8, rtol=0)


@pytest.mark.parametrize("method", ["latent-shift", "iterated", "latent-cf"])
def test_what_is_counted_is_what_went_through_the_decoder(method: Method) -> None:
    autoencoder = Counting()
    made = counterfactuals(IMAGES, bent(), autoencoder=autoencoder, method=method)
    assert autoencoder.with_gradient == made.backwards.sum()
    assert autoencoder.decoded == 2 * len(IMAGES) + made.evaluations.sum()  # x0, and the first gradient


def test_pixels_leave_the_autoencoder_alone() -> None:
    one = counterfactuals(IMAGES, bent(), autoencoder=Unused(), method="pixels")
    other = counterfactuals(IMAGES, bent(), method="pixels")
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.reconstructions, IMAGES)
    assert other.images.min() >= 0
    assert other.images.max() <= 1
    with pytest.raises(BadInput, match="The method iterated needs an autoencoder; only 'pixels' does without"):
        counterfactuals(IMAGES, bent(), method="iterated")


def test_pairs_of_several_bases_share_a_batch() -> None:
    clf = Bent()

    bases = [head(clf, "a"), head(clf, "b"), head(clf, "a") + 0.3 * head(clf, "b")]
    start = origins(IMAGES, LinearAutoencoder(), search=SearchOptions(residual="dropped"))
    image = torch.arange(24).repeat(3)
    pairs = Pairs(image, weights([b for b in bases for _ in range(24)], [clf]))
    batch = Batch(start, pairs, Models(LinearAutoencoder(), [clf]))
    for method in METHODS[:3]:
        together = walk(batch, SearchOptions(method=method))
        for k, base in enumerate(bases):
            alone = found(method, base)
            rows = slice(24 * k, 24 * (k + 1))
            assert together.ends[0].outcomes[rows] == alone.outcomes
            torch.testing.assert_close(together.ends[0].kept[0][rows], alone.images, atol=1e-8, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_deeper_drop_goes_on_from_the_first(method: Method) -> None:
    clf = classifier()
    start = origins(IMAGES, LinearAutoencoder(), search=SearchOptions(residual="dropped"))
    batch = Batch(start, pairs_of(clf["a"], count=24), Models(LinearAutoencoder(), [clf]))
    near = SearchOptions(method=method, descent=DescentOptions(optimiser="gradient"), floor=0.001, eligible=0.7)
    far = replace(near, drop=0.69)
    made, direct = walk(batch, near, far), walk(batch, far)
    first, second = made.ends
    landed = np.array([o.landed for o in second.outcomes])
    assert landed.sum() > 3
    assert (second.distances > first.distances)[landed].all()
    np.testing.assert_allclose(expit(second.value)[landed], first.base_before[landed] - 0.69, atol=0.011)
    tolerance = 0.01 / (0.01 * 8)  # of the score, over its least slope
    np.testing.assert_allclose(second.distances, direct.ends[0].distances, atol=tolerance)
    if method != "latent-shift":
        assert (second.backwards <= direct.ends[0].backwards + 1)[landed].all()


@pytest.mark.parametrize("method", METHODS)
def test_limits(method: Method) -> None:
    by_change = found(method, max_image_change=0.02)
    walked = np.array([o.walked for o in by_change.outcomes])
    assert Outcome.IMAGE_LIMIT in by_change.outcomes
    assert (by_change.image_change[walked] <= 0.02).all()
    near = found(method, max_distance=0.05)
    assert Outcome.LAMBDA_LIMIT in near.outcomes


@pytest.mark.parametrize("method", STEPPING)
def test_steps_are_bounded_and_what_was_reached_is_kept(method: Method) -> None:
    made = found(method, descent=DescentOptions(step=0.001, max_steps=3))
    short = np.array([o is Outcome.LAMBDA_LIMIT for o in made.outcomes])
    assert short.sum() > 5
    assert (made.evaluations[short] == 3).all()
    assert (made.base_after < made.base_before)[short].all()


@pytest.mark.parametrize("method", STEPPING)
def test_broken_scores_end_as_not_finite(method: Method) -> None:
    class Breaks(Bent):
        def logits(self, images: Tensor, /) -> Tensor:
            out = super().logits(images)
            return torch.where(out < 0.2, torch.nan, out)

    made = found(method, head(Breaks(), "a"))
    lost = np.array([o is Outcome.NOT_FINITE for o in made.outcomes])
    assert lost.any()
    assert (made.distances[lost] == 0).all()
    assert torch.equal(made.images[torch.from_numpy(lost)], made.reconstructions[torch.from_numpy(lost)])
    assert torch.isfinite(made.images).all()


def test_a_score_that_turns_before_the_aim_is_said_to() -> None:
    class Bowl(Bent):
        def logits(self, images: Tensor, /) -> Tensor:
            z = (images.flatten(1) - 0.5) @ BASIS
            return (5 * (z**2).sum(dim=1) + 0.5)[:, None].repeat(1, 2)

    made = found("iterated", head(Bowl(), "a"))
    assert set(made.outcomes) <= {Outcome.TURNED, Outcome.LAMBDA_LIMIT}
    assert (made.base_after < expit(0.51)).all(), "the bottom was found"


def _audit(out: Path, method: Method = "iterated", **more: Any) -> Any:
    clf = HeadsFromSingle(WEIGHTS, BIAS, ("a", "b", "c"))
    options = AuditOptions(limit=12, chunk=8, shown=1, search=SearchOptions(method=method), min_effect=0.0)
    images = TensorImages(linear_images(40).float())
    return audit(images, clf, autoencoder=FromSingle(), options=options, out=out, **more)


@pytest.mark.parametrize("method", STEPPING)
def test_an_audit_resumes(method: Method, tmp_path: Path) -> None:
    whole = _audit(tmp_path / "whole", method)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "counterfactuals" and done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _audit(tmp_path / "run", method, progress=stop)
    assert 0 < len(list((tmp_path / "run" / "responses").glob("*.parquet"))) < 5
    again = _audit(tmp_path / "run", method)
    for name in ("matrix.csv", "effects.csv", "findings.json"):
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes()
    rows = again.responses()
    walked = rows.filter(rows["evaluations"] > 0)
    assert (walked["backwards"] >= 1).all()
    assert walked["lambda"].is_nan().all()
    assert walked["distance"].is_not_nan().all()
    assert again.record()["cost"]["decoder_backwards"] == rows["backwards"].sum() + rows["off_backwards"].sum()
    with pytest.raises(RunMismatch, match=r"settings\.search\.method"):
        _audit(tmp_path / "run", "latent-shift")


def test_the_report_warns_of_pixels(tmp_path: Path) -> None:
    said = {m: report.write(_audit(tmp_path / m, m).path)["md"].read_text() for m in ("pixels", "iterated")}
    assert "redrawn pixel by pixel" in said["pixels"]
    assert "redrawn pixel by pixel" not in said["iterated"]


def test_the_default_run_has_no_columns_of_other_methods(tmp_path: Path) -> None:
    run = _audit(tmp_path / "run", "latent-shift")
    assert "backwards" not in run.responses().columns


def test_a_bank_of_another_method_is_consulted(tmp_path: Path) -> None:
    clf = HeadsFromSingle(WEIGHTS, BIAS, ("a", "b", "c"))
    options = AuditOptions(limit=10, chunk=16, shown=1, search=SearchOptions(method="iterated"), min_effect=0.0)
    images = TensorImages(linear_images(32).float())
    bank(images, clf, autoencoder=FromSingle(), options=options, out=tmp_path / "bank")
    subject = black_box(lambda x: torch.sigmoid(clf.logits(x)[:, :1]), ["copy"], name="box")
    effects = audit(load_bank(tmp_path / "bank"), subject, out=tmp_path / "run").effects("copy")
    scores = torch.sigmoid(clf.logits(linear_images(32).float()))[:, 0].detach()
    switch = float(scores[scores > 0.5].mean() - scores[scores <= 0.5].mean())
    found = dict(zip(effects["attribute"], effects["effect"], strict=True))
    assert found["a"] == pytest.approx(switch, abs=0.02)
    assert max(abs(found["b"]), abs(found["c"])) < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_explain_ends_at_the_counterfactual(method: Method) -> None:
    clf = classifier()
    options = ExplainOptions(search=SearchOptions(method=method), saliency=False)
    shown = explain(IMAGES[0], "a", classifier=clf, autoencoder=LinearAutoencoder(), options=options).bases[0]
    assert shown.outcome.landed
    assert shown.frames.shape == (11, *SHAPE)
    assert shown.base_scores[-1] == pytest.approx(shown.base_scores[0] - 0.6, abs=0.011)
    assert (np.diff(shown.base_scores) < 0).all()


def test_what_does_not_go_together_is_one_sentence() -> None:
    with pytest.raises(BadInput, match="strategy: expected 'refined' with the method 'iterated', got 'schedule'"):
        SearchOptions(method="iterated", strategy="schedule")
    with pytest.raises(BadInput, match=r"search\.method: expected 'latent-shift' in a rectification, got 'iterated'"):
        RectificationOptions(search=SearchOptions(method="iterated"))
    with pytest.raises(BadInput, match=r"search\.method: expected 'latent-shift' where gradients .*, got 'pixels'"):
        AuditOptions(search=SearchOptions(method="pixels"), estimate=EstimateOptions(enabled=True))
    box = black_box(lambda x: torch.sigmoid(x.mean(dim=(1, 2, 3)))[:, None], ["a"], name="box")
    for method in STEPPING:
        with pytest.raises(BadInput, match=f"estimated for the method latent-shift only, not for {method}"):
            counterfactuals(IMAGES, box["a"], autoencoder=LinearAutoencoder(), method=method)
    with pytest.raises(BadInput, match="makes no counterfactuals by iterated"):
        latent_shift(
            IMAGES, classifier()["a"], autoencoder=LinearAutoencoder(), options=SearchOptions(method="iterated")
        )
    for bad in ({"step": 0.0}, {"max_steps": 0}, {"distance_weight": -1.0}):
        with pytest.raises(BadInput, match=next(iter(bad))):
            DescentOptions(**bad)  # type: ignore[arg-type]


def test_a_bad_name_on_the_command_line_is_one_sentence(tmp_path: Path) -> None:
    folder = worlds.write_images(tmp_path / "images", 4)
    spec = f"{Path(worlds.__file__)}"
    ended = worlds.cfalign(
        "audit",
        *worlds.options(
            images=folder,
            classifier=f"{spec}:bent_heads",
            autoencoder=f"{spec}:autoencoder",
            out=tmp_path / "run",
            method="magic",
        ),
        folder=tmp_path,
    )
    assert ended.code == 2
    assert "expected one of latent-shift, iterated, latent-cf, pixels, completion, auto, got 'magic'" in ended.err
    assert len(ended.err.strip().splitlines()) == 1
