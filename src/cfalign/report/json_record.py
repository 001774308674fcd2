"""The report for programs."""

from __future__ import annotations

from typing import Any

from cfalign._figures.svg import matrix_order
from cfalign._results import Effect, Followed
from cfalign._runs.codec import plain
from cfalign.report import cautions, verdict, wording
from cfalign.report.answer import answer
from cfalign.report.content import ReportData
from cfalign.report.next_steps import next_steps

SCHEMA = 1


def as_json(data: ReportData) -> dict[str, Any]:
    """What the page says, as plain values; a missing number is None. Images and curves stay in the run directory."""
    found, counts = data.conclusions, data.counts
    rows, columns = matrix_order(found.cells, apart=data.apart)
    report = {
        "schema": SCHEMA,
        "title": wording.headline(data),
        "answer": answer(data, str),
        "summary": verdict.sentences(data, str) or [verdict.no_finding(data)],
        "cautions": cautions.cautions(data, str),
        "findings": found.findings,
        "unnamed": data.unnamed,
        "regions": data.where,
        "effects": [_effect(e) for e in found.effects if e.audited in data.shown],
        "joint": [j for j in found.joint if j.audited in data.shown],
        "standings": counts.standings,
        "inseparable": counts.inseparable,
        "matrix": found.cells,
        "left_out": cautions.left_out(data, str),
        "correlations": _correlations(data),
        "sorted_images": data.sorted_images,
        "next": next_steps(data),
        "matrix_order": {"bases": rows, "downstream": columns},
        "heads": data.heads,
        "bases": data.bases,
        "audited": data.audited,
        "attributes": data.attributes,
        "data": {
            "source": data.source,
            "images": counts.images,
            "hash": data.images_hash,
            "skipped": counts.skipped,
        },
        "duplicates": counts.duplicates,
        "outcomes": counts.outcomes,
        "exclusions": counts.exclusions,
        "gaps": [g for g in found.gaps if g.audited in data.shown],
        "relations": found.relations,
        "followed": [_followed(attribute, f) for attribute, f in data.followed],
        "controls": data.controls,
        "models": data.models,
        "cost": counts.cost,
        "timing": data.timing,
        "settings": data.settings,
        "seed": data.seed,
        "versions": data.versions,
    }
    return {name: plain(part) for name, part in report.items()}


def _effect(e: Effect) -> dict[str, Any]:
    return {**plain(e), "own": e.own, "significant": e.clear}


def _followed(attribute: str, f: Followed) -> dict[str, Any]:
    return {"attribute": attribute, "share": f.judge_share, "ci_low": f.ci_low, "ci_high": f.ci_high, "n": f.n}


def _correlations(data: ReportData) -> list[dict[str, Any]]:
    """Every pair of the heads that matter most: of their scores, and of their labels where the run knows some."""
    tables = {"predictions": data.correlations.predictions, "labels": data.correlations.labels}
    names = data.correlations.names
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return [
        {"first": a, "second": b, **{what: table[a, b] for what, table in tables.items() if (a, b) in table}}
        for a, b in pairs
    ]
