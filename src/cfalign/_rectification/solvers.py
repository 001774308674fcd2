"""The two ways to β. Neither runs a backward pass: a step costs decoder forwards only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfalign._analysis.statistics import generator
from cfalign._rectification.mixture import linear_root
from cfalign._rectification.rectified import Ending, Step
from cfalign._rectification.roots import next_point
from cfalign._rectification.workbench import MixturePsi, Workbench
from cfalign._results import Floats
from cfalign._runs.progress import Progress

FAR = 20.0  # |β| beyond this has left for good
GROWN = 2.0  # |ψ| this many times its start, twice in a row, is divergence


@dataclass(frozen=True)
class Solution:
    """The best β on the validation images, and the way there."""

    beta: Floats
    ending: Ending
    best_step: int
    curve: tuple[Step, ...]


class _Journey:
    """The points seen, and when to stop."""

    def __init__(self, bench: Workbench, driven: tuple[str, ...]) -> None:
        self.bench, self.driven = bench, driven
        self.curve: list[Step] = []
        self.best, self.best_step = np.zeros(bench.shortcuts), 0
        self.start = self.least = float("inf")
        self.waited = self.grown = 0
        self.seen: list[tuple[int, Floats, float, float, float]] = []

    def record(self, step: int, beta: Floats, train: MixturePsi, validation: MixturePsi | None, decodes: int) -> None:
        """Keep a point; one with validation images counts for early stopping."""
        nothing = (float("nan"),) * len(beta)
        point = Step(
            step=step,
            beta=_plain(beta),
            psi_train=_plain(train.mean()),
            psi_logit_train=_plain(_mean_logit(train)),
            n_train=len(train),
            psi_validation=nothing if validation is None else _plain(validation.mean()),
            psi_logit_validation=nothing if validation is None else _plain(_mean_logit(validation)),
            n_validation=0 if validation is None else len(validation),
            decodes=decodes,
        )
        self.curve.append(point)
        if validation is None:
            return
        size = float(np.linalg.norm(validation.mean(self.driven)))
        enough = len(validation) >= self.bench.options.min_images
        if len(self.curve) == 1:
            self.start = size
        self.waited += 1
        if enough:
            trained = float(np.linalg.norm(train.mean(self.driven)))
            self.seen.append((step, beta.copy(), size, validation.error(self.driven), trained))
        if enough and size < self.least:
            self.best, self.best_step, self.least, self.waited = beta.copy(), step, size, 0

    def has_grown(self, size: float, start: float) -> bool:
        """Whether |ψ| has been far above its start twice in a row."""
        self.grown = self.grown + 1 if size > GROWN * start + 0.05 else 0
        return self.grown >= 2

    def prefer_trained(self) -> None:
        """Of the β that the validation images cannot tell from the best, within one standard error, the one nearest to
        the training root: validation stops what does not generalise, and its noise decides nothing.
        """
        if self.seen:
            error = next(e for step, _, _, e, _ in self.seen if step == self.best_step)
            close = [point for point in self.seen if point[2] <= self.least + error]
            self.best_step, self.best, self.least = min(close, key=lambda point: point[4])[:3]

    def end(self, ending: Ending | None) -> Solution:
        """``None``: the steps or the patience were spent."""
        if self.bench.options.solver == "secant":
            self.prefer_trained()
        if ending is None:
            ending = Ending.STOPPED_EARLY if self.least <= 0.5 * self.start else Ending.NO_ROOT
        return Solution(self.best, ending, self.best_step, tuple(self.curve))


def secant(bench: Workbench, driven: tuple[str, ...], start: MixturePsi, progress: Progress) -> Solution:
    """Root of the mean ψ(β) on the training images: a first guess from the remembered gradients, then secants.

    ``start``: measured at β = 0 on training and validation images.
    """
    options, journey = bench.options, _Journey(bench, driven)
    both = np.concatenate([bench.train, bench.validation])
    beta, measured = np.zeros(bench.shortcuts), start
    points: list[Floats] = []
    values: list[Floats] = []
    slope = np.eye(bench.shortcuts)
    for step in range(options.most_steps):
        progress("steps", step, options.most_steps)
        if step:
            measured = bench.measure(both, beta)
        train = measured.of(bench.train)
        journey.record(step, beta, train, measured.of(bench.validation), measured.decodes)
        if len(train) < options.min_images:  # too far: half the way back
            nearest = points[int(np.argmin([np.linalg.norm(v) for v in values]))]
            if step == options.most_steps - 1:
                return journey.end(Ending.TOO_FEW_IMAGES)
            beta = (beta + nearest) / 2
            continue
        points.append(beta)
        values.append(train.mean(driven))
        size = float(np.linalg.norm(values[-1]))
        if size <= options.tolerance:
            return journey.end(Ending.CONVERGED if step else Ending.NOT_BIASED)
        if journey.has_grown(size, float(np.linalg.norm(values[0]))) or np.abs(beta).max() > FAR:
            return journey.end(Ending.DIVERGED)
        if journey.waited >= options.patience:
            break
        following: Floats | None
        if step == 0:
            following, slope = _first_guess(bench, values[0])
        else:
            following = next_point(points, values, slope=slope)
        if following is None:
            break
        beta = following
    return journey.end(None)


def _first_guess(bench: Workbench, psi: Floats) -> tuple[Floats, Floats]:
    """β where the shortcuts' logits rest to first order, and a first ∂ψ/∂β; both free, from gradients at hand."""
    _, deviation = bench.standards()
    per_unit = deviation[0] / deviation[1:]
    if bench.options.incoming:
        root, slope = _resting(bench), np.eye(bench.shortcuts) * 0.3
    else:
        rows = bench.eligible(bench.train, bench.mixture(np.zeros(bench.shortcuts)))
        root, slope = linear_root(bench.memory, rows)
    beta = root / per_unit
    if not np.isfinite(beta).all() or np.abs(beta).max() > FAR / 4:
        return -np.sign(psi) * 0.25, np.eye(bench.shortcuts)
    beta = np.where(beta * psi > 0, -psi, beta)  # ψ grows with β: a guess on the other side is none
    return beta, slope * per_unit[None, :] * per_unit[:, None]


