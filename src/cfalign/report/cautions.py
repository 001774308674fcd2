"""What a reader should know before relying on a report."""

from __future__ import annotations

from collections.abc import Mapping

from cfalign.report import verdict
from cfalign.report.basis import landed, made_for, without_counterfactual
from cfalign.report.content import ReportData
from cfalign.report.wording import FOLLOWED
from cfalign.report.words import Mark, list_of, plural

_LISTED = 6
_FEW = 20
_DRIFT = 0.15
_LANDED = 0.9


def cautions(data: ReportData, mark: Mark) -> list[str]:
    """What a reader should know before trusting the numbers."""
    found = verdict.standings(data, mark)
    search = data.settings.get("search")
    if isinstance(search, Mapping) and search.get("method") == "pixels":
        found.append(
            "The images were redrawn pixel by pixel, without the autoencoder. Such changes are mostly adversarial: a "
            "head may react although no attribute has faded. This is a baseline, not evidence."
        )
    if skipped := len(data.counts.skipped):
        found.append(f"{plural(skipped, 'image file')} could not be used and {_was(skipped)} skipped.")
    found += [f"The images were opened with a warning: {mark(sentence)}" for sentence in data.image_warnings]
    if copies := data.counts.duplicates:
        named = [f"{mark(d.head)} is {'1 − ' if d.complement else ''}{mark(d.of)}" for d in copies]
        found.append(f"Heads that give one answer count once: {list_of(named, str, most=_LISTED)}.")
    made = {b: made_for(data, b) for b in data.bases if b in data.counts.outcomes}
    if idle := without_counterfactual(data, mark):
        found.append(idle)
    few = [b for b, n in made.items() if 0 < n < _FEW]
    if few:
        found.append(
            f"Fewer than {_FEW} counterfactuals for {plural(len(few), 'base')} ({list_of(few, mark, most=6)}): "
            "the numbers that rest on them are uncertain."
        )
    short = [b for b, n in made.items() if n >= _FEW and landed(data, b) < _LANDED * n]
    if short:
        found.append(
            f"The search met its aim in less than {_LANDED:.0%} of the images of {list_of(short, mark, most=6)}."
        )
    drift = [c.head for c in sorted(data.controls, key=lambda c: -c.drift) if c.drift > _DRIFT]
    if drift:
        found.append(
            f"The autoencoder by itself changes the score of {list_of(drift, mark, most=6)} by more than {_DRIFT} on "
            "average: be careful to transfer what these heads say about redrawn images to real ones."
        )
    doubtful = [attribute for attribute, f in data.followed if f.judge_share < FOLLOWED]
    if doubtful:
        found.append(
            f"The judge follows the counterfactuals of {list_of(doubtful, mark, most=6)} by less than {FOLLOWED:.0%}: "
            "they fool the reference head more than they change the attribute, so its effects are uncertain. Objects, "
            "such as glasses, come off where regions are completed (`--method auto`)."
        )
    found += verdict.alike(data, mark)
    return found


def _was(n: int) -> str:
    return "was" if n == 1 else "were"


def left_out(data: ReportData, mark: Mark) -> str:
    """Which heads this report does not show; nothing where it shows all."""
    rest = [head for head in data.heads if head not in data.shown]
    if not rest:
        return ""
    return (
        f"Of {len(data.heads)} heads, {len(data.shown)} are shown: those of findings, the attributes, bases with "
        f"counterfactuals, then those with the largest clear ψ. The others ({list_of(rest, mark)}) are in "
        f"{mark('matrix.csv')}, {mark('effects.csv')} and {mark('gaps.csv')}."
    )
