"""Principal components: the ways in which vectors of one kind differ most, found from parts that come one by one.

Of images they are an autoencoder (``autoencoders.components``); of latents they are the metric of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Parts = Callable[[], Iterable[Float[Tensor, "vector value"]]]
"""All vectors, part by part; called once for every pass."""
SPARE, ROUNDS = 32, 1
PASSES = 3 + 2 * ROUNDS
LEAST_DEVIATION = 1e-3
"""Of the strongest component: vectors without that many directions have none to whiten."""
_LEAST_SCALE = 1e-6  # vectors that are all the same have no deviation at all


@dataclass(frozen=True, eq=False)
class Components:
    """Mean, orthonormal directions, the strongest first, and the standard deviation along each."""

    mean: Float[Tensor, " value"]
    directions: Float[Tensor, "value component"]
    deviations: Float[Tensor, " component"]

    def __len__(self) -> int:
        return len(self.deviations)

    def coordinates(self, vectors: Tensor) -> Float[Tensor, "vector component"]:
        """Coordinates of vectors [n, ...] in standard deviations from the mean."""
        return (vectors.flatten(1) - self.mean) @ self.directions / self.deviations

    def away(self, coordinates: Float[Tensor, "vector component"]) -> Float[Tensor, "vector value"]:
        """How far from the mean, or from any vector, so many standard deviations lead."""
        return (coordinates * self.deviations) @ self.directions.T

    def first(self, count: int) -> Components:
        """The strongest ``count`` alone."""
        return Components(self.mean, self.directions[:, :count], self.deviations[:count])

    def capped(self, strongest: int) -> Components:
        """The same with the ``strongest`` components counted as no wider than the next one.

        The strongest components of photographs are light and background: a walk in whitened coordinates would take
        them first.
        """
        highest = self.deviations[min(strongest, len(self) - 1)]
        least = max(LEAST_DEVIATION * float(self.deviations[0]), _LEAST_SCALE)
        return Components(self.mean, self.directions, self.deviations.clamp_max(highest).clamp_min(least))

    def to(self, like: Tensor) -> Components:
        """The same on the device and in the type of another tensor; itself where it is there already."""
        if (self.mean.device, self.mean.dtype) == (like.device, like.dtype):
            return self
        return Components(*(part.to(like) for part in (self.mean, self.directions, self.deviations)))

    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        return {"mean": self.mean, "directions": self.directions, "deviations": self.deviations}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Components:
        """From ``tensors()``."""
        return cls(tensors["mean"], tensors["directions"], tensors["deviations"])


def principal_components(
    parts: Parts,
    *,
    vectors: int,
    values: int,
    count: int,
    generator: torch.Generator | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Components:
    """The ``count`` strongest components of ``vectors`` with so many ``values``, by randomised subspace iteration.

    Memory holds one part beside ``count`` + 32 vectors. ``generator``: of the random start, by default the global one.
    ``progress`` is called with the stage ``components``.
    """
    matrix = _Centred(parts, vectors, values, progress)
    width = min(count + SPARE, vectors, values)
    basis = _orthonormal(matrix.times(torch.randn(values, width, generator=generator)))
    for _ in range(ROUNDS):
        basis = _orthonormal(matrix.times(_orthonormal(matrix.transposed_times(basis))))
    left, strength, _ = torch.linalg.svd(matrix.transposed_times(basis), full_matrices=False)
    return Components(matrix.mean, left[:, :count].contiguous(), strength[:count] / vectors**0.5)


class _Centred:
    """The matrix of vectors [vector, value] less their mean, in passes over the parts."""

    def __init__(self, parts: Parts, vectors: int, values: int, progress: Callable[[str, int, int], None]) -> None:
        self.parts, self.progress = parts, progress
        self.mean = torch.zeros(values)
        self.passes = 0
        progress("components", 0, PASSES)
        self.mean = torch.stack([part.mean(0) * len(part) for part in self._chunks()]).sum(0) / vectors
        self._passed()

    def times(self, right: Tensor) -> Tensor:
        """[vector, k] for [value, k]."""
        product = torch.cat([part @ right for part in self._chunks()])
        self._passed()
        return product

    def transposed_times(self, right: Tensor) -> Tensor:
        """[value, k] for [vector, k]."""
        product, start = torch.zeros(len(self.mean), right.shape[1]), 0
        for part in self._chunks():
            product.addmm_(part.T, right[start : start + len(part)])
            start += len(part)
        self._passed()
        return product

    def _passed(self) -> None:
        self.passes += 1
        self.progress("components", self.passes, PASSES)

    def _chunks(self) -> Iterable[Tensor]:
        return (part - self.mean for part in self.parts())


def _orthonormal(columns: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(columns).Q
    return basis
