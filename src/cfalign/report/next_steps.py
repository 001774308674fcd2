"""What a reader would do next, as commands of this very run, ready to be copied."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfalign._findings import Finding, FindingKind
from cfalign.report import unnamed
from cfalign.report.content import ReportData
from cfalign.report.verdict import unwitnessed

_NAMED = 3
"""Unnamed features whose command is given."""


@dataclass(frozen=True)
class Step:
    """One thing to do. Words in capitals in the command are for the reader to fill in."""

    why: str
    command: str


def next_steps(data: ReportData) -> list[Step]:
    """From looking closer, over naming and mending, to the gate before the next release."""
    given = data.given
    largest = next((f for f in data.conclusions.findings if f.kind is FindingKind.EFFECT), None)
    why = "Explore the run in the browser: the images behind every cell, and marks of what is expected or spurious."
    steps = [Step(why, _joined(["cfalign", "explore", data.run_dir]))]
    if (first := next(iter(data.conclusions.findings), None)) is not None:
        steps += [_query(data, first), *_explain(data, given)]
    found = [feature for feature in data.unnamed if feature.found][:_NAMED]
    steps += [
        Step(
            "Give the unnamed feature a name, so that later audits, checks and rectifications know it.",
            unnamed.naming(data.run_dir, feature),
        )
        for feature in found
    ]
    if unwitnessed(data):
        steps.append(_witness(data, given))
    if largest is not None:
        steps.append(_rectify(data, largest, given))
    if data.audited:
        steps += _check(data)
    return steps


def _query(data: ReportData, finding: Finding) -> Step:
    base = finding.members[0] if finding.members else finding.attribute
    words = ["cfalign", "query", data.run_dir, "--base", base, "--downstream", finding.audited, "--limit", "20"]
    return Step("List the images behind the first finding, those that answer most first.", _joined(words))


def _explain(data: ReportData, given: Mapping[str, Any]) -> list[Step]:
    """One image of the first finding that has some, seen by the audited head."""
    for finding in data.conclusions.findings:
        for sample in finding.samples:
            if file := sample.files.get("original"):
                words = ["cfalign", "explain", data.run_dir / file, "--base", _target(finding.audited)]
                words += ["--classifier", _owner(data, finding.audited), *_models(given, "autoencoder", "reference")]
                why = "Look at one of these images closely: strip, answers of all heads, saliency maps."
                return [Step(why, _joined([*words, "--out", f"{data.run_dir}-explained"]))]
    return []


def _witness(data: ReportData, given: Mapping[str, Any]) -> Step:
    images = _images(given)
    words = ["cfalign", "train", "classifier", "--second", *images, "--labels", "LABELS.csv"]
    why = "Train a witness, a second network that knows what the heads are meant to see; then audit with --reference."
    return Step(why, _joined([*words, "--out", f"{data.run_dir}-witness"]))


def _rectify(data: ReportData, finding: Finding, given: Mapping[str, Any]) -> Step:
    words = ["cfalign", "rectify", *_images(given), *_models(given, "autoencoder")]
    words += ["--classifier", _owner(data, finding.audited), "--target", _target(finding.audited)]
    words += ["--against", finding.attribute, *_models(given, "reference")]
    why = "If the head should not react to it: compose the head with its shortcut so that it uses it no more."
    return Step(why, _joined([*words, "--out", f"{data.run_dir}-rectified"]))


def _check(data: ReportData) -> list[Step]:
    relations = f"{data.run_dir}-relations.toml"
    flags = ["--allow-responses"] if unwitnessed(data) else []
    words = ["cfalign", "check", data.run_dir]
    return [
        Step(
            "Write down which reactions are fine, and go through that file by hand.",
            _joined([*words, "--write", relations, *flags]),
        ),
        Step(
            "Then let it guard the next release: exit code 1 where a head reacts to anything else.",
            _joined([*words, "--expected", relations, *flags]),
        ),
    ]


def _owner(data: ReportData, audited: str) -> str:
    """The classifier of an audited head, as the audit was given it."""
    specs = data.given.get("classifier")
    known = [specs] if isinstance(specs, str) else list(specs or [])
    names = [model.name for model in data.models if model.role == "audited"]
    name = audited.rpartition(":")[0]
    if len(known) == 1:
        return str(known[0])
    if len(known) == len(names) and name in names:
        return str(known[names.index(name)])
    return "CLASSIFIER"


def _target(audited: str) -> str:
    return audited.rpartition(":")[2]


def _images(given: Mapping[str, Any]) -> list[str]:
    if demo := given.get("demo"):
        return ["--faces", str(demo["faces"])]
    size = ["--size", str(given["size"])] if given.get("size") else []
    return ["--images", str(given.get("images") or "IMAGES"), *size]


def _models(given: Mapping[str, Any], *kinds: str) -> list[str]:
    """The flags of models; a reference that was not given is none, an autoencoder is to be filled in."""
    words = []
    for kind in kinds:
        spec = given.get(kind)
        first = spec[0] if isinstance(spec, list) and spec else spec
        if first or kind == "autoencoder":
            words += [f"--{kind}", str(first or "AUTOENCODER")]
    return words


def _joined(words: Sequence[object]) -> str:
    return shlex.join(map(str, words))
