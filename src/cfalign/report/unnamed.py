"""Unnamed features in a report: their sentences, and their pictures in rows."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfalign._figures import style
from cfalign._findings import Shown, UnnamedFeature
from cfalign.report.page_images import Pixels
from cfalign.report.words import Mark, list_of

ALONG = 0.05
"""Least mean change of a named attribute along a walk that is told."""
Spend = Callable[[str, Pixels], str | None]
"""(key of an image, its pixels) → its address in the page, None where there is no room."""


def paths_of(feature: UnnamedFeature) -> list[str]:
    """The pictures of a feature, relative to the run directory."""
    shown = (*feature.lowest, *feature.highest, *feature.walked)
    return [path for one in shown for path in one.files.values()] + ([feature.difference] if feature.difference else [])


def headline(feature: UnnamedFeature, mark: Mark) -> str:
    """What the feature does, as one sentence with its number, interval, n and q."""
    numbers = f"{style.signed(feature.effect)} {style.interval(feature.ci_low, feature.ci_high)}"
    return (
        f"{mark(feature.audited)} reacts to something that no reference head names: from one end of it to the other "
        f"the score changes by {numbers} beyond what named attributes explain, n = {feature.n}, "
        f"{_q(feature)}"
    )


def explanation(feature: UnnamedFeature, mark: Mark) -> str:
    """What is left unexplained, how much of it the feature explains, and what named attributes do along it."""
    told = (
        f"The reference heads leave {_percent(feature.unexplained)} of the variation of this head's logit unexplained; "
        f"where an image lies along the feature explains {_percent(feature.explains)} of that."
    )
    moving = [name for name, change in feature.along.items() if abs(change) >= ALONG]
    if not moving:
        return f"{told} No named attribute changes along it by {ALONG:g} or more."
    listed = list_of(moving, lambda name: f"{mark(name)} {style.signed(feature.along[name])}", most=4)
    return f"{told} Named attributes that change along it: {listed}."


def rejected(features: Sequence[UnnamedFeature], mark: Mark) -> list[str]:
    """Features that were sought and do not count, a sentence each with their numbers."""
    return [
        f"{mark(f.audited)}, feature {f.number}: {style.signed(f.effect)} {style.interval(f.ci_low, f.ci_high)}, "
        f"{_q(f)}; it explains {_percent(f.explains)} of what the reference heads leave unexplained"
        for f in features
        if not f.found
    ]


def _q(feature: UnnamedFeature) -> str:
    """The q-value, or why there is none."""
    return f"no q-value ({feature.reason})" if feature.reason else style.q_value(feature.q)


def naming(run: Path, feature: UnnamedFeature) -> str:
    """The command that makes a reference attribute of it."""
    words = ["cfalign", "name", str(run), str(feature.number), "WHAT YOU SEE", "--of", feature.audited]
    return shlex.join(words)


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else style.DASH


@dataclass(frozen=True)
class Tile:
    """One picture: ``source`` is None where it cannot be shown."""

    caption: str
    source: str | None
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A feature on the page."""

    feature: UnnamedFeature
    sentence: str
    explained: str
    command: str
    highest: list[Tile]
    lowest: list[Tile]
    walks: list[list[Tile]]
    difference: Tile | None


def pictured(feature: UnnamedFeature, run: Path, pictures: Mapping[str, Pixels], spend: Spend, mark: Mark) -> Picture:
    """The rows of pictures of a feature: both ends, walks, and where they change the image."""

    def tile(path: str, caption: str, note: str = "") -> Tile:
        pixels = pictures.get(path)
        return Tile(caption, None if pixels is None else spend(path, pixels), note)

    def ends(shown: Sequence[Shown]) -> list[Tile]:
        return [tile(s.files.get("original", ""), f"score {style.number(s.score)}", s.image_id) for s in shown]

    names = {"low": "walked to the low end", "original": "the image", "high": "walked to the high end"}
    walks = [
        [tile(s.files.get(what, ""), words, s.image_id if what == "original" else "") for what, words in names.items()]
        for s in feature.walked
    ]
    where = tile(feature.difference, "where walks change the image", "mean over images; white: most")
    return Picture(
        feature=feature,
        sentence=headline(feature, mark),
        explained=explanation(feature, mark),
        command=naming(run, feature),
        highest=ends(feature.highest),
        lowest=ends(feature.lowest),
        walks=walks,
        difference=where if where.source else None,
    )
