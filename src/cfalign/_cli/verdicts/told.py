"""What a check tells, whatever the format."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cfalign._audit.comparability import Mismatch
from cfalign._audit.gate import Checked, Verdict
from cfalign._figures.style import interval, q_value, signed
from cfalign._findings import FindingKind, UnnamedFeature

_HIDDEN = ("Cc", "Cs", "Cn", "Zl", "Zp")
"""Categories of characters that no line, XML or JSON shows: controls, halves of pairs, unassigned ones, line breaks."""
_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""Characters that turn the direction of what follows, so that a line reads as another one."""


@dataclass(frozen=True)
class Told:
    """A verdict with what is told beside it."""

    run: Path
    verdict: Verdict
    max_effect: float
    unnamed: tuple[UnnamedFeature, ...]
    """Those that count."""
    at: datetime
    """When the run ended, in UTC."""
    version: str
    """Of cfalign."""

    @property
    def summary(self) -> str:
        """How many numbers are unexpected, in one sentence."""
        verdict = self.verdict
        responses = f"numbers ({verdict.responses} responses, whose cause is open)"
        what = responses if verdict.responses else "effects"
        limit = f"limit {self.max_effect:g} where none is named"
        return f"{len(verdict.unexpected)} of {verdict.checked} {what} are unexpected ({limit})."

    @property
    def against(self) -> str:
        """What the baseline let pass, in one sentence; empty without a baseline."""
        if not self.verdict.baseline:
            return ""
        n = len(self.verdict.known)
        passed = f"{n} {'number' if n == 1 else 'numbers'} beyond the limit did not grow beyond chance and passed"
        return f"Baseline {printable(self.verdict.baseline)}: {passed if n else 'no number needed it to pass'}."


def relation(one: Checked) -> str:
    """``audited -> attribute``."""
    return printable(one.found.names[0])


def numbers(one: Checked) -> str:
    """What was measured, against which limit, and what the baseline says."""
    m = one.found
    kind = "" if m.kind is FindingKind.EFFECT else f"{m.kind.value} "
    found = f"{kind}{signed(m.value)} {interval(m.ci_low, m.ci_high)}, {q_value(m.q)}, n {m.n}"
    reason = f"; {printable(one.reason)}" if one.reason else ""
    return f"{found}, allowed {one.allowed:g}{reason}"


def feature_name(feature: UnnamedFeature) -> str:
    """``audited -> unnamed 1``."""
    return printable(f"{feature.audited} -> unnamed {feature.number}")


def feature_numbers(feature: UnnamedFeature) -> str:
    """What was measured of a feature without a name."""
    found = f"{signed(feature.effect)} {interval(feature.ci_low, feature.ci_high)}, {q_value(feature.q)}"
    return f"{found}, n {feature.n}; no limit holds it until it has a name (cfalign name)"


def unlike(one: Mismatch) -> str:
    """A difference between the run and its baseline, in one sentence."""
    grave = "; the numbers of both runs do not mean the same" if one.grave else ""
    return printable(f"unlike the baseline: {one.what}, {one.before} → {one.after}: {one.meaning}{grave}")


def printable(text: str) -> str:
    r"""Text on one line, whose hidden characters are shown as their codes.

    >>> print(printable("a\nb\x1b[31m"))
    a\x0ab\x1b[31m
    """
    return "".join(_code(c) if unicodedata.category(c) in _HIDDEN or ord(c) in _TURNING else c for c in text)


def _code(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
