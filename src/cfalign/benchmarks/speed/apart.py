"""One contestant in a process of its own: what it counts there, and the most memory it takes.

The peak of a process cannot be set back, so every contestant needs a fresh one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from cfalign.benchmarks.speed.authors import authors_package, by_authors
from cfalign.benchmarks.speed.contestants import bare, default_audit
from cfalign.benchmarks.speed.counting import Passes
from cfalign.benchmarks.speed.options import SpeedOptions
from cfalign.benchmarks.speed.setting import Setting

Make = Callable[[SpeedOptions], Setting]
"""What every process makes its setting with; a function of a module."""
BARE, AUDIT, AUTHORS = "bare method", "default audit", "authors' package"
CONTESTANTS = (BARE, AUDIT, AUTHORS)
LEAST = 8
"""Pairs that the authors' package gets for its count at least, where there are so many."""


@dataclass(frozen=True)
class Counted:
    """One contestant, run once with models that count."""

    contestant: str
    images: int
    counterfactuals: int
    passes: Passes
    """Per counterfactual."""
    seconds: float
    """Of the whole run, counting included."""
    memory: float
    """The peak of the process over what models and images took before, in MB."""
    peak: float
    """Of the whole process, in MB."""


def counted_apart(contestant: str, make: Make, options: SpeedOptions) -> Counted:
    """``counted`` in a fresh process with as many threads as this one."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as one:
        return one.submit(counted, contestant, make, options).result()


def counted(contestant: str, make: Make, options: SpeedOptions) -> Counted:
    """Run a contestant once on the setting that ``make`` gives. The memory means something in a fresh process only."""
    plain = make(options)
    pairs = plain.pairs() if contestant != AUDIT else []
    setting, counter = plain.counted()
    package = authors_package() if contestant == AUTHORS else None
    before, began = memory_now(), time.perf_counter()
    if package is not None:
        most = max(LEAST, options.authors_pairs)
        some = pairs[:: -(-len(pairs) // most)] if pairs else []
        count = len(by_authors(setting, some, package)[0])
    else:
        count = default_audit(setting) if contestant == AUDIT else len(bare(setting, pairs))
    seconds, after = time.perf_counter() - began, peak_memory()
    return Counted(
        contestant=contestant,
        images=len(plain.images),
        counterfactuals=count,
        passes=counter.passes().per(count),
        seconds=seconds,
        memory=after - before,
        peak=after,
    )


def peak_memory() -> float:
    """The most memory that this process has taken so far, in MB.

    Linux tells it in /proc; what it tells by ``getrusage`` includes the process that this one came from.
    """
    told = _told_by_linux("VmHWM")
    if told is not None:
        return told
    import resource  # Windows has none

    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found / (1024 * 1024 if sys.platform == "darwin" else 1024)


def memory_now() -> float:
    """The memory that this process takes now, in MB; where the system does not tell, the most so far."""
    told = _told_by_linux("VmRSS")
    return peak_memory() if told is None else told


def _told_by_linux(name: str) -> float | None:
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0]) / 1024 if name in lines else None
