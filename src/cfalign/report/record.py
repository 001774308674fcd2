"""The report for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cfalign._figures.svg import is_own, is_significant, matrix_order
from cfalign.report import wording
from cfalign.report.data import ReportData

SCHEMA = 1


def as_json(data: ReportData) -> dict[str, Any]:
    """What the page says, as plain values; a missing number is None. Images and curves stay in the run directory."""
    rows, columns = matrix_order(data.cells, apart=data.audited if len(data.audited) < len(data.heads) else ())
    report = {
        "schema": SCHEMA,
        "title": wording.headline(data),
        "summary": [wording.finding_sentence(f, _plain) for f in data.findings] or [wording.no_finding(data)],
        "cautions": wording.cautions(data, _plain),
        "findings": [asdict(f) for f in data.findings],
        "effects": [{**asdict(e), "own": is_own(e), "significant": is_significant(e)} for e in data.effects],
        "matrix": [asdict(c) for c in data.cells],
        "matrix_order": {"bases": rows, "downstream": columns},
        "heads": data.heads,
        "bases": data.bases,
        "audited": data.audited,
        "attributes": data.attributes,
        "data": {
            "source": data.source,
            "images": data.images,
            "hash": data.images_hash,
            "skipped": [asdict(s) for s in data.skipped],
        },
        "outcomes": data.outcomes,
        "exclusions": data.exclusions,
        "gaps": [asdict(g) for g in data.gaps],
        "relations": [asdict(r) for r in data.relations],
        "followed": [asdict(f) for f in data.followed],
        "controls": [asdict(c) for c in data.controls],
        "models": [asdict(m) for m in data.models],
        "cost": data.cost,
        "timing": data.timing,
        "settings": data.settings,
        "seed": data.seed,
        "versions": data.versions,
    }
    cleaned = _clean(report)
    assert isinstance(cleaned, dict)
    return cleaned


def _plain(name: str) -> str:
    return name


def _clean(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
