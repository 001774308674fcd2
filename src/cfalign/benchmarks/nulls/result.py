"""What audits found in classifiers with nothing to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from cfalign._figures import style
from cfalign.benchmarks.headlined import Headlined
from cfalign.benchmarks.nulls.options import NullsOptions

ZERO = 0.01
"""True effect up to which an attribute counts as not used."""


@dataclass(frozen=True)
class NullAudit:
    """The audit of one classifier."""

    name: str
    kind: str
    findings: int
    """Named attributes that it reports."""
    first: str
    """The first of them, with its effect; empty without."""
    unnamed: bool
    """Whether an unnamed feature counts as found."""
    unnamed_effect: float
    unnamed_explains: float
    intervals: int
    """Attributes of no true effect whose effect has an interval."""
    held: int
    """Those of them whose interval holds zero."""

    @property
    def flagged(self) -> bool:
        """Whether it found anything."""
        return self.findings > 0 or self.unnamed


@dataclass(frozen=True, repr=False)
class Nulls(Headlined):
    """The benchmark's result."""

    audits: tuple[NullAudit, ...]
    options: NullsOptions

    @property
    def headline(self) -> dict[str, float]:
        """Programs rely on the names."""
        share, low, high = _share([a.flagged for a in self.audits])
        intervals, held = (sum(getattr(a, name) for a in self.audits) for name in ("intervals", "held"))
        return {
            "audits": len(self.audits),
            "audits_with_a_finding": sum(a.flagged for a in self.audits),
            "audits_with_a_named_finding": sum(a.findings > 0 for a in self.audits),
            "audits_with_an_unnamed_feature": sum(a.unnamed for a in self.audits),
            "flagged_share": share,
            "flagged_share_low": low,
            "flagged_share_high": high,
            "intervals": intervals,
            "coverage_at_zero": held / intervals if intervals else float("nan"),
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"headline": self.headline, "audits": [asdict(audit) for audit in self.audits]}

    def lines(self) -> list[str]:
        """For the terminal."""
        kinds = dict.fromkeys(a.kind for a in self.audits)
        rows = [_line(kind, [a for a in self.audits if a.kind == kind]) for kind in kinds]
        one = self.headline
        interval = style.interval(one["flagged_share_low"], one["flagged_share_high"])
        return [
            f"{'kind':<12}{'audits':>8}{'named':>8}{'unnamed':>9}{'coverage at zero':>18}",
            *rows,
            f"{one['audits_with_a_finding']} of {one['audits']} audits found something where there is nothing "
            f"({one['flagged_share']:.1%} {interval}). Of {one['intervals']:,} intervals of attributes without a true "
            f"effect {one['coverage_at_zero']:.1%} hold zero.",
            *(f"{a.name}: {a.first or 'an unnamed feature'}" for a in self.audits if a.flagged),
        ]


def _line(kind: str, audits: Sequence[NullAudit]) -> str:
    intervals, held = (sum(getattr(a, name) for a in audits) for name in ("intervals", "held"))
    named, unnamed = sum(a.findings > 0 for a in audits), sum(a.unnamed for a in audits)
    coverage = f"{held / intervals:.1%}" if intervals else style.DASH
    return f"{kind:<12}{len(audits):>8}{named:>8}{unnamed:>9}{coverage:>18}"


def _share(flags: Sequence[bool]) -> tuple[float, float, float]:
    """Share of those that are true, with its exact 95 % interval (Clopper-Pearson)."""
    if not flags:
        return (float("nan"),) * 3
    found = binomtest(int(np.sum(flags)), len(flags)).proportion_ci()
    return float(np.mean(flags)), float(found.low), float(found.high)
