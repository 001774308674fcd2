"""The gate of a release: effects of a run that are larger than a file of relations allows.

The file is TOML with one relation ``audited -> attribute`` a line:

    heavy_makeup -> wearing_lipstick = "expected"     # an effect of any size is fine
    young -> gray_hair = 0.4                          # an effect up to this size is fine
    "young -> bald & gray_hair" = 0.4                 # the joint effect of attributes that cannot be told apart
    approved -> male = "forbidden"                    # no effect beyond chance is fine
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cfalign._audit.changes import Change, Comparison, Status
from cfalign._audit.comparability import Mismatch
from cfalign._audit.comparison import compare
from cfalign._audit.measured import ARROW, Measured, measured, standings_of, told_twice
from cfalign._errors import BadInput, nearest
from cfalign._figures.style import interval, signed
from cfalign._findings import FindingKind, Standing, Witness
from cfalign._results import joint_members
from cfalign._runs.run import Run

MAX_EFFECT = 0.15
_BARE = re.compile(r"^(\s*)([^\s\"'#=\[]+)\s*->\s*([^\s\"'#=]+)(\s*=)", flags=re.MULTILINE)


@dataclass(frozen=True)
class Checked:
    """A number that was compared with its limit."""

    found: Measured
    allowed: float
    """The largest size that is fine; infinite of an expected relation."""
    change: Change | None = None
    """Of one beyond its limit: what it was in the baseline, where there is one and has it."""

    @property
    def reason(self) -> str:
        """What the baseline says of it; empty without one."""
        if self.change is None:
            return ""
        before = f"{signed(self.change.before.value)} {interval(self.change.before.ci_low, self.change.before.ci_high)}"
        if self.change.status in _NEW:
            return f"{self.change.status.value} since the baseline ({before})"
        if self.change.status not in _HELD:
            return f"the baseline has no number for it: {self.change.reason}"
        if self.change.before.clear:
            return f"the baseline has it too ({before})"
        return f"within chance of the baseline, which leaves it open ({before})"


_NEW = (Status.APPEARED, Status.GREW)
_HELD = (*_NEW, Status.UNCHANGED, Status.SHRANK, Status.GONE)
"""What becomes of a number that both runs have."""


@dataclass(frozen=True)
class Verdict:
    """The result of a check."""

    unexpected: tuple[Checked, ...]
    """Strongest first."""
    checked: int
    """How many numbers were compared with their limit; those of a head's own concept are not compared."""
    unmeasured: tuple[str, ...]
    """Relations that could not be measured, so that the check says nothing about them."""
    responses: int = 0
    """How many of the compared numbers are responses, whose cause is open."""
    known: tuple[Checked, ...] = ()
    """Numbers beyond their limit that pass, since they did not grow beyond chance since the baseline."""
    allowed: tuple[Checked, ...] = ()
    """All others that were measured."""
    baseline: str = ""
    """The folder of the baseline."""
    mismatches: tuple[Mismatch, ...] = ()
    """What differs between the run and the baseline beside the audited classifiers."""


def check(
    run: Run,
    *,
    expected: Mapping[str, float] | None = None,
    max_effect: float = MAX_EFFECT,
    allow_responses: bool = False,
    baseline: Run | None = None,
    match: Mapping[str, str] | None = None,
) -> Verdict:
    """Compare the effects of a finished run with their limits.

    An effect is unexpected if it is clear (q < 0.05, a 95 % interval that excludes zero, the sign of its own incoming
    reading) and its size exceeds its limit. Attributes that cannot be told apart are compared by their joint effect,
    whose limit is the lowest of its members' unless it is named itself. What a head does counts once: a copy or
    complement of another head is compared only with a limit that names it. With a baseline, an effect beyond its limit
    is known, and not unexpected, if it has neither appeared nor grown since, see ``compare``.

    Args:
        run: a finished audit.
        expected: the largest allowed size of an effect, in [0, 1] or infinite, by relation ``audited -> attribute``, as
            ``read_relations`` gives them. The audited head is called as in ``effects.csv``, or by its target alone.
        max_effect: the limit of all other relations, in [0, 1].
        allow_responses: compare heads without a witness by the incoming ψ of the matrix, which is unexpected if the
            outgoing one agrees; without it such a run is refused.
        baseline: a finished audit of what was released before.
        match: names of audited heads in the baseline → their names in the run, where they are called otherwise.

    Raises BadInput for a run that is not finished, for a relation that the run does not have, and for heads without a
    witness.
    """
    if not 0 <= max_effect <= 1:
        raise BadInput(f"Expected max_effect between 0 and 1, got {max_effect!r}.")
    if match and baseline is None:
        raise BadInput("Names are matched (match) with those of a baseline only: give one.")
    limits = dict(expected or {})
    compared, blank = _held(run, limits, allow_responses=allow_responses)
    known = [m for m in compared if math.isfinite(m.value)]
    checked = [Checked(m, _limit_of(m, limits, max_effect)) for m in known]
    beyond = [c for c in checked if c.found.clear and abs(c.found.value) > c.allowed]
    beyond.sort(key=lambda c: -abs(c.found.value))
    verdict = Verdict(
        unexpected=tuple(beyond),
        checked=len(compared),
        unmeasured=blank,
        responses=sum(m.kind is FindingKind.RESPONSE for m in compared),
        allowed=tuple(c for c in checked if c not in beyond),
    )
    return verdict if baseline is None else _since(verdict, compare(baseline, run, match=match))


