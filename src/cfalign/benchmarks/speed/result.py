"""The result of the benchmark: passes, seconds and memory of every contestant, and how far the matrices agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from cfalign._runs.codec import plain
from cfalign.benchmarks.headlined import Headlined
from cfalign.benchmarks.speed.agreement import LEAST_CHANGE, Agreement
from cfalign.benchmarks.speed.apart import AUDIT, AUTHORS, BARE, CONTESTANTS, Counted
from cfalign.benchmarks.speed.counting import Passes
from cfalign.benchmarks.speed.floor import PassTimes

NAN = float("nan")
ROWS: tuple[tuple[str, str], ...] = (
    ("encodes", "encoder forwards"),
    ("decodes", "decoder forwards"),
    ("decoder_backwards", "decoder backwards"),
    ("scored", "classifier forwards"),
    ("classifier_backwards", "classifier backwards"),
)
"""Counts in the order of the table, and their titles."""
KINDS = ("encode", "decode", "classify", "backward")
"""Single passes, by the names of ``PassTimes``."""


@dataclass(frozen=True)
class Spread:
    """The median over the rounds, and the range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """NaN without a finite value."""
        known = [value for value in values if math.isfinite(value)]
        return cls(median(known), min(known), max(known)) if known else cls(NAN, NAN, NAN)

    def __str__(self) -> str:
        if not math.isfinite(self.median):
            return "–"
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Round:
    """One round: every contestant once, one after the other, and the single passes that the floor is made of."""

    floor: PassTimes
    bare: float
    """Seconds per counterfactual."""
    audit: float
    authors: float
    """NaN without the package."""


@dataclass(frozen=True)
class EmbeddedPart:
    """The embedded models on drawn faces."""

    images: int
    bases: int
    heads: int
    threads: int
    pairs: int
    """(image, base) pairs that the bare method walks."""
    audited: int
    """Counterfactuals of an audit, lowered and raised."""
    rounds: tuple[Round, ...]
    counted: tuple[Counted, ...]
    agreements: tuple[Agreement, ...]
    skipped: str
    """Why the authors' package was left out; empty where it was not."""

    def seconds(self, contestant: str) -> list[float]:
        """Per counterfactual, by round."""
        column = {BARE: "bare", AUDIT: "audit", AUTHORS: "authors"}[contestant]
        return [getattr(one, column) for one in self.rounds]

    def floors(self, contestant: str) -> list[float]:
        """Seconds per counterfactual that as many counterfactuals of as many images cost at the least, by round.

        For the authors' package those of the pairs of the bare method, of which it gets a part.
        """
        made = self.audited if contestant == AUDIT else self.pairs
        return [one.floor.floor(images=self.images, counterfactuals=made) for one in self.rounds]

    def to_floor(self, contestant: str) -> Spread:
        """How many times the floor a counterfactual takes."""
        pairs = zip(self.seconds(contestant), self.floors(contestant), strict=True)
        return Spread.of([seconds / least for seconds, least in pairs])

    def to_authors(self, contestant: str) -> Spread:
        """How many times as long a counterfactual of the authors' package takes."""
        pairs = zip(self.seconds(AUTHORS), self.seconds(contestant), strict=True)
        return Spread.of([theirs / ours for theirs, ours in pairs])

    def of(self, contestant: str) -> Counted:
        """Its counts; NaN where it did not run."""
        nothing = Counted(contestant, 0, 0, Passes(*[NAN] * len(ROWS)), NAN, NAN, NAN)
        return next((one for one in self.counted if one.contestant == contestant), nothing)


@dataclass(frozen=True)
class LargePart:
    """Networks of the paper's size with random weights."""

    threads: int
    times: tuple[PassTimes, ...]
    """By images per pass."""
    counted: tuple[Counted, ...]
    """Of the bare method once for every number of images per pass, and of the authors' package."""


@dataclass(frozen=True, repr=False)
class Speed(Headlined):
    """The benchmark's result."""

    embedded: EmbeddedPart
    large: LargePart | None
    large_skipped: str
    """Why the large networks were left out; empty where they were not."""
    seed: int

    @property
    def headline(self) -> dict[str, float]:
        """Numbers by name; NaN where the authors' package did not run. Programs rely on the names."""
        part = self.embedded
        values = {
            "bare_to_floor": part.to_floor(BARE).median,
            "bare_to_authors": part.to_authors(BARE).median,
            "audit_to_floor": part.to_floor(AUDIT).median,
            "audit_to_authors": part.to_authors(AUDIT).median,
            "decoder_equivalents_per_cf": part.of(AUDIT).passes.decoder_equivalents,
        }
        apart = {one.strategy: one.largest for one in part.agreements}
        values |= {"psi_max_difference": apart.get("refined", NAN)}
        values |= {"psi_max_difference_schedule": apart.get("schedule", NAN)}
        for name, contestant in (("bare", BARE), ("audit", AUDIT), ("authors", AUTHORS)):
            values[f"{name}_ms"] = 1e3 * Spread.of(part.seconds(contestant)).median
            values[f"{name}_decodes"] = part.of(contestant).passes.decodes
            values[f"{name}_scored"] = part.of(contestant).passes.scored
            values[f"{name}_memory"] = part.of(contestant).memory
        values["floor_ms"] = 1e3 * Spread.of(part.floors(BARE)).median
        values["audit_floor_ms"] = 1e3 * Spread.of(part.floors(AUDIT)).median
        return values | _headline_of(self.large)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"headline": self.headline, **plain(self)}

    def lines(self) -> list[str]:
        """For the terminal."""
        found = [*_embedded_lines(self.embedded)]
        if self.large is not None:
            return [*found, "", *_large_lines(self.large)]
        return [*found, f"The networks of the paper's size were left out: {self.large_skipped}"]


