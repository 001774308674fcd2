"""Many small jobs side by side, such as trainings: one process and one thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import torch

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
    """Call ``work(*job)`` for every job in fresh processes, ``workers`` at a time, one thread each.

    ``work`` and the jobs are pickled, so ``work`` is a function of a module. ``done`` jobs beside these count as
    finished before. The first error ends what has not begun and is raised; results are what ``work`` leaves on disk.
    """
    total = done + len(jobs)
    progress(stage, done, total)
    if not jobs:
        return
    with ProcessPoolExecutor(
        max_workers=max(1, min(workers, len(jobs))), mp_context=get_context("spawn"),
        initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:  # fmt: skip
        running = [pool.submit(work, *job) for job in jobs]
        try:
            for finished, one in enumerate(as_completed(running), start=done + 1):
                one.result()
                progress(stage, finished, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