def _held(run: Run, limits: Mapping[str, float], *, allow_responses: bool) -> tuple[list[Measured], tuple[str, ...]]:
    """The numbers that are held against a limit, and the relations without a number."""
    record = run.finished()
    unwitnessed = {a: s for a, s in standings_of(record).items() if s.witness is Witness.NONE}
    if unwitnessed and not allow_responses:
        raise BadInput(_no_witness(run, unwitnessed))
    foreign = [m for m in measured(run, record, responding=unwitnessed) if not m.own]
    _refuse_unknown(limits, foreign)
    twice = told_twice(record)
    apart = [m for m in foreign if not {m.audited, m.attribute} & twice or set(m.names) & set(limits)]
    grouped = {a for name in record.get("inseparable", ()) for a, _ in joint_members(name)}
    compared = [m for m in apart if not _by_its_group(m, grouped) or set(m.names) & set(limits)]
    blank = [m.names[0] for m in compared if not math.isfinite(m.value)]
    lost = [m.names[0] for m in apart if m not in compared and not _has_joint(m, apart)]
    return compared, (*blank, *lost)


def _since(verdict: Verdict, comparison: Comparison) -> Verdict:
    """The verdict when what was there before passes."""
    changes = {(str(c.kind), c.audited, c.attribute): c for c in comparison.changes}
    beyond = [
        replace(c, change=changes.get((c.found.kind.value, c.found.audited, c.found.attribute)))
        for c in verdict.unexpected
    ]
    known = [c for c in beyond if c.change and c.change.status in _HELD and c.change.status not in _NEW]
    return replace(
        verdict,
        unexpected=tuple(c for c in beyond if c not in known),
        known=tuple(known),
        baseline=comparison.before,
        mismatches=comparison.mismatches,
    )


def _by_its_group(one: Measured, grouped: Collection[str]) -> bool:
    """Whether an effect is compared as part of a joint effect. Heads without a witness have none: responses are not."""
    return one.kind is FindingKind.EFFECT and one.attribute in grouped


def _no_witness(run: Run, unwitnessed: Mapping[str, Standing]) -> str:
    head, standing = next(iter(unwitnessed.items()))
    whose = head if len(unwitnessed) == 1 else f"{len(unwitnessed)} heads, such as {head}"
    return (
        f"{run.path} holds no effects of {whose}, only responses, whose cause is open: {standing.reason}. Remedy: "
        f"{standing.remedy}. Or compare the responses: --allow-responses (allow_responses=True)."
    )


def _has_joint(one: Measured, among: Sequence[Measured]) -> bool:
    """Whether the joint effect of its group stands for an attribute."""
    joint = (m for m in among if m.kind is FindingKind.JOINT and m.audited == one.audited)
    return any(one.attribute in m.members for m in joint)


def _limit_of(one: Measured, limits: Mapping[str, float], otherwise: float) -> float:
    """The limit that is given for it, else the lowest of its members."""
    named = next((limits[name] for name in one.names if name in limits), None)
    if named is not None:
        return named
    return min(next((limits[name] for name in names if name in limits), otherwise) for names in one.parts)


def _refuse_unknown(limits: Mapping[str, float], among: Sequence[Measured]) -> None:
    known = {name for one in among for name in one.names}
    for name in limits:
        if name not in known:
            raise BadInput(f"The run has no relation {name!r}; {nearest(name, sorted(known))}.")


def read_relations(path: str | Path) -> dict[str, float]:
    """Read the largest allowed size of each effect: infinity for an expected relation, 0 for a forbidden one.

    ``path``: a TOML file with lines such as ``heavy_makeup -> wearing_lipstick = "expected"``; names with an arrow need
    no quotes. Raises BadInput for a file that is missing or is not TOML, and for other values.
    """
    path = Path(path)
    try:
        content = tomllib.loads(_BARE.sub(r'\1"\2 -> \3"\4', path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BadInput(f"There is no file of relations {str(path)!r}; start one with --write.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path} cannot be read as relations: {error}.") from error
    return {_relation(name, path): _limit(name, value, path) for name, value in content.items()}


def _relation(name: str, path: Path) -> str:
    audited, arrow, attribute = (part.strip() for part in name.partition("->"))
    if not (audited and arrow and attribute):
        raise BadInput(f"{path}: expected relations such as heavy_makeup -> wearing_lipstick, got {name!r}.")
    return f"{audited}{ARROW}{attribute}"


def _limit(name: str, value: object, path: Path) -> float:
    if value in ("expected", "forbidden"):
        return math.inf if value == "expected" else 0.0
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    expected = '"expected", "forbidden" or the largest |effect| in [0, 1]'
    raise BadInput(f"{path}: expected {expected} for {name}, got {value!r}.")


def started(verdict: Verdict) -> str:
    """A file of relations that expects each unexpected effect; a person deletes those that are not fine."""
    lines = [
        "# Relations that are fine: audited head -> attribute. Delete those that are not: then the check fails.",
        '# Values: "expected", "forbidden", or the largest |effect|.',
    ]
    for one in verdict.unexpected:
        m = one.found
        comment = f"{m.kind.value} {m.value:+.2f} [{m.ci_low:+.2f}, {m.ci_high:+.2f}], n {m.n}"
        lines.append(f'{json.dumps(m.names[0], ensure_ascii=False)} = "expected"  # {comment}')
    return "\n".join(lines) + "\n"
