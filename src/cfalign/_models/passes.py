"""Images and latents go through a model in passes; one that memory does not hold is halved and made again.

What was done before stays, and the size that fits is that of all passes that follow: those of the same call, and of all
calls within ``sizes_kept``. A pass with a backward pass needs more than one without, so each kind has its own size.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch

from cfalign._errors import BadModel, ModelWarning, warn

Kind = Literal["forward", "gradient"]
"""Whether a backward pass belongs to it."""
Result = TypeVar("Result")
LONGEST = 200  # characters of a message of the allocator
_LACKS = ("can't allocate memory", "not enough memory", "out of memory")  # on the CPU under Linux and Windows; on a GPU
_NAMES: dict[Kind, str] = {"forward": "passes", "gradient": "passes with a gradient"}


class _Full(BadModel):
    """One image alone does not fit."""


@dataclass
class _Sizes:
    """What was found in a call, by kind."""

    most: dict[Kind, int] = field(default_factory=dict)
    """Where a pass was halved: rows at once."""
    told: set[Kind] = field(default_factory=set)


_SIZES: ContextVar[_Sizes | None] = ContextVar("sizes", default=None)


@contextmanager
def sizes_kept() -> Iterator[None]:
    """Inside, a size that fits is found once; blocks inside a block belong to it."""
    if _SIZES.get() is not None:
        yield
        return
    token = _SIZES.set(_Sizes())
    try:
        yield
    finally:
        _SIZES.reset(token)


def in_passes(
    work: Callable[[slice], Result], count: int, *, most: int, kind: Kind = "forward", even: bool = False
) -> list[Result]:
    """``work(rows)`` for rows 0 … count − 1 in their order, at most ``most`` at once; without rows once, for none.

    ``work`` may be called again for the first of the rows that it failed for. ``even``: in passes of nearly equal size;
    else every pass but the last is full. Raises BadModel where memory does not hold one row.
    """
    done: list[Result] = []
    at = 0

    def one(size: int) -> tuple[int, Result]:
        end = at + _next(count - at, size, even)
        return end, work(slice(at, end))

    with sizes_kept():
        while at < count or not done:
            first = _next(count - at, _at_most(most, kind), even)
            at, found = fitted(one, most=first, kind=kind)
            done.append(found)
    return done


def fitted(attempt: Callable[[int], Result], *, most: int, least: int = 1, kind: Kind = "forward") -> Result:
    """``attempt(size)`` for the largest size that memory holds: ``most``, or that halved again and again.

    Raises BadModel where memory does not hold one, and what ``attempt`` raised where it does not hold a ``least``
    above one.
    """
    tried = [max(least, _at_most(most, kind)) if most else 0]
    halved = None
    with sizes_kept():
        while True:
            found, reason = _attempted(attempt, tried, least)
            if reason is None:
                if halved is not None:
                    _tell(kind, tried, halved)
                return found[0]
            halved = reason
            tried.append(max(least, -(-tried[-1] // 2)))
            _keep(kind, tried[-1])
            _free()


def _next(left: int, most: int, even: bool) -> int:
    """Rows of the next pass of those that are left."""
    return -(-left // max(1, -(-left // most))) if even and most else min(left, most)


def _at_most(most: int, kind: Kind) -> int:
    sizes = _SIZES.get()
    return most if sizes is None else min(most, sizes.most.get(kind, most))


def _attempted(attempt: Callable[[int], Result], tried: list[int], least: int) -> tuple[tuple[Result, ...], str | None]:
    """The result of the size that was tried last; else why memory does not hold it.

    The error is gone when this returns, and with it what its frames held.
    """
    try:
        return (attempt(tried[-1]),), None
    except Exception as error:
        lack = lack_of_memory(error)
        if lack is None or isinstance(error, _Full):
            raise
        if tried[-1] <= 1:
            raise _full(error, lack, tried) from error
        if tried[-1] <= least:
            raise
        return (), _text(lack)


def lack_of_memory(error: BaseException) -> BaseException | None:
    """What says that memory ran out: the error, or what it was raised from; None for any other error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, torch.OutOfMemoryError | MemoryError):
            return seen
        if isinstance(seen, RuntimeError) and not isinstance(seen, BadModel):
            text = str(seen)
            if any(words in text for words in _LACKS):
                return seen
        seen = seen.__cause__
    return None


def _full(error: BaseException, lack: BaseException, tried: list[int]) -> BadModel:
    said = str(error).rstrip(".") if isinstance(error, BadModel) else f"The models raised {_text(lack)}"
    first, last = tried[0], tried[-1]
    row = str(first) if len(tried) == 1 else f"{', '.join(map(str, tried[:-1]))} and {last}"
    return _Full(
        f"{said}: memory does not hold one image at a time (tried at once: {row}); take smaller images (--size), or "
        "another device (--device)."
    )


def _text(error: BaseException) -> str:
    """Type and message of an error in one line."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text if len(text) <= LONGEST else text[:LONGEST].rstrip() + ' …'}"


def _keep(kind: Kind, size: int) -> None:
    sizes = _SIZES.get()
    if sizes is not None:
        sizes.most[kind] = size


def _tell(kind: Kind, tried: list[int], reason: str) -> None:
    sizes = _SIZES.get()
    if sizes is None or kind in sizes.told:
        return
    sizes.told.add(kind)
    sentence = (
        f"Memory does not hold {_NAMES[kind]} of {tried[0]} images ({reason}): they are of {tried[-1]} from here on."
    )
    warn(sentence, ModelWarning, stacklevel=4)


def _free() -> None:
    """Give back what nobody holds any more, so that a smaller pass finds it."""
    gc.collect()
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    empty = getattr(torch.get_device_module(found.type), "empty_cache", None) if found is not None else None
    if empty is not None:
        empty()
