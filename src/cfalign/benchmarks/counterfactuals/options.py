"""Which methods are compared, and on how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from cfalign._counterfactuals.options import Method, SearchOptions
from cfalign._errors import BadInput

METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class BenchmarkOptions:
    """Size of the benchmark."""

    seed: int = 0
    images: int = 40
    """Counterfactuals per head and method, at most; nine times as many faces are drawn."""
    cout_steps: int = 20
    resamples: int = 1000
    heads: tuple[str, ...] | None = None
    """Every head that stands for one factor by default."""
    methods: tuple[Method, ...] = METHODS
    search: SearchOptions = field(default_factory=SearchOptions)
    """Of all methods; the field ``method`` is not read."""

    def __post_init__(self) -> None:
        for name, least in (("images", 2), ("resamples", 10), ("cout_steps", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"Expected {name} of at least {least}, got {getattr(self, name)!r}.")


def named(methods: Sequence[str]) -> tuple[Method, ...]:
    """The methods of these names, in the order of ``METHODS``. Raises BadInput for an unknown name."""
    for name in methods:
        if name not in METHODS:
            raise BadInput(f"No method {name!r}; expected some of {', '.join(METHODS)}.")
    return tuple(method for method in METHODS if method in methods)
