"""Latent shift against Eqs. 1 and 2, against closed forms, and under changes that must not matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from torch import Tensor, nn

from cfalign._counterfactuals.batch import Batch, Models, Pairs, pairs_of
from cfalign._counterfactuals.gradient import find_rays
from cfalign._counterfactuals.methods import bases_of, latent_shift
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.origins import origins
from cfalign._counterfactuals.ray import walk_rays
from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import Composition, head
from cfalign._heads.panel import weights
from cfalign._results import Counterfactuals, Outcome
from cfalign.benchmarks.speed.counting import CountedAutoencoder, CountedClassifier, Counter
from linear_world import LATENTS, SHAPE, LinearAutoencoder, LinearClassifier, directions, linear_images

EVERY = SearchOptions(eligible=0.0001)
WEIGHTS = directions(3, overlap=0.4)
BIAS = (0.8, 0.3, -0.2)


def classifier(targets: Sequence[str] = ("a", "b", "c")) -> LinearClassifier:
    return LinearClassifier(WEIGHTS, BIAS, targets)


class BentAutoencoder(nn.Module):
    """Not linear, clips, loses information: for replicas that must hold anyway. Latent [n, 2, 3]."""

    residual = "dropped"

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(5)
        self.into = nn.Parameter(torch.from_numpy(rng.normal(size=(48, 6)) / 7))
        self.out = nn.Parameter(torch.from_numpy(rng.normal(size=(6, 48)) / 3))

    def encode(self, images: Tensor, /) -> Tensor:
        return torch.tanh((images.flatten(1) - 0.5) @ self.into).view(-1, 2, 3)

    def decode(self, latents: Tensor, /) -> Tensor:
        flat = latents.flatten(1)
        return (0.5 + 0.5 * torch.tanh(flat @ self.out + 0.3 * torch.sin(3 * flat) @ self.out)).view(-1, *SHAPE)


class BentClassifier(nn.Module):
    name = "bent"
    targets = ("a", "b", "c")
    differentiable = True

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(6)
        self.first = nn.Parameter(torch.from_numpy(rng.normal(size=(48, 10)) / 3))
        self.second = nn.Parameter(torch.from_numpy(rng.normal(size=(10, 3))))

    def logits(self, images: Tensor, /) -> Tensor:
        return torch.tanh((images.flatten(1) - 0.5) @ self.first) @ self.second + 1.0


def naive_shift(images: Tensor, autoencoder: BentAutoencoder, score: object, lambdas: Sequence[float]) -> Tensor:
    """D(z − λ ∂s/∂z) image by image: Eqs. 1 and 2 as they are printed."""
    out = []
    for image, lam in zip(images, lambdas, strict=True):
        z = autoencoder.encode(image[None]).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(score(autoencoder.decode(z)).sum(), z)  # type: ignore[operator]
        out.append(autoencoder.decode(z - lam * gradient).detach())
    return torch.cat(out)


def bent_bases(clf: BentClassifier) -> dict[str, tuple[Composition, object]]:
    """A base of every kind, and its score from the definition."""
    a, b = head(clf, "a"), head(clf, "b")
    p = lambda x, i: torch.sigmoid(clf.logits(x)[:, i])  # noqa: E731
    both = lambda x: clf.logits(x)[:, 0] - 0.5 * clf.logits(x)[:, 1]  # noqa: E731
    return {
        "head": (a, lambda x: p(x, 0)),
        "probabilities": (a + 0.3 * b, lambda x: p(x, 0) + 0.3 * p(x, 1)),
        "difference": (a - 0.2 * b, lambda x: p(x, 0) - 0.2 * p(x, 1)),
        "logits": ((a - 0.5 * b).scaled("logit"), lambda x: torch.sigmoid(both(x))),
        "scaled head": (0.9 * a, lambda x: 0.9 * p(x, 0)),
    }


@pytest.mark.parametrize("kind", ["head", "probabilities", "difference", "logits", "scaled head"])
@pytest.mark.parametrize("strategy", ["refined", "schedule"])
def test_a_naive_replica_of_equations_1_and_2(kind: str, strategy: str) -> None:
    autoencoder, clf, images = BentAutoencoder(), BentClassifier(), linear_images(24)
    base, score = bent_bases(clf)[kind]
    options = SearchOptions(strategy=strategy, max_image_change=1.0, eligible=0.4)  # type: ignore[arg-type]
    found = latent_shift(images, base, autoencoder=autoencoder, options=options, batch=7)
    walked = np.array([o.walked for o in found.outcomes])
    assert walked.sum() > 5
    expected = naive_shift(images, autoencoder, score, np.nan_to_num(found.lambdas).tolist())
    with torch.no_grad():
        x0 = autoencoder.decode(autoencoder.encode(images))
        torch.testing.assert_close(found.reconstructions, x0)
        torch.testing.assert_close(found.images, expected, atol=1e-6, rtol=0)
        np.testing.assert_allclose(found.base_before, score(x0).numpy(), atol=1e-7)  # type: ignore[operator]
        np.testing.assert_allclose(found.base_after, score(found.images).numpy(), atol=1e-7)  # type: ignore[operator]
        moved = [float((a - b).abs().sum() / b.abs().sum()) for a, b in zip(found.images, x0, strict=True)]
        np.testing.assert_allclose(found.image_change, moved, atol=1e-9)
    assert np.isnan(found.lambdas[~walked]).all()
    assert (found.lambdas[walked] >= 0).all()
    assert ((found.lambdas > 0) == (found.distances > 0)).all()


def test_closed_form_of_a_linear_world() -> None:
    """One head, linear everywhere: λ, distance, image and ψ on logits are known exactly, after one evaluation."""
    images, clf, autoencoder = linear_images(40), classifier(), LinearAutoencoder()
    found = latent_shift(images, clf["a"], autoencoder=autoencoder)
    z = autoencoder.encode(images).numpy()
    all_logits = z @ WEIGHTS.T + BIAS
    start, norm = all_logits[:, 0], np.linalg.norm(WEIGHTS[0])
    p = expit(start)
    eligible = p >= 0.5
    assert 5 < eligible.sum() < 40
    aim = np.maximum(p - 0.6, 0.05)
    distance = np.where(eligible, (start - logit(aim)) / norm, 0.0)
    assert [o for o, e in zip(found.outcomes, eligible, strict=True) if not e] == [Outcome.NOT_ELIGIBLE] * sum(
        ~eligible
    )
    met = {True: Outcome.FLOOR, False: Outcome.REACHED}
    assert [o for o, e in zip(found.outcomes, eligible, strict=True) if e] == [met[s < 0.65] for s in p[eligible]]
    np.testing.assert_allclose(found.distances, distance, atol=1e-10)
    np.testing.assert_allclose(found.lambdas[eligible], (distance / (norm * p * (1 - p)))[eligible], rtol=1e-10)
    np.testing.assert_allclose(found.base_after[eligible], aim[eligible], atol=1e-10)
    assert found.evaluations.tolist() == eligible.astype(int).tolist()
    shifted = z - distance[:, None] * WEIGHTS[0] / norm
    expected = autoencoder.decode(torch.from_numpy(shifted))
    torch.testing.assert_close(found.images, expected, atol=1e-10, rtol=0)
    change = clf.logits(found.images).detach().numpy() - all_logits
    psi = change[eligible] / change[eligible][:, :1]
    np.testing.assert_allclose(psi, np.tile(WEIGHTS @ WEIGHTS[0] / norm**2, (eligible.sum(), 1)), atol=1e-9)


def test_everything_is_compared_with_the_reconstruction() -> None:
    images, clf = linear_images(8), classifier()
    rng = np.random.default_rng(3)
    noisy = (images + torch.from_numpy(rng.normal(size=images.shape) * 0.02)).clamp(0, 1)
    found = latent_shift(noisy, clf["a"], autoencoder=LinearAutoencoder(), options=EVERY)
    with torch.no_grad():
        on_x0 = torch.sigmoid(clf.logits(LinearAutoencoder().decode(LinearAutoencoder().encode(noisy)))[:, 0])
    np.testing.assert_allclose(found.base_before, on_x0.numpy(), atol=1e-12)
    assert not torch.equal(found.reconstructions, noisy)


def same(one: Counterfactuals, other: Counterfactuals, *, order: Sequence[int] | None = None) -> None:
    """Equal up to rounding; ``order``: row i of ``other`` is row order[i] of ``one``."""
    order = list(range(len(one))) if order is None else list(order)
    assert other.outcomes == tuple(one.outcomes[i] for i in order)
    assert other.evaluations.tolist() == one.evaluations[order].tolist()
    for name in ("lambdas", "distances", "base_before", "base_after", "image_change"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name)[order], rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(other.images, one.images[order], atol=1e-8, rtol=0)
    torch.testing.assert_close(other.reconstructions, one.reconstructions[order], atol=1e-10, rtol=0)


BENT = BentAutoencoder(), BentClassifier(), linear_images(13, seed=8)


@settings(max_examples=12)
@given(
    st.permutations(range(13)), st.integers(1, 20), st.sampled_from(["head", "probabilities", "logits"]), st.booleans()
)
def test_batch_order_and_batch_size_do_not_matter(order: list[int], batch: int, kind: str, schedule: bool) -> None:
    autoencoder, clf, images = BENT
    base, _ = bent_bases(clf)[kind]
    options = SearchOptions(strategy="schedule" if schedule else "refined", eligible=0.3)
    whole = latent_shift(images, base, autoencoder=autoencoder, options=options)
    parts = latent_shift(images[order], base, autoencoder=autoencoder, options=options, batch=batch)
    same(whole, parts, order=order)


@settings(max_examples=6)
@given(st.integers(0, 12))
def test_an_image_alone_has_the_counterfactual_it_has_among_others(row: int) -> None:
    autoencoder, clf, images = BENT
    base, _ = bent_bases(clf)["head"]
    whole = latent_shift(images, base, autoencoder=autoencoder)
    same(whole, latent_shift(images[row : row + 1], base, autoencoder=autoencoder), order=[row])


def test_names_of_targets_do_not_matter() -> None:
    images, autoencoder = linear_images(20), LinearAutoencoder()
    one = latent_shift(images, classifier()["b"], autoencoder=autoencoder)
    other = latent_shift(images, classifier(("x", "y", "z"))["y"], autoencoder=autoencoder)
    same(one, other)


def test_order_of_heads_does_not_matter() -> None:
    images, autoencoder = linear_images(20), LinearAutoencoder()
    turned = LinearClassifier(WEIGHTS[::-1].copy(), BIAS[::-1], ("c", "b", "a"))
    mixed = [clf["a"] + 0.3 * clf["c"] for clf in (classifier(), turned)]
    same(*(latent_shift(images, base, autoencoder=autoencoder) for base in mixed))


@settings(max_examples=15)
@given(st.floats(0.01, 100.0))
def test_the_unit_of_the_latent_only_scales_lambda(scale: float) -> None:
    """z' = c z has gradient g / c, so the same image lies at λ' = c² λ and at distance c t."""
    images, base = linear_images(12), classifier()["a"]
    one = latent_shift(images, base, autoencoder=LinearAutoencoder())
    other = latent_shift(images, base, autoencoder=LinearAutoencoder(scale))
    assert one.outcomes == other.outcomes
    np.testing.assert_allclose(other.lambdas, one.lambdas * scale**2, rtol=1e-7)
    np.testing.assert_allclose(other.distances, one.distances * scale, rtol=1e-7)
    torch.testing.assert_close(one.images, other.images, atol=1e-8, rtol=0)


def test_a_constant_head_adds_a_constant_and_no_direction() -> None:
    images, autoencoder = linear_images(20), LinearAutoencoder()
    clf = LinearClassifier(np.concatenate([WEIGHTS, np.zeros((1, LATENTS))]), (*BIAS, 0.0), ("a", "b", "c", "flat"))
    plain = latent_shift(
        images, clf["a"] + 1e-9 * clf["flat"], autoencoder=autoencoder, options=SearchOptions(floor=-9.0, eligible=-9.0)
    )
    lifted = latent_shift(
        images, clf["a"] + clf["flat"], autoencoder=autoencoder, options=SearchOptions(floor=-9.0, eligible=-9.0)
    )
    np.testing.assert_allclose(lifted.base_before, plain.base_before + 0.5, atol=1e-6)
    np.testing.assert_allclose(lifted.lambdas, plain.lambdas, rtol=1e-5)
    alone = latent_shift(images, clf["flat"], autoencoder=autoencoder)
    assert set(alone.outcomes) == {Outcome.FLAT}
    assert np.isnan(alone.lambdas).all()
    torch.testing.assert_close(alone.images, alone.reconstructions, atol=0, rtol=0)


def test_a_composition_on_logits_is_the_head_with_summed_weights() -> None:
    images, autoencoder = linear_images(30), LinearAutoencoder()
    clf = classifier()
    summed = LinearClassifier((WEIGHTS[0] - 0.4 * WEIGHTS[2])[None], [BIAS[0] - 0.4 * BIAS[2]], ("sum",))
    composed = (clf["a"] - 0.4 * clf["c"]).scaled("logit")
    same(*(latent_shift(images, base, autoencoder=autoencoder) for base in (summed["sum"], composed)))


def test_heads_of_different_modules_are_mixed() -> None:
    images, autoencoder = linear_images(30), LinearAutoencoder()
    whole = classifier()
    left, right = (LinearClassifier(WEIGHTS[[i]], [BIAS[i]], (t,), name=t) for i, t in ((0, "a"), (1, "b")))
    same(
        latent_shift(images, whole["a"] + 0.3 * whole["b"], autoencoder=autoencoder),
        latent_shift(images, left["a"] + 0.3 * right["b"], autoencoder=autoencoder),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saturated_head_still_has_a_direction(dtype: torch.dtype) -> None:
    """At a logit of 30 the probability is 1 in float32 and its gradient 0; that of the logit is not."""
    clf = LinearClassifier(WEIGHTS[:1], [30.0], ("sure",)).to(dtype)
    options = SearchOptions(max_distance=1e6)
    found = latent_shift(
        linear_images(5).to(dtype) * 0.1 + 0.45, clf["sure"], autoencoder=LinearAutoencoder().to(dtype), options=options
    )
    walked = [o for o in found.outcomes if o is not Outcome.FLAT]
    assert len(walked) == 5
    assert (found.distances > 0).all()


def test_pairs_of_different_bases_share_a_batch() -> None:
    autoencoder, clf, images = BENT
    bases = [bent_bases(clf)[kind][0] for kind in ("head", "logits", "probabilities")]
    options = SearchOptions(eligible=0.3)
    image = torch.arange(len(images)).repeat(len(bases))
    which = torch.arange(len(bases)).repeat_interleave(len(images))
    order = torch.randperm(len(image), generator=torch.Generator().manual_seed(2))
    start = origins(images, autoencoder, search=SearchOptions(residual="dropped"))
    pairs = Pairs(image[order], weights(bases, [clf])[which[order]])
    batch = Batch(start, pairs, Models(autoencoder, [clf], batch=5))
    found = walk_rays(batch, find_rays(batch), options)
    for number, base in enumerate(bases):
        alone = latent_shift(images, base, autoencoder=autoencoder, options=options)
        for row in range(len(images)):
            at = int(torch.nonzero((image[order] == row) & (which[order] == number)).item())
            assert found.outcomes[at] is alone.outcomes[row]
            assert found.distances[at] == pytest.approx(alone.distances[row], rel=1e-9)
            torch.testing.assert_close(found.kept[0][at], alone.images[row], atol=1e-9, rtol=0)


def test_directions_have_unit_length_and_point_down() -> None:
    autoencoder, clf, images = BENT
    start = origins(images, autoencoder, search=SearchOptions(residual="dropped"))
    latents, pairs = start.latents, pairs_of(head(clf, "a"), count=len(images))
    rays = find_rays(Batch(start, pairs, Models(autoencoder, [clf])))
    torch.testing.assert_close(rays.direction.flatten(1).norm(dim=1), torch.ones(len(images)).double())
    step = 1e-5
    with torch.no_grad():
        before = clf.logits(autoencoder.decode(latents))[:, 0]
        after = clf.logits(autoencoder.decode(latents + step * rays.direction))[:, 0]
    np.testing.assert_allclose((before - after).numpy() / step, rays.start.slope, rtol=1e-3)
    np.testing.assert_allclose(rays.start.norm, latents.flatten(1).norm(dim=1).numpy())


def test_the_drop_given_replaces_the_one_of_the_options() -> None:
    images = linear_images(20)
    options = SearchOptions(drop=0.6)
    found = latent_shift(images, classifier()["a"], autoencoder=LinearAutoencoder(), drop=0.2, options=options)
    reached = np.array([o is Outcome.REACHED for o in found.outcomes])
    assert reached.sum() > 5
    np.testing.assert_allclose((found.base_before - found.base_after)[reached], 0.2, atol=1e-9)


def test_an_image_that_is_nan_spoils_no_other() -> None:
    images, base = linear_images(6), classifier()["a"]
    spoilt = images.clone()
    spoilt[2, 0, 0, 0] = float("nan")
    whole = latent_shift(images, base, autoencoder=LinearAutoencoder(), options=EVERY)
    found = latent_shift(spoilt, base, autoencoder=LinearAutoencoder(), options=EVERY)
    assert found.outcomes[2] is Outcome.NOT_FINITE
    assert np.isnan(found.lambdas[2])
    rest = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(found.lambdas[rest], whole.lambdas[rest])


class Breaking(LinearClassifier):
    """NaN once the first logit is low."""

    def logits(self, images: Tensor, /) -> Tensor:
        out = super().logits(images)
        return torch.where(out[:, :1] < 0.2, torch.nan, out)


def test_a_score_that_becomes_nan_leaves_the_reconstruction() -> None:
    clf = Breaking(WEIGHTS, BIAS, ("a", "b", "c"))
    options = SearchOptions(strategy="schedule", max_image_change=9.0)
    found = latent_shift(linear_images(30), clf["a"], autoencoder=LinearAutoencoder(), options=options)
    lost = np.array([o is Outcome.NOT_FINITE for o in found.outcomes])
    assert lost.sum() > 5
    assert (found.evaluations[lost] > 1).any()
    assert (found.distances[lost] == 0).all()
    assert (found.image_change[lost] == 0).all()
    assert torch.equal(found.images[lost], found.reconstructions[lost])


def test_a_head_that_is_nan_does_not_touch_its_neighbours() -> None:
    class Half(LinearClassifier):
        def logits(self, images: Tensor, /) -> Tensor:
            out = super().logits(images)
            lost = torch.full_like(out[:, 0], torch.nan)
            return torch.stack([out[:, 0], lost, lost + torch.inf], dim=1)

    images, autoencoder = linear_images(10), LinearAutoencoder()
    half = Half(WEIGHTS, BIAS, ("a", "b", "c"))
    same(*(latent_shift(images, clf["a"], autoencoder=autoencoder) for clf in (classifier(), half)))


def test_a_black_image_has_no_relative_change() -> None:
    images = torch.zeros(1, *SHAPE).double()
    found = latent_shift(images, classifier()["a"], autoencoder=LinearAutoencoder(), options=EVERY)
    assert np.isfinite(found.image_change).all()


def test_no_images() -> None:
    found = latent_shift(linear_images(1)[:0], classifier()["a"], autoencoder=LinearAutoencoder())
    assert len(found) == 0
    assert found.images.shape == (0, *SHAPE)


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (torch.zeros(3, 4, 4), "shape"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "divide bytes by 255"),
        (torch.full((2, 3, 4, 4), 200.0), "in \\[0, 1\\], got values from 200 to 200"),
        (torch.full((2, 3, 4, 4), -1.0), "in \\[0, 1\\]"),
    ],
)
def test_images_of_another_kind_are_refused(images: Tensor, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        latent_shift(images, classifier()["a"], autoencoder=LinearAutoencoder())


class Reshaping(LinearAutoencoder):
    def decode(self, latents: Tensor, /) -> Tensor:
        return super().decode(latents)[:, :, :2]


class Tanh(LinearAutoencoder):
    def decode(self, latents: Tensor, /) -> Tensor:
        return super().decode(latents) * 4 - 2


class Detaching(LinearAutoencoder):
    def decode(self, latents: Tensor, /) -> Tensor:
        return super().decode(latents).detach()


@pytest.mark.parametrize(
    ("autoencoder", "told"),
    [(Reshaping(), "expected the same shape"), (Tanh(), "range from"), (Detaching(), "detaches")],
)
def test_an_autoencoder_that_breaks_its_contract_is_named(autoencoder: LinearAutoencoder, told: str) -> None:
    with pytest.raises(BadModel, match=told):
        latent_shift(linear_images(4), classifier()["a"], autoencoder=autoencoder)


def test_an_image_slightly_outside_the_range_is_clipped() -> None:
    class Overshooting(LinearAutoencoder):
        def decode(self, latents: Tensor, /) -> Tensor:
            return super().decode(latents) * 1.3 - 0.15

    found = latent_shift(linear_images(4), classifier()["a"], autoencoder=Overshooting(), options=EVERY)
    assert found.images.min() >= 0
    assert found.images.max() <= 1


def test_a_classifier_of_another_shape_is_named() -> None:
    clf = classifier()
    clf.targets = ("a", "b")
    with pytest.raises(BadModel, match="one column per target"):
        latent_shift(linear_images(4), clf["a"], autoencoder=LinearAutoencoder())


def test_a_black_box_cannot_be_a_base() -> None:
    clf = classifier()
    clf.differentiable = False
    with pytest.raises(BadInput, match="bank"):
        latent_shift(linear_images(4), clf["a"], autoencoder=LinearAutoencoder())


@pytest.mark.parametrize("base", ["a", ["a"], 3, None])
def test_a_base_that_is_no_head_is_refused(base: object) -> None:
    with pytest.raises(BadInput, match=r"Expected a head or composition as base, .* got ('a'|int|NoneType)"):
        bases_of(base)


def test_several_bases_are_walked_at_once_as_one_by_one() -> None:
    autoencoder, clf, images = BENT
    bases = [base for base, _ in bent_bases(clf).values()]
    options = SearchOptions(eligible=0.3, residual="dropped")
    together = latent_shift(images, bases, autoencoder=autoencoder, options=options, batch=7)
    assert len(together) == len(bases)
    for base, found in zip(bases, together, strict=True):
        alone = latent_shift(images, base, autoencoder=autoencoder, options=options)
        assert found.outcomes == alone.outcomes
        for name in ("distances", "lambdas", "base_before", "base_after", "image_change"):
            np.testing.assert_allclose(getattr(found, name), getattr(alone, name), rtol=1e-9)
        torch.testing.assert_close(found.images, alone.images, atol=1e-9, rtol=0)
        assert found.logits is not None
        walked = found.distances > 0
        torch.testing.assert_close(found.logits[walked], clf.logits(found.images[walked]).detach(), atol=1e-6, rtol=0)
        assert found.logits[~walked].isnan().all()
    assert latent_shift(images, [], autoencoder=autoencoder) == ()
    assert [len(found) for found in latent_shift(images[:0], bases, autoencoder=autoencoder)] == [0] * len(bases)


def test_images_are_encoded_once_for_all_bases() -> None:
    """And decoded twice before any look: x0, and the forward pass that all backward passes share."""
    counter = Counter()
    autoencoder, clf = CountedAutoencoder(BENT[0], counter), CountedClassifier(BENT[1], counter)
    images, options = BENT[2], SearchOptions(eligible=0.3, residual="dropped")
    found = latent_shift(images, [head(clf, name) for name in "abc"], autoencoder=autoencoder, options=options)
    passes, looks = counter.passes(), sum(int(one.evaluations.sum()) for one in found)
    assert passes.encodes == len(images)
    assert passes.decodes == 2 * len(images) + looks
    assert passes.scored == len(images) + looks
    assert passes.decoder_backwards <= 3 * len(images)


@pytest.mark.parametrize("bases", [1, 3])
def test_images_that_are_not_eligible_cost_no_backward_pass(bases: int) -> None:
    counter = Counter()
    autoencoder, clf = CountedAutoencoder(BENT[0], counter), CountedClassifier(BENT[1], counter)
    never = SearchOptions(eligible=1.0, residual="dropped")
    found = latent_shift(BENT[2], [head(clf, "a")] * bases, autoencoder=autoencoder, options=never)
    assert all(one.outcomes == (Outcome.NOT_ELIGIBLE,) * len(BENT[2]) for one in found)
    assert counter.passes().decoder_backwards == (len(BENT[2]) if bases == 1 else 0)
