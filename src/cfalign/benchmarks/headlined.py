"""What the result of every benchmark says of itself in one line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

_SHOWN = 6


class Headlined(ABC):
    """A result with a headline: its first numbers are the ``repr``."""

    @property
    @abstractmethod
    def headline(self) -> Mapping[str, float]:
        """The numbers that programs rely on, by name."""

    def __repr__(self) -> str:
        try:
            numbers = [f"{name}={value:.4g}" for name, value in [*self.headline.items()][:_SHOWN]]
        except (ArithmeticError, LookupError, ValueError):  # a result of nothing has none
            numbers = []
        return f"{type(self).__name__}({', '.join([*numbers, '…'])})"
