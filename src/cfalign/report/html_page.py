"""The report as one HTML page with everything inside it: figures as SVG, images as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cfalign._figures import style
from cfalign._figures import svg as figures
from cfalign._findings import Witness
from cfalign._results import Outcome, StartsAt
from cfalign.report import basis, cautions, image_grid, unnamed, verdict, where, wording
from cfalign.report.answer import answer
from cfalign.report.content import ReportData
from cfalign.report.correlations import disagreements
from cfalign.report.effect_blocks import effect_blocks
from cfalign.report.markup import code, soft, whole, with_code, with_marks
from cfalign.report.next_steps import next_steps
from cfalign.report.strips import Budget, findings
from cfalign.report.three_matrices import panels

PAGE_BUDGET = 8_000_000
"""Characters of a page; images take what the figures leave, and further strips are named instead of shown."""
_TABLES = 2_000_000
"""Of these, what tables, plots of single images and the sentences may take."""
_ROWS = 15
_RELATIONS = 8
_GAPS = 8
_ALL_GAPS = 200
_FULL_PLOTS = 3
"""Audited heads up to which each gets its full table; beyond, an overview whose cards open."""


def html(data: ReportData) -> str:
    """The page. It loads nothing from anywhere, and its own policy forbids it to."""
    environment = Environment(
        loader=PackageLoader("cfalign.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": code, "soft": soft}
    return environment.get_template("report.html.j2").render(_context(data))


def _context(data: ReportData) -> dict[str, Any]:
    blocks, heatmap, controls = effect_blocks(data), _heatmap(data), _controls(data)
    drawn = sum(len(one or "") for one in (heatmap, controls["plot"], controls["rest"]))
    budget = Budget(PAGE_BUDGET - drawn - sum(block.size for block in blocks) - _TABLES)
    return {
        "data": data,
        "style": style,
        "title": wording.headline(data),
        "answer": Markup(answer(data, code)),
        "introduction": Markup(wording.introduction(data, code)),
        "headlines": [
            (f, whole(s)) for f, s in zip(data.conclusions.findings, verdict.sentences(data, code), strict=True)
        ],
        "by_judge": any(f.witness is Witness.JUDGE for f in data.conclusions.findings),
        "no_finding": verdict.no_finding(data),
        "cautions": [with_code(c) for c in cautions.cautions(data, code)],
        "blocks": blocks,
        "responses": _responses(data),
        "what_is_found": "response" if verdict.only_responses(data) else "finding",
        "overview": len(data.audited) > _FULL_PLOTS,
        "findings": findings(data, budget),
        "unnamed": _unnamed(data, budget),
        "grids": _grids(data, budget),
        "grid_words": image_grid.WORDS,
        "grid_rows": image_grid.ROWS,
        "no_grid": with_code(image_grid.absent(data)),
        "more_grids": image_grid.rest(data, code),
        "panels": panels(data),
        "disagreements": [whole(s) for s in _disagreements(data)],
        "steps": next_steps(data),
        "not_found": [whole(s) for s in unnamed.rejected(data.unnamed, code)],
        "where": _where(data, budget),
        "heatmap": heatmap,
        "colour_bar": Markup(figures.colour_bar()),
        "bases": [_base_row(data, b) for b in data.shown_bases],
        "left_out": Markup(cautions.left_out(data, code)),
        "basis": basis.basis(data),
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
        "beginning": with_marks(wording.beginning(data)),
        "compared": wording.compared(data),
        "cost": [(wording.label(k), wording.quantity(k, v)) for k, v in data.counts.cost.items()],
        "timing": _timing(data),
        "settings": wording.flat(data.settings),
        "readings": wording.READINGS,
        "limits": wording.LIMITS,
    }


def _unnamed(data: ReportData, budget: Budget) -> list[tuple[unnamed.Picture, Markup, Markup]]:
    """The unnamed features that count, each with its sentences."""
    found = [
        unnamed.pictured(feature, data.run_dir, data.pictures, budget.spend, code)
        for feature in data.unnamed
        if feature.found
    ]
    return [(picture, whole(picture.sentence), whole(picture.explained)) for picture in found]


def _where(data: ReportData, budget: Budget) -> list[tuple[Markup, str | None]]:
    """Sentences of regions, each with its picture where there is room."""
    return [
        (whole(where.sentence(split, code)), budget.spend(split.picture, data.pictures[split.picture]))
        for split in data.where
        if split.picture in data.pictures
    ]


def _grids(data: ReportData, budget: Budget) -> list[tuple[Markup, dict[str, list[dict[str, Any]]]]]:
    """Per audited head its sentence, and its rows of thumbnails."""
    found = []
    for grid in data.sorted_images:
        rows: dict[str, list[dict[str, Any]]] = {}
        for name in image_grid.ROWS:
            rows[name] = [
                {
                    "image_id": one.image_id,
                    "score": style.number(one.score),
                    "source": budget.spend(one.file, data.pictures[one.file], lossy=True)
                    if one.file in data.pictures
                    else None,
                }
                for one in getattr(grid, name)
            ]
        found.append((Markup(image_grid.sentence(grid, code)), rows))
    return found


def _disagreements(data: ReportData) -> list[str]:
    return disagreements(data.correlations, data.conclusions.cells, data.apart, code)


def _outcome_keys(data: ReportData) -> list[tuple[str, str | None, str]]:
    """The outcomes that occur, each with its colour and its meaning."""
    occurring = {outcome for row in data.counts.outcomes.values() for outcome, n in row.items() if n}
    met = [o for o in Outcome if o.value in occurring]
    return [(o.value, style.OUTCOME_COLOURS.get(o.value), basis.MEANINGS[o]) for o in met]


def _relations(data: ReportData) -> list[tuple[str, list[Markup]]]:
    """The sentences under each title, the most remarkable first."""
    found = []
    for kind, title in wording.RELATIONS.items():
        some = [r for r in data.conclusions.relations if r.kind is kind][:_RELATIONS]
        found.append((title, [Markup(wording.relation_sentence(r, code)) for r in some]))
    return found


def _responses(data: ReportData) -> list[tuple[str, list[verdict.Response]]]:
    """The largest responses of every head without a witness."""
    heads = verdict.heads_with_responses(data)
    return [(audited, verdict.responses(data, audited, most=_ROWS)) for audited in heads]


def _heatmap(data: ReportData) -> Markup:
    if not data.conclusions.cells:
        return Markup("")
    reasons = {b: basis.exclusion_reasons(data.counts.exclusions.get(b, {})) for b in data.shown_bases}
    return Markup(
        figures.matrix_heatmap(data.conclusions.cells, apart=data.apart, reasons=reasons, links=_with_images(data))
    )


def _with_images(data: ReportData) -> Mapping[tuple[str, str], str]:
    """The cells whose images are on the page, and where."""
    found: dict[tuple[str, str], str] = {}
    for finding in data.conclusions.findings:
        for sample in finding.samples:
            found.setdefault((sample.base, sample.downstream), f"#finding-{finding.rank}")
    return found


def _base_row(data: ReportData, base: str) -> dict[str, Any]:
    outcomes = data.counts.outcomes.get(base, {})
    made = basis.made_for(data, base)
    return {
        "base": base,
        "images": sum(outcomes.values()),
        "made": made,
        "bar": Markup(figures.outcome_bar(outcomes)),
        "landed": f"{basis.landed(data, base) / made:.0%}" if made else style.DASH,
        "used": basis.used(data.conclusions.cells, base),
        "excluded": basis.exclusion_reasons(data.counts.exclusions.get(base, {})),
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
