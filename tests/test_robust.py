"""Robust training: each method does what its paper says, and the benchmark that puts them beside an audit runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import worlds
from cfalign._errors import BadInput, RunMismatch
from cfalign._models.weights import read_weights
from cfalign.benchmarks.robustness import QUICK
from cfalign.benchmarks.robustness.options import RobustnessOptions
from cfalign.benchmarks.robustness.result import RobustClassifier, Robustness
from cfalign.classifiers.by_spec import from_weights
from cfalign.datasets import Labels, Leftover, TensorImages
from cfalign.synthetic import ATTRIBUTES
from cfalign.training import ClassifierTraining, train_classifier
from cfalign.training.objectives import GroupDRO, Objective, VREx, Weighted
from cfalign.training.recipes.last_layer import logistic
from cfalign.training.recipes.planted_shortcuts import Plant, material, plant, recipe
from cfalign.training.recipes.robust_methods import (
    DFR_GROUP,
    JTT_WEIGHT,
    METHODS,
    Robust,
    balanced,
    environments,
    groups,
    load_robust,
    train_all_robust,
    train_robust,
    upweighted,
    weights_of,
)

PLANT = Plant("big_lips", "eyeglasses", 0.9, 0, faces=300)
SMALL = ClassifierTraining(
    size=16, widths=(8, 16), hidden=8, residual=False, dropout=0.0, steps=24, batch=16, checkpoint_every=0.0
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method trained on one plant, as the benchmark does it."""
    place = tmp_path_factory.mktemp("robust")
    told: list[tuple[int, int]] = []
    wanted = [Robust(PLANT, m) for m in METHODS]
    train_all_robust(wanted, place, workers=1, progress=lambda stage, done, total: told.append((done, total)))
    assert told[0] == (0, len(METHODS))
    assert told[-1] == (len(METHODS), len(METHODS))
    return place


def state(path: Path) -> dict[str, Tensor]:
    return read_weights(path, kind="classifier")[0]


def test_group_weights_follow_the_losses() -> None:
    """Constant losses 1 and 3: after t steps the weights are as exp(η t) to exp(3 η t)."""
    objective = GroupDRO(torch.tensor([0, 1, 1, 0]), step=0.5)
    losses, rows = torch.tensor([0.5, 3.0, 3.0, 1.5]), torch.arange(4)
    for t in range(1, 6):
        value = float(objective(losses, rows))
        worst = math.exp(1.5 * t) / (math.exp(0.5 * t) + math.exp(1.5 * t))
        assert float(objective.share[1]) == pytest.approx(worst, rel=1e-5)
        assert value == pytest.approx((1 - worst) * 1.0 + worst * 3.0, rel=1e-5)


def test_groups_that_are_not_there() -> None:
    """Without an image in the batch a group keeps its weight; without one at all it has none, as at dose 1."""
    objective = GroupDRO(torch.tensor([0, 3, 0, 3]), step=1.0)
    assert objective.share.tolist() == [0.5, 0.0, 0.0, 0.5]
    objective(torch.tensor([2.0]), torch.tensor([0]))
    assert float(objective.share[3]) == pytest.approx(1 / (1 + math.exp(2.0)))
    assert objective.share[1:3].tolist() == [0.0, 0.0]


