"""Many small jobs side by side, such as trainings: one thread each, and one process where there are several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch

from cfalign._models.device import device_in_use, use_device
from cfalign._runs.progress import Progress


def in_processes(
    work: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    stage: str,
    done: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> None:
    """Call ``work(*job)`` for every job with one thread: in fresh processes, ``workers`` at a time, or with one worker
    in this process. The results are the same.

    ``work`` and the jobs are pickled, so ``work`` is a function of a module. ``done`` jobs beside these count as
    finished before. The first error ends what has not begun and is raised; results are what ``work`` leaves on disk.
    """
    total = done + len(jobs)
    progress(stage, done, total)
    if not jobs:
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
