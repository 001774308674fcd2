"""The engine on which audits, banks and benchmarks of rectification run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cfalign.engines.crew import Engine
from cfalign.engines.local import Local

_CURRENT: ContextVar[Engine] = ContextVar("engine")


def current() -> Engine:
    """The engine of the block around, by default this process.

    >>> cfa.engines.current()
    Local(part=Part(number=0, of=1))
    """
    return _CURRENT.get(Local())


@contextmanager
def using(engine: Engine) -> Iterator[Engine]:
    """Audits, banks and ``benchmarks.planted_rectification`` inside the block run on this engine.

    >>> with cfa.engines.using(cfa.engines.Local(part=cfa.engines.Part(0, 3))):
    ...     cfa.engines.current().part.of
    3
    """
    token = _CURRENT.set(engine)
    try:
        yield engine
    finally:
        _CURRENT.reset(token)