def test_the_variance_between_environments_costs() -> None:
    objective = VREx(torch.tensor([0, 0, 1, 1]), penalty=10.0)
    losses = torch.tensor([1.0, 3.0, 0.5, 0.5], requires_grad=True)
    value = objective(losses, torch.arange(4))
    assert float(value.detach()) == pytest.approx((2.0 + 0.5) / 2 + 10 * 0.75**2)
    value.backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == pytest.approx([0.25 + 10 * 0.75 / 2] * 2 + [0.25 - 10 * 0.75 / 2] * 2)
    assert float(objective(torch.tensor([1.0, 3.0]), torch.tensor([0, 1]))) == 2.0, "one environment has no variance"


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1, max_size=30))
def test_exactly_the_errors_weigh_more(faces: list[tuple[float, bool]]) -> None:
    logits, labels = torch.tensor([f[0] for f in faces]), torch.tensor([f[1] for f in faces])
    found = upweighted(logits, labels).tolist()
    wrong = [(logit > 0) != label for logit, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    assert found == [JTT_WEIGHT if one else 1.0 for one in wrong]


def test_erm_is_the_plain_training(folder: Path, tmp_path: Path) -> None:
    ours, plain = state(weights_of(Robust(PLANT, "erm"), folder)), state(plant(PLANT, tmp_path))
    assert ours.keys() == plain.keys()
    for name, tensor in plain.items():
        assert ours[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_jtt_stands_on_the_errors_of_its_first_model(folder: Path, tmp_path: Path) -> None:
    faces, images, labels = material(PLANT)
    first = from_weights(folder / f"{PLANT.name}.jtt.identification" / "classifier.safetensors", name="first")
    with torch.no_grad():
        guess = first.logits(images.load(range(len(faces))).images)[:, 0] > 0
    wrong = guess != (faces.labels()[:, ATTRIBUTES.index(PLANT.target)] > 0.5)
    assert 0 < int(wrong.sum()) < len(faces)
    objective = Weighted(1.0 + (JTT_WEIGHT - 1.0) * wrong.float())
    again = train_classifier(images, labels, out=tmp_path / "again", options=recipe(PLANT), objective=objective)
    ours, theirs = state(weights_of(Robust(PLANT, "jtt"), folder)), state(again.weights)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_dfr_changes_only_the_last_layer(folder: Path) -> None:
    erm, dfr = (state(weights_of(Robust(PLANT, m), folder)) for m in ("erm", "dfr"))
    assert erm.keys() == dfr.keys()
    changed = {name for name in erm if not torch.equal(erm[name], dfr[name])}
    last = [name for name in erm if name.startswith("head.")][-1].rpartition(".")[0]
    assert changed == {f"{last}.weight", f"{last}.bias"}


def test_dfr_learns_from_balanced_groups() -> None:
    faces = balanced(PLANT, each=20)
    found = groups(faces, target=PLANT.target, shortcut=PLANT.shortcut)
    assert torch.bincount(found).tolist() == [20] * 4
    assert DFR_GROUP >= 20
    label, short = (faces.labels()[:, ATTRIBUTES.index(name)] > 0.5 for name in (PLANT.target, PLANT.shortcut))
    assert torch.equal(found, torch.tensor([2 * int(a) + int(b) for a, b in zip(label, short, strict=True)]))


def test_the_last_layer_is_at_its_optimum() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)) * [1.0, 10.0, 0.1, 1.0, 0.0] + 3.0
    y = (x[:, 0] - 3.0 + 0.5 * rng.normal(size=80)) > 0
    w, b = logistic(x, y)
    assert w[4] == 0.0
    spread = x.std(0)
    error = 1 / (1 + np.exp(-(x @ w + b))) - y
    standardised = (x - x.mean(0)) / np.where(spread > 0, spread, 1.0)
    assert np.abs(standardised.T @ error + w * spread).max() < 1e-3
    assert abs(error.sum()) < 1e-3


def test_environments_differ_in_correlation() -> None:
    of = torch.tensor([0, 3] * 1500 + [1, 2] * 500)
    where = environments(of, seed=1)
    differ = ((of == 1) | (of == 2)).float()
    assert float(differ[where == 1].mean()) == pytest.approx(0.9 * 0.25 / (0.9 * 0.25 + 0.5 * 0.75), abs=0.03)
    assert float(differ[where == 0].mean()) == pytest.approx(0.1 * 0.25 / (0.1 * 0.25 + 0.5 * 0.75), abs=0.02)
    assert torch.equal(where, environments(of, seed=1))


