"""Step after step, with a moving average of the weights, checkpoints, and an orderly end when interrupted."""

from __future__ import annotations

import copy
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

from cfalign._errors import BadInput
from cfalign._runs.progress import Progress
from cfalign.training.options import Training
from cfalign.training.output_folder import read_checkpoint, save_checkpoint

Loss = Callable[[Tensor], Tensor]
"""Rows [batch] of the training images to the loss of the network in training."""
_SAVING_SHARE = 0.05  # of the time at most goes into checkpoints


class TrainingState:
    """All that a training needs to go on: network, average, optimiser, random state, position, the loss's memory.

    The network moves to the device of the options. ``objective``: the loss's own memory, where it has one.
    """

    def __init__(self, network: nn.Module, options: Training, *, objective: nn.Module | None = None) -> None:
        self.network = network.to(options.device)
        self.objective = objective if objective is None else objective.to(options.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = _optimizer(network, options)
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self.highest_rate = options.learning_rate
        self.step = 0
        self.seconds = 0.0

    def save(self, path: Path) -> None:
        """Write a checkpoint, unless it would hold NaN: the last good one stays."""
        if all(bool(torch.isfinite(p).all()) for p in self.network.parameters()):
            save_checkpoint(path, self._content())

    def resume(self, path: Path) -> None:
        """Take up a checkpoint where there is one, the global random state included."""
        content = read_checkpoint(path)
        if content is None:
            return
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.objective is not None:
            self.objective.load_state_dict(content["objective"])
        self.step, self.seconds = content["step"], content["seconds"]
        torch.random.set_rng_state(content["random_state"])

    def _content(self) -> dict[str, Any]:
        memory = {} if self.objective is None else {"objective": self.objective.state_dict()}
        return {
            **memory,
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random_state": torch.random.get_rng_state(),
        }

    def advance(self, loss: Tensor, *, rate: float, decay: float) -> None:
        """One step of the optimiser, at this share of the learning rate, and of the average."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.highest_rate * rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        self.optimizer.step()
        self.step += 1
        self._average(min(decay, (1 + self.step) / (10 + self.step)) if decay else 0.0)

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for kept, new in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def fit(
    state: TrainingState, loss: Loss, *, rows: Tensor, options: Training, checkpoint: Path, progress: Progress
) -> None:
    """Train to the end, from wherever the checkpoint stands; ``state.average`` is the result.

    BadInput when the loss is no longer finite. On KeyboardInterrupt the work so far is saved first.
    """
    total = options.total_steps(len(rows))
    state.resume(checkpoint)
    clock = _Clock(state, every=options.checkpoint_every)
    whole = True  # between two steps
    progress("train", state.step, total)
    try:
        with _orderly_interrupt() as interrupted:
            for batch in _batches(rows, start=state.step, total=total, options=options):
                whole = False
                value = loss(batch)
                if not math.isfinite(float(value.detach())):
                    raise _diverged(state.step, total, options=options, checkpoint=checkpoint)
                rate = learning_rate(state.step, total=total, warmup=options.warmup)
                state.advance(value, rate=rate, decay=options.average)
                whole = True
                progress("train", state.step, total)
                if interrupted():
                    raise KeyboardInterrupt
                if clock.due():
                    clock.save(checkpoint)
        if not all(bool(torch.isfinite(p).all()) for p in state.average.parameters()):
            raise _diverged(state.step, total, options=options, checkpoint=checkpoint)
    except KeyboardInterrupt:
        if whole:
            clock.save(checkpoint)
        raise
    clock.save(checkpoint)


def learning_rate(step: int, *, total: int, warmup: float) -> float:
    """Share of the highest rate, in (0, 1]: a linear rise, then half a cosine that would be 0 after the last step."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global random state of the CPU begins at ``seed`` inside and is as it was afterwards."""
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


def _diverged(step: int, total: int, *, options: Training, checkpoint: Path) -> BadInput:
    kept = f" The last good checkpoint is kept in {checkpoint}." if checkpoint.exists() else ""
    return BadInput(
        f"The training diverged: the loss is not finite at step {step} of {total}. Give a smaller learning_rate (now "
        f"{options.learning_rate:g}) and another output folder.{kept}"
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
    """Ctrl-C waits for the end of the step; a second one does not. Handlers of other programs are left alone."""
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
