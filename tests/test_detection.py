"""The detection benchmark's arithmetic on pairs whose scores are known: kinds, rates, doses, and its parts on disk."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import worlds
from cfalign import autoencoders, classifiers
from cfalign._analysis.statistics import auroc
from cfalign._errors import RunMismatch
from cfalign._heads.composition import head
from cfalign._heads.reference import Reference
from cfalign._results import Effect
from cfalign._runs.columns import Column
from cfalign._runs.run import Run
from cfalign.benchmarks.detection.detectors import PlantedClassifier, ShortcutFaces, derivatives, detect
from cfalign.benchmarks.detection.measure import pairs_once
from cfalign.benchmarks.detection.options import DetectionOptions, Effort
from cfalign.benchmarks.detection.result import DETECTORS, AuditedPair, Detection
from cfalign.benchmarks.true_effects import true_effects
from cfalign.synthetic import ATTRIBUTES, DERIVED, INTERVENABLE


def pair(classifier: str = "a", attribute: str = "x", *, truth: float, effect: float, **more: Any) -> AuditedPair:
    numbers = dict.fromkeys(DETECTORS, 0.0) | {"effect": effect}
    rest = {"q": 0.001, "ci_low": effect - 0.05, "ci_high": effect + 0.05, "outgoing_q": 1.0, "truth_here": truth}
    given = {"target": "t", "shortcut": "x", "dose": 0.9, "seed": 0, **rest, **numbers, **more}
    return AuditedPair(classifier=classifier, attribute=attribute, truth=truth, **given)


def result(*pairs: AuditedPair) -> Detection:
    return Detection(pairs, DetectionOptions())


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30))
def test_auroc_counts_pairs_in_the_right_order(rows: list[tuple[float, bool]]) -> None:
    score, positive = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    wins = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert auroc(score, positive.astype(float)) == pytest.approx(np.mean(wins) if wins else np.nan, nan_ok=True)


def test_kinds_of_pairs() -> None:
    assert pair(truth=0.5, effect=0).kind(0.1) == "used"
    assert pair(truth=-0.5, effect=0, attribute="y").kind(0.1) == "used"
    assert pair(truth=0.05, effect=0).kind(0.1) == "correlated"
    assert pair(truth=0.05, effect=0, attribute="y").kind(0.1) == "neither"


def test_rates_count_findings() -> None:
    found = result(
        pair("a", truth=0.6, effect=0.5),
        pair("b", truth=0.6, effect=0.5, q=0.2),
        pair("c", truth=0.6, effect=0.08, dose=0.5),
        pair("d", truth=0.0, effect=0.3),
        pair("e", truth=0.0, effect=0.3, ci_low=-0.1),
        pair("f", "y", truth=0.0, effect=0.02),
    )
    rates = {name: score.value for name, score in found.rates().items()}
    assert rates["power"] == pytest.approx(1 / 3)
    assert rates["power_dose_0_9"] == pytest.approx(1 / 2)
    assert rates["false_alarm_rate"] == pytest.approx(1 / 3)
    assert rates["false_alarm_rate_correlated"] == pytest.approx(1 / 2)
    assert rates["interval_coverage"] == pytest.approx(2 / 6), "e's interval holds 0, and f's does"
    assert found.headline["power_dose_0_9"] == rates["power_dose_0_9"]


def test_findings_per_audit_where_nothing_was_planted() -> None:
    rows = [pair(c, f"y{k}", truth=0.0, effect=0.0, dose=0.0) for c in ("a", "b") for k in range(9)]
    rows += [pair("a", "x", truth=0.0, effect=0.4, dose=0.0), pair("b", "x", truth=0.0, effect=0.0, dose=0.0)]
    rows += [pair("c", f"y{k}", truth=0.5, effect=0.5) for k in range(10)]
    headline = result(*rows).headline
    assert (headline["unplanted_audits"], headline["findings_per_unplanted_audit"]) == (2, pytest.approx(0.5))


def test_intervals_draw_classifiers_whole() -> None:
    """Two classifiers of many equal pairs vary as two, not as many."""
    few = [
        pair(c, f"y{k}", truth=0.0, effect=0.0, ci_low=low) for c, low in (("a", -1.0), ("b", 1.0)) for k in range(50)
    ]
    rate = result(*few).rates()["interval_coverage"]
    assert (rate.value, rate.ci_low, rate.ci_high) == (0.5, 0.0, 1.0)


def test_an_undefined_detector_takes_no_part() -> None:
    rows = [
        pair("a", f"y{k}", truth=0.5 * (k < 3), effect=0.1 * k, outgoing=np.nan if k == 5 else -k) for k in range(6)
    ]
    scores = result(*rows).scores("outgoing")
    assert scores["auroc"].value == pytest.approx(auroc(np.arange(5.0), (np.arange(5) < 3).astype(float)))


def test_doses_are_means_of_the_shortcut_alone_and_monotone_is_said_per_target() -> None:
    rows = [pair(f"{d}{s}", truth=d, effect=d + 0.1 * s, dose=d, seed=s) for d in (0.0, 0.5, 1.0) for s in (0, 1)]
    rows += [pair("z", truth=0.2, effect=0.9 - d, dose=d, target="u") for d in (0.0, 1.0)]
    rows += [pair("0.50", "y", truth=0.0, effect=9.0, dose=0.5)]
    found = result(*rows)
    curve = {(d.target, d.dose): d for d in found.doses}
    assert curve["t", 0.5].effect == pytest.approx(0.55)
    assert (curve["t", 0.5].n, curve["all", 0.0].n) == (2, 3)
    assert found.monotone == {"all": True, "t": True, "u": False}
    assert (found.headline["targets"], found.headline["monotone_targets"]) == (2, 1)


def test_parts_are_found_again_and_those_of_other_models_refused(tmp_path: Path) -> None:
    twin = classifiers.load("embedded:chubby_from_pale_skin_0")
    faces = ShortcutFaces.drawn("chubby", "pale_skin", [PlantedClassifier("twin", twin, 0.0, 0)], faces=4, seed=1)
    reference = Reference(classifiers.load("embedded"), None)
    made = [pair("twin", truth=0.1, effect=float("nan"), target="chubby", shortcut="pale_skin")]
    calls: list[int] = []

    def make() -> list[AuditedPair]:
        calls.append(1)
        return made

    first = pairs_once(faces, make, Effort(), reference, tmp_path)
    again = pairs_once(faces, make, Effort(), reference, tmp_path)
    assert len(calls) == 1
    assert [str(asdict(p)) for p in again] == [str(asdict(p)) for p in first]
    other = Reference(reference.classifier, classifiers.load("embedded:oracle"))
    with pytest.raises(RunMismatch):
        pairs_once(faces, make, Effort(), other, tmp_path)
    with pytest.raises(RunMismatch):
        pairs_once(faces, make, replace(Effort(), limit=3), reference, tmp_path)


def test_readings_are_those_of_the_run_and_of_the_labels(tmp_path: Path) -> None:
    """A planted classifier and its twin on few faces: the tables of ``detect`` against the run's own files."""
    names = ("chubby_from_pale_skin", "chubby_from_pale_skin_0")
    subjects = [
        PlantedClassifier(name, classifiers.load(f"embedded:{name}"), 0.9 * (k == 0), 0) for k, name in enumerate(names)
    ]
    faces = ShortcutFaces.drawn("chubby", "pale_skin", subjects, faces=40, seed=1)
    phi = np.corrcoef(faces.faces.labels().numpy()[:, [ATTRIBUTES.index(a) for a in ("chubby", "pale_skin")]].T)[0, 1]
    assert phi > 0.7
    truth = {name: np.arange(len(INTERVENABLE)) + 100.0 * k for k, name in enumerate(names)}
    rows = detect(
        faces,
        reference=Reference(classifiers.load("embedded"), None),
        autoencoder=autoencoders.load("embedded"),
        effort=Effort(limit=2, faces=40, interventions=1, interventions_here=1, maps=0, derivatives=4),
        truth=lambda: truth,
        out=tmp_path / "run",
    )
    run = Run(tmp_path / "run")
    label = dict(zip(names, run.record()["audited"], strict=True))
    effects = {(e.audited, e.attribute): e for e in run.rows(Effect)}
    cells = {(c.base, c.downstream): c for c in run.cells()}
    scores = run.scores()
    attributes = {row.attribute for row in rows}
    assert "chubby" not in attributes
    assert not attributes & set(DERIVED)
    assert len(rows) == 2 * len(attributes)
    for row in rows:
        effect, cell = effects[label[row.classifier], row.attribute], cells[label[row.classifier], row.attribute]
        assert str((row.effect, row.q, row.incoming)) == str((effect.effect, effect.q, effect.incoming))
        assert str((row.outgoing, row.outgoing_q)) == str((cell.psi, cell.q))
        assert row.truth == INTERVENABLE.index(row.attribute) + 100 * (row.classifier == names[1])
        assert np.isnan(row.saliency_gradient), "no maps were asked for"
        both = scores.select(Column.RECONSTRUCTION.columns([label[row.classifier], row.attribute])).to_numpy()
        assert row.prediction_correlation == pytest.approx(np.corrcoef(both.T)[0, 1], nan_ok=True)
    shortcut = next(row for row in rows if row.attribute == "pale_skin")
    assert shortcut.label_correlation == pytest.approx(phi)
    assert shortcut.truth_here == pytest.approx(
        true_effects([subjects[0].classifier], faces.faces[:1])[0, INTERVENABLE.index("pale_skin")]
    )


def test_directional_derivatives_in_a_linear_world() -> None:
    """The latents are isotropic, so the concept of a head is its gradient: the derivative of logit a along concept b is
    ⟨m_a, m_b⟩ / ‖m_b‖ over the standard deviation of a.
    """
    images = worlds.images(2000)
    classifier = worlds.heads()
    bases = [head(classifier, target) for target in classifier.targets]
    table = derivatives(images, bases, bases, worlds.autoencoder(), 500)
    gradients = worlds.GAIN * worlds.MIXING.numpy().T
    concepts = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    spread = worlds.heads().logits(images[:500]).detach().numpy().std(axis=0)
    np.testing.assert_allclose(table, gradients @ concepts.T / spread[:, None], atol=0.15)
