"""One image explained: walks both ways, psi, maps, files, and the command."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from scipy.special import expit, logit
from torch import Tensor

import cfalign
import worlds
from cfalign._counterfactuals.options import Residual, SearchOptions
from cfalign._errors import BadInput
from cfalign._explanation.drawing import explanation_figure
from cfalign._explanation.explanation import difference_map, explain, mirrored
from cfalign._explanation.options import ExplainOptions
from cfalign._figures.svg import Walk, alignment_plot
from cfalign._heads.reference import Reference
from cfalign._results import Outcome, StartsAt
from linear_world import LinearAutoencoder, LinearClassifier, directions, linear_images

WORLDS = Path(worlds.__file__)
QUICK = ExplainOptions(saliency=False)


def world(score: float, *, overlap: float = 0.5) -> tuple[Tensor, LinearClassifier]:
    """An image of a linear world and heads, of which `head_0` has the given score on it."""
    x = linear_images(1, seed=3)[0]
    heads = directions(3, overlap=overlap)
    z = LinearAutoencoder().encode(x[None])[0].numpy()
    return x, LinearClassifier(heads, logit(score) - heads @ z)


@pytest.mark.parametrize(("score", "after"), [(0.9, 0.3), (0.08, 0.68), (0.6, 0.05), (0.45, 0.95)])
def test_psi_has_its_closed_form_in_both_directions(score: float, after: float) -> None:
    """Linear heads: head_1's logit moves by the overlap times what head_0's moves by."""
    x, clf = world(score)
    tight = ExplainOptions(increase=True, saliency=False, search=SearchOptions(tolerance=1e-6))
    (base,) = explain(x, "head_0", classifier=clf, autoencoder=LinearAutoencoder(), options=tight).bases
    assert base.increased == (score < 0.5)
    assert base.outcome is (Outcome.REACHED if score in (0.9, 0.08) else Outcome.FLOOR)
    assert np.allclose(base.base_scores[[0, -1]], [score, after], atol=1e-5)
    moved = logit(score) + 0.5 * (logit(after) - logit(score))
    expected = (expit(moved) - score) / (after - score)
    assert math.isclose(base.psi["head_1"], expected, abs_tol=1e-4)
    assert math.isclose(base.psi["head_2"], expected, abs_tol=1e-4)


def test_the_two_ends_of_a_walk() -> None:
    """z_λ = z0 ± λ ∂s/∂z, frames in equal steps of λ, x0 first."""
    for score, sign in ((0.9, -1.0), (0.1, 1.0)):
        x, clf = world(score)
        ae = LinearAutoencoder()
        options = replace(QUICK, increase=True, steps=4, search=SearchOptions(residual="dropped"))
        (base,) = explain(x, "head_0", classifier=clf, autoencoder=ae, options=options).bases
        z0 = ae.encode(x[None]).requires_grad_(True)
        (gradient,) = torch.autograd.grad(torch.sigmoid(clf.logits(ae.decode(z0)))[0, 0], z0)
        for lam, frame in zip(base.lambdas.tolist(), base.frames, strict=True):
            assert torch.allclose(frame, ae.decode(z0 + sign * lam * gradient)[0].detach(), atol=1e-6)
        assert np.allclose(np.diff(base.lambdas), base.lambdas[-1] / 4)


def test_a_saturated_head_is_explained_without_lambda(tmp_path: Path) -> None:
    """At a logit of 1400 the gradient of the probability is 0 in float64, so λ has no value; the walk has."""
    x, _ = world(0.9)
    heads = directions(3, overlap=0.5) * np.array([[1000.0], [1.0], [1.0]])
    ae = LinearAutoencoder()
    z = ae.encode(x[None])[0].numpy()
    clf = LinearClassifier(heads, np.array([1400.0, 0.0, 0.0]) - heads @ z)
    explanation = explain(x, "head_0", classifier=clf, autoencoder=ae)
    (base,) = explanation.bases
    assert base.outcome is Outcome.REACHED
    assert math.isclose(base.base_scores[-1], 0.4, abs_tol=0.01)
    assert np.isnan(base.lambdas).all()
    moved = (1400.0 - logit(base.base_scores[-1])) * 0.5 / 1000
    assert math.isclose(base.psi["head_1"], (0.5 - expit(-moved)) / 0.6, abs_tol=0.01)
    files = explanation.write(tmp_path)
    told = json.loads(files["numbers"].read_text(), parse_constant=pytest.fail)
    assert told["bases"][0]["lambda"] is None
    assert "λ" not in files["alignment of head_0"].read_text("utf-8")


def test_a_reference_with_a_judge_looks_at_the_walk() -> None:
    x, clf = world(0.9)
    judge = LinearClassifier(directions(3, overlap=0.2)[1:2], [0.0], ("head_1",), name="second")
    for reference, more in ((clf, []), (Reference(clf), []), (Reference(clf, judge), ["judge:head_1"])):
        explanation = explain(
            x, "head_0", classifier=clf, autoencoder=LinearAutoencoder(), reference=reference, options=QUICK
        )
        assert list(explanation.heads) == [*clf.targets, *more]
        assert set(explanation.bases[0].psi) == {"head_1", "head_2", *more}


@pytest.mark.parametrize("scale", ["probability", "logit"])
def test_raising_is_lowering_the_mirror_image(scale: str) -> None:
    x, clf = world(0.2)
    base = (clf["head_0"] + 0.3 * clf["head_1"]).scaled("logit" if scale == "logit" else "probability")
    descended, search = mirrored(base, SearchOptions())
    cf = cfalign.latent_shift(x[None], descended, autoencoder=LinearAutoencoder(), options=search)
    (up,) = explain(
        x, base, classifier=clf, autoencoder=LinearAutoencoder(), options=replace(QUICK, increase=True)
    ).bases
    assert up.base_scores[-1] - up.base_scores[0] > 0.5
    assert torch.allclose(up.frames[-1], cf.images[0], atol=1e-9)
    assert math.isclose(up.lambdas[-1], cf.lambdas[0], rel_tol=1e-9)


def test_a_negative_prediction_says_how_to_raise_it() -> None:
    x, clf = world(0.2)
    with pytest.raises(BadInput, match=r"^image: head_0 scores 0\.20 .* use --increase .* raise the score instead\.$"):
        explain(x, ["head_0"], classifier=clf, autoencoder=LinearAutoencoder())


@pytest.mark.parametrize(("residual", "word"), [("gated", "image"), ("kept", "image"), ("dropped", "reconstruction")])
def test_a_refusal_names_what_was_scored(residual: Residual, word: str) -> None:
    x, clf = world(0.2)
    options = replace(QUICK, search=SearchOptions(residual=residual))
    with pytest.raises(BadInput, match=rf"head_0 scores 0\.20 on the {word}, below 0\.5,"):
        explain(x, ["head_0"], classifier=clf, autoencoder=LinearAutoencoder(), options=options)


@pytest.mark.parametrize(("residual", "start"), [("gated", StartsAt.IMAGE), ("dropped", StartsAt.RECONSTRUCTION)])
def test_no_picture_is_shown_twice(residual: Residual, start: StartsAt, tmp_path: Path) -> None:
    """Where the walk starts at the image itself the strip begins with it, and nothing speaks of a reconstruction."""
    x, clf = world(0.9)
    noise = 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    options = replace(QUICK, search=SearchOptions(residual=residual))
    explained = explain(x + noise, "head_0", classifier=clf, autoencoder=LinearAutoencoder(), options=options)
    shown = words_of(explanation_figure(explained))
    for name in ("original", "counterfactual"):
        assert shown.count(name) == 1
    assert shown.count("reconstruction") == (start is StartsAt.RECONSTRUCTION)
    assert f"score of head_0: {start.picture} → counterfactual" in shown
    assert [f"{share}% of λ" in shown for share in (20, 40, 60, 80)] == [True] * 4
    files = explained.write(tmp_path)
    assert json.loads(files["numbers"].read_text())["settings"]["residual"] == residual
    plot = files["alignment of head_0"].read_text()
    assert ("reconstruction" in plot) == (start is StartsAt.RECONSTRUCTION)


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def test_psi_is_undefined_where_the_base_hardly_moved() -> None:
    x, clf = world(0.9)
    small = replace(QUICK, search=SearchOptions(drop=0.2))
    (base,) = explain(x, "head_0", classifier=clf, autoencoder=LinearAutoencoder(), options=small).bases
    assert all(math.isnan(value) for value in base.psi.values())
    (base,) = explain(
        x, "head_0", classifier=clf, autoencoder=LinearAutoencoder(), options=replace(small, min_base_change=0.1)
    ).bases
    assert all(math.isfinite(value) for value in base.psi.values())


def test_a_flat_base_keeps_x0() -> None:
    x, _ = world(0.9)
    clf = LinearClassifier(np.zeros((2, 8)), [2.0, 2.0])
    (base,) = explain(x, "head_0", classifier=clf, autoencoder=LinearAutoencoder(), options=QUICK).bases
    assert base.outcome is Outcome.FLAT
    assert torch.equal(base.frames[0], base.frames[-1])
    assert np.isnan(base.lambdas).all()
    assert math.isnan(base.psi["head_1"])


def test_difference_maps_are_what_they_say() -> None:
    frames = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    away = [[abs(frames[t] - frames[0])] for t in range(1, 6)]
    stacked = torch.stack([a[0] for a in away])
    step = sum(abs(frames[t + 1] - frames[t]) for t in range(5))
    expected = {"mean": stacked.mean(0), "max": stacked.amax(0), "first-last": stacked[-1], "int": step}
    for kind, values in expected.items():
        assert torch.allclose(difference_map(frames, kind), torch.as_tensor(values).mean(0))  # type: ignore[arg-type]


def test_heads_of_a_reference_look_at_the_walk() -> None:
    image = worlds.images(30)
    audited, heads = worlds.audited(), worlds.heads()
    at = int(audited.logits(image)[:, 0].argmax())
    explanation = explain(
        image[at],
        "friendly",
        classifier=audited,
        reference=heads,
        autoencoder=worlds.autoencoder(),
        downstream=["wearing_hat", "young"],
        options=QUICK,
    )
    assert explanation.heads == ("wearing_hat", "young", "friendly")
    psi = explanation.bases[0].psi
    assert set(psi) == {"wearing_hat", "young"}
    assert psi["wearing_hat"] > 0.3 > abs(psi["young"]), "the shortcut"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"base": "smilng"}, "nearest valid: smiling"),
        ({"base": []}, "at least one base"),
        ({"downstream": ["yung"]}, "nearest valid: young"),
        ({"classifier": None}, "give the classifier that it is a head of"),
        ({"image": torch.zeros(2, 3, 16, 16)}, r"one image \[c, h, w\]"),
        ({"image": "nowhere.png"}, "no image 'nowhere.png'"),
        ({"image": WORLDS}, "cannot be read: not an image"),
    ],
)
def test_bad_input_is_told(words: dict[str, object], complaint: str) -> None:
    given = {"image": worlds.images(1)[0], "base": "smiling", "classifier": worlds.heads(), **words}
    image, base = given.pop("image"), given.pop("base")
    with pytest.raises(BadInput, match=complaint):
        explain(image, base, autoencoder=worlds.autoencoder(), **given)  # type: ignore[arg-type]


def test_bad_options_are_told() -> None:
    for words in ({"difference": "median"}, {"steps": 0}, {"min_base_change": 2.0}):
        with pytest.raises(BadInput, match=next(iter(words))):
            ExplainOptions(**words)  # type: ignore[arg-type]


def test_the_models_are_left_as_they_came() -> None:
    clf, ae = worlds.bent_heads(), worlds.slow_autoencoder()
    modules = [clf.module, ae]
    for module in modules:
        module.train()
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in modules]
    state = torch.random.get_rng_state()
    explain(worlds.images(1)[0], "smiling", classifier=clf, autoencoder=ae, options=ExplainOptions(increase=True))
    for module, old in zip(modules, before, strict=True):
        assert all(sub.training for sub in module.modules())
        assert all(torch.equal(old[k], v) for k, v in module.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert torch.equal(state, torch.random.get_rng_state())


def test_both_plots_go_from_left_to_right() -> None:
    """Lowered or raised, x0 is at the left."""
    for scores in ((0.9, 0.6, 0.3), (0.1, 0.4, 0.7)):
        drawn = alignment_plot(Walk("image", "smiling", scores, {"young": (0.2, 0.5, 0.6)}), start=StartsAt.IMAGE)
        points = [p for p in re.findall(r'points="([^"]+)"', drawn) if len(p.split()) == 3]
        curves = [[float(xy.split(",")[0]) for xy in p.split()] for p in points]
        assert sum(xs == sorted(xs) and xs[0] < xs[-1] for xs in curves) == 2, "the base and the other head"


# -- the command, on the embedded faces -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A face that smiles most and one that smiles least, of thirty."""
    folder = tmp_path_factory.mktemp("faces")
    images = cfalign.synthetic.render(cfalign.synthetic.sample(30, seed=3))
    clf = cfalign.classifiers.load("embedded")
    with torch.no_grad():
        scores = clf.logits(images)[:, clf.targets.index("smiling")]
    for name, at in (("smile", int(scores.argmax())), ("earnest", int(scores.argmin()))):
        pixels = (images[at] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in ("smile", "earnest")}


