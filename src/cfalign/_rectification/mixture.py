"""What a composition f' = f_target + Σ βᵢ fᵢ does to its shortcuts fᵢ, for any β without another backward pass.

∂f'/∂z is linear in the coefficients, so the gradients of the target and of every shortcut at z0 are taken once
(``remember``); after that the counterfactuals of any composition of them cost decoder forwards only
(``walk_mixture``).

The *parts* are the target (the first) and the shortcuts, each one row of ``Weights``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from cfalign._analysis.alignment import relative_change
from cfalign._counterfactuals.batch import Batch, Models, Pairs, Points, Rows, evaluate, every_logit, shifted, times
from cfalign._counterfactuals.gradient import Start, find_rays
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.origins import Origins
from cfalign._counterfactuals.ray import Ends, Probe, search
from cfalign._heads.panel import Weights
from cfalign._results import Floats


@dataclass(frozen=True)
class Memory:
    """The parts at z0 of every image."""

    origins: Origins
    values: Floats
    """[image, part]: the logit of a head or of a composition on logits, the score of one on probabilities."""
    gradients: Tensor
    """∂value/∂z at z0, [image, part, *latent]."""
    parts: Weights
    """[part] rows."""
    models: Models

    @property
    def latents(self) -> Tensor:
        """z0 [image, *latent]."""
        return self.origins.latents

    @property
    def on_logit(self) -> NDArray[np.bool_]:
        """Which parts have a logit as value, [part]."""
        flags: NDArray[np.bool_] = self.parts.on_logit.numpy()
        return flags

    def scores(self, values: Floats) -> Floats:
        """Values [..., part] as scores: probabilities, or sums of them."""
        return np.where(self.on_logit, expit(values), values)


@dataclass(frozen=True)
class Mixture:
    """A composition of the parts."""

    coefficients: Floats
    """[part]."""
    constant: float
    on_logit: bool
    """Score = sigmoid(Σ c·value + constant), for parts with a logit; otherwise Σ c·score + constant."""

    def value(self, values: Floats, scores: Floats) -> Floats:
        """What is descended, [n], from the parts' values and scores [n, part]."""
        mixed: Floats = (values if self.on_logit else scores) @ self.coefficients + self.constant
        return mixed

    def score(self, values: Floats, scores: Floats) -> Floats:
        """Scores [n]: probabilities, or an unclipped sum of them."""
        value = self.value(values, scores)
        return np.asarray(expit(value)) if self.on_logit else value


@dataclass(frozen=True)
class MixtureEnds:
    """Some images after the walk that lowers a mixture's score, [row, ...]."""

    ends: Ends
    before: Floats
    """Values of the parts at x0, [row, part]."""
    after: Floats
    """Values of the parts at x_λ, [row, part]."""

    def __len__(self) -> int:
        return len(self.ends)


def remember(origins: Origins, parts: Weights, *, models: Models) -> Memory:
    """Values and gradients of all parts at every origin: one backward pass per image and part, and the last.

    BadInput for a classifier without gradients, BadModel where none flows.
    """
    images, count = len(origins), len(parts.on_logit)
    owner = torch.arange(images).repeat_interleave(count)
    pairs = Pairs(owner, parts[torch.arange(count).repeat(images)])
    rays = find_rays(Batch(origins, pairs, models))
    gradients = times(-rays.direction, rays.start.slope)
    return Memory(
        origins=origins,
        values=rays.start.value.reshape(images, count),
        gradients=gradients.view(images, count, *origins.latents.shape[1:]),
        parts=parts,
        models=models,
    )


def start_of(memory: Memory, rows: Rows, mixture: Mixture) -> tuple[Start, Tensor]:
    """Start and unit direction [row, *latent] of a mixture's descent, from the remembered gradients.

    A sum of probabilities takes the chain rule: ∂p/∂z = p(1 − p) ∂logit/∂z, in float64, where it does not underflow.
    """
    values = memory.values[rows]
    factor = np.broadcast_to(mixture.coefficients, values.shape)
    if not mixture.on_logit:
        factor = factor * np.where(memory.on_logit, expit(values) * expit(-values), 1.0)
    index = torch.from_numpy(rows).to(memory.latents.device)
    weight = torch.from_numpy(np.array(factor)).to(memory.latents.device)
    parts = memory.gradients[index].flatten(2).double()
    gradient = (weight[:, :, None] * torch.where(weight[:, :, None] == 0, 0.0, parts)).sum(dim=1)
    norm = gradient.norm(dim=1)
    direction = -gradient / torch.where(norm > 0, norm, 1.0)[:, None]
    z = memory.latents[index]
    start = Start(
        value=mixture.value(values, memory.scores(values)),
        slope=norm.cpu().numpy(),
        on_logit=np.full(len(rows), mixture.on_logit),
        norm=z.flatten(1).double().norm(dim=1).cpu().numpy(),
    )
    return start, direction.to(z.dtype).view_as(z)


