"""The numbers of a run that are held against something: a limit, or another run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cfalign._analysis.duplicates import repeated
from cfalign._findings import FindingKind, Standing, Witness
from cfalign._results import Cell, Duplicate, Effect, joint_members
from cfalign._runs.codec import built
from cfalign._runs.run import Run

ARROW = " -> "


@dataclass(frozen=True)
class Measured:
    """One number of a run that has a limit: an effect, a joint effect, or the incoming response of a head."""

    kind: FindingKind
    audited: str
    attribute: str
    """The attribute, or all members of a group."""
    value: float
    ci_low: float
    ci_high: float
    n: int
    q: float
    clear: bool
    """Whether it is more than chance, and a response also in its other reading."""
    own: bool = False
    """Whether the attribute is what the audited head is meant to see."""

    @property
    def names(self) -> tuple[str, ...]:
        """The relation as the run calls it, and with the target alone."""
        return tuple(f"{who}{ARROW}{self.attribute}" for who in self._heads)

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """The names of the relation of each member."""
        return tuple(tuple(f"{who}{ARROW}{member}" for who in self._heads) for member in self.members)

    @property
    def members(self) -> tuple[str, ...]:
        """The attributes of a joint effect; the attribute of any other."""
        if self.kind is not FindingKind.JOINT:
            return (self.attribute,)
        return tuple(name for name, _ in joint_members(self.attribute))

    @property
    def _heads(self) -> tuple[str, ...]:
        return (self.audited, self.audited.rpartition(":")[2])


def standings_of(record: Mapping[str, Any]) -> dict[str, Standing]:
    """What the effects of each audited head rest on; empty in runs of older versions."""
    return {a: built(Standing, s) for a, s in record.get("standings", {}).items()}


def measured(run: Run, record: Mapping[str, Any], *, responding: Collection[str]) -> Iterator[Measured]:
    """Every effect and joint effect of a finished run; of the heads ``responding`` the response instead."""
    standings, old = standings_of(record), Standing(Witness.UNKNOWN)
    cells = {(c.base, c.downstream): c for c in run.cells()} if responding else {}
    for e in run.rows(Effect):
        own = e.own or standings.get(e.audited, old).about(e.attribute)
        if e.audited in responding:
            yield _response(e, cells.get((e.attribute, e.audited)), cells.get((e.audited, e.attribute)), own=own)
        else:
            numbers = (e.effect, e.ci_low, e.ci_high, e.n, e.q, e.clear)
            yield Measured(FindingKind.EFFECT, e.audited, e.attribute, *numbers, own=own)
    for j in run.joint():
        if j.audited not in responding:
            joint = (j.effect, j.ci_low, j.ci_high, j.n, j.q, j.clear)
            yield Measured(FindingKind.JOINT, j.audited, j.attributes, *joint)


def _response(e: Effect, incoming: Cell | None, outgoing: Cell | None, *, own: bool) -> Measured:
    if incoming is None:
        nan = float("nan")
        return Measured(FindingKind.RESPONSE, e.audited, e.attribute, nan, nan, nan, 0, nan, clear=False, own=own)
    agrees = outgoing is None or not outgoing.n or (outgoing.clear and outgoing.psi * incoming.psi > 0)
    numbers = (incoming.psi, incoming.ci_low, incoming.ci_high, incoming.n, incoming.q)
    return Measured(FindingKind.RESPONSE, e.audited, e.attribute, *numbers, clear=incoming.clear and agrees, own=own)


def told_twice(record: Mapping[str, Any]) -> set[str]:
    """The audited heads and attributes that give the answer of another one."""
    copies = [Duplicate(**d) for d in record.get("duplicates", ())]
    return repeated(copies, record["audited"]) | repeated(copies, record["attributes"])
