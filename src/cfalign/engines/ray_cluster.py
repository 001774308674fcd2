"""The engine of a Ray cluster, or of several processes on one machine: the models are loaded once per worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import torch

from cfalign._errors import BadInput, CfalignError, StorageFailed
from cfalign._models.extras import imported
from cfalign._models.factories import modules_of_files
from cfalign._models.own_code import own_places
from cfalign._models.passes import sizes_kept
from cfalign.engines.part import Part

Unit = TypeVar("Unit")
Result = TypeVar("Result")
RESTARTS, RETRIES = 8, 8
"""How often a worker that died is started anew, and its unit done again."""
_CPUS = "CPU"


@dataclass(frozen=True)
class Ray:
    """Work on the workers of a Ray cluster (extra ``ray``).

    Workers write the shards of the run's folder themselves, so it must be on a disk that all of them see. A worker or
    machine that dies is replaced, and its unit is done again. A run that is stopped goes on with any engine.

    >>> cfa.engines.Ray(workers=2).part.whole
    True
    """

    address: str | None = None
    """Of a cluster, as ``ray.init`` takes it; None for the one named by RAY_ADDRESS, else for workers on this machine.
    """
    workers: int | None = None
    """Processes at once. By default as many as there are processors for, with ``threads`` each; one per GPU where the
    models are on one."""
    threads: int | None = None
    """Threads of a worker, by default those of this process: results are then the same to the last bit."""
    part: Part = field(default_factory=Part)
    """Which part of the work is done."""

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name}: expected at least 1, got {value}.")

    @contextmanager
    def crew(self, site: Any, *, folder: Path | None) -> Iterator[Team]:
        """Workers, each with its own copy of the site; no more than it has ``units``, where it says how many.

        Raises BadInput where the cluster cannot be reached, where the models cannot be sent, and where a worker does
        not see ``folder``.
        """
        ray = imported("ray", extra="ray")
        begun = self._joined(ray)
        try:
            sent = _sent(ray, site)
            team = self._team(ray, sent, on_gpu=_on_gpu(site), most=getattr(site, "units", None))
            if folder is not None:
                team.refuse_blind(folder)
            yield team
        finally:
            if begun:
                ray.shutdown()

    def _joined(self, ray: Any) -> bool:
        """Join the cluster, or start one here; whether this has been done now."""
        if ray.is_initialized():
            return False
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
        there = self.address or os.environ.get("RAY_ADDRESS")
        if there:
            quiet.pop("include_dashboard")
        elif self.workers:
            quiet["num_cpus"] = max(self.workers, os.cpu_count() or 1)
        try:
            ray.init(address=there, **quiet)
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            where = f"the Ray cluster at {there!r}" if there else "Ray on this machine"
            raise BadInput(f"--engine ray: {where} cannot be used: {reason}") from error
        return True

    def _team(self, ray: Any, site: Any, *, on_gpu: bool, most: int | None) -> Team:
        threads = self.threads or torch.get_num_threads()
        there = ray.cluster_resources()
        cpus = int(there.get(_CPUS, 1))
        slots = int(there.get("GPU", 0)) if on_gpu else cpus // threads
        size = self.workers or max(1, slots)
        size = size if most is None else max(1, min(size, most))
        share = max(1, min(threads, cpus // size))
        variables = {
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # threads may outnumber processors
            "PYTHONPATH": os.pathsep.join(_places()),
        }
        hired = ray.remote(
            num_cpus=share,
            num_gpus=1 if on_gpu else 0,
            max_restarts=RESTARTS,
            max_task_retries=RETRIES,
            runtime_env={"env_vars": variables},
        )(_Worker)
        return Team(ray, [hired.remote(site, threads, os.getcwd()) for _ in range(size)])


class _Worker:
    """One process with its own copy of the site, in the same place: what the user named relative to it is found."""

    def __init__(self, site: Any, threads: int, place: str) -> None:
        torch.set_num_threads(threads)
        if os.path.isdir(place):
            os.chdir(place)
        self.site = site

    def sees(self, file: str) -> tuple[str, bool]:
        """The name of this machine, and whether it sees a file."""
        return os.uname().nodename, Path(file).exists()

    def do(self, work: Callable[[Any, Any], Any], unit: Any) -> Any:
        """One unit of the work."""
        with sizes_kept():
            return work(self.site, unit)


class Team:
    """Workers of a cluster."""

    def __init__(self, ray: Any, workers: list[Any]) -> None:
        self.ray, self.idle, self.size = ray, list(workers), len(workers)

    def refuse_blind(self, folder: Path) -> None:
        """Raises BadInput where a worker does not see the folder."""
        mark = folder / f".seen-by-workers-{uuid4().hex[:8]}"
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text("")
        try:
            answers = self.ray.get([worker.sees.remote(str(mark)) for worker in self.idle])
        except self.ray.exceptions.RayError as error:
            raise _cause(self.ray, error) from error
        finally:
            mark.unlink(missing_ok=True)
        if blind := sorted({name for name, sees in answers if not sees}):
            raise BadInput(
                f"The workers on {', '.join(blind)} do not see the folder {folder}; name one on storage that all "
                "machines share (--out, --models). An audit or a bank may also be made in parts, with a --shard for "
                "every machine, which `cfalign merge` puts together."
            )

    def each(self, work: Callable[[Any, Unit], Result], units: Iterable[Unit]) -> Iterator[tuple[Unit, Result]]:
        """``work(site, unit)`` of every unit, in the order in which they are done.

        Taking a unit may itself give work to those who are idle.
        """
        waiting, running = iter(units), {}
        more = True
        while True:
            while more and self.idle:
                try:
                    unit = next(waiting)
                except StopIteration:
                    more = False
                    break
                worker = self.idle.pop()
                running[worker.do.remote(work, unit)] = (unit, worker)
            if not running:
                return
            (done, *_), _ = self.ray.wait(list(running), num_returns=1)
            unit, worker = running.pop(done)
            self.idle.append(worker)
            yield unit, self._result(done)

    def _result(self, done: Any) -> Any:
        try:
            return self.ray.get(done)
        except self.ray.exceptions.RayError as error:
            raise _cause(self.ray, error) from error


def _cause(ray: Any, error: Exception) -> Exception:
    """What a worker raised; of a worker that died again and again, a sentence."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return cause
    if isinstance(error, CfalignError):
        return error
    reason = str(error).strip().splitlines()[0]
    return StorageFailed(
        f"A worker of the cluster died {RESTARTS} times ({reason}); what is done is kept: give the command again, with "
        "fewer --workers where memory ran out."
    )


def _sent(ray: Any, site: Any) -> Any:
    """The site in the cluster's memory. Raises BadInput where it cannot be sent."""
    pickling = imported("ray.cloudpickle", extra="ray")
    for module in modules_of_files():  # which nobody can import by name
        pickling.register_pickle_by_value(module)
    try:
        return ray.put(site)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"--engine ray: the models cannot be sent to other processes ({reason}); use --engine local, with --shard "
            "for several machines."
        ) from error


def _places() -> list[str]:
    """Where workers find the user's code: as this process does, and beside the files that were named."""
    beside = [str(Path(str(module.__file__)).resolve().parent) for module in modules_of_files()]
    return [*own_places(), *beside, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def _on_gpu(site: Any) -> bool:
    return getattr(site, "device", torch.device("cpu")).type == "cuda"