def test_methods_differ_and_are_found_again(folder: Path) -> None:
    states = [state(weights_of(Robust(PLANT, m), folder))["head.1.weight"] for m in METHODS if m != "dfr"]
    assert all(not torch.equal(a, b) for k, a in enumerate(states) for b in states[:k])
    before = {m: weights_of(Robust(PLANT, m), folder).stat().st_mtime_ns for m in METHODS}
    train_robust(Robust(PLANT, "dfr"), folder)
    assert before == {m: weights_of(Robust(PLANT, m), folder).stat().st_mtime_ns for m in METHODS}
    assert load_robust(Robust(PLANT, "rex"), folder).name == f"{PLANT.name}.rex" == "big_lips_from_eyeglasses@0.9#0.rex"


def test_an_unknown_method_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^Unknown training method 'mixup'; expected one of erm, .*, rex\.$"):
        Robust(PLANT, "mixup")
    with pytest.raises(BadInput, match=r"^big_lips_from_eyeglasses@0.9#0.jtt was not trained yet"):
        load_robust(Robust(PLANT, "jtt"), tmp_path)


def _images(count: int = 120) -> tuple[TensorImages, Labels]:
    drawn = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images, none = TensorImages(drawn), Leftover(0, ())
    value = (drawn.mean((1, 2, 3)) > drawn.mean()).double()[:, None].numpy()
    return images, Labels(images.ids, ("bright",), value, None, {}, none, none, {})


class _Stop(Exception):
    pass


def test_an_interrupted_training_remembers_its_group_weights(tmp_path: Path) -> None:
    images, labels = _images()
    of = torch.arange(120) % 3

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("train", 13):
            raise _Stop

    def trained(out: Path, *, objective: Objective, **more: Any) -> Path:
        return train_classifier(images, labels, out=out, options=SMALL, objective=objective, **more).weights

    objective = GroupDRO(of, step=0.5)
    whole = trained(tmp_path / "whole" / "m", objective=objective)
    assert objective.share.tolist() == pytest.approx([1 / 3] * 3), "the caller's objective is left as it came"
    with pytest.raises(_Stop):
        trained(tmp_path / "parts" / "m", objective=GroupDRO(of, step=0.5), progress=stop)
    assert (tmp_path / "parts" / "m" / "checkpoint.pt").is_file()
    parts = trained(tmp_path / "parts" / "m", objective=GroupDRO(of, step=0.5))
    assert whole.read_bytes() == parts.read_bytes()
    with pytest.raises(RunMismatch, match="objective"):
        trained(tmp_path / "whole" / "m", objective=GroupDRO(of, step=0.1))


def trained(method: str, dose: float, effect: float, gap: float, *, pair: str = "t", seed: int = 0) -> RobustClassifier:
    numbers = dict.fromkeys(
        ("truth_here", "ci_low", "ci_high", "incoming", "outgoing", "outgoing_low", "outgoing_high"), math.nan
    )
    return RobustClassifier(
        classifier=f"{pair}{method}{dose}{seed}",
        target=pair,
        shortcut="s",
        dose=dose,
        training_seed=seed,
        method=method,
        accuracy=0.9,
        worst_group=0.9 - gap,
        gap=gap,
        truth=effect,
        effect=effect,
        outgoing_n=0,
        **numbers,
    )


def test_rank_correlations_within_pairs_doses_and_methods() -> None:
    """Within each pair effects follow gaps; over both pairs they do not, for the second has larger gaps of smaller
    effects. The sign of an effect does not matter.
    """
    first = [trained("erm", d, -d, d / 10, pair="t") for d in (0.0, 0.5, 0.9, 1.0)]
    second = [trained("erm", d, d / 100, 0.5 + d / 10, pair="u") for d in (0.0, 0.5, 0.9, 1.0)]
    found = Robustness((*first, *second), RobustnessOptions()).agreements["rank_effect_gap"]
    assert (found["within_pairs"].rho, found["within_pairs"].groups) == (1.0, 2)
    assert (found["t_from_s"].rho, found["u_from_s"].rho) == (1.0, 1.0)
    assert found["all"].rho < 0.7
    assert (found["fixed_method"].rho, found["fixed_method"].n) == (1.0, 6), "the control is no planted dose"
    assert math.isnan(found["fixed_dose"].rho), "one classifier per pair and dose has no order"