def _resting(bench: Workbench) -> Floats:
    """Coefficients at which the logit of f' rests, on average, on every shortcut's training counterfactuals."""
    steps = []
    for images, walked in bench.incoming:
        step = (walked.after - walked.before)[np.isin(images, bench.train)]
        steps.append(step[np.isfinite(step).all(axis=1)].mean(axis=0))
    table = np.stack(steps)
    if np.linalg.cond(table[:, 1:]) > 1e10:
        return np.full(bench.shortcuts, np.nan)
    return np.asarray(-np.linalg.solve(table[:, 1:], table[:, 0]))


def momentum(bench: Workbench, driven: tuple[str, ...], start: MixturePsi, progress: Progress) -> Solution:
    """v ← η ψ + m v, β ← β − v on small batches (Eq. 6 as the text of Section 4.5 means it)."""
    options, journey = bench.options, _Journey(bench, driven)
    rng = generator(options.seed, "minibatches")
    beta, velocity = np.zeros(bench.shortcuts), np.zeros(bench.shortcuts)
    journey.record(0, beta, start.of(bench.train), start.of(bench.validation), start.decodes)
    if journey.least <= options.tolerance:
        return journey.end(Ending.NOT_BIASED)
    for step in range(1, options.most_steps + 1):
        progress("steps", step - 1, options.most_steps)
        able = bench.eligible(bench.train, bench.mixture(beta))
        if len(able) < options.min_images:
            return journey.end(Ending.TOO_FEW_IMAGES)
        drawn = rng.choice(able, size=min(options.minibatch, len(able)), replace=False)
        train = bench.measure(np.sort(drawn), beta)
        if len(train):  # a batch without a defined ψ says nothing
            velocity = options.learning_rate * train.mean() + options.momentum * velocity
            beta = beta - velocity
        looks = step % options.check_every == 0 or step == options.most_steps
        validation = bench.measure(bench.validation, beta) if looks else None
        decodes = train.decodes + (0 if validation is None else validation.decodes)
        journey.record(step, beta, train, validation, decodes)
        if validation is None:
            continue
        size = float(np.linalg.norm(validation.mean()))
        if len(validation) < options.min_images:
            return journey.end(Ending.TOO_FEW_IMAGES)
        if size <= options.tolerance:
            return journey.end(Ending.CONVERGED)
        if journey.has_grown(size, journey.start) or np.abs(beta).max() > FAR:
            return journey.end(Ending.DIVERGED)
        if journey.waited >= options.patience:
            break
    return journey.end(None)


def _mean_logit(measured: MixturePsi) -> Floats:
    return measured.mean(["psi_logit"] * measured.psi.shape[1])


def _plain(values: Floats) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
