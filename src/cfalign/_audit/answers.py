"""What heads answer to the counterfactuals of a run, kept on disk and read block by block."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from os import SEEK_END
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import NamedTuple
from weakref import finalize

import numpy as np
import polars as pl

from cfalign._analysis.on_demand import OnDemand
from cfalign._results import Floats
from cfalign._runs.codec import refused
from cfalign._runs.columns import Column

ANSWERED = (Column.BEFORE, Column.AFTER, Column.NULL, Column.OFF, Column.OFF_NULL)
"""The images of a counterfactual that heads answer."""


class _Piece(NamedTuple):
    """Answers of one base in one shard, in the file."""

    at: int
    rows: int
    heads: tuple[str, ...]


class Answers:
    """The answers of all heads, base by base, in a file that goes with this object.

    ``folder``: where that file is made, without a name where the system allows it; the system's own folder for
    temporary files by default. A run of many images holds more answers than fit into memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = Path(gettempdir()) if folder is None else folder
        with self._refusals():
            self._file = TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (it lives as long as the answers)
        finalize(self, self._file.close)
        self._pieces: dict[tuple[str, Column], list[_Piece]] = defaultdict(list)

    def add(self, shard: pl.DataFrame) -> pl.DataFrame:
        """Keep the answers in one shard of ``responses``; the shard without them is given back.

        Raises StorageFailed when the disk refuses.
        """
        columns = {where: where.columns(where.heads(shard.columns)) for where in ANSWERED}
        for (base,), rows in shard.partition_by("base", as_dict=True, maintain_order=True).items():
            for where, names in columns.items():
                self._write(str(base), where, rows.select(names))
        return shard.drop(*(name for names in columns.values() for name in names))

    def _write(self, base: str, where: Column, block: pl.DataFrame) -> None:
        left = memoryview(np.ascontiguousarray(block.to_numpy(), dtype=np.float64).tobytes())
        end = self._file.seek(0, SEEK_END)
        self._pieces[base, where].append(_Piece(end, len(block), tuple(where.heads(block.columns))))
        with self._refusals():
            while left:
                left = left[self._file.write(left) :]

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise refused(self._folder / "(temporary file)", error) from error

    def of(self, base: str, where: Column, heads: Sequence[str]) -> OnDemand:
        """Answers to the counterfactuals of a base in the order of the shards, [counterfactual, head]."""
        return OnDemand(partial(self._read, base, where, tuple(heads)))

    def _read(self, base: str, where: Column, heads: tuple[str, ...]) -> Floats:
        pieces = self._pieces[base, where]
        found = np.empty((sum(piece.rows for piece in pieces), len(heads)))
        done = 0
        for piece in pieces:
            self._file.seek(piece.at)
            block = np.frombuffer(self._file.read(piece.rows * len(piece.heads) * 8)).reshape(piece.rows, -1)
            found[done : done + piece.rows] = block[:, _places(heads, piece.heads)]
            done += piece.rows
        return found


@lru_cache(maxsize=64)
def _places(some: tuple[str, ...], of: tuple[str, ...]) -> list[int]:
    """Where some heads stand among all."""
    place = {head: i for i, head in enumerate(of)}
    return [place[head] for head in some]
