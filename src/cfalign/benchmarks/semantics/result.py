"""What a judge says of the counterfactuals of every attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cfalign._results import Floats
from cfalign.benchmarks.headlined import Headlined


@dataclass(frozen=True)
class JudgedEnd:
    """What the judge sees at one end of the walks; the counterfactuals that count are ``n``."""

    n: int
    base_change: float
    """Mean change of the head's probability."""
    judge_change: float
    """Mean change of the judge's probability of the same attribute."""
    judge_after: float
    """Mean of the judge's probability of it on the counterfactuals."""
    share: float
    """``judge_change`` per ``base_change``."""
    ci_low: float
    ci_high: float
    """95 % interval of the share, over images."""
    rank: int
    """Place of the attribute among all that were judged, by the size of the judge's mean change; 1 is best, and one
    that moves in the wrong direction is last."""
    runner_up: str
    """The attribute that moved most among the others."""
    runner_up_change: float
    detail: float
    """Gradient energy of the changed parts of the counterfactuals per that of the same parts of the images; NaN where
    nothing changed."""


@dataclass(frozen=True)
class AttributeSemantics:
    """The counterfactuals of one attribute."""

    attribute: str
    landed: float
    """Share of searches for the requested drop that landed."""
    judge_on_images: float
    """Mean of the judge's probability on the images."""
    judge_at_start: float
    """The same where the walks start: on the reconstructions, or on the images themselves."""
    drop: JudgedEnd
    """At the requested drop, of the searches that landed."""
    off: JudgedEnd
    """Where the attribute counts as switched off."""


@dataclass(frozen=True, repr=False)
class Semantics(Headlined):
    """The benchmark's result."""

    attributes: tuple[AttributeSemantics, ...]
    seed: int
    told_apart: float
    """How often a small network is right that says which of a changed and an untouched image is the changed one; 0.5
    is chance."""

    @property
    def headline(self) -> dict[str, float]:
        """Means over attributes. Programs rely on the names."""
        some = self.attributes
        return {
            "heads": len(some),
            "rank1_heads": sum(a.drop.rank == 1 for a in some),
            "share_mean": _mean([a.drop.share for a in some]),
            "share_off_mean": _mean([a.off.share for a in some]),
            "landed": _mean([a.landed for a in some]),
            "score_kept": _mean([abs(a.judge_at_start - a.judge_on_images) for a in some]),
            "detail": _mean([a.off.detail for a in some]),
            "told_apart": self.told_apart,
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"headline": self.headline, "seed": self.seed, "heads": [asdict(a) for a in self.attributes]}

    def lines(self) -> list[str]:
        """For the terminal."""
        head = [
            f"{'':<22}{'':>4}{'':>8}{'judge':>9}  {'share that the judge follows':<42}{'':>5}",
            f"{'attribute':<22}{'n':>4}{'landed':>8}{'at start':>9}  {'at the drop':<21}{'switched off':<21}"
            f"{'rank':>5}  runner-up",
        ]
        rows = [
            f"{a.attribute:<22}{a.drop.n:>4}{a.landed:>8.0%}{a.judge_at_start:>9.2f}  "
            f"{_share(a.drop):<21}{_share(a.off):<21}{a.drop.rank:>5}  "
            f"{a.drop.runner_up} {a.drop.runner_up_change:+.2f}"
            for a in self.attributes
        ]
        one = self.headline
        return [
            *head,
            *rows,
            f"The judge sees the head's own attribute move most in {one['rank1_heads']} of {one['heads']} heads. It "
            f"follows {one['share_mean']:.2f} of the change at the drop and {one['share_off_mean']:.2f} where switched "
            f"off. Before any walk its probability is off by {one['score_kept']:.3f}. Changed parts keep "
            f"{one['detail']:.2f} of their detail, and a network tells a changed image from an untouched one in "
            f"{one['told_apart']:.0%} of pairs.",
        ]


def _share(end: JudgedEnd) -> str:
    return f"{end.share:.2f} [{end.ci_low:.2f}, {end.ci_high:.2f}]"


def _mean(values: Sequence[float]) -> float:
    known: Floats = np.array([v for v in values if np.isfinite(v)], dtype=np.float64)
    return float(known.mean()) if len(known) else float("nan")
