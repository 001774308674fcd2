"""The verdict of a check as JUnit XML, in the form that Ant writes and continuous integration reads."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from cfalign._cli.verdicts.text import text
from cfalign._cli.verdicts.told import Told, feature_name, feature_numbers, numbers, printable, relation, unlike

_NO_TIME = "0"
"""A check takes none worth telling; the form asks for it."""


def junit(told: Told) -> str:
    """A test case per compared relation. What was not measured, and features without a name, are skipped ones."""
    cases = list(_cases(told))
    suites = ET.Element("testsuites")
    suite = ET.SubElement(
        suites,
        "testsuite",
        name="cfalign check",
        package=printable(str(told.run)) or ".",
        id="0",
        timestamp=f"{told.at:%Y-%m-%dT%H:%M:%S}",
        hostname="localhost",
        tests=str(len(cases)),
        failures=str(len(told.verdict.unexpected)),
        errors="0",
        skipped=str(sum(case.find("skipped") is not None for case in cases)),
        time=_NO_TIME,
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(told):
        ET.SubElement(properties, "property", name=name, value=value)
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = text(told)
    ET.SubElement(suite, "system-err").text = "\n".join(unlike(one) for one in told.verdict.mismatches)
    ET.indent(suites, space=" ")
    return ET.tostring(suites, encoding="unicode", xml_declaration=False)


def _properties(told: Told) -> Iterator[tuple[str, str]]:
    yield "cfalign", told.version
    yield "max_effect", f"{told.max_effect:g}"
    if told.verdict.baseline:
        yield "baseline", printable(told.verdict.baseline)


def _cases(told: Told) -> Iterator[ET.Element]:
    verdict = told.verdict
    for one in verdict.unexpected:
        case = _case(relation(one), printable(one.found.audited))
        failure = ET.SubElement(case, "failure", message=numbers(one), type="unexpected")
        failure.text = f"{relation(one)}  {numbers(one)}"
        yield case
    for one in (*verdict.known, *verdict.allowed):
        yield _case(relation(one), printable(one.found.audited))
    for name in verdict.unmeasured:
        yield _skipped(printable(name), printable(name.partition(" -> ")[0]), "not measured")
    for feature in told.unnamed:
        yield _skipped(
            feature_name(feature), printable(feature.audited), f"unnamed feature: {feature_numbers(feature)}"
        )


def _skipped(name: str, audited: str, why: str) -> ET.Element:
    case = _case(name, audited)
    ET.SubElement(case, "skipped", message=why)
    return case


def _case(name: str, audited: str) -> ET.Element:
    return ET.Element("testcase", name=name, classname=audited, time=_NO_TIME)
