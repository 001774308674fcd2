"""Folders below a folder, through symbolic links too, each visited once and under its real name where it has one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cfalign._errors import BadInput

_Inode = tuple[int, int]


class LinkedIds(tuple[str, ...]):
    """Ids of images that know by which other names their folders are reached."""

    links: Mapping[str, str] = {}
    """Folder by the name of a link → the same folder as it stands in the ids, both relative; "" is the root."""

    def __new__(cls, ids: Iterable[str], links: Mapping[str, str] | None = None) -> LinkedIds:
        made = super().__new__(cls, ids)
        made.links = dict(links or {})
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self), self.links


class FolderWalk:
    """Goes through the folders below ``root``: first the real ones, then those that only a link reaches.

    A folder that is reached in several ways is visited once, and ``links`` keeps the other names. A link that leads
    back up is not followed. Folders whose name begins with a dot are left out.
    """

    def __init__(self, root: Path, *, refuse: Callable[[OSError], None]) -> None:
        self._root, self._refuse = root, refuse
        self._seen: dict[_Inode, str] = {}
        self._pending: list[str] = []
        self.links: dict[str, str] = {}
        """As ``LinkedIds.links``; complete once the walk is over."""
        self.hidden: list[str] = []
        """Paths of the folders that were left out."""

    def __iter__(self) -> Iterator[tuple[str, str, list[str]]]:
        """Path, path relative to the root ("" for the root) and names of files of every folder."""
        yield from self._below("")
        while self._pending:
            linked = self._pending.pop(0)
            known = self._seen.get(_inode(self._root / linked))
            if known is None:
                yield from self._below(linked)
            elif known != linked and not _is_inside(linked, known):
                self.links[linked] = known

    def _below(self, start: str) -> Iterator[tuple[str, str, list[str]]]:
        top = os.path.join(self._root, start) if start else str(self._root)
        for place, folders, names in os.walk(top, onerror=self._refuse):
            below = Path(place).relative_to(self._root).as_posix() if place != top else start
            known = self._seen.setdefault(_inode(place), below)
            if known != below:  # a folder inside a linked one that was visited before
                folders.clear()
                if not _is_inside(below, known):
                    self.links[below] = known
                continue
            visible = sorted(name for name in folders if not name.startswith("."))
            self.hidden += [os.path.join(place, name) for name in folders if name.startswith(".")]
            links = {name for name in visible if os.path.islink(os.path.join(place, name))}
            self._pending += [f"{below}/{name}" if below else name for name in visible if name in links]
            folders[:] = [name for name in visible if name not in links]
            yield place, below, names


def _inode(path: str | Path) -> _Inode:
    try:
        status = os.stat(path)
    except OSError as error:
        raise BadInput(f"The folder {path} cannot be read: {(error.strerror or str(error)).lower()}.") from error
    return status.st_dev, status.st_ino


def _is_inside(folder: str, other: str) -> bool:
    return not other or folder == other or folder.startswith(f"{other}/")
