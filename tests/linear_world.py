"""A world where counterfactuals have a closed form: an orthonormal linear autoencoder and heads linear in the latent.

Everything is float64 and stays inside [0, 1], so nothing is clipped and rounding is 1e-12.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor, nn

from cfalign._analysis.alignment import Row
from cfalign._audit.measurement import Base, WalkSettings, look, walk_all
from cfalign._counterfactuals.options import SearchOptions
from cfalign._heads.composition import Composition, head
from cfalign._heads.panel import Panel
from cfalign._results import Floats

SHAPE = (3, 4, 4)
PIXELS = 48
LATENTS = 8


# Walsh patterns, alike in every channel: no pixel gets more than its share, so nothing comes near 0 or 1.
BASIS = torch.from_numpy(np.tile(hadamard(16), (3, 1))[:, 1 : LATENTS + 1] / np.sqrt(PIXELS))


class LinearAutoencoder(nn.Module):
    """z = c·Qᵀ(x − ½) and back; ``scale`` c only renames the latent. What it cannot draw is dropped."""

    residual = "dropped"

    basis: Tensor
    scale: float

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("basis", BASIS.clone())

    def encode(self, images: Tensor, /) -> Tensor:
        return self.scale * (images.flatten(1) - 0.5) @ self.basis

    def decode(self, latents: Tensor, /) -> Tensor:
        return 0.5 + (latents / self.scale @ self.basis.T).view(-1, *SHAPE)


class LinearClassifier(nn.Module):
    """logit = A z + b for z = Qᵀ(x − ½)."""

    differentiable = True
    basis: Tensor

    def __init__(
        self, directions: Floats, bias: Sequence[float], targets: Sequence[str] = (), name: str = "linear"
    ) -> None:
        super().__init__()
        self.name = name
        self.targets = tuple(targets) or tuple(f"head_{i}" for i in range(len(directions)))
        self.weight = nn.Parameter(torch.from_numpy(np.asarray(directions, dtype=np.float64)))
        self.bias = nn.Parameter(torch.tensor(list(bias), dtype=torch.float64))
        self.register_buffer("basis", BASIS.clone())

    def __getitem__(self, target: str) -> Composition:
        return head(self, target)

    def logits(self, images: Tensor, /) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.basis @ self.weight.T + self.bias


class Mixture(nn.Module):
    """One head whose probability is Σ share·probability of another classifier's heads, plus ``rest``."""

    differentiable = True
    targets = ("mixture",)
    name = "mixture"
    shares: Tensor

    def __init__(self, classifier: LinearClassifier, shares: Sequence[float], rest: float = 0.0) -> None:
        super().__init__()
        self.classifier, self.rest = classifier, rest
        self.register_buffer("shares", torch.tensor(list(shares), dtype=torch.float64))

    def __getitem__(self, target: str) -> Composition:
        return head(self, target)

    def logits(self, images: Tensor, /) -> Tensor:
        p = torch.sigmoid(self.classifier.logits(images)) @ self.shares + self.rest
        return torch.logit(p)[:, None]


def linear_images(n: int, *, seed: int = 0, spread: float = 0.3) -> Tensor:
    """Images inside the autoencoder's range plus a little outside it, so that x0 is not x."""
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.uniform(-spread, spread, size=(n, LATENTS)))
    off = torch.from_numpy(rng.normal(size=(n, PIXELS)) * 0.01)
    x = 0.5 + (z @ BASIS.T + off - off @ BASIS @ BASIS.T).view(n, *SHAPE)
    assert x.min() > 0.05
    assert x.max() < 0.95
    return x


class FromSingle(LinearAutoencoder):
    """Takes the single precision that image sources deliver."""

    def encode(self, images: Tensor, /) -> Tensor:
        return super().encode(images.double())


class HeadsFromSingle(LinearClassifier):
    """The same."""

    def logits(self, images: Tensor, /) -> Tensor:
        return super().logits(images.double())


def directions(heads: int, *, overlap: float, gain: float = 8.0) -> Floats:
    """Unit directions with the given pairwise inner product, times ``gain``, [heads, latent]."""
    gram = np.full((heads, heads), overlap) + (1 - overlap) * np.eye(heads)
    out = np.zeros((heads, LATENTS))
    out[:, :heads] = np.linalg.cholesky(gram)
    return gain * out


def measured_rows(
    images: Tensor, panel: Panel, bases: Sequence[str], *, search: SearchOptions | None = None, seed: int = 0
) -> list[Row]:
    """Every (image, base) pair walked and measured, one Row per base, as a run would hold them."""
    autoencoder = LinearAutoencoder()
    seen = look(images, panel, autoencoder=autoencoder, search=SearchOptions(residual="dropped"))
    chosen = [(i, b) for b in range(len(bases)) for i in range(len(images))]
    settings = WalkSettings(search=search or SearchOptions(), seed=seed)
    (walked,) = walk_all(
        seen,
        chosen,
        panel=panel,
        bases=[Base(base, panel[base]) for base in bases],
        image_ids=[f"image_{i}" for i in range(len(images))],
        autoencoder=autoencoder,
        settings=settings,
    )
    point, before = walked.counterfactual, seen.reconstruction_scores[walked.image]
    rows = []
    for b, base in enumerate(bases):
        at = np.flatnonzero(walked.base == b)
        column = panel.labels.index(base)
        rows.append(
            Row(
                base=base,
                image=walked.image[at],
                outcomes=tuple(point.ends.outcomes[i] for i in at),
                base_before=before[at, column],
                base_after=point.scores[at, column],
                before=before[at],
                after=point.scores[at],
                null=walked.null(point, before)[at],
            )
        )
    return rows
