"""What people say of a run's relations, unnamed features and images: marks, a line each in ``marks.jsonl``.

Nothing is ever changed or removed in that file: a later mark of the same person about the same thing counts instead of
the earlier one, so two people who mark at once lose nothing, and a crash while writing loses at most the last mark.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cfalign._errors import BadInput
from cfalign._runs.codec import Misfit, built, refused

MARKS = "marks.jsonl"
LONGEST = 2000
"""Characters of a note or a name."""


class Thing(StrEnum):
    """What a mark is about."""

    RELATION = "relation"
    """An audited head and an attribute."""
    UNNAMED = "unnamed"
    """An audited head and the number of its unnamed feature."""
    IMAGE = "image"
    """An image, by its id."""


class Opinion(StrEnum):
    """What a person says of it."""

    EXPECTED = "expected"
    SPURIOUS = "spurious"
    UNCLEAR = "unclear"
    WITHDRAWN = "withdrawn"
    """As if never marked."""


_PARTS = {Thing.RELATION: 2, Thing.UNNAMED: 2, Thing.IMAGE: 1}


@dataclass(frozen=True)
class Mark:
    """One person's opinion about one thing of a run."""

    thing: Thing
    about: tuple[str, ...]
    """(audited head, attribute), (audited head, number) or (image id,)."""
    opinion: Opinion
    note: str
    user: str
    time: str
    """ISO 8601, UTC."""

    def __post_init__(self) -> None:
        if len(self.about) != _PARTS[self.thing] or not all(self.about):
            wanted = _PARTS[self.thing]
            raise BadInput(f"A mark of a {self.thing.value} needs {wanted} names, got {list(self.about)!r}.")
        for text in (self.note, self.user):
            if len(text) > LONGEST:
                raise BadInput(f"A note or a name has at most {LONGEST} characters, got {len(text)}.")


def mark(thing: str, about: Sequence[str], opinion: str, *, user: str, note: str = "") -> Mark:
    """A mark of now. Raises BadInput for an unknown kind of thing or opinion, and for too few names.

    >>> made = mark("relation", ["young", "gray_hair"], "expected", user="ana")
    >>> made.about, str(made.opinion)
    (('young', 'gray_hair'), 'expected')
    """
    for value, known in ((thing, Thing), (opinion, Opinion)):
        if value not in list(known):
            raise BadInput(f"Expected one of {', '.join(known)}, got {value!r}.")
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Mark(Thing(thing), tuple(about), Opinion(opinion), note.strip(), user.strip() or "nobody", now)


def add_mark(run: Path, one: Mark) -> None:
    """Append a mark to a run. Raises StorageFailed when the disk refuses."""
    line = (json.dumps(asdict(one), ensure_ascii=True) + "\n").encode()
    file = run / MARKS
    try:
        handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # One write of one line: others who append at the same moment stand before or behind it.
            os.write(handle, (b"" if _ends_whole(handle) else b"\n") + line)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise refused(file, error) from error


def _ends_whole(handle: int) -> bool:
    """Whether the last line is complete; it is not after a crash in the middle of it."""
    size = os.fstat(handle).st_size
    if not size:
        return True
    os.lseek(handle, size - 1, os.SEEK_SET)
    return os.read(handle, 1) == b"\n"


def read_marks(run: Path) -> tuple[Mark, ...]:
    """All marks of a run, in the order in which they were made; a line that was not written whole is no mark."""
    file = run / MARKS
    if not file.is_file():
        return ()
    found = []
    for line in file.read_bytes().splitlines():
        try:
            found.append(built(Mark, json.loads(line)))
        except (ValueError, RecursionError, Misfit, BadInput):
            continue
    return tuple(found)


Key = tuple[Thing, tuple[str, ...]]


@dataclass(frozen=True)
class Judgement:
    """What people say of one thing, the latest mark of each."""

    marks: tuple[Mark, ...]

    @property
    def opinion(self) -> Opinion | None:
        """The one that all share; None where they differ."""
        opinions = {one.opinion for one in self.marks}
        return next(iter(opinions)) if len(opinions) == 1 else None


def judgements(marks: Sequence[Mark]) -> Mapping[Key, Judgement]:
    """What people say of each thing now, in the order in which it was marked first."""
    latest: dict[Key, dict[str, Mark]] = {}
    for one in marks:
        by_user = latest.setdefault((one.thing, one.about), {})
        by_user.pop(one.user, None)
        by_user[one.user] = one
    counting = {key: [m for m in users.values() if m.opinion is not Opinion.WITHDRAWN] for key, users in latest.items()}
    return {key: Judgement(tuple(some)) for key, some in counting.items() if some}