def _headline_of(large: LargePart | None) -> dict[str, float]:
    values: dict[str, float] = {}
    if large is None:
        return values
    for one in large.times:
        for kind in KINDS:
            values[f"large_{kind}_{one.batch}"] = getattr(one, kind)
    for counted in large.counted:
        name = "large_authors" if counted.contestant == AUTHORS else f"large_bare_{counted.images}"
        values[f"{name}_decodes"] = counted.passes.decodes
        values[f"{name}_scored"] = counted.passes.scored
        values[f"{name}_seconds"] = counted.seconds / counted.counterfactuals if counted.counterfactuals else NAN
        values[f"{name}_memory"] = counted.memory
    return values


def _embedded_lines(part: EmbeddedPart) -> list[str]:
    found = [
        f"{part.images} drawn faces, {part.bases} bases × {part.heads} heads, embedded models, "
        f"{_threads(part.threads)}; medians over {len(part.rounds)} rounds, and the range.",
        *_table(part),
        _floor_line(part),
        "The judge of the default audit is in its seconds, not in its counts.",
    ]
    if part.skipped:
        return [*found, f"The authors' package was left out: {part.skipped}"]
    return [*found, *(_agreement_line(one) for one in part.agreements)]


def _table(part: EmbeddedPart) -> list[str]:
    ours = (BARE, AUDIT)
    counted = [part.of(name) for name in CONTESTANTS]
    return [
        _line("per counterfactual", CONTESTANTS),
        _line("counterfactuals counted", [str(one.counterfactuals) for one in counted]),
        _line("milliseconds", [_ms(part.seconds(name)) for name in CONTESTANTS]),
        _line("the floor, milliseconds", [*(_ms(part.floors(name)) for name in ours), "–"]),
        _line("times the floor", [str(part.to_floor(name)) for name in CONTESTANTS]),
        _line("times as fast as the authors'", [*(str(part.to_authors(name)) for name in ours), "–"]),
        *(_line(title, [_number(getattr(one.passes, key)) for one in counted]) for key, title in ROWS),
        _line("memory over that of the models, MB", [_whole(one.memory) for one in counted]),
        _line("peak of the process, MB", [_whole(one.peak) for one in counted]),
    ]


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _floor_line(part: EmbeddedPart) -> str:
    last = sorted(part.rounds, key=lambda one: one.floor.per_counterfactual)[len(part.rounds) // 2].floor
    return (
        f"The floor, at {last.batch} images per pass. An image: encode {1e3 * last.encode:.2f} ms, decode "
        f"{1e3 * last.decode:.2f}, two classifier passes {2e3 * last.classify:.2f}. A counterfactual: backward "
        f"{1e3 * last.backward:.2f} ms, decode {1e3 * last.decode:.2f}, a classifier pass {1e3 * last.classify:.2f}."
    )


def _agreement_line(one: Agreement) -> str:
    return (
        f"Strategy {one.strategy}: {one.same_drop} of {one.pairs} pairs move the base by more than {LEAST_CHANGE:g} "
        f"and land on the drop of the authors' package (within {one.tolerance:g}); mean ψ of {one.cells} cells differs "
        f"by at most {one.largest:.2g}, on average by {one.mean:.2g}."
    )


def _large_lines(part: LargePart) -> list[str]:
    lines = [
        f"Networks of the paper's size (VQ-GAN of 256 px, 40 attributes), random weights, {_threads(part.threads)}.",
        _line("seconds per image", [f"{one.batch} per pass" for one in part.times]),
    ]
    lines += [_line(kind, [_number(getattr(one, kind)) for one in part.times]) for kind in KINDS]
    names = [f"{one.contestant}, {one.images} per pass" for one in part.counted]
    lines.append(_line("per counterfactual", names))
    lines += [_line(title, [_number(getattr(one.passes, key)) for one in part.counted]) for key, title in ROWS]
    seconds = [one.seconds / one.counterfactuals if one.counterfactuals else NAN for one in part.counted]
    lines.append(_line("seconds", [_number(value) for value in seconds]))
    lines.append(_line("memory over that of the models, MB", [_whole(one.memory) for one in part.counted]))
    return lines


def _line(title: str, cells: Sequence[str]) -> str:
    return f"{title:<36}" + "".join(f"{cell:>30}" for cell in cells)


def _ms(seconds: Sequence[float]) -> str:
    return str(Spread.of([1e3 * value for value in seconds]))


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def _whole(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "–"