def walk_mixture(memory: Memory, rows: Rows, mixture: Mixture, aim: SearchOptions) -> MixtureEnds:
    """Counterfactuals of the mixture for the images ``rows``; decoder forwards only. Image change is not looked at."""
    start, direction = start_of(memory, rows, mixture)
    z = memory.latents[torch.from_numpy(rows).to(memory.latents.device)]

    @torch.no_grad()
    def look(walking: Rows, distance: Floats) -> Probe:
        index = torch.from_numpy(walking).to(z.device)
        walked = shifted(z[index], direction[index], distance)
        points = Points(walked, torch.from_numpy(rows[walking]), memory.origins)
        seen = evaluate(points, models=memory.models, read=every_logit, keep_images=False, even=True)
        values = values_of(seen.values, memory.parts)
        value = mixture.value(values, memory.scores(values))
        return Probe(value, np.zeros(len(walking)), (torch.from_numpy(values),))

    before = memory.values[rows]
    ends = search(start, look, (torch.from_numpy(before),), options=aim)
    return MixtureEnds(ends, before, ends.kept[0].numpy())


def values_of(answers: Tensor, parts: Weights) -> Floats:
    """Logits [n, head] to the values of all parts [n, part], float64."""
    rows = [torch.full((len(answers),), part) for part in range(len(parts.on_logit))]
    columns = [parts[row].value(answers).detach().cpu().double().numpy() for row in rows]
    return np.stack(columns, axis=1)


def shortcut_psi(walked: MixtureEnds, memory: Memory, *, min_base_change: float) -> Floats:
    """ψ towards every shortcut (Eq. 3), [row, shortcut]; NaN where |Δbase| < ``min_base_change`` or nothing walked."""
    change = memory.scores(walked.after) - memory.scores(walked.before)
    base_change = walked.ends.base_after - walked.ends.base_before
    return relative_change(change[:, 1:], base_change, min_base_change=min_base_change)


def shortcut_psi_logit(walked: MixtureEnds, mixture: Mixture, *, scale: Floats, base_scale: float) -> Floats:
    """The same ratio on standardised logits, [row, shortcut]; NaN where the mixture or a shortcut has no logit.

    ``scale`` [part], ``base_scale``: standard deviations of the logits over images.
    """
    if not mixture.on_logit:
        return np.full((len(walked), len(scale) - 1), np.nan)
    change = (walked.after - walked.before) @ np.diag(1 / scale)
    base_change = ((walked.after - walked.before) @ mixture.coefficients) / base_scale
    with np.errstate(divide="ignore", invalid="ignore"):
        return change[:, 1:] / np.where(base_change == 0, np.nan, base_change)[:, None]


def linear_root(memory: Memory, rows: Rows, target: float = 1.0) -> tuple[Floats, Floats]:
    """Coefficients [shortcut] on logits at which, to first order at z0, no shortcut's logit moves on average.

    With Γ the inner products of the parts' gradients, the logit of shortcut i moves in proportion to (Γc)ᵢ / cᵀΓc. The
    root in c of its mean, images weighted by 1 / Γ₀₀; exact where all images have the same gradients. Also the
    derivative of (Γc)ᵢ / cᵀΓc there, [shortcut, shortcut]. NaN where the gradients of the shortcuts are zero or
    parallel.
    """
    index = torch.from_numpy(rows).to(memory.latents.device)
    parts = memory.gradients[index].flatten(2).double()
    gram = (parts @ parts.transpose(1, 2)).cpu().numpy()
    gram = gram[np.isfinite(gram).all(axis=(1, 2)) & (gram[:, 0, 0] > 0)]
    blank = np.full(gram.shape[1] - 1, np.nan)
    if not len(gram):
        return blank, np.full((len(blank), len(blank)), np.nan)
    mean = (gram / gram[:, :1, :1]).mean(axis=0)
    among, towards = mean[1:, 1:], mean[1:, 0]
    if np.linalg.cond(among) > 1e10:
        return blank, np.full((len(blank), len(blank)), np.nan)
    root = -np.linalg.solve(among, towards) * target
    c = np.concatenate([[target], root])
    slope = gram[:, 1:, 1:] / np.einsum("i,nij,j->n", c, gram, c)[:, None, None]
    return root, slope.mean(axis=0)
