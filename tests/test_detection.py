"""The detection benchmark's arithmetic on pairs whose scores are known: kinds, rates, doses, and its parts on disk."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfalign import classifiers
from cfalign._analysis.statistics import auroc
from cfalign._errors import RunMismatch
from cfalign._heads.reference import Reference
from cfalign.benchmarks.detection.detectors import PlantedClassifier, ShortcutFaces
from cfalign.benchmarks.detection.measure import pairs_once
from cfalign.benchmarks.detection.options import DetectionOptions, Effort
from cfalign.benchmarks.detection.result import DETECTORS, AuditedPair, Detection


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