def test_a_smile_is_explained(faces: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["explain", faces["smile"], "--base", "smiling", "--base", "smiling + 0.3*arched_eyebrows", "--out", out]
    ended = worlds.cfalign(*words, folder=tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("smiling lowered from 0.9")
    numbers = json.loads((out / "explain.json").read_text())
    smiling, composed = numbers["bases"]
    assert (smiling["outcome"], smiling["direction"]) == ("reached", "lowered")
    assert math.isclose(smiling["base_before"] - smiling["base_after"], 0.6, abs_tol=0.011)
    assert len(smiling["psi"]) == 38, "37 other heads and the composition"
    assert len(smiling["frames"]) == 11
    assert composed["psi"]["arched_eyebrows"] > smiling["psi"]["arched_eyebrows"]
    ends = [smiling["frames"][at]["scores"] for at in (0, -1)]
    change = smiling["base_after"] - smiling["base_before"]
    for head, psi in smiling["psi"].items():
        assert math.isclose(psi, (ends[1][head] - ends[0][head]) / change, rel_tol=1e-9)
    with Image.open(out / "transition.gif") as moving:
        assert (moving.format, moving.size) == ("GIF", (512, 256))
        assert getattr(moving, "n_frames", 1) > 10
    with Image.open(out / "explain.png") as figure:
        assert figure.width > 1000
    assert (out / "alignment.smiling.svg").read_text().startswith("<svg")
    again = tmp_path / "again"
    assert worlds.cfalign(*words[:-1], again, folder=tmp_path).code == 0
    for file in sorted(out.iterdir()):
        assert file.read_bytes() == (again / file.name).read_bytes(), f"{file.name} is the same every time"


def test_a_negative_prediction_is_raised_when_asked(faces: dict[str, Path], tmp_path: Path) -> None:
    words = ["explain", faces["earnest"], "--base", "smiling", "--no-saliency", "--out", tmp_path / "out"]
    ended = worlds.cfalign(*words, folder=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "earnest.png: smiling scores 0." in ended.err
    assert "use --increase" in ended.err
    assert not (tmp_path / "out").exists()
    moving = tmp_path / "moving.webp"
    ended = worlds.cfalign(*words, "--increase", "--gif", moving, "--json", folder=tmp_path)
    assert ended.code == 0, ended.err
    content = json.loads(ended.out)
    (base,) = content["bases"]
    assert (base["direction"], base["saliency"]) == ("raised", [])
    assert math.isclose(base["base_after"] - base["base_before"], 0.6, abs_tol=0.011)
    assert not (tmp_path / "out" / "transition.gif").exists()
    with Image.open(moving) as image:
        assert image.format == "WEBP"


def test_a_transition_as_mp4_can_be_played(faces: dict[str, Path], tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra [video] is not installed")
    moving = tmp_path / "moving.mp4"
    ended = worlds.cfalign(
        "explain",
        faces["smile"],
        *worlds.options(base="smiling", steps=4, out=tmp_path / "out"),
        "--mp4",
        moving,
        folder=tmp_path,
    )
    assert ended.code == 0, ended.err
    frames, seconds = ffmpeg.count_frames_and_secs(str(moving))
    with Image.open(tmp_path / "out" / "transition.gif") as still:
        assert frames == sum(_durations(still)) / 80, "both last as long"
    assert seconds == pytest.approx(0.08 * frames, abs=0.02)


def _durations(image: Image.Image) -> Iterator[int]:
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        yield int(image.info["duration"])


def test_formats_that_cannot_be_written_are_told_before_any_work(faces: dict[str, Path], tmp_path: Path) -> None:
    words = ["explain", faces["smile"], "--base", "smiling", "--out", tmp_path / "out"]
    ended = worlds.cfalign(*words, "--gif", "moving.avi", folder=tmp_path)
    assert ended.code == 2
    assert "written as .gif, .webp, .mp4; got 'moving.avi'" in ended.err
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        ended = worlds.cfalign(*words, "--mp4", "moving.mp4", folder=tmp_path)
        assert ended.code == 2
        assert "needs the extra [video]" in ended.err
    assert not (tmp_path / "out").exists()
