"""Arrays that are read whenever they are used, so that none of them is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cfalign._results import Floats


@dataclass(frozen=True)
class OnDemand:
    """An array [k, ...] of which only this is held: how it is read, and which of its rows count."""

    read: Callable[[], Floats]
    """All rows."""
    rows: NDArray[np.int64] | None = None
    """Those that count, in order; all by default."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Floats:
        whole = self.read()
        return np.asarray(whole if self.rows is None else whole[self.rows], dtype=dtype)

    def __getitem__(self, key: Any) -> Any:
        """What an array gives, but for flags [k] of rows to keep: these are still not read."""
        if not (isinstance(key, np.ndarray) and key.dtype == bool and key.ndim == 1):
            return np.asarray(self)[key]
        kept = np.flatnonzero(key)
        return OnDemand(self.read, kept if self.rows is None else self.rows[kept])


Block: TypeAlias = "Floats | OnDemand"
"""Numbers that are held, or read on demand."""
