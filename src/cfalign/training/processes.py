"""Many small jobs side by side, such as trainings: one thread each, in processes here or on the workers of Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from cfalign._models.device import device_in_use, on_device, use_device
from cfalign._runs.progress import Progress
from cfalign.engines import Ray

Workers = int | Ray
"""Processes at once, or the workers of Ray."""


def in_processes(
    work: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    workers: Workers,
    stage: str,
    folder: Path | None = None,
    done: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> None:
    """Call ``work(*job)`` for every job with one thread: in fresh processes, ``workers`` at a time, or with one worker
    in this process, or on the workers of Ray, where a job whose worker dies is done again. The results are the same.

    ``work`` and the jobs are pickled, so ``work`` is a function of a module. ``done`` jobs beside these count as
    finished before. The first error ends what has not begun and is raised; results are what ``work`` leaves on disk,
    in ``folder``. Raises BadInput as ``Ray.crew`` does, such as for workers that do not see it.
    """
    total = done + len(jobs)
    progress(stage, done, total)
    if not jobs:
        return
    if isinstance(workers, Ray):
        device = device_in_use()
        site = _Site(work, torch.device("cpu") if device is None else device, device is not None, len(jobs))
        with replace(workers, threads=1).crew(site, folder=folder) as crew:
            for finished, _ in enumerate(crew.each(_do, jobs), start=done + 1):
                progress(stage, finished, total)
        return
    if workers == 1:
        with _one_thread():
            for finished, job in enumerate(jobs, start=done + 1):
                work(*job)
                progress(stage, finished, total)
        return
    context, most, device = get_context("spawn"), min(workers, len(jobs)), device_in_use()
    with ProcessPoolExecutor(
        most, context, initializer=_begin, initargs=(None if device is None else str(device),)
    ) as pool:
        running = [pool.submit(work, *job) for job in jobs]
        try:
            for finished, one in enumerate(as_completed(running), start=done + 1):
                one.result()
                progress(stage, finished, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class _Site:
    """What the workers of Ray need."""

    work: Callable[..., Any]
    device: torch.device
    named: bool
    """Whether the jobs use the device: that of the worker, of the same kind."""
    units: int


def _do(site: _Site, job: tuple[Any, ...]) -> None:
    with on_device(site.device.type if site.named else None):
        site.work(*job)


def _begin(device: str | None) -> None:
    """A fresh process: one thread, and the device that is in use in the process that started it."""
    torch.set_num_threads(1)
    use_device(device)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads have other last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
