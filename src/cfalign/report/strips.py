"""The findings on the page: per sample its images, its sentence and its alignment plot."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from markupsafe import Markup

from cfalign._figures import style
from cfalign._figures import svg as figures
from cfalign._findings import Finding, Sample
from cfalign.report import page_images, verdict, wording
from cfalign.report.content import ReportData
from cfalign.report.markup import code, whole
from cfalign.report.page_images import Pixels

_OPEN_FINDINGS = 3
_OPEN_SAMPLES = 2


@dataclass(frozen=True)
class Picture:
    """One image of a strip: ``source`` is None where it is not shown, and ``reason`` says why."""

    caption: str
    source: str | None
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Strip:
    """One sample: its images, its sentence, its alignment plot."""

    image_id: str
    kind: str
    pictures: list[Picture]
    sentence: Markup
    believed: Markup
    """How far a judge follows what the base shows; empty without one."""
    plot: Markup
    ends_only: bool


@dataclass
class Budget:
    """What images may still take of the page, in characters; the same file is encoded once."""

    left: int
    known: dict[str, str] = field(default_factory=dict)

    def spend(self, key: str, pixels: Pixels, *, lossy: bool = False) -> str | None:
        """The address of an image in the page, None where there is no room; ``lossy``: as JPEG however small."""
        if key not in self.known:
            self.known[key] = page_images.data_uri(pixels, lossy=lossy)
        uri = self.known[key]
        if len(uri) > self.left:
            return None
        self.left -= len(uri)
        return uri


def findings(data: ReportData, budget: Budget) -> list[dict[str, Any]]:
    rows = []
    for position, finding in enumerate(data.conclusions.findings):
        strips = [_strip(data, finding, s, budget) for s in _both_readings(finding)]
        rows.append(
            {
                "finding": finding,
                "sentence": whole(verdict.finding_sentence(finding, code, data.counts.standings)),
                "open": position < _OPEN_FINDINGS,
                "strips": strips[:_OPEN_SAMPLES],
                "more": strips[_OPEN_SAMPLES:],
            }
        )
    return rows


def _both_readings(finding: Finding) -> list[Sample]:
    """The samples, incoming and outgoing ones in turn, so that the first shown hold both."""
    outgoing = [s for s in finding.samples if s.base == finding.audited]
    incoming = [s for s in finding.samples if s.base != finding.audited]
    return [s for pair in zip_longest(incoming, outgoing) for s in pair if s is not None]


def _strip(data: ReportData, finding: Finding, sample: Sample, budget: Budget) -> Strip:
    scores = (sample.base_before, sample.base_after, sample.downstream_before, sample.downstream_after)
    walk = data.walks.get((sample.image_id, sample.base)) or _own_walk(sample)
    return Strip(
        image_id=sample.image_id,
        kind="outgoing" if sample.base == finding.audited else "incoming",
        pictures=_strip_pictures(data, sample, budget),
        sentence=whole(wording.sample_sentence(sample.base, sample.downstream, scores, sample.psi, code)),
        believed=whole(wording.believed(data, sample.base, code)),
        plot=Markup(figures.alignment_plot(walk, start=data.start, marked=(sample.downstream,)))
        if walk
        else Markup(""),
        ends_only=walk is not None and len(walk.base_scores) == 2,
    )


def _own_walk(sample: Sample) -> figures.Walk | None:
    ends = (sample.base_before, sample.base_after)
    if not all(map(math.isfinite, ends)):
        return None
    return figures.Walk(
        image_id=sample.image_id,
        base=sample.base,
        base_scores=ends,
        scores={sample.downstream: (sample.downstream_before, sample.downstream_after)},
    )


def _strip_pictures(data: ReportData, sample: Sample, budget: Budget) -> list[Picture]:
    kinds, first = data.start.pictures, data.start.picture
    pixels = {k: data.pictures.get(sample.files[k]) for k in kinds if k in sample.files}
    scores = {first: style.number(sample.base_before), "counterfactual": style.number(sample.base_after)}
    shown = [_picture(sample, kind, scores.get(kind, ""), pixels.get(kind), budget) for kind in kinds]
    before, after = pixels.get(first), pixels.get("counterfactual")
    if before is None or after is None or before.shape != after.shape:
        return [
            *shown,
            Picture("difference", None, f"it needs the {first} and the counterfactual in one size"),
        ]
    changed, factor = page_images.difference(before, after)
    region = data.regions.get((sample.image_id, sample.base))
    changed = changed if region is None else page_images.framed(changed, region)
    key = f"{sample.files[first]} to {sample.files['counterfactual']}"
    source = budget.spend(key, changed)
    note = "red brighter, blue darker" + ("" if region is None else "; frame: the completed region")
    reason = "" if source else "left out to keep this page small"
    return [*shown, Picture(f"difference ×{factor}" if factor > 1 else "difference", source, reason, note)]


def _picture(sample: Sample, kind: str, score: str, pixels: Pixels | None, budget: Budget) -> Picture:
    """``score``: of the base on it; empty where it is not told."""
    words = f"base score {score}" if score else ""
    if pixels is None:
        where = sample.files.get(kind)
        return Picture(kind, None, f"{where} could not be read" if where else "not stored by this run", words)
    source = budget.spend(sample.files[kind], pixels)
    reason = "" if source else f"left out to keep this page small: {sample.files[kind]}"
    return Picture(kind, source, reason, words)
