"""The gate of a release: effects of a run that are larger than a file of relations allows.

The file is TOML with one relation ``audited -> attribute`` a line:

    heavy_makeup -> wearing_lipstick = "expected"     # an effect of any size is fine
    young -> gray_hair = 0.4                          # an effect up to this size is fine
    approved -> male = "forbidden"                    # no effect beyond chance is fine
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfalign._analysis.duplicates import repeated
from cfalign._errors import BadInput, nearest
from cfalign._results import Duplicate, Effect
from cfalign._runs.run import Run

ARROW = " -> "
MAX_EFFECT = 0.15
_BARE = re.compile(r"^(\s*)([^\s\"'#=\[]+)\s*->\s*([^\s\"'#=]+)(\s*=)", flags=re.MULTILINE)


@dataclass(frozen=True)
class Unexpected:
    """An effect beyond what its relation allows."""

    effect: Effect
    allowed: float
    """The largest |effect| that would have been fine."""


@dataclass(frozen=True)
class Verdict:
    """The result of a check."""

    unexpected: tuple[Unexpected, ...]
    """Strongest first."""
    checked: int
    """How many effects were compared with their limit; those of a head's own concept are not compared."""
    unmeasured: tuple[str, ...]
    """Relations whose effect could not be measured, so that the check says nothing about them."""


def check(run: Run, *, expected: Mapping[str, float] | None = None, max_effect: float = MAX_EFFECT) -> Verdict:
    """Compare the effects of a finished run with their limits.

    An effect is unexpected if it is clear (q < 0.05 and a 95 % interval that excludes zero) and its size exceeds its
    limit. What a head does counts once: a copy or complement of another head is compared only with a limit that names
    it.

    Args:
        run: a finished audit.
        expected: the largest allowed size of an effect, in [0, 1] or infinite, by relation ``audited -> attribute``, as
            ``read_relations`` gives them. The audited head is called as in ``effects.csv``, or by its target alone.
        max_effect: the limit of all other relations, in [0, 1].

    Raises BadInput for a run that is not finished, and for a relation that the run does not have.
    """
    if not 0 <= max_effect <= 1:
        raise BadInput(f"Expected max_effect between 0 and 1, got {max_effect!r}.")
    run.finished()
    effects = [e for e in run.rows(Effect) if not e.own]
    limits = dict(expected or {})
    _refuse_unknown(limits, effects)
    twice = _told_twice(run)
    effects = [e for e in effects if not {e.audited, e.attribute} & twice or set(_names(e)) & set(limits)]
    found = []
    for effect in effects:
        allowed = next((limits[name] for name in _names(effect) if name in limits), max_effect)
        if effect.clear and abs(effect.effect) > allowed:
            found.append(Unexpected(effect, allowed))
    found.sort(key=lambda u: -abs(u.effect.effect))
    blank = tuple(_names(e)[0] for e in effects if not math.isfinite(e.effect))
    return Verdict(tuple(found), len(effects), blank)


def _told_twice(run: Run) -> set[str]:
    """The audited heads and attributes that give the answer of another one."""
    record = run.record()
    copies = [Duplicate(**d) for d in record.get("duplicates", ())]
    return repeated(copies, record["audited"]) | repeated(copies, record["attributes"])


def _names(effect: Effect) -> tuple[str, str]:
    """The relation as the run calls it, and with the target alone."""
    return (
        f"{effect.audited}{ARROW}{effect.attribute}",
        f"{effect.audited.rpartition(':')[2]}{ARROW}{effect.attribute}",
    )


def _refuse_unknown(limits: Mapping[str, float], effects: Sequence[Effect]) -> None:
    known = {name for effect in effects for name in _names(effect)}
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
    for found in verdict.unexpected:
        e = found.effect
        comment = f"{e.effect:+.2f} [{e.ci_low:+.2f}, {e.ci_high:+.2f}], n {e.n}"
        lines.append(f'"{e.audited}{ARROW}{e.attribute}" = "expected"  # {comment}')
    return "\n".join(lines) + "\n"
