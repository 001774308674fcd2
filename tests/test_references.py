"""Imperfect reference heads: what balances their labels, how they are trained, and the benchmark that uses them."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import worlds
from cfalign import classifiers
from cfalign._errors import BadInput
from cfalign.benchmarks.references.options import QUICK, VARIANTS, ReferencesOptions, TrainingSet
from cfalign.benchmarks.references.reference_heads import CHECKS, PARTNERS, IndependentFaces, ReferenceHead
from cfalign.benchmarks.references.result import MeasuredReference, References
from cfalign.benchmarks.true_effects import Interventions
from cfalign.classifiers.by_spec import EMBEDDED
from cfalign.synthetic import ATTRIBUTES, render, sample
from cfalign.training.objectives import BalancedLabels, Weighted
from cfalign.training.recipes.embedded import RECIPE
from cfalign.training.recipes.imperfect_references import (
    CLIP,
    EXPOSURES,
    Imperfect,
    balancing,
    load_reference,
    recipe,
    weights_of,
)
from cfalign.training.recipes.planted_shortcuts import PAIRS

FEW = [
    ATTRIBUTES.index(a) for a in ("big_lips", "eyeglasses", "goatee", "no_beard", "black_hair", "gray_hair", "smiling")
]


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:  # type: ignore[type-arg]
    table = np.cov(np.stack([x, y]), aweights=weights)
    return float(table[0, 1] / math.sqrt(table[0, 0] * table[1, 1]))


def test_all_pairs_can_hold_together() -> None:
    names = [name for pair in PAIRS for name in pair]
    assert len(set(names)) == len(names), "disjoint"
    labels = sample(6000, seed=1, correlations=dict.fromkeys(PAIRS, 0.9)).labels().numpy()
    for pair in PAIRS:
        a, b = (labels[:, ATTRIBUTES.index(name)] for name in pair)
        assert np.corrcoef(a, b)[0, 1] == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("dose", [0.5, 0.9])
def test_balanced_labels_say_nothing_about_each_other(dose: float) -> None:
    labels = sample(4000, seed=3, correlations={("big_lips", "eyeglasses"): dose}).labels()[:, FEW]
    weights, values = balancing(labels).numpy(), labels.numpy()
    assert weights.mean(0) == pytest.approx(np.ones(len(FEW)), abs=1e-4)
    assert weights.max() < 1.2 / CLIP
    for own, other in ((0, 1), (1, 0), (0, 6), (6, 0)):
        assert abs(_correlation(values[:, own], values[:, other], weights[:, own])) < 0.03
    assert np.corrcoef(values[:, 0], values[:, 1])[0, 1] > dose - 0.05
    share = np.average(values[:, 0], weights=weights[:, 0])
    assert share == pytest.approx(values[:, 0].mean(), abs=0.02), "the head's own frequency stays"
    # two hair colours never come together, and a goatee is no no_beard: such labels are left as they are
    for own, other in ((4, 5), (2, 3)):
        before, after = (_correlation(values[:, own], values[:, other], w) for w in (np.ones(4000), weights[:, own]))
        assert after == pytest.approx(before, abs=0.05)


def test_independent_labels_keep_their_weights_and_constant_ones_have_none() -> None:
    rng = np.random.default_rng(0)
    labels = torch.from_numpy((rng.random((2000, 4)) < 0.5).astype(np.float32))
    labels[:, 3] = 1
    weights = balancing(labels)
    assert (weights[:, 3] == 1).all()
    assert weights[:, :3].std() < 0.1


def test_balanced_loss_in_closed_form() -> None:
    weights = torch.tensor([[1.0, 2.0], [0.5, 0.0], [3.0, 1.0]])
    losses = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    known = torch.tensor([[True, True], [True, False]])
    at = torch.tensor([2, 0])
    # image 2: (3·1 + 1·2)/2, image 0: its first label alone, 1·4
    assert float(BalancedLabels(weights).of_labels(losses, known, at)) == pytest.approx((2.5 + 4.0) / 2)
    plain = Weighted(torch.ones(3)).of_labels(losses, known, at)
    assert float(plain) == pytest.approx((1.5 + 4.0) / 2)
    assert float(BalancedLabels(torch.ones(3, 2)).of_labels(losses, known, at)) == pytest.approx(float(plain))


def test_recipes_differ_in_what_they_should() -> None:
    one = {name: Imperfect(0.5, 6000, name) for name in ("plain", "reconstructed", "balanced", "judge")}
    assert recipe(one["plain"]).reconstructed == 0 < RECIPE.attributes.reconstructed
    assert recipe(one["reconstructed"]) == recipe(one["balanced"])
    assert one["judge"].stream != one["balanced"].stream == one["plain"].stream
    assert recipe(one["judge"]).widths != recipe(one["balanced"]).widths
    assert recipe(one["plain"]).epochs == EXPOSURES / 6000
    assert recipe(Imperfect(0.5, 24_000, "plain")).epochs == RECIPE.attributes.epochs
    names = [
        Imperfect(0.5, n, k, seed=s, exposures=e).name
        for n in (10, 20)
        for k in VARIANTS
        if k in one
        for s in (0, 1)
        for e in (1, EXPOSURES)
    ]
    assert len(set(names)) == len(names)


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nonsense"):
        Imperfect(0.5, 100, "nonsense")
    with pytest.raises(BadInput, match="dose"):
        Imperfect(1.0, 100, "plain")
    with pytest.raises(BadInput, match="nonsense"):
        TrainingSet(0.5, 100, ("nonsense",))
    with pytest.raises(BadInput, match="not trained yet"):
        load_reference(Imperfect(0.5, 100, "plain"), tmp_path)


def reference_head(attribute: str, leak: float, **checks: float) -> ReferenceHead:
    return ReferenceHead(attribute, 0.9, 0.5, leak, dict.fromkeys(CHECKS, 0.0) | checks)


def measured(variant: str, *heads: ReferenceHead, dose: float = 0.5, faces: int = 6000) -> MeasuredReference:
    return MeasuredReference(dose, faces, variant, (), heads)


def test_checks_are_scored_on_heads_of_networks_and_low_judge_shares_are_bad() -> None:
    leaking = reference_head("a", 0.4, drift=0.2, judge_share=0.1, entangled=0.0)
    clean = reference_head("b", 0.0, drift=0.1, judge_share=0.9, entangled=math.nan)
    alone = reference_head("c", math.nan, drift=9.0, judge_share=9.0)
    balanced, judged = (measured(name, leaking, clean, alone) for name in ("balanced", "balanced_judged"))
    other = measured("plain", reference_head("a", 0.0, drift=0.3, judge_share=0.8))
    checks = References((balanced, judged, other), ReferencesOptions()).checks
    assert checks["drift"].value == 0.5, "one of two clean heads drifts less; variants of one network count once"
    assert checks["judge_share"].value == 1.0
    assert checks["entangled"].value == 0.5, "the head without this check takes no part"
    assert math.isnan(References((measured("plain", alone),), ReferencesOptions()).checks["drift"].value)


def test_the_headline_is_the_recommended_variant_on_the_largest_set_up_to_6000_faces() -> None:
    variants = [measured("balanced", faces=n) for n in (1000, 6000, 24_000)]
    result = References((*variants, measured("plain", dose=0.9)), ReferencesOptions())
    assert result.headline["faces"] == 6000
    assert result.at("balanced", 0.5, 6000) is variants[1]
    assert result.at("plain", 0.5, 6000) is None
    assert "plain.auroc_used" not in result.headline, "it was not measured at dose 0.5"
    assert "balanced.auroc_used" in result.headline


def test_accuracy_and_true_effects_of_reference_heads() -> None:
    drawn = sample(20, seed=3)
    shipped = classifiers.load("embedded")
    faces = IndependentFaces(render(drawn), drawn.labels(), Interventions.on_faces(drawn[:2]))
    with torch.no_grad():
        positive = shipped.logits(faces.images) > 0
    columns = [ATTRIBUTES.index(target) for target in shipped.targets]
    expected = (positive == (drawn.labels()[:, columns] > 0.5)).double().mean(dim=0)
    assert faces.accuracies(shipped) == pytest.approx(expected.tolist())
    assert all(PARTNERS[PARTNERS[attribute]] == attribute for attribute in PARTNERS), "partners are mutual"


TINY = replace(
    QUICK,
    points=(TrainingSet(0.5, 300, QUICK.points[0].variants),),
    pairs=QUICK.pairs[:1],
    limit=2,
    audited=60,
    interventions=4,
    independent=40,
    exposures=1500,
)


def _benchmark(folder: Path, *words: str) -> worlds.Ended:
    where = ["--workers", "1", "--models", "models", "--out", "out"]
    return worlds.cfalign("benchmark", "references", "--quick", "--json", *where, *words, folder=folder)


def _checked(folder: Path) -> dict[str, Any]:
    """Run the benchmark: its files, and what does not depend on its size. Returns its rows by variant."""
    ended = _benchmark(folder)
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    headline, rows = result["headline"], {row["variant"]: row for row in result["references"]}
    assert list(rows) == list(QUICK.points[0].variants)
    assert headline["auroc_used_dose_0_5_here"] == headline["balanced.auroc_used_here"]
    truths = {tuple(p["truth"] for p in row["pairs"]) for row in rows.values()}
    assert len(truths) == 1, "the truth is the same for all references"
    judged, unjudged = ([p["effect"] for p in rows[v]["pairs"]] for v in ("balanced_judged", "balanced"))
    assert judged != unjudged
    assert (folder / "out" / "references.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((folder / "out" / "summary.json").read_text())["headline"] == headline
    return rows


def test_the_benchmark_runs_and_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heads are those that are shipped, as if they had been trained before; their judge is trained."""
    monkeypatch.setattr(import_module("cfalign._cli.benchmark.references"), "QUICK", TINY)
    known = weights_of(TINY.network(TINY.points[0], "balanced"), tmp_path / "models")
    known.parent.mkdir(parents=True)
    shutil.copy(EMBEDDED / "attributes.safetensors", known)
    _checked(tmp_path)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    before = (tmp_path / "out" / "summary.json").read_bytes()
    assert _benchmark(tmp_path).code == 0
    assert (tmp_path / "out" / "summary.json").read_bytes() == before
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    other = _benchmark(tmp_path, "--seed", "1")
    assert other.code == 2
    assert "holds another run" in other.err
    assert "Traceback" not in other.err


@pytest.mark.slow
def test_heads_learn_their_partner_from_confounded_faces(tmp_path: Path) -> None:
    """The quick form, of 400 faces."""
    rows = _checked(tmp_path)
    assert 0.97 > rows["balanced"]["accuracy"] > 0.55, "heads that learnt something from few faces"
    assert rows["balanced"]["leak"] > 0.02, "… and the partner with it"
