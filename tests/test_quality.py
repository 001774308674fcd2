"""Measures of counterfactuals against naive replicas and closed forms, and the benchmark that takes them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor

from cfalign._errors import BadInput, RunMismatch
from cfalign._figures.plots.pixels import save_png
from cfalign.benchmarks.counterfactuals import BenchmarkOptions, counterfactuals, named
from cfalign.benchmarks.counterfactuals.criteria import (
    along_edit,
    correlation_difference,
    cout,
    flips,
    frechet_distance,
    weighted_mean,
)
from cfalign.benchmarks.counterfactuals.drawing import methods_figure
from cfalign.benchmarks.counterfactuals.estimates import MEANS, Part, SeenByOracle, compare
from cfalign.benchmarks.counterfactuals.models_and_faces import ModelsAndFaces, features
from cfalign.benchmarks.counterfactuals.result import Comparison, Estimate
from cfalign.classifiers import wrap
from cfalign.synthetic import ATTRIBUTES, intervene, render
from cfalign.synthetic.factors import OFF

RNG = np.random.default_rng(0)
SMALL = BenchmarkOptions(
    images=4, cout_steps=3, resamples=20, heads=("smiling", "eyeglasses"), methods=("latent-shift", "pixels")
)


def test_cout_against_a_replica_pixel_by_pixel() -> None:
    before, after = torch.rand(3, 2, 2, 4), torch.rand(3, 2, 2, 4)

    def score(images: Tensor) -> Tensor:
        return torch.sigmoid(3 * images.flatten(1).mean(dim=1) - 1 + images[:, 0, 0, 0])

    for row, value in enumerate(cout(before, after, score, steps=8)):
        x = before[row].clone()
        change = (after[row] - x).abs().sum(dim=0).flatten()
        curve = [float(score(x[None])[0])]
        for pixel in sorted(range(8), key=lambda p: -float(change[p])):
            x[:, pixel // 4, pixel % 4] = after[row][:, pixel // 4, pixel % 4]
            curve.append(float(score(x[None])[0]))
        yes = sum((a + b) / 2 for a, b in pairwise(curve)) / 8
        no = sum((2 - a - b) / 2 for a, b in pairwise(curve)) / 8
        assert float(value) == pytest.approx(no - yes, abs=1e-6)


def test_cout_is_one_where_the_first_pixel_decides_and_minus_one_where_nothing_does() -> None:
    before, after = torch.ones(1, 1, 10, 10), torch.ones(1, 1, 10, 10)
    after[0, 0, 3, 3] = 0.0
    steps = 100
    decided = cout(before, after, lambda x: (x.flatten(1).min(dim=1).values > 0.5).double(), steps=steps)
    assert float(decided) == pytest.approx(1 - 1 / steps)
    assert float(cout(before, after, lambda x: torch.ones(len(x)), steps=steps)) == -1


def test_correlation_difference_against_numpy() -> None:
    before, after = RNG.uniform(size=(2, 40, 5))
    change = flips(before, after)
    labels = np.array([0.1, 1.0, -0.3, 0.0, 0.2])
    expected = sum(abs(np.corrcoef(change[:, a], change[:, 1])[0, 1] - labels[a]) for a in range(5))
    weights = np.concatenate([np.ones((1, 40)), RNG.multinomial(40, np.full(40, 1 / 40), size=3)])
    values = correlation_difference(change, 1, labels, weights)
    assert values[0] == pytest.approx(expected)
    again = np.repeat(change, weights[2].astype(int), axis=0)
    assert values[2] == pytest.approx(correlation_difference(again, 1, labels, np.ones((1, 40)))[0])
    constant = np.tile([0.0, -1.0, 0.0, 0.0, 0.0], (40, 1))
    assert correlation_difference(constant, 1, labels, np.ones((1, 40)))[0] == pytest.approx(np.abs(labels).sum())


def test_frechet_distance_in_closed_form() -> None:
    x = RNG.normal(size=(500, 4))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + np.array([3, 0, 4, 0])) == pytest.approx(25)
    line = RNG.normal(size=(500, 2)) * [1, 0]  # covariances of diagonal form: (σ − σ')² per axis
    spread = line[:, 0].std(ddof=1)
    assert frechet_distance(line, 3 * line) == pytest.approx((2 * spread) ** 2 + (2 * line[:, 0].mean()) ** 2)
    assert math.isnan(frechet_distance(x, x[:1]))


def test_the_share_of_an_edit() -> None:
    edit = torch.zeros(3, 1, 2, 2)
    edit[:2, 0, 0, 0] = 0.5
    change = torch.zeros(3, 1, 2, 2)
    change[0, 0, 0, 0] = 0.25
    change[1, 0, 1, 1] = 0.3
    share, cosine = along_edit(change, edit)
    np.testing.assert_allclose(share, [0.5, 0, np.nan], atol=1e-12)
    np.testing.assert_allclose(cosine, [1, 0, np.nan], atol=1e-12)


def test_undefined_values_leave_a_mean() -> None:
    values = np.array([1.0, np.nan, 3.0])
    means = weighted_mean(values, np.array([[1.0, 1, 1], [2, 5, 0], [0, 1, 0]]))
    np.testing.assert_array_equal(means, [2, 1, np.nan])


def _part(head: str, landed: list[float], change: list[float], faces: int) -> Part:
    n = len(landed)
    columns = {name: np.ones(n) for name in ("seconds", *MEANS.values())}
    other = "b" if head == "a" else "a"
    own = {f"change.{head}": change, f"change.{other}": [0.1] * n}
    moved = {"change.a": own["change.a"], "change.b": own["change.b"], "flip.a": [0.0] * n, "flip.b": [0.0] * n}
    rows = pl.DataFrame(
        {**columns, "landed": landed, "face": list(range(n)), **moved, "oracle_drop": [-c for c in change]}
    )
    return Part(head, rows, RNG.normal(size=(n, 3)))


def test_means_are_over_what_landed_and_ranks_over_heads() -> None:
    parts = {"latent-shift": [_part("a", [1, 1, 0, 1], [-0.4, -0.2, -9, -0.6], 4), _part("b", [1] * 4, [0.3] * 4, 4)]}
    faces = SeenByOracle(images=RNG.normal(size=(4, 3)), reconstructions=RNG.normal(size=(4, 3)))
    made = compare(parts, {"a": np.zeros(2), "b": np.zeros(2)}, faces, {}, seed=0, resamples=50)
    table = made.methods["latent-shift"]
    assert table["validity"].value == pytest.approx(7 / 8)
    assert (table["validity"].n, table["oracle_drop"].n) == (8, 7)
    assert table["oracle_drop"].value == pytest.approx((0.4 + 0.2 + 0.6 - 4 * 0.3) / 7)
    assert table["rank1"].value == 0.5, "b moves most, but the wrong way"
    assert table["validity"].low <= 7 / 8 <= table["validity"].high
    assert table["seconds_ratio"].value == 1


def _table(drop: float, cost: float, adversarial: float, validity: float = 1.0) -> dict[str, Estimate]:
    values = {"oracle_drop": drop, "validity": validity, "forwards": cost, "backwards": 1.0}
    table = {f"{end}{key}": Estimate(v, v - 0.02, v + 0.02, 9) for end in ("", "off_") for key, v in values.items()}
    return table | {"adversarial": Estimate(adversarial, adversarial, adversarial, 9)}


def test_the_recommendation_follows_the_numbers() -> None:
    cheap, good = _table(0.4, 3, 0.1), _table(0.5, 9, 0.1)
    advice = Comparison({"one": cheap, "two": good, "bad": _table(0.9, 1, 0.8)}, {}, {}, 0).recommendation()
    assert "For counterfactuals take two: the oracle sees a drop of 0.50 [0.48, 0.52] at 10.0 decoder passes" in advice
    assert "one 0.40 at 0.4 times the passes" in advice
    assert "Not bad (lands in 100%, 80% of its flips adversarial)" in advice
    close = Comparison({"one": _table(0.47, 3, 0.1), "two": good}, {}, {}, 0).recommendation()
    assert "For counterfactuals take one" in close, "as good, and cheaper"
    lost = Comparison({"one": _table(0.4, 3, 0.1, validity=0.5)}, {}, {}, 0).recommendation()
    assert "no method can be recommended" in lost


def test_the_benchmark_goes_on_where_it_stopped_and_refuses_other_settings(tmp_path: Path) -> None:
    whole = counterfactuals(options=SMALL, out=tmp_path)
    table = whole.methods["latent-shift"]
    assert table["validity"].value >= 0.9
    assert table["oracle_drop"].value > whole.methods["pixels"]["oracle_drop"].value + 0.1
    assert whole.methods["pixels"]["adversarial"].value > 0.5
    assert math.isnan(whole.methods["pixels"]["latent_distance"].value)
    assert "pixels.frechet" in whole.headline
    assert whole.beside["drift_l1_5"].value > whole.beside["drift_l1_1"].value
    kept = tmp_path / "parts" / "latent-shift" / "smiling.parquet"
    lost = tmp_path / "parts" / "pixels" / "eyeglasses.parquet"
    moment = kept.stat().st_mtime_ns
    lost.unlink()
    again = counterfactuals(options=SMALL, out=tmp_path)
    assert kept.stat().st_mtime_ns == moment
    assert lost.is_file()
    ours, theirs = (
        {k: v for k, v in r.headline.items() if "seconds" not in k and not math.isnan(v)} for r in (again, whole)
    )
    assert ours == theirs
    with pytest.raises(RunMismatch, match="images was 4, now 5"):
        counterfactuals(options=replace(SMALL, images=5), out=tmp_path)
    save_png(methods_figure(whole), tmp_path / "methods.png")
    with Image.open(tmp_path / "methods.png") as picture:
        assert picture.size[0] > 1000


def test_unknown_names_are_one_sentence() -> None:
    with pytest.raises(BadInput, match="No method 'magic'; expected some of latent-shift"):
        named(["magic"])
    with pytest.raises(BadInput, match="No embedded head 'wings' stands for one factor"):
        counterfactuals(options=replace(SMALL, heads=("wings",)))


def test_the_true_edit_is_what_switching_the_factor_off_changes_behind_the_autoencoder() -> None:
    common = ModelsAndFaces(SMALL)
    chosen = torch.arange(6)
    edit = common.edit("eyeglasses", chosen)
    has = common.faces.labels()[chosen, ATTRIBUTES.index("eyeglasses")] > 0.5
    assert 0 < has.sum() < 6
    assert (edit[~has] == 0).all()
    off = render(intervene(common.faces[chosen], "eyeglasses", OFF))
    with torch.no_grad():
        expected = common.autoencoder.decode(common.autoencoder.encode(off)) - common.reconstructions[chosen]
    assert torch.allclose(edit[has], expected[has], atol=1e-5)
    assert common.drift((1,))["drift_l1_1"] == pytest.approx(
        (common.reconstructions - common.images).abs().flatten(1).mean(dim=1).numpy(), abs=1e-5
    )


def test_features_are_the_input_of_the_last_layer() -> None:
    last = torch.nn.Linear(5, 2)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.Tanh(), last)
    images = torch.rand(3, 3, 2, 2)
    expected = network[:3](images).detach().numpy()
    np.testing.assert_allclose(features(images, wrap(network, ["a", "b"])), expected, atol=1e-6)
    assert not last._forward_pre_hooks
