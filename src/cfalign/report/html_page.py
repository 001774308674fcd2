"""The report as one HTML page with everything inside it: figures as SVG, images as data."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cfalign._figures import style
from cfalign._figures import svg as figures
from cfalign._findings import Finding, Sample
from cfalign._results import Effect, Outcome, StartsAt
from cfalign.report import page_images, unnamed, verdict, where, wording
from cfalign.report.content import ReportData
from cfalign.report.page_images import Pixels

PAGE_BUDGET = 9_500_000
"""Characters of a page; images take what the figures leave, and further strips are named instead of shown."""
_TABLES = 2_000_000
"""Of these, what tables, plots of single images and the sentences may take."""
_ROWS = 15
_ALL_ROWS = 3000
"""Effects that are drawn at most, of all heads together, beyond the first of each."""
_RELATIONS = 8
_GAPS = 8
_ALL_GAPS = 200
_OPEN_FINDINGS = 3
_OPEN_SAMPLES = 2
_FULL_PLOTS = 3
"""Audited heads up to which each gets its full plot; beyond, an overview whose cards open."""


def html(data: ReportData) -> str:
    """The page. It loads nothing from anywhere, and its own policy forbids it to."""
    environment = Environment(
        loader=PackageLoader("cfalign.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = code
    return environment.get_template("report.html.j2").render(_context(data))


def code(name: str) -> Markup:
    """A name in code type; long ones may break after an underscore, a colon or a slash."""
    words = escape(name)
    for mark in ("_", ":", "/"):
        words = words.replace(mark, Markup(f"{mark}<wbr>"))
    return Markup("<code>{}</code>").format(words)


def _whole(sentence: str) -> Markup:
    """A sentence made by ``wording`` with escaped names; its numbers do not break across lines."""
    return Markup(
        re.sub(
            r"(?<![\w;])((?:n|q|ψ) (?:=|<|–) ?[−+–]?[\d.]*\d)",
            r'<span class="nb">\1</span>',
            sentence.replace(" < 0.001", " &lt; 0.001"),
        ).replace("q &lt; 0.001", '<span class="nb">q &lt; 0.001</span>')
    )


def _with_code(sentence: str) -> Markup:
    """A sentence made by ``wording`` with escaped names; what stands in backticks is a command."""
    return Markup(re.sub(r"`([^`<>]+)`", r"<code>\1</code>", sentence))


def _with_marks(sentence: str) -> Markup:
    """A sentence made by ``wording`` without a name in it; stars emphasise, and x0 and x_λ are set as the equation."""
    set_as = sentence.replace("x0", "x<sub>0</sub>").replace("x_λ", "x<sub>λ</sub>")
    return Markup(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", set_as))


def _context(data: ReportData) -> dict[str, Any]:
    blocks, heatmap, controls = _effect_blocks(data), _heatmap(data), _controls(data)
    figures_drawn = [heatmap, controls["plot"], controls["rest"], *(p for b in blocks for p in b.figures)]
    budget = _Budget(PAGE_BUDGET - sum(len(drawn or "") for drawn in figures_drawn) - _TABLES)
    return {
        "data": data,
        "style": style,
        "title": wording.headline(data),
        "introduction": Markup(wording.introduction(data, code)),
        "headlines": [
            (f, _whole(s)) for f, s in zip(data.conclusions.findings, verdict.sentences(data, code), strict=True)
        ],
        "no_finding": verdict.no_finding(data),
        "cautions": [_with_code(c) for c in wording.cautions(data, code)],
        "blocks": blocks,
        "responses": _responses(data),
        "what_is_found": "response" if verdict.only_responses(data) else "finding",
        "overview": len(data.audited) > _FULL_PLOTS,
        "findings": _findings(data, budget),
        "unnamed": _unnamed(data, budget),
        "not_found": [_whole(s) for s in unnamed.rejected(data.unnamed, code)],
        "where": _where(data, budget),
        "heatmap": heatmap,
        "colour_bar": Markup(figures.colour_bar()),
        "bases": [_base_row(data, b) for b in data.shown_bases],
        "left_out": Markup(wording.left_out(data, code)),
        "basis": wording.basis(data),
        "outcome_keys": _outcome_keys(data),
        "relations": _relations(data),
        "gaps": [Markup(wording.gap_sentence(g, code)) for g in wording.remarkable_gaps(data)[:_ALL_GAPS]],
        "gaps_shown": _GAPS,
        "gap_words": wording.gap_words(),
        "followed": [
            (attribute, style.number(f.judge_share), style.interval(f.ci_low, f.ci_high), f.n)
            for attribute, f in data.followed
        ],
        "followed_words": wording.followed_words(),
        "methods": [(label, why) for label, why in data.methods.items() if label in data.shown],
        "controls": controls,
        "in_strips": wording.in_strips(data),
        "drift_words": wording.drift_words(data),
        "beginning": _with_marks(wording.beginning(data)),
        "compared": wording.compared(data),
        "cost": [(wording.label(k), wording.quantity(k, v)) for k, v in data.counts.cost.items()],
        "timing": _timing(data),
        "settings": wording.flat(data.settings),
        "readings": wording.READINGS,
        "limits": wording.LIMITS,
    }


def _unnamed(data: ReportData, budget: _Budget) -> list[tuple[unnamed.Picture, Markup, Markup]]:
    """The unnamed features that count, each with its sentences."""
    found = [
        unnamed.pictured(feature, data.run_dir, data.pictures, budget.spend, code)
        for feature in data.unnamed
        if feature.found
    ]
    return [(picture, _whole(picture.sentence), _whole(picture.explained)) for picture in found]


def _where(data: ReportData, budget: _Budget) -> list[tuple[Markup, str | None]]:
    """Sentences of regions, each with its picture where there is room."""
    return [
        (_whole(where.sentence(split, code)), budget.spend(split.picture, data.pictures[split.picture]))
        for split in data.where
        if split.picture in data.pictures
    ]


def _outcome_keys(data: ReportData) -> list[tuple[str, str | None, str]]:
    """The outcomes that occur, each with its colour and its meaning."""
    occurring = {outcome for row in data.counts.outcomes.values() for outcome, n in row.items() if n}
    met = [o for o in Outcome if o.value in occurring]
    return [(o.value, style.OUTCOME_COLOURS.get(o.value), wording.MEANINGS[o]) for o in met]


def _relations(data: ReportData) -> list[tuple[str, list[Markup]]]:
    """The sentences under each title, the most remarkable first."""
    found = []
    for kind, title in wording.RELATIONS.items():
        some = [r for r in data.conclusions.relations if r.kind is kind][:_RELATIONS]
        found.append((title, [Markup(wording.relation_sentence(r, code)) for r in some]))
    return found


@dataclass(frozen=True)
class _EffectBlock:
    """The plots of one audited head."""

    audited: str
    plot: Markup
    rest: Markup | None
    n_rest: int
    undrawn: int
    """Smaller effects that stand in ``effects.csv`` alone."""
    thumbnail: Markup
    significant: int
    joint: list[Markup]
    """The clear joint effects of attributes that cannot be told apart."""

    @property
    def figures(self) -> tuple[Markup, ...]:
        """Everything that is drawn."""
        return (self.plot, self.thumbnail, *(() if self.rest is None else (self.rest,)))


def _effect_blocks(data: ReportData) -> list[_EffectBlock]:
    scale = figures.common_scale(data.conclusions.effects)
    foreign = figures.common_scale([e for e in data.conclusions.effects if not e.own])
    blocks = wording.by_head(data)
    drawn = _ALL_ROWS // max(len(blocks), 1)
    return [_effect_block(data, effects, scale, foreign, drawn) for _, effects in blocks]


def _effect_block(
    data: ReportData, effects: Sequence[Effect], scale: figures.Scale, foreign: figures.Scale, drawn: int
) -> _EffectBlock:
    ordered = figures.by_size(effects)
    first, rest = ordered[: _ROWS + 1], ordered[_ROWS + 1 : max(drawn, _ROWS + 1)]
    audited = effects[0].audited
    return _EffectBlock(
        audited=audited,
        plot=Markup(figures.forest_plot(first, scale=scale)),
        rest=Markup(figures.forest_plot(rest, scale=scale, captions=False)) if rest else None,
        n_rest=len(rest),
        undrawn=len(ordered) - len(first) - len(rest),
        thumbnail=Markup(figures.forest_thumbnail(effects, scale=foreign)),
        significant=sum(e.clear and not e.own for e in effects),
        joint=[_whole(sentence) for sentence in verdict.joint_sentences(data, audited, code)],
    )


def _responses(data: ReportData) -> list[tuple[str, list[verdict.Response]]]:
    """The largest responses of every head without a witness."""
    heads = verdict.heads_with_responses(data)
    return [(audited, verdict.responses(data, audited, most=_ROWS)) for audited in heads]


@dataclass(frozen=True)
class _Picture:
    """One image of a strip: ``source`` is None where it is not shown, and ``reason`` says why."""

    caption: str
    source: str | None
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class _Strip:
    """One sample: its images, its sentence, its alignment plot."""

    image_id: str
    kind: str
    pictures: list[_Picture]
    sentence: Markup
    believed: Markup
    """How far a judge follows what the base shows; empty without one."""
    plot: Markup
    ends_only: bool


@dataclass
class _Budget:
    """What images may still take of the page, in characters; the same file is encoded once."""

    left: int
    known: dict[str, str] = field(default_factory=dict)

    def spend(self, key: str, pixels: Pixels) -> str | None:
        if key not in self.known:
            self.known[key] = page_images.data_uri(pixels)
        uri = self.known[key]
        if len(uri) > self.left:
            return None
        self.left -= len(uri)
        return uri


def _findings(data: ReportData, budget: _Budget) -> list[dict[str, Any]]:
    rows = []
    for position, finding in enumerate(data.conclusions.findings):
        strips = [_strip(data, finding, s, budget) for s in _both_readings(finding)]
        rows.append(
            {
                "finding": finding,
                "sentence": _whole(verdict.finding_sentence(finding, code, data.counts.standings)),
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


def _strip(data: ReportData, finding: Finding, sample: Sample, budget: _Budget) -> _Strip:
    scores = (sample.base_before, sample.base_after, sample.downstream_before, sample.downstream_after)
    walk = data.walks.get((sample.image_id, sample.base)) or _own_walk(sample)
    return _Strip(
        image_id=sample.image_id,
        kind="outgoing" if sample.base == finding.audited else "incoming",
        pictures=_strip_pictures(data, sample, budget),
        sentence=_whole(wording.sample_sentence(sample.base, sample.downstream, scores, sample.psi, code)),
        believed=_whole(wording.believed(data, sample.base, code)),
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


def _strip_pictures(data: ReportData, sample: Sample, budget: _Budget) -> list[_Picture]:
    kinds, first = data.start.pictures, data.start.picture
    pixels = {k: data.pictures.get(sample.files[k]) for k in kinds if k in sample.files}
    scores = {first: style.number(sample.base_before), "counterfactual": style.number(sample.base_after)}
    shown = [_picture(sample, kind, scores.get(kind, ""), pixels.get(kind), budget) for kind in kinds]
    before, after = pixels.get(first), pixels.get("counterfactual")
    if before is None or after is None or before.shape != after.shape:
        return [
            *shown,
            _Picture("difference", None, f"it needs the {first} and the counterfactual in one size"),
        ]
    changed, factor = page_images.difference(before, after)
    region = data.regions.get((sample.image_id, sample.base))
    changed = changed if region is None else page_images.framed(changed, region)
    key = f"{sample.files[first]} to {sample.files['counterfactual']}"
    source = budget.spend(key, changed)
    note = "red brighter, blue darker" + ("" if region is None else "; frame: the completed region")
    reason = "" if source else "left out to keep this page small"
    return [*shown, _Picture(f"difference ×{factor}" if factor > 1 else "difference", source, reason, note)]


def _picture(sample: Sample, kind: str, score: str, pixels: Pixels | None, budget: _Budget) -> _Picture:
    """``score``: of the base on it; empty where it is not told."""
    words = f"base score {score}" if score else ""
    if pixels is None:
        where = sample.files.get(kind)
        return _Picture(kind, None, f"{where} could not be read" if where else "not stored by this run", words)
    source = budget.spend(sample.files[kind], pixels)
    reason = "" if source else f"left out to keep this page small: {sample.files[kind]}"
    return _Picture(kind, source, reason, words)


def _heatmap(data: ReportData) -> Markup:
    if not data.conclusions.cells:
        return Markup("")
    reasons = {b: wording.exclusion_reasons(data.counts.exclusions.get(b, {})) for b in data.shown_bases}
    return Markup(figures.matrix_heatmap(data.conclusions.cells, apart=data.apart, reasons=reasons))


def _base_row(data: ReportData, base: str) -> dict[str, Any]:
    outcomes = data.counts.outcomes.get(base, {})
    made = wording.made_for(data, base)
    return {
        "base": base,
        "images": sum(outcomes.values()),
        "made": made,
        "bar": Markup(figures.outcome_bar(outcomes)),
        "landed": f"{wording.landed(data, base) / made:.0%}" if made else style.DASH,
        "used": wording.used(data.conclusions.cells, base),
        "excluded": wording.exclusion_reasons(data.counts.exclusions.get(base, {})),
    }


def _controls(data: ReportData) -> dict[str, Any]:
    drifts = data.start is StartsAt.RECONSTRUCTION

    def most(c: figures.Control) -> float:
        """Drift, or the random step where there is no drift; what is not known comes last."""
        moved = c.drift if drifts else c.random
        return -moved if math.isfinite(moved) else math.inf

    ordered = sorted(data.controls, key=lambda c: (most(c), c.head))
    first, rest = ordered[:_ROWS], ordered[_ROWS:]
    return {
        "measured": any(math.isfinite(c.random) for c in ordered),
        "plot": Markup(figures.controls_plot(first, drift=drifts)) if first else Markup(""),
        "rest": Markup(figures.controls_plot(rest, drift=drifts)) if rest else None,
        "others": f"{len(rest)} heads " + ("with less drift" if drifts else "that a random step moves less"),
    }


def _timing(data: ReportData) -> list[tuple[str, str, float]]:
    total = sum(v for k, v in data.timing.items() if k != "total" and math.isfinite(v))
    return [
        (
            wording.label(k),
            f"{v:,.1f} s" if math.isfinite(v) else style.DASH,
            round(100 * v / total, 1) if total and k != "total" and math.isfinite(v) else 0.0,
        )
        for k, v in data.timing.items()
    ]
