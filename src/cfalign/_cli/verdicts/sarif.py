"""The verdict of a check as SARIF 2.1.0, which code scanning of GitHub and others reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from cfalign._audit.changes import Status
from cfalign._audit.gate import Checked
from cfalign._cli.verdicts.told import Told, feature_name, feature_numbers, numbers, printable, relation, unlike
from cfalign._findings import FindingKind
from cfalign._runs.codec import as_json

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULES = {
    "unexpected-effect": ("error", "An audited head reacts to an attribute more than is allowed, beyond chance."),
    "known-effect": ("note", "An effect beyond its limit that did not grow beyond chance since the baseline."),
    "unmeasured-relation": ("note", "A relation that could not be measured, so that the check says nothing about it."),
    "unnamed-feature": ("warning", "A head reacts to a feature that no reference head names, so no limit holds it."),
    "other-conditions": ("warning", "The run and its baseline differ beside the audited classifiers."),
}
_FILES = {FindingKind.JOINT: "joint.csv", FindingKind.RESPONSE: "matrix.csv"}
_STATES = {Status.APPEARED: "new", Status.GREW: "updated", Status.ONLY_AFTER: "new"}


def sarif(told: Told) -> str:
    """A result per number beyond its limit, and per note. Each points at the file of the run that holds the number."""
    driver = {
        "name": "cfalign",
        "semanticVersion": told.version,
        "rules": [_rule(name, level, meaning) for name, (level, meaning) in _RULES.items()],
    }
    run = {
        "tool": {"driver": driver},
        "results": list(_results(told)),
        "columnKind": "unicodeCodePoints",
        "properties": {
            "run": str(told.run),
            "baseline": told.verdict.baseline or None,
            "checked": told.verdict.checked,
            "responses": told.verdict.responses,
            "maxEffect": told.max_effect,
        },
    }
    content = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(as_json(content), indent=1, ensure_ascii=True)


def _rule(name: str, level: str, meaning: str) -> dict[str, Any]:
    return {"id": name, "shortDescription": {"text": meaning}, "defaultConfiguration": {"level": level}}


def _results(told: Told) -> Iterator[dict[str, Any]]:
    verdict = told.verdict
    for one in verdict.unexpected:
        state = {} if one.change is None else {"baselineState": _STATES.get(one.change.status, "new")}
        yield {**_of_number(told, "unexpected-effect", one), **state}
    for one in verdict.known:
        yield {**_of_number(told, "known-effect", one), "baselineState": "unchanged"}
    for name in verdict.unmeasured:
        yield _result(told, "unmeasured-relation", printable(name), "effects.csv", f"not measured: {printable(name)}")
    for feature in told.unnamed:
        words = f"unnamed feature: {feature_name(feature)}  {feature_numbers(feature)}"
        yield _result(told, "unnamed-feature", feature_name(feature), "unnamed.json", words)
    for mismatch in verdict.mismatches:
        found = _result(told, "other-conditions", printable(mismatch.what), "run.json", unlike(mismatch))
        yield found if mismatch.grave else {**found, "level": "note"}


def _of_number(told: Told, rule: str, one: Checked) -> dict[str, Any]:
    file = _FILES.get(one.found.kind, "effects.csv")
    found = _result(told, rule, relation(one), file, f"{relation(one)}  {numbers(one)}")
    return {**found, "properties": {**asdict(one.found), "allowed": one.allowed}}


def _result(told: Told, rule: str, name: str, file: str, message: str) -> dict[str, Any]:
    place = quote((told.run / file).as_posix())
    return {
        "ruleId": rule,
        "ruleIndex": list(_RULES).index(rule),
        "level": _RULES[rule][0],
        "message": {"text": message},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": place}, "region": {"startLine": 1}},
                "logicalLocations": [{"fullyQualifiedName": name}],
            }
        ],
        "partialFingerprints": {"relation/v1": sha256(f"{rule} {name}".encode()).hexdigest()},
    }
