"""Rectification: roots known in closed form, a naive replica of the paper's update, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

import cfalign as cfa
import worlds
from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition
from cfalign._heads.scoring import respond
from cfalign._rectification.mixture import Mixture, start_of
from cfalign._rectification.options import RectificationOptions
from cfalign._rectification.rectification import rectify
from cfalign._rectification.rectified import Ending, Rectified
from cfalign._rectification.roots import next_point
from cfalign._rectification.workbench import Workbench, prepare
from cfalign._runs.progress import silent
from cfalign.classifiers import ComposedClassifier
from cfalign.datasets import TensorImages
from linear_world import FromSingle as LinearAutoencoder
from linear_world import HeadsFromSingle as LinearClassifier
from linear_world import directions, linear_images

EXACT = SearchOptions(tolerance=1e-7, max_evaluations=60, max_distance=50.0)
OVERLAP = 0.4
CLF = LinearClassifier(directions(3, overlap=OVERLAP), [0.8, 0.3, -0.2], ("target", "hat", "lips"))
T, HAT, LIPS = (CLF[t] for t in CLF.targets)
IMAGES = linear_images(300, seed=3)


def options(**more: Any) -> RectificationOptions:
    return RectificationOptions(**{"limit": 120, "min_images": 5, "search": EXACT, "reading": "outgoing", **more})


def rectified(against: list[Composition], **more: Any) -> Rectified:
    return rectify(T, against, images=IMAGES, autoencoder=LinearAutoencoder(), options=options(**more))


def coefficients(found: Rectified) -> dict[str, float]:
    return {head.target: c for c, head in found.composition.terms}


# --- the root -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["outgoing", "incoming"])
def test_one_shortcut_goes_to_the_known_root(reading: str) -> None:
    """Equal gradients everywhere: along −(g_t + c·g_b) the shortcut rests when c = −g_t·g_b / g_b·g_b."""
    found = rectified([HAT], reading=reading)
    assert found.ending is Ending.CONVERGED
    assert len(found.curve) == 2, "the first guess is the root"
    assert coefficients(found) == pytest.approx({"target": 1.0, "hat": -OVERLAP}, abs=1e-5)
    assert found.composition.on == "logit"
    assert found.before[0].psi > 0.2
    assert abs(found.after[0].psi) < 1e-5
    assert found.before[0].ci_low <= found.before[0].psi <= found.before[0].ci_high
    assert found.before[0].n + sum(found.before[0].excluded.values()) == found.images["test"]
    if reading == "incoming":
        assert found.incoming_before[0].psi > 0.2
        assert abs(found.incoming_after[0].psi) < 1e-5


def test_several_shortcuts_at_once() -> None:
    found = rectified([HAT, LIPS])
    gram = directions(3, overlap=OVERLAP) @ directions(3, overlap=OVERLAP).T
    c = -np.linalg.solve(gram[1:, 1:], gram[1:, 0])
    assert found.ending is Ending.CONVERGED
    assert len(found.curve) <= 12
    assert coefficients(found) == pytest.approx({"target": 1.0, "hat": c[0], "lips": c[1]}, abs=1e-4)
    assert max(abs(reading.psi) for reading in found.after) < 1e-4


def test_the_shortcut_is_centred_and_beta_is_in_standard_deviations() -> None:
    found = rectified([HAT])
    bench = workbench()
    mean, deviation = bench.standards()
    assert found.beta[0] * deviation[0] / deviation[1] == pytest.approx(coefficients(found)["hat"])
    assert found.composition.constant == pytest.approx(-coefficients(found)["hat"] * mean[1])


def test_a_target_without_bias_is_left_alone() -> None:
    alone = LinearClassifier(directions(2, overlap=0.0), [0.8, 0.3], ("target", "hat"))
    found = rectify(alone["target"], [alone["hat"]], images=IMAGES, autoencoder=LinearAutoencoder(), options=options())
    assert found.ending is Ending.NOT_BIASED
    assert found.beta == (0.0,)
    assert found.composition == alone["target"]


def test_the_same_seed_gives_the_same_result_and_another_splits_otherwise() -> None:
    again = rectified([HAT])
    assert again.as_dict() == rectified([HAT]).as_dict()
    assert rectified([HAT], seed=1).before[0].psi != again.before[0].psi


def test_a_saturated_shortcut_is_driven_by_its_logit() -> None:
    """Its probability rests near 1 whatever happens, so that ψ ≈ 0 says nothing; its logit tells the same story."""
    saturated = LinearClassifier(directions(2, overlap=OVERLAP), [0.8, 9.0], ("target", "hat"))
    target, hat = (saturated[t] for t in saturated.targets)
    found = rectify(target, [hat], images=IMAGES, autoencoder=LinearAutoencoder(), options=options())
    assert abs(found.before[0].psi) < 0.05 < abs(found.before[0].psi_logit)
    assert found.driven_by == ("psi_logit",)
    assert coefficients(found)["hat"] == pytest.approx(-OVERLAP, abs=1e-4)
    assert abs(found.after[0].psi_logit) < 1e-3


def test_a_split_given_is_the_split_used() -> None:
    parts = ["train", "val", "test", "other", None]
    split = [parts[i % 5] for i in range(len(IMAGES))]
    found = rectify(
        T, [HAT], images=IMAGES, autoencoder=LinearAutoencoder(), split=split, options=options(limit=10_000)
    )
    assert {k: found.images[k] for k in ("train", "validation", "test")} == {"train": 60, "validation": 60, "test": 60}
    assert found.before[0].n + sum(found.before[0].excluded.values()) == 60
    elsewhere = IMAGES.copy() if isinstance(IMAGES, np.ndarray) else IMAGES.clone()
    elsewhere[3::5] = IMAGES[:1]
    again = rectify(
        T, [HAT], images=elsewhere, autoencoder=LinearAutoencoder(), split=split, options=options(limit=10_000)
    )
    assert again.as_dict() == found.as_dict(), "images outside the split play no part"


@pytest.mark.parametrize("reading", ["outgoing", "incoming"])
def test_how_the_parts_lie_in_the_images_does_not_matter(reading: str) -> None:
    """The same images in the same parts, once one part after another and once in turns."""
    turns = ["train", "val", "test"] * 100
    order = [i for part in range(3) for i in range(part, 300, 3)]
    found = [
        rectify(
            T,
            [HAT],
            images=images,
            autoencoder=LinearAutoencoder(),
            split=split,
            options=options(limit=10_000, reading=reading, tolerance=1e-9),
        )
        for images, split in ((IMAGES, turns), (IMAGES[order], [turns[i] for i in order]))
    ]
    counts = [(f.curve[0].n_train, f.curve[0].n_validation, f.before[0].n) for f in found]
    assert counts[0] == counts[1]
    assert min(counts[0]) > 5
    assert found[0].beta == pytest.approx(found[1].beta, abs=1e-6)


@pytest.mark.parametrize(
    ("split", "sentence"),
    [(["train", "val"] * 150, "test has none. It has: train, val"), (["train"], "each of the 300 images, got 1")],
)
def test_a_split_that_cannot_serve_is_refused(split: list[str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        rectify(T, [HAT], images=IMAGES, autoencoder=LinearAutoencoder(), split=split, options=options())


def test_every_step_has_its_composition() -> None:
    found = rectified([HAT, LIPS])
    assert len(found.trail) == len(found.curve)
    assert found.trail[0] == T
    assert found.trail[found.best_step] == found.composition


# --- the paper's update -------------------------------------------------------------------------------------


def workbench(**more: Any) -> Workbench:
    return prepare(
        TensorImages(IMAGES), [T, HAT], autoencoder=LinearAutoencoder(), options=options(**more), progress=silent
    )


def naive_psi(latents: np.ndarray, beta: float) -> float:
    """Mean ψ(p_t + β p_b → p_b), image by image, from Eqs. 1, 3 and 5."""
    weight, bias = CLF.weight.detach().numpy(), CLF.bias.detach().numpy()

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    found = []
    for z in latents:
        p = sigmoid(weight @ z + bias)[:2]
        score = p[0] + beta * p[1]
        if score < 0.5 or score - 0.6 < 0.05:  # not positive, or no room for the drop
            continue
        gradient = p[0] * (1 - p[0]) * weight[0] + beta * p[1] * (1 - p[1]) * weight[1]

        def excess(step: float, z: np.ndarray = z, g: np.ndarray = gradient, aim: float = score - 0.6) -> float:
            q = sigmoid(weight @ (z - step * g) + bias)
            return float(q[0] + beta * q[1] - aim)

        step = brentq(excess, 0.0, 10.0, xtol=1e-12)
        q = sigmoid(weight @ (z - step * gradient) + bias)[:2]
        found.append((q[1] - p[1]) / (q[0] + beta * q[1] - score))
    return float(np.mean(found))


def test_momentum_is_the_update_of_the_paper() -> None:
    """v ← η ψ + m v, β ← β − v with whole-set batches, so that nothing is drawn."""
    eta, m = 0.2, 0.3
    more = {"solver": "momentum", "steps": 3, "minibatch": 1000, "learning_rate": eta, "momentum": m, "check_every": 1}
    found = rectified([HAT], **more)
    bench = workbench(**more)
    latents = bench.memory.latents[bench.train].numpy()
    beta = velocity = 0.0
    for step in found.curve[1:]:
        velocity = eta * naive_psi(latents, beta) + m * velocity
        beta -= velocity
        assert step.beta[0] == pytest.approx(beta, abs=1e-5)
    assert found.composition.on == "probability"


def test_momentum_brings_psi_down_on_held_out_images() -> None:
    found = rectified([HAT], solver="momentum", steps=300, learning_rate=0.02)
    assert found.ending in (Ending.CONVERGED, Ending.STOPPED_EARLY)
    assert found.beta[0] < 0
    assert abs(found.after[0].psi) < 0.5 * abs(found.before[0].psi)
    assert np.isnan(found.after[0].psi_logit)


@pytest.mark.parametrize("on_logit", [True, False])
def test_gradients_of_a_mixture_are_those_of_autograd(on_logit: bool) -> None:
    bench = workbench()
    mixture = Mixture(np.array([1.0, -0.7]), 0.1, on_logit)
    start, direction = start_of(bench.memory, np.arange(20), mixture)
    z = bench.memory.latents[:20].clone().requires_grad_(True)
    logits = CLF.logits(LinearAutoencoder().decode(z))[:, :2]
    value = (logits if on_logit else torch.sigmoid(logits)) @ torch.tensor([1.0, -0.7], dtype=torch.float64) + 0.1
    (gradient,) = torch.autograd.grad(value.sum(), z)
    np.testing.assert_allclose(start.value, value.detach().numpy(), atol=1e-10)
    expected = -gradient / gradient.norm(dim=1, keepdim=True)
    torch.testing.assert_close(direction, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(start.slope, gradient.norm(dim=1).numpy(), rtol=1e-6)


# --- the cost -----------------------------------------------------------------------------------------------


class Counting(LinearAutoencoder):
    """Counts images decoded, and images through which a gradient came back."""

    def __init__(self) -> None:
        super().__init__()
        self.decoded = self.backward = 0

    def decode(self, latents: Tensor, /) -> Tensor:
        self.decoded += len(latents)
        images = super().decode(latents)
        if images.requires_grad:
            images.register_hook(self._count)
        return images

    def _count(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


@pytest.mark.parametrize("solver", ["secant", "momentum"])
def test_no_step_runs_a_backward_pass(solver: str) -> None:
    seen = []
    for steps in (1, 6):
        autoencoder = Counting()
        own = {"check_every": 2, "learning_rate": 0.1} if solver == "momentum" else {}
        more = options(solver=solver, steps=steps, tolerance=1e-9, patience=50, **own)
        found = rectify(T, [HAT, LIPS], images=IMAGES, autoencoder=autoencoder, options=more)
        images = sum(found.images.values())
        assert autoencoder.backward == 3 * images, "one per image and head, whatever the steps"
        seen.append((autoencoder.decoded, sum(s.decodes for s in found.curve), images))
    (first, _, _), (more_decoded, in_steps, images) = seen
    assert more_decoded > first
    assert more_decoded <= 4 * images + in_steps + 60 * 2 * images, "reading, gradients, steps, and the test twice"


def test_the_incoming_reading_decodes_nothing_in_its_steps() -> None:
    found = rectified([HAT], reading="incoming", tolerance=1e-9)
    assert sum(step.decodes for step in found.curve) == 0


# --- outcomes -----------------------------------------------------------------------------------------------


def test_divergence_is_an_outcome_and_the_best_beta_is_kept() -> None:
    found = rectified(
        [-1.0 * HAT.scaled("probability")], solver="momentum", steps=40, learning_rate=60.0, check_every=1
    )
    assert found.ending in (Ending.DIVERGED, Ending.TOO_FEW_IMAGES)
    assert found.beta == found.curve[found.best_step].beta
    sizes = [abs(s.psi_validation[0]) for s in found.curve if s.n_validation >= 5]
    assert abs(found.curve[found.best_step].psi_validation[0]) == min(sizes)


def test_a_beta_that_leaves_no_positive_image_is_an_outcome() -> None:
    found = rectified([HAT], solver="momentum", steps=40, learning_rate=5.0, check_every=1)
    assert found.ending is Ending.TOO_FEW_IMAGES
    assert found.after[0].n > 0, "the best β seen is kept"


def test_without_a_better_beta_there_is_no_root() -> None:
    assert rectified([HAT], steps=1).ending is Ending.NO_ROOT


def test_too_few_images_and_constant_heads_are_refused() -> None:
    with pytest.raises(BadInput, match=r"Too few images to rectify 'target': \d+ of 10 training images are predicted"):
        rectify(T, [HAT], images=IMAGES[:20], autoencoder=LinearAutoencoder(), options=options(min_images=9))
    flat = LinearClassifier(np.zeros((1, 8)), [3.0], ("flat",), name="flat")["flat"]
    for parts, what in (((flat, HAT), "The target 'flat'"), ((T, flat), "The shortcut 'flat'")):
        with pytest.raises(BadInput, match=f"{what} gives the same score to all of"):
            rectify(parts[0], [parts[1]], images=IMAGES, autoencoder=LinearAutoencoder(), options=options())


@pytest.mark.parametrize(
    ("against", "more", "told"),
    [
        ([], {}, "at least one shortcut"),
        ([T], {}, "given twice"),
        ([HAT, HAT], {}, "given twice"),
        ([HAT + 0.5 * LIPS], {}, "composes on logit"),
        ([(HAT + 0.5 * LIPS).scaled("logit")], {"solver": "momentum"}, "composes on probability"),
    ],
)
def test_what_cannot_be_composed_is_refused(against: list[Composition], more: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        rectified(against, **more)


@pytest.mark.parametrize(
    "wrong",
    [
        {"solver": "newton"},
        {"reading": "sideways"},
        {"train": 0.9, "validation": 0.2},
        {"limit": 0},
        {"steps": 0},
        {"momentum": 1.0},
        {"tolerance": 0.0},
        {"search": SearchOptions(strategy="schedule")},
        {"solver": "momentum", "reading": "incoming"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        RectificationOptions(**wrong)


def test_a_printed_result_says_what_changed() -> None:
    found = rectify(T, [HAT], images=IMAGES, autoencoder=LinearAutoencoder(), options=options())
    change = f"{HAT.name} ψ {found.before[0].psi:.2f} → {found.after[0].psi:.2f}"
    assert repr(found) == f"Rectified('{found.composition}', {change}, converged)"


def test_labels_give_accuracy_and_auroc_on_the_test_images() -> None:
    truth = (respond(IMAGES, [CLF])[:, 0] > 0).double().numpy()
    truth[::7] = np.nan
    found = rectify(T, [HAT], images=IMAGES, autoencoder=LinearAutoencoder(), labels=truth, options=options())
    assert found.quality_before is not None
    assert found.quality_after is not None
    assert (found.quality_before.accuracy, found.quality_before.auroc) == (1.0, 1.0)
    assert found.quality_after.accuracy < 1.0
    assert 0 < found.quality_after.n < found.images["test"]
    with pytest.raises(BadInput, match="one label per image"):
        rectify(T, [HAT], images=IMAGES, autoencoder=LinearAutoencoder(), labels=truth[:5], options=options())


# --- afterwards ---------------------------------------------------------------------------------------------


def test_saved_loaded_and_audited_like_any_classifier(tmp_path: Path) -> None:
    factory = f"{Path(worlds.__file__)}"
    audited, heads = (cfa.classifiers.load(f"{factory}:{name}") for name in ("audited", "heads"))
    images, autoencoder = worlds.images(200, seed=2), worlds.autoencoder()
    found = cfa.rectify(
        audited["friendly"],
        [heads["wearing_hat"]],
        images=images,
        autoencoder=autoencoder,
        options=RectificationOptions(limit=60, min_images=3),
    )
    found.save(tmp_path / "rectified.json")
    again = cfa.classifiers.load(str(tmp_path / "rectified.json"))
    assert again.targets == ("friendly_rectified",)
    assert again.differentiable
    torch.testing.assert_close(again.logits(images[:9]), found.classifier.logits(images[:9]))
    x = images[:9].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(again.logits(x).sum(), x)
    assert gradient.abs().max() > 0
    run = cfa.audit(images[:80], again, reference=heads, autoencoder=autoencoder, out=tmp_path / "run")
    effects = {row["attribute"]: row["effect"] for row in run.effects().iter_rows(named=True)}
    assert abs(effects["wearing_hat"]) < 0.1
    before = cfa.audit(images[:80], audited, reference=heads, autoencoder=autoencoder, out=tmp_path / "before")
    assert {r["attribute"]: r["effect"] for r in before.effects().iter_rows(named=True)}["wearing_hat"] > 0.3


def test_a_classifier_without_a_spec_needs_one_to_be_saved(tmp_path: Path) -> None:
    found = rectified([HAT])
    with pytest.raises(BadInput, match="specs="):
        found.save(tmp_path / "rectified.json")
    found.save(tmp_path / "rectified.json", specs={"linear": "model.py:make"})
    assert "model.py:make" in (tmp_path / "rectified.json").read_text()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind": "cfalign composition", "on": "logit"}'])
def test_a_file_that_is_no_composition_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInput, match="does not hold a composition"):
        cfa.classifiers.load(str(tmp_path / "x.json"))
    with pytest.raises(BadInput, match="There is no file"):
        cfa.classifiers.load(str(tmp_path / "y.json"))


@pytest.mark.parametrize("on", ["probability", "logit"])
def test_a_composed_classifier_scores_as_its_composition(on: Any) -> None:
    composition = (0.5 * T + 0.3 * HAT + 0.05).scaled(on)
    made = ComposedClassifier(composition, name="both")
    expected = composition.score({CLF: CLF.logits(IMAGES)})
    torch.testing.assert_close(torch.sigmoid(made.logits(IMAGES)[:, 0]), expected)


# --- roots of noisy functions -------------------------------------------------------------------------------


@pytest.mark.parametrize("root", [-2.0, -0.2, 0.05, 1.5])
@pytest.mark.parametrize("shape", [np.tanh, np.cbrt, lambda x: x + 0.3 * x**3])
def test_one_unknown_is_found_in_twelve_looks(root: float, shape: Any) -> None:
    points, values = [np.zeros(1)], [np.array([shape(-root)])]
    while len(points) < 12 and abs(values[-1][0]) > 0.01:
        following = next_point(points, values, slope=np.eye(1))
        assert following is not None
        points.append(following)
        values.append(np.array([shape(following[0] - root)]))
    assert abs(points[-1][0] - root) < 0.02


def test_several_unknowns_are_found_by_broyden() -> None:
    matrix, root = np.array([[0.8, 0.2], [-0.1, 0.4]]), np.array([0.4, -0.7])
    points, values = [np.zeros(2)], [np.tanh(matrix @ -root)]
    while len(points) < 12 and np.linalg.norm(values[-1]) > 1e-3:
        following = next_point(points, values, slope=np.eye(2))
        assert following is not None
        points.append(following)
        values.append(np.tanh(matrix @ (following - root)))
    np.testing.assert_allclose(points[-1], root, atol=0.01)


def test_a_jump_ends_the_narrowing_of_the_bracket() -> None:
    points, values = [np.zeros(1)], [np.ones(1)]
    while len(points) < 40:
        following = next_point(points, values, slope=np.eye(1))
        if following is None:
            break
        points.append(following)
        values.append(np.sign(following + 0.3333))
    assert abs(points[-1][0] + 0.3333) < 1e-3
    assert len(points) < 30