def test_means_of_methods_leave_out_the_control() -> None:
    rows = [trained("erm", d, e, g) for d, e, g in ((0.0, 0.0, 0.01), (0.5, 0.2, 0.1), (1.0, 0.6, 0.3))]
    options = RobustnessOptions(methods=("erm",), doses=(0.5, 1.0))
    means = {(m.method, m.dose): m for m in Robustness(tuple(rows), options).methods}
    assert list(means) == [("erm", None), ("erm", 0.5), ("erm", 1.0), ("erm", 0.0)]
    pooled = means["erm", None]
    assert (pooled.n, pooled.means["effect"][0]) == (2, pytest.approx(0.4))
    assert pooled.means["effect"][1:] == pytest.approx((0.2, 0.6)), "two classifiers vary as two values"
    assert math.isnan(means["erm", 0.5].means["gap"][1])


TINY = replace(
    QUICK, doses=(1.0,), methods=("erm", "dfr"), training_faces=300, faces=60, limit=2, independent=80, interventions=4
)


def _benchmark(folder: Path, *words: str) -> worlds.Ended:
    where = ["--workers", "1", "--models", "models", *(() if "--out" in words else ("--out", "out"))]
    return worlds.cfalign("benchmark", "robustness", "--quick", "--json", *where, *words, folder=folder)


def _checked(folder: Path, *, classifiers: int) -> dict[tuple[str, float], dict[str, float]]:
    """Run the benchmark: its files and its order of numbers. Returns what it says of every classifier."""
    ended = _benchmark(folder)
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    headline = result["headline"]
    assert headline["classifiers"] == len(result["classifiers"]) == classifiers
    for name in ("rank_effect_gap", "rank_incoming_gap", "rank_outgoing_gap", "rank_truth_gap", "rank_effect_truth"):
        known = [headline[f"{name}{end}"] for end in ("_low", "", "_high")]
        assert None in known or known == sorted(known)
    assert (folder / "out" / "robustness.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((folder / "out" / "summary.json").read_text())["headline"] == headline
    return {(row["method"], row["dose"]): row for row in result["classifiers"]}


def test_the_benchmark_runs_and_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("cfalign._cli.benchmark.robustness"), "QUICK", TINY)
    rows = _checked(tmp_path, classifiers=3)
    assert set(rows) == {("erm", 0.0), ("erm", 1.0), ("dfr", 1.0)}

    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "models").rglob("*.safetensors")}
    before = (tmp_path / "out" / "summary.json").read_bytes()
    assert _benchmark(tmp_path).code == 0
    assert (tmp_path / "out" / "summary.json").read_bytes() == before
    assert files == {p: p.stat().st_mtime_ns for p in (tmp_path / "models").rglob("*.safetensors")}
    (tmp_path / "file").touch()
    refused = _benchmark(tmp_path, "--out", "file")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    other = _benchmark(tmp_path, "--seed", "1")
    assert other.code == 2
    assert "holds another run" in other.err
    assert "Traceback" not in other.err


@pytest.mark.slow
def test_effects_follow_the_truth_over_the_methods(tmp_path: Path) -> None:
    """The quick form, of 11 classifiers."""
    rows = _checked(tmp_path, classifiers=11)
    headline = json.loads((tmp_path / "out" / "summary.json").read_text())["headline"]
    assert headline["rank_effect_truth"] >= 0.6, "of the truth, at 10 counterfactuals per head"
    assert rows["erm", 1.0]["truth"] > 0.5 > abs(rows["erm", 0.0]["truth"])
    assert rows["erm", 1.0]["gap"] > rows["dfr", 1.0]["gap"]
