"""Which relations between heads and attributes are fine, and which of a run's effects are not among them.

A file of relations is TOML, a line per relation ``audited -> attribute``:

    heavy_makeup -> wearing_lipstick = "expected"     # any effect will do
    young -> gray_hair = 0.4                          # up to this size
    approved -> male = "forbidden"                    # none that is more than chance
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfalign._errors import BadInput, nearest
from cfalign._results import Effect
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
    """What a check found."""

    unexpected: tuple[Unexpected, ...]
    """Strongest first."""
    checked: int
    """Effects looked at; a head's own concept is none of them."""
    unmeasured: tuple[str, ...]
    """Relations whose effect could not be measured, so that nothing is said about them."""


def check(run: Run, *, expected: Mapping[str, float] | None = None, max_effect: float = MAX_EFFECT) -> Verdict:
    """The effects of a finished run that are larger than allowed beyond chance.

    An effect is unexpected where |effect| exceeds its limit, q < 0.05 and its 95 % interval leaves out zero.
    ``expected``: limits by relation ``audited -> attribute`` as ``read_relations`` gives them (the audited head as in
    ``effects.csv`` or its target alone); ``max_effect`` is the limit of all others. BadInput for a run that is not
    finished and for a relation that the run does not have.
    """
    if not 0 <= max_effect <= 1:
        raise BadInput(f"max_effect must be between 0 and 1, got {max_effect!r}.")
    run.finished()
    effects = [e for e in run.rows(Effect) if not e.own]
    limits = dict(expected or {})
    _refuse_unknown(limits, effects)
    found = []
    for effect in effects:
        allowed = next((limits[name] for name in _names(effect) if name in limits), max_effect)
        if effect.clear and abs(effect.effect) > allowed:
            found.append(Unexpected(effect, allowed))
    found.sort(key=lambda u: -abs(u.effect.effect))
    blank = tuple(_names(e)[0] for e in effects if not math.isfinite(e.effect))
    return Verdict(tuple(found), len(effects), blank)


def _names(effect: Effect) -> tuple[str, str]:
    """The relation as in the run, and with the bare target."""
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
    """Limits of |effect| by relation: infinity where it is expected, 0 where it is forbidden.

    Names with an arrow need no quotes. BadInput for a file that is missing or no TOML, and for other values.
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
    raise BadInput(f'{path}: {name} must be "expected", "forbidden" or the largest |effect| in [0, 1], got {value!r}.')


def started(verdict: Verdict) -> str:
    """A file of relations in which all that was found is expected: to be read, and struck through, by a person."""
    lines = [
        "# Relations that are fine: audited head -> attribute. Delete what is not: what is missing here fails the",
        "# check.",
        '# Values: "expected", "forbidden", or the largest |effect|.',
    ]
    for found in verdict.unexpected:
        e = found.effect
        comment = f"{e.effect:+.2f} [{e.ci_low:+.2f}, {e.ci_high:+.2f}], n {e.n}"
        lines.append(f'"{e.audited}{ARROW}{e.attribute}" = "expected"  # {comment}')
    return "\n".join(lines) + "\n"
