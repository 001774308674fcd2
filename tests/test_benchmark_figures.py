"""Figures of the benchmarks: the marks that are drawn stand at the numbers of the result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from cfalign.benchmarks.counterfactuals.drawing import PANELS, methods_figure
from cfalign.benchmarks.counterfactuals.result import Comparison, Estimate
from cfalign.benchmarks.detection.drawing import NAMES, detection_figure
from cfalign.benchmarks.detection.options import DetectionOptions
from cfalign.benchmarks.detection.result import DETECTORS, AuditedPair, Detection
from cfalign.benchmarks.references.drawing import references_figure
from cfalign.benchmarks.references.options import ReferencesOptions
from cfalign.benchmarks.references.reference_heads import CHECKS, ReferenceHead
from cfalign.benchmarks.references.result import MeasuredReference, References
from cfalign.benchmarks.robustness.drawing import COLOURS, robustness_figure
from cfalign.benchmarks.robustness.options import RobustnessOptions
from cfalign.benchmarks.robustness.result import RobustClassifier, Robustness


def points(axes: Axes) -> list[tuple[float, float]]:
    """Places of all marks."""
    marks = [line for line in axes.lines if line.get_marker() not in ("None", "", "|")]
    return [(float(x), float(y)) for line in marks for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def pair(k: int, *, dose: float, effect: float, truth: float) -> AuditedPair:
    numbers: dict[str, Any] = dict.fromkeys(DETECTORS, float(k)) | {"effect": effect, "tcav": math.nan}
    return AuditedPair(
        classifier=f"c{k}",
        target="t",
        shortcut="x",
        dose=dose,
        seed=0,
        attribute="x",
        truth=truth,
        truth_here=truth,
        ci_low=effect - 0.1,
        ci_high=effect + 0.1,
        q=0.001,
        outgoing_q=1.0,
        **numbers,
    )


PAIRS = tuple(pair(k, dose=k / 4, effect=0.2 * k, truth=0.25 * (k > 2)) for k in range(5))


def test_detectors_by_average_precision_and_effects_by_dose() -> None:
    result = Detection(PAIRS, DetectionOptions())
    left, right = detection_figure(result).axes
    order = [label.get_text() for label in left.get_yticklabels()]
    assert set(order) == set(NAMES.values())
    assert order[0] == NAMES["tcav"], "an undefined detector is the lowest"
    drawn = {order[round(y)]: x for x, y in points(left)}
    for detector in DETECTORS[:-1]:
        assert drawn[NAMES[detector]] == result.scores(detector, "truth_here")["average_precision"].value
    curve = next(line for line in right.lines if line.get_label() == "effect from the audit")
    np.testing.assert_allclose(curve.get_xydata(), [(k / 4, 0.2 * k) for k in range(5)])
    assert "5 attributes are used? 2 are" in left.get_title(loc="left")


def test_references_have_a_row_each() -> None:
    heads = tuple(
        ReferenceHead(name, 0.9, 0.5, leak, dict.fromkeys(CHECKS, 0.0))
        for name, leak in zip("ab", (0.1, 0.3), strict=True)
    )
    rows = tuple(MeasuredReference(0.5, n, "balanced", PAIRS, heads) for n in (100, 200))
    scores, errors, leaks = references_figure(References(rows, ReferencesOptions())).axes
    assert [label.get_text()[:21] for label in scores.get_yticklabels()] == [
        "dose 0.5, 200 faces: ",
        "dose 0.5, 100 faces: ",
    ]
    assert points(scores) == [
        (rows[1].scores["auroc_used_here"].value, 0),
        (rows[0].scores["auroc_used_here"].value, 1),
    ]
    assert points(errors) == [(pytest.approx(rows[1].scores["rmse_effect_here"].value), y) for y in (0, 1)]
    assert points(leaks) == [(pytest.approx(0.2), 0), (pytest.approx(0.2), 1)]


def robust(method: str, effect: float, low: float, high: float, gap: float) -> RobustClassifier:
    unknown = dict.fromkeys(("incoming", "outgoing", "outgoing_low", "outgoing_high"), math.nan)
    return RobustClassifier(
        classifier=method,
        target="t",
        shortcut="s",
        dose=0.9,
        training_seed=0,
        method=method,
        accuracy=0.9,
        worst_group=0.9 - gap,
        gap=gap,
        truth=effect,
        truth_here=effect,
        effect=effect,
        ci_low=low,
        ci_high=high,
        outgoing_n=0,
        **unknown,
    )


def test_robust_classifiers_stand_at_the_size_of_their_effect_and_their_gap() -> None:
    rows = (robust("erm", -0.5, -0.6, -0.4, 0.3), robust("jtt", 0.05, -0.1, 0.2, 0.1))
    options = RobustnessOptions(pairs=(("t", "s"),), doses=(0.9,), methods=("erm", "jtt"))
    (axes,) = robustness_figure(Robustness(rows, options)).axes
    assert points(axes) == [(0.5, 0.3), (0.05, 0.1)]
    intervals = [line for line in axes.lines if line.get_color() in COLOURS.values() and len(line.get_xdata()) == 2]
    assert [tuple(line.get_xdata()) for line in intervals] == [(0.4, 0.6), (0.0, 0.2)], (
        "an interval over zero starts there"
    )


def test_methods_have_a_dot_in_every_panel_where_they_are_defined() -> None:
    keys = [key for key, _, _ in PANELS]
    table = {key: Estimate(0.1 * k, 0.1 * k - 0.05, 0.1 * k + 0.05, 9) for k, key in enumerate(keys)}
    table["drop"] = Estimate(0.6, 0.5, 0.7, 7)
    undefined = table | {"removed": Estimate(math.nan, math.nan, math.nan, 0)}
    real = {"frechet_real": Estimate(0.3, 0.2, 0.4, 9)}
    figure = methods_figure(Comparison({"latent-shift": table, "pixels": undefined}, real, {}, 0))
    for k, (key, axes) in enumerate(zip(keys, figure.axes, strict=True)):
        expected = [(pytest.approx(0.1 * k), 0), (pytest.approx(0.1 * k), 1)]
        assert points(axes) == (expected[:1] if key == "removed" else expected)
