"""The verdict of a check as one JSON object."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from cfalign._audit.gate import Checked
from cfalign._cli.verdicts.told import Told
from cfalign._runs.codec import as_json


def json_object(told: Told) -> str:
    """All that the check found; an undefined number is null, and so is the limit of an expected relation."""
    verdict = told.verdict
    content = {
        "run": str(told.run),
        "checked": verdict.checked,
        "responses": verdict.responses,
        "unexpected": [_entry(one) for one in verdict.unexpected],
        "unmeasured": list(verdict.unmeasured),
        "unnamed": [f"{f.number} of {f.audited}" for f in told.unnamed],
        "known": [_entry(one) for one in verdict.known],
        "baseline": verdict.baseline or None,
        "mismatches": [asdict(one) for one in verdict.mismatches],
    }
    return json.dumps(as_json(content), ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _entry(one: Checked) -> dict[str, Any]:
    found = {**asdict(one.found), "relation": one.found.names[0], "allowed": one.allowed}
    return found if one.change is None else {**found, "change": as_json(one.change), "reason": one.reason}
