"""What was found without a name, beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cfalign._figures import style
from cfalign.benchmarks.headlined import Headlined
from cfalign.benchmarks.unnamed.options import UnnamedOptions

USED = 0.1
"""True effect of a shortcut from which on it counts as used."""
PRECISE = 0.8


@dataclass(frozen=True)
class UnnamedShortcut:
    """The first unnamed feature of one planted classifier, with the head of its shortcut left out."""

    name: str
    target: str
    shortcut: str
    dose: float
    seed: int
    truth: float
    """True effect of the shortcut, by interventions."""
    auroc: float
    """How well the feature orders other faces by the true shortcut."""
    precision_at_10: float
    """Share of the ten faces furthest along the feature that have the shortcut."""
    effect: float
    ci_low: float
    ci_high: float
    q: float
    unexplained: float
    explains: float
    agreement: float
    found: bool
    named_effect: float
    """Effect of the head of its name, in an audit that has it among the references; NaN where it was not named."""
    named_low: float
    named_high: float

    @property
    def pair(self) -> tuple[str, str]:
        """(target, shortcut)"""
        return self.target, self.shortcut


@dataclass(frozen=True, repr=False)
class Unnamed(Headlined):
    """The benchmark's result."""

    rows: tuple[UnnamedShortcut, ...]
    options: UnnamedOptions

    @property
    def planted(self) -> list[UnnamedShortcut]:
        """Classifiers with a planted shortcut."""
        return [row for row in self.rows if row.dose]

    @property
    def nulls(self) -> list[UnnamedShortcut]:
        """Classifiers with nothing to find."""
        return [row for row in self.rows if not row.dose]

    @property
    def pairs(self) -> dict[tuple[str, str], list[UnnamedShortcut]]:
        """The planted classifiers of each pair."""
        return {
            pair: [r for r in self.planted if r.pair == pair] for pair in dict.fromkeys(r.pair for r in self.planted)
        }

    @property
    def headline(self) -> dict[str, float]:
        """Programs rely on the names. A pair counts by the means over its seeds."""
        pairs = self.pairs.values()
        used = [rows for rows in pairs if _mean([r.truth for r in rows]) > USED]
        named = [r for r in self.planted if np.isfinite(r.named_effect)]
        used_alone = [r for r in self.planted if r.truth > USED]
        return {
            "pairs": len(pairs),
            "auroc_median": _median([_mean([r.auroc for r in rows]) for rows in pairs]),
            "auroc_median_used": _median([_mean([r.auroc for r in rows]) for rows in used]),
            "pairs_used": len(used),
            "precision_at_10_pairs": sum(_mean([r.precision_at_10 for r in rows]) >= PRECISE for rows in used),
            "planted_used": len(used_alone),
            "planted_used_found": sum(r.found for r in used_alone),
            "null_audits": len(self.nulls),
            "null_audits_flagged": sum(r.found for r in self.nulls),
            "named": len(named),
            "named_held": sum(r.named_low <= r.truth <= r.named_high for r in named),
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"headline": self.headline, "rows": [asdict(row) for row in self.rows]}

    def lines(self) -> list[str]:
        """For the terminal."""
        columns = f"{'true':>6}{'AUROC':>7}{'P@10':>6}{'effect':>8}  {'95 % interval':<15}{'explains':>9}"
        head = f"{'classifier':<46}{columns}  found"
        rows = [_line(row) for row in self.rows]
        one = self.headline
        told = [
            f"The first unnamed feature orders faces by the true shortcut with AUROC {one['auroc_median']:.3f} (median "
            f"over {one['pairs']} pairs; {one['auroc_median_used']:.3f} over the {one['pairs_used']} whose true effect "
            f"exceeds {USED}). Of these, {one['precision_at_10_pairs']} have at least {PRECISE:.0%} of the ten "
            f"furthest faces right, and {one['planted_used_found']} of {one['planted_used']} classifiers are flagged. "
            f"Without a shortcut {one['null_audits_flagged']} of {one['null_audits']} audits are."
        ]
        if one["named"]:
            told.append(
                f"After naming, the interval of the effect holds the true one in {one['named_held']} of {one['named']}."
            )
        return [head, *rows, *told]


def _line(row: UnnamedShortcut) -> str:
    interval = style.interval(row.ci_low, row.ci_high)
    named = ""
    if np.isfinite(row.named_effect):
        named = f"; named {row.named_effect:+.2f} {style.interval(row.named_low, row.named_high)}"
    return (
        f"{row.name:<46}{row.truth:>+6.2f}{row.auroc:>7.2f}{row.precision_at_10:>6.1f}{row.effect:>+8.2f}  "
        f"{interval:<15}{row.explains:>9.0%}  {'yes' if row.found else 'no'}{named}"
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else float("nan")
