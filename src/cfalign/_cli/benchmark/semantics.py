"""``cfalign benchmark semantics``."""

from __future__ import annotations

from cfalign import benchmarks
from cfalign._cli import flags
from cfalign._cli.output import progress, tell


def semantics(seed: flags.BenchmarkSeed = 0, quick: flags.Quick = False, as_json: flags.Json = False) -> None:
    """Do counterfactuals change what they say they change? An independently trained oracle looks at them."""
    with progress() as bars:
        result = benchmarks.semantics(seed=seed, images=30 if quick else 100, progress=bars)
    tell(result, as_json=as_json)
