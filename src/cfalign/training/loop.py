"""The steps of a training, with a moving average of the weights, checkpoints, and a clean end after Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cfalign._errors import BadInput
from cfalign._runs.progress import Progress
from cfalign.training.options import Training
from cfalign.training.output_folder import read_checkpoint, save_checkpoint

Loss = Callable[[Tensor], Tensor]
"""Rows [batch] of the training images to the loss of the network in training."""
_SAVING_SHARE = 0.05  # of the time at most goes into checkpoints


class TrainingState:
    """Everything that a training needs to go on where it stopped, and its result.

    It holds the network, the moving average of its weights, the optimiser with its schedule, the position, and the
    memory of the objective where the loss has one. ``steps``: the length of the whole training.
    """

    def __init__(
        self, network: nn.Module, options: Training, *, steps: int, objective: nn.Module | None = None
    ) -> None:
        self.network = network.to(options.place)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective if objective is None else objective.to(options.place)
        self.optimizer = _optimizer(network, options)
        self.schedule = schedule(self.optimizer, steps=steps, warmup=options.warmup)
        self.average = AveragedModel(network, multi_avg_fn=_moving_average(options.average), use_buffers=True)
        self.average.requires_grad_(False).eval()
        self.steps = steps
        self.step = 0
        self.seconds = 0.0

    @property
    def result(self) -> nn.Module:
        """The network with the averaged weights, in eval mode."""
        return self.average.module

    def save(self, path: Path) -> None:
        """Write a checkpoint, unless it would hold NaN: then the last good one stays."""
        if all(bool(torch.isfinite(p).all()) for p in self.network.parameters()):
            content = {name: part.state_dict() for name, part in self._parts().items()}
            position = {"step": self.step, "seconds": self.seconds, "random_state": torch.random.get_rng_state()}
            save_checkpoint(path, {**content, **position})

    def resume(self, path: Path) -> None:
        """Continue from the checkpoint, if there is one; this sets the global random state too.

        Raises BadInput for a checkpoint that is damaged or was written by another version.
        """
        content = read_checkpoint(path)
        if content is None:
            return
        try:
            for name, part in self._parts().items():
                part.load_state_dict(content[name])
            self.step, self.seconds = content["step"], content["seconds"]
            torch.random.set_rng_state(content["random_state"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise BadInput(
                f"The checkpoint {path} was written by another version of cfalign; remove it to start this training "
                "again."
            ) from error

    def _parts(self) -> dict[str, Any]:
        memory = {} if self.objective is None else {"objective": self.objective}
        return {
            "network": self.network,
            "average": self.average,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            **memory,
        }

    def advance(self, loss: Tensor) -> None:
        """Take one step of the optimiser, of its schedule and of the moving average."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.network)
        self.step += 1


def fit(
    state: TrainingState, loss: Loss, *, rows: Tensor, options: Training, checkpoint: Path, progress: Progress
) -> None:
    """Train to the end, from where the checkpoint stands; ``state.result`` is then the trained network.

    After KeyboardInterrupt the work so far is saved first. Raises BadInput when the loss is no longer finite.
    """
    state.resume(checkpoint)
    clock = _Clock(state, every=options.checkpoint_every)
    between_steps = True
    progress("train", state.step, state.steps)
    try:
        with _orderly_interrupt() as interrupted:
            for batch in _batches(rows, start=state.step, total=state.steps, options=options):
                between_steps = False
                value = loss(batch)
                if not math.isfinite(float(value.detach())):
                    raise _diverged(state, options=options, checkpoint=checkpoint)
                state.advance(value)
                between_steps = True
                progress("train", state.step, state.steps)
                if interrupted():
                    raise KeyboardInterrupt
                if clock.due():
                    clock.save(checkpoint)
        if not all(bool(torch.isfinite(p).all()) for p in state.result.parameters()):
            raise _diverged(state, options=options, checkpoint=checkpoint)
    except KeyboardInterrupt:
        if between_steps:
            clock.save(checkpoint)
        raise
    clock.save(checkpoint)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the CPU's global random generator starts from ``seed``. Afterwards it is as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which reaches for every accelerator
        yield


def _optimizer(network: nn.Module, options: Training) -> torch.optim.AdamW:
    """AdamW; biases and normalisation do not decay."""
    learnt = [p for p in network.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate)


def schedule(optimizer: torch.optim.Optimizer, *, steps: int, warmup: float) -> LRScheduler:
    """A linear rise over the share ``warmup`` of the steps, then half a cosine that would be 0 after the last step."""
    rising = round(warmup * steps)
    falling = CosineAnnealingLR(optimizer, T_max=max(1, steps - rising))
    if rising == 0:
        return falling
    rise = LinearLR(optimizer, start_factor=1 / rising, total_iters=max(1, rising - 1))
    return SequentialLR(optimizer, [rise, falling], milestones=[rising])


def _moving_average(decay: float) -> Callable[..., None]:
    """Exponential with this decay, but of fewer steps at the beginning, so that the first steps do not linger."""

    def update(kept: list[Tensor], new: list[Tensor], count: Tensor) -> None:
        if not kept[0].is_floating_point():  # normalisation layers count their batches
            for old, current in zip(kept, new, strict=True):
                old.copy_(current)
            return
        share = min(decay, (2 + int(count)) / (11 + int(count)))
        get_ema_multi_avg_fn(share)(kept, new, count)

    return update


def _batches(rows: Tensor, *, start: int, total: int, options: Training) -> Iterator[Tensor]:
    """The batches from step ``start`` on: every epoch a new order that only the seed and its number decide."""
    per_epoch = len(rows) // options.batch
    order, epoch = rows, -1
    for step in range(start, total):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            generator = torch.Generator().manual_seed(options.seed * 1_000_003 + epoch)
            order = rows[torch.randperm(len(rows), generator=generator)]
        first = step % per_epoch * options.batch
        yield order[first : first + options.batch]


def _diverged(state: TrainingState, *, options: Training, checkpoint: Path) -> BadInput:
    kept = f" The last good checkpoint is kept in {checkpoint}." if checkpoint.exists() else ""
    return BadInput(
        f"The training diverged: the loss is not finite at step {state.step} of {state.steps}. Give a smaller "
        f"learning_rate (now {options.learning_rate:g}) and another output folder.{kept}"
    )


class _Clock:
    """When the next checkpoint is due, and how long the training has taken."""

    def __init__(self, state: TrainingState, *, every: float) -> None:
        self.state, self.every = state, every
        self.counted = self.saved = time.perf_counter()

    def due(self) -> bool:
        return time.perf_counter() - self.saved >= self.every

    def save(self, path: Path) -> None:
        now = time.perf_counter()
        self.state.seconds += now - self.counted
        self.counted = now
        self.state.save(path)
        self.saved = time.perf_counter()
        if self.every > 0:
            self.every = max(self.every, (self.saved - now) / _SAVING_SHARE)


@contextmanager
def _orderly_interrupt() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C waits for the end of the step, a second one does not. Other programs' handlers stay in place."""
    came = False

    def note(number: int, frame: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
