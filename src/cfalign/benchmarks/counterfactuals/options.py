"""Options of the benchmark: methods, heads and numbers of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Annotated

from pydantic import Field

from cfalign._counterfactuals.options import OF_A_WALK, Method, SearchOptions
from cfalign._errors import BadInput
from cfalign._validation import Count, Whole, options

METHODS = OF_A_WALK


@options()
class BenchmarkOptions:
    """Size of the benchmark."""

    seed: Whole = 0
    images: Annotated[int, Field(ge=2)] = 40
    """Counterfactuals per head and method, at most; nine times as many faces are drawn."""
    cout_steps: Count = 20
    resamples: Annotated[int, Field(ge=10)] = 1000
    heads: tuple[str, ...] | None = None
    """By default every head of a single factor."""
    methods: tuple[Method, ...] = METHODS
    search: SearchOptions = field(default_factory=SearchOptions)
    """Search of all methods; the field ``method`` is ignored."""


def named(methods: Sequence[str]) -> tuple[Method, ...]:
    """The methods of these names, in the order of ``METHODS``. Raises BadInput for an unknown name."""
    for name in methods:
        if name not in METHODS:
            raise BadInput(f"No method {name!r}; expected some of {', '.join(METHODS)}.")
    return tuple(method for method in METHODS if method in methods)
