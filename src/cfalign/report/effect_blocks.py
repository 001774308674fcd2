"""The effects of each audited head on the page: a table whose rows hold their marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cfalign._figures import style
from cfalign._figures import svg as figures
from cfalign._results import Effect
from cfalign.report import verdict, wording
from cfalign.report.content import ReportData
from cfalign.report.markup import code, whole

FIRST = 16
"""Rows that are seen at first: the own concept and the largest others."""
_ALL_ROWS = 3000
"""Effects that are drawn at most, of all heads together, beyond the first of each."""


@dataclass(frozen=True)
class EffectRow:
    """One effect; numbers as text, each with the reason where it is a dash."""

    attribute: str
    own: bool
    clear: bool
    mark: Markup
    numbers: list[tuple[str, str]]


@dataclass(frozen=True)
class EffectBlock:
    """The effects on one audited head."""

    audited: str
    axis: Markup
    rows: list[EffectRow]
    first: int
    undrawn: int
    """Smaller effects that stand in ``effects.csv`` alone."""
    thumbnail: Markup
    significant: int
    joint: list[Markup]
    """The clear joint effects of attributes that cannot be told apart."""

    @property
    def size(self) -> int:
        """Characters that it takes of the page."""
        return len(self.thumbnail) + sum(len(row.mark) + 600 for row in self.rows)


def effect_blocks(data: ReportData) -> list[EffectBlock]:
    """Of every audited head that has effects, all on one scale."""
    scale = figures.common_scale(data.conclusions.effects)
    foreign = figures.common_scale([e for e in data.conclusions.effects if not e.own])
    blocks = wording.by_head(data)
    drawn = _ALL_ROWS // max(len(blocks), 1)
    return [_block(data, effects, scale, foreign, drawn) for _, effects in blocks]


def _block(
    data: ReportData, effects: Sequence[Effect], scale: figures.Scale, foreign: figures.Scale, drawn: int
) -> EffectBlock:
    ordered = figures.by_size(effects)
    shown = ordered[: max(drawn, FIRST)]
    audited = effects[0].audited
    return EffectBlock(
        audited=audited,
        axis=Markup(figures.effect_axis(scale=scale)),
        rows=[_row(e, scale) for e in shown],
        first=FIRST,
        undrawn=len(ordered) - len(shown),
        thumbnail=Markup(figures.forest_thumbnail(effects, scale=foreign)),
        significant=sum(e.clear and not e.own for e in effects),
        joint=[whole(sentence) for sentence in verdict.joint_sentences(data, audited, code)],
    )


def _row(e: Effect, scale: figures.Scale) -> EffectRow:
    values = {
        "effect": style.signed(e.effect),
        "interval": style.interval(e.ci_low, e.ci_high),
        "incoming": style.signed(e.incoming),
        "outgoing": style.signed(e.outgoing),
        "n": str(e.n),
        "q": style.bare(e.q),
    }
    return EffectRow(
        attribute=e.attribute,
        own=e.own,
        clear=e.clear,
        mark=Markup(figures.effect_mark(e, scale=scale)),
        numbers=[(v, figures.why_missing(e, name) if v == style.DASH else "") for name, v in values.items()],
    )
