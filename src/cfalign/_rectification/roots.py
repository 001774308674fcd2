"""Where to look next for the root of a noisy function of few unknowns: secants, kept in a bracket; Broyden for several.

Pure: points seen so far in, the next point out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cfalign._results import Floats


def next_point(points: Sequence[Floats], values: Sequence[Floats], *, slope: Floats) -> Floats | None:
    """The next point [unknown] to evaluate; None when the bracket of a single unknown cannot be narrowed further.

    Args:
        points, values: what was seen, in order, each [unknown]; at least one.
        slope: [unknown, unknown], a first estimate of ∂value/∂point.
    """
    if len(points[0]) == 1:
        x, f = np.array([p[0] for p in points]), np.array([v[0] for v in values])
        found = _next_of_one(x, f, float(slope[0, 0]))
        return None if found is None else np.array([found])
    return _broyden(points, values, slope)


def _next_of_one(x: Floats, f: Floats, slope: float) -> float | None:
    bracket = _bracket(x, f)
    if bracket is None:
        return _outside(x, f, slope)
    (a, fa), (b, fb) = bracket
    if abs(b - a) <= 1e-4 * (1 + max(abs(a), abs(b))):
        return None
    guess = _secant(x, f)
    share = (guess - a) / (b - a) if np.isfinite(guess) else np.nan
    if not 0.02 <= share <= 0.98:
        share = fa / (fa - fb)
    if len(x) > 5 and len(x) % 2 == 0:
        share = 0.5  # so that a jump or a bend cannot hold it up
    return float(a + np.clip(share, 0.05, 0.95) * (b - a))


def _bracket(x: Floats, f: Floats) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The narrowest pair of neighbours with a change of sign."""
    order = np.argsort(x)
    pairs = [(i, j) for i, j in pairwise(order) if f[i] * f[j] < 0]
    if not pairs:
        return None
    i, j = min(pairs, key=lambda pair: x[pair[1]] - x[pair[0]])
    return (float(x[i]), float(f[i])), (float(x[j]), float(f[j]))


def _secant(x: Floats, f: Floats) -> float:
    rise = f[-1] - f[-2]
    return float(x[-1] - f[-1] * (x[-1] - x[-2]) / rise) if rise != 0 else float("nan")


def _outside(x: Floats, f: Floats, slope: float) -> float:
    """No change of sign yet: extrapolate, at most three times the last step, never uphill."""
    best = int(np.argmin(np.abs(f)))
    if len(x) == 1:
        return float(x[0] - f[0] / (slope if slope > 0 else 1.0))
    last = abs(float(x[-1] - x[-2])) or 0.1
    down = -float(np.sign(f[best]))
    guess = _secant(x, f) - x[best]
    size = float(guess * down) if np.isfinite(guess) and guess * down > 0 else 1.5 * last
    return float(x[best] + down * np.clip(size, 0.25 * last, 3 * last))


def _broyden(points: Sequence[Floats], values: Sequence[Floats], slope: Floats) -> Floats:
    jacobian: Floats = slope
    for at in range(1, len(points)):
        step, rise = points[at] - points[at - 1], values[at] - values[at - 1]
        if (size := step @ step) > 0:
            change = np.outer(rise - jacobian @ step, step) / size
            jacobian = np.asarray(jacobian + change, dtype=np.float64)
    best = int(np.argmin([np.linalg.norm(v) for v in values]))
    newton = -np.linalg.lstsq(jacobian, values[best], rcond=1e-3)[0]
    longest, length = 0.5 + float(np.linalg.norm(points[best])), float(np.linalg.norm(newton))
    return np.asarray(points[best] + newton * (min(1.0, longest / length) if length > 0 else 1.0))
