"""How heads answer along one counterfactual walk (the paper's Fig. 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cfalign._figures import style
from cfalign._figures.svg.elements import element, figure, line, text, title
from cfalign._results import StartsAt

_WIDTH, _HEIGHT = 520.0, 272.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 290.0, 12.0, 222.0
_LABELS, _NUMBERS, _NAMES = 308.0, 342.0, 348.0
"""Where labels begin, where their numbers end, and where their names begin."""
_ARROW = {StartsAt.IMAGE: 48.0, StartsAt.RECONSTRUCTION: 84.0}
"""How far from the left the arrow to the counterfactual begins, beyond the word at its start."""
_SPACING = 13.5


@dataclass(frozen=True)
class Walk:
    """Scores along the ray of one counterfactual: the first step is x0, the last the counterfactual."""

    image_id: str
    base: str
    base_scores: tuple[float, ...]
    """Base score per step."""
    scores: Mapping[str, tuple[float, ...]]
    """Per downstream head, as many steps as ``base_scores``."""

    def psi(self, head: str) -> float:
        """Relative change (Eq. 3) between the two ends; NaN where the base did not move or a score is missing."""
        change = self.base_scores[-1] - self.base_scores[0]
        scores = self.scores[head]
        return (scores[-1] - scores[0]) / change if change else math.nan


def labelled_heads(walk: Walk, *, marked: Sequence[str] = (), each: int = 3, least: float = 0.05) -> list[str]:
    """Heads worth a label: ``marked`` and up to ``each`` most aligned and most inversely aligned ones (|ψ| ≥
    ``least``).
    """
    psi = {h: walk.psi(h) for h in walk.scores if h != walk.base and math.isfinite(walk.psi(h))}
    ranked = sorted(psi, key=lambda h: (-psi[h], h))
    aligned = [h for h in ranked if psi[h] >= least][:each]
    inverse = [h for h in reversed(ranked) if psi[h] <= -least][:each]
    return list(dict.fromkeys([*(m for m in marked if m in psi), *aligned, *inverse]))


def alignment_plot(walk: Walk, *, start: StartsAt, marked: Sequence[str] = ()) -> str:
    """Base score (x, with x0 at the left) against the scores of the other heads (y).

    ``start``: what x0 is. ``marked`` heads are drawn heavier. Red: moves with the base. Blue: against it. Grey: the
    rest. Dashed: the base itself.
    """
    shown = labelled_heads(walk, marked=marked)
    axis = _Axis.around(walk.base_scores)
    parts = [*_frame(walk, axis), *_direction(start, _BOTTOM + 47)]
    rest = [h for h in walk.scores if h not in shown and h != walk.base]
    parts += [_curve(walk, h, axis, "#c3c9d0", 0.8) for h in rest]
    parts.append(_curve(walk, walk.base, axis, style.OWN, 1.5, dashes="4 3"))
    parts += [_curve(walk, h, axis, _colour(walk, h), 3.0 if h in marked else 1.75) for h in reversed(shown)]
    parts += _end_labels(walk, [walk.base, *shown], axis, marked)
    return figure(_WIDTH, _HEIGHT, f"Alignment plot of {walk.base} for image {walk.image_id}", *parts)


@dataclass(frozen=True)
class _Axis:
    high: float
    low: float
    rising: bool = False

    @classmethod
    def around(cls, scores: Sequence[float]) -> _Axis:
        finite = [s for s in scores if math.isfinite(s)] or [1.0, 0.0]
        high, low = max(finite), min(finite)
        rising = len(scores) > 1 and scores[-1] > scores[0]
        return cls(high, low if high - low > 1e-6 else high - 1.0, rising)

    def x(self, score: float) -> float:
        walked = score - self.low if self.rising else self.high - score
        return _LEFT + walked / (self.high - self.low) * (_RIGHT - _LEFT)


def _y(score: float) -> float:
    return _BOTTOM - max(-0.02, min(1.02, score)) * (_BOTTOM - _TOP)


def _colour(walk: Walk, head: str) -> str:
    return style.POSITIVE if walk.psi(head) > 0 else style.NEGATIVE


def _frame(walk: Walk, axis: _Axis) -> list[str]:
    parts = []
    small = style.SMALL
    for tick in (0.0, 0.5, 1.0):
        x, y = _LEFT - 6, _y(tick)
        parts.append(line(_LEFT, y, _RIGHT, y, stroke=style.RULE))
        parts.append(text(f"{tick:g}", x, y + 4, text_anchor="end", font_size=small, fill=style.MUTED))
    for tick in style.ticks(axis.low, axis.high, about=4):
        x, y = axis.x(tick), _BOTTOM
        parts.append(line(x, y, x, y + 4, stroke=style.MUTED))
        parts.append(text(f"{tick:g}", x, y + 16, text_anchor="middle", font_size=small, fill=style.MUTED))
    words, turn = f"base score: {style.fitted(walk.base, 180, small)}", f"rotate(-90 11 {(_TOP + _BOTTOM) / 2})"
    parts.append(text(words, (_LEFT + _RIGHT) / 2, _BOTTOM + 32, text_anchor="middle", font_size=small))
    y = (_TOP + _BOTTOM) / 2
    parts.append(text("score of each head", 11, y, text_anchor="middle", font_size=small, transform=turn))
    return parts


def _direction(start: StartsAt, y: float) -> list[str]:
    """From x0 at the left to the counterfactual at the right."""
    arrow, tip = y - 4, _RIGHT - 84
    head = f"{tip},{arrow} {tip - 7},{arrow - 3.5} {tip - 7},{arrow + 3.5}"
    return [
        text(start.picture, _LEFT, y, font_size=style.SMALL, fill=style.MUTED),
        text("counterfactual", _RIGHT, y, text_anchor="end", font_size=style.SMALL, fill=style.MUTED),
        line(_LEFT + _ARROW[start], arrow, tip - 4, arrow, stroke=style.MUTED),
        element("polygon", fill=style.MUTED, points=head),
    ]


def _points(walk: Walk, head: str, axis: _Axis) -> list[tuple[float, float]]:
    scores = walk.base_scores if head == walk.base else walk.scores[head]
    pairs = zip(walk.base_scores, scores, strict=True)
    return [(axis.x(b), _y(s)) for b, s in pairs if math.isfinite(b) and math.isfinite(s)]


def _curve(walk: Walk, head: str, axis: _Axis, colour: str, thickness: float, dashes: str | None = None) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in _points(walk, head, axis))
    return element(
        "polyline",
        title(_describe(walk, head)),
        points=points,
        fill="none",
        stroke=colour,
        stroke_width=thickness,
        stroke_dasharray=dashes,
        stroke_linejoin="round",
    )


def _describe(walk: Walk, head: str) -> str:
    scores = walk.base_scores if head == walk.base else walk.scores[head]
    psi = 1.0 if head == walk.base else walk.psi(head)
    return f"{head}: {style.number(scores[0])} → {style.number(scores[-1])}, ψ = {style.signed(psi)}"


def _end_labels(walk: Walk, heads: Sequence[str], axis: _Axis, marked: Sequence[str]) -> list[str]:
    ends = {h: points[-1] for h in heads if (points := _points(walk, h, axis))}
    order = sorted(ends, key=lambda h: (ends[h][1], h))
    places = spread([ends[h][1] for h in order], spacing=_SPACING, low=_TOP + 2, high=_BOTTOM + 4)
    parts = []
    for head, y in zip(order, places, strict=True):
        own = head == walk.base
        colour = style.OWN if own else _colour(walk, head)
        x_end, y_end = ends[head]
        parts.append(line(x_end + 2, y_end, _LABELS - 4, y, stroke=colour, stroke_width=0.75, stroke_opacity=0.6))
        size = style.SMALL * (1.08 if head in marked else 1.0)  # bold is wider
        parts.append(
            element(
                "g",
                title(_describe(walk, head)),
                text("base" if own else style.signed(walk.psi(head)), _NUMBERS, y + 3.5, text_anchor="end"),
                text(style.fitted(head, _WIDTH - _NAMES - 2, size), _NAMES, y + 3.5),
                font_size=style.SMALL,
                fill=colour,
                font_weight=700 if head in marked else None,
            )
        )
    return parts


def spread(wanted: Sequence[float], *, spacing: float, low: float, high: float) -> list[float]:
    """Positions near the ``wanted`` ones (ascending) but at least ``spacing`` apart, in [low, high] if they fit."""
    placed: list[float] = []
    for value in wanted:
        placed.append(max(value, low, placed[-1] + spacing if placed else low))
    ceiling = high
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - spacing
    return placed
