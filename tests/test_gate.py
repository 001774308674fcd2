"""The gate: which effects of a run are beyond what is expected, through the functions and through the command."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

import worlds
from cfalign._audit.gate import Checked, Verdict, check, read_relations, started
from cfalign._audit.measured import Measured
from cfalign._errors import BadInput
from cfalign._findings import FindingKind
from cfalign._runs.run import Run


@pytest.fixture
def run(tiny_run: Run) -> Run:
    return tiny_run


def names(run: Run, **more: object) -> list[str]:
    return [f"{u.found.audited} -> {u.found.attribute}" for u in check(run, **more).unexpected]  # type: ignore[arg-type]


def test_an_effect_that_nobody_expected_is_named_and_one_that_is_expected_is_not(run: Run) -> None:
    assert "friendly -> wearing_hat" in names(run)
    assert "friendly -> wearing_hat" not in names(run, expected={"friendly -> wearing_hat": math.inf})
    assert names(run) == names(run, expected={"friendly -> wearing_hat": 0.15})
    everything = run.effects().filter(audited="friendly")
    assert check(run).checked == len(everything) - int("friendly" in everything["attribute"])


def test_the_limit_is_a_size_and_chance_is_no_finding(run: Run) -> None:
    table = {r["attribute"]: r for r in run.effects().to_dicts()}
    size = abs(table["wearing_hat"]["effect"])
    assert "friendly -> wearing_hat" in names(run, max_effect=size - 0.01)
    assert "friendly -> wearing_hat" not in names(run, max_effect=min(1.0, size + 0.01))
    strict = check(run, max_effect=0.0).unexpected
    assert all(u.found.q < 0.05 and not u.found.ci_low <= 0 <= u.found.ci_high for u in strict)
    forbidden = check(run, expected={"friendly -> wearing_hat": 0.0}, max_effect=1.0).unexpected
    assert [(u.found.attribute, u.allowed) for u in forbidden] == [("wearing_hat", 0.0)]
    assert [abs(u.found.value) for u in strict] == sorted((abs(u.found.value) for u in strict), reverse=True)


def test_a_file_of_relations_is_read_with_and_without_quotes(tmp_path: Path) -> None:
    file = tmp_path / "relations.toml"
    file.write_text(
        '# fine\nheavy_makeup -> wearing_lipstick = "expected"\n"a:young->gray_hair" = 0.4  # grey\n'
        '  approved -> male = "forbidden"\n'
    )
    assert read_relations(file) == {
        "heavy_makeup -> wearing_lipstick": math.inf,
        "a:young -> gray_hair": 0.4,
        "approved -> male": 0.0,
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('a -> b = "fine"', 'expected "expected", "forbidden" or the largest |effect| in [0, 1] for a -> b, got'),
        ("a -> b = 2", "for a -> b, got 2"),
        ("a -> b = true", "for a -> b, got True"),
        ('ab = "expected"', "expected relations such as heavy_makeup -> wearing_lipstick, got 'ab'"),
        ("a -> b", "cannot be read as relations"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "relations.toml"
    file.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_relations(file)
    assert sentence in str(caught.value)


def test_what_a_run_holds_starts_a_file_that_lets_it_pass(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "relations.toml"
    file.write_text(started(check(run)))
    assert "friendly -> wearing_hat" in read_relations(file)
    assert check(run, expected=read_relations(file)).unexpected == ()


@pytest.mark.parametrize("name", ['a"b', "a\\b", "ä 'b'", "a = b", "a -> b"])
def test_any_name_that_is_written_is_read(name: str, tmp_path: Path) -> None:
    found = Measured(FindingKind.EFFECT, "friendly", name, 0.4, 0.3, 0.5, 20, 0.001, clear=True)
    file = tmp_path / "relations.toml"
    file.write_text(started(Verdict((Checked(found, 0.15),), 1, (), 0)))
    assert read_relations(file) == {f"friendly -> {name}": math.inf}


def test_an_unmeasured_effect_is_said_to_be_none(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    header, *rows = (copy / "effects.csv").read_text().splitlines()
    audited, attribute = rows[0].split(",")[:2]
    rows[0] = f"{audited},{attribute},,,,,,0,"
    (copy / "effects.csv").write_text("\n".join([header, *rows]) + "\n")
    assert check(Run(copy)).unmeasured == (f"{audited} -> {attribute}",)


def test_the_command_ends_with_one_for_findings_and_with_zero_without(run: Run, tmp_path: Path) -> None:
    ended = worlds.cfalign("check", run.path, folder=tmp_path)
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.startswith("unexpected: friendly -> wearing_hat  +")
    assert ended.out.splitlines()[-1].endswith("effects are unexpected (limit 0.15 where none is named).")
    file = tmp_path / "relations.toml"
    ended = worlds.cfalign("check", run.path, "--write", file, folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    ended = worlds.cfalign("check", run.path, "--expected", file, "--json", folder=tmp_path)
    assert ended.code == 0
    assert json.loads(ended.out)["unexpected"] == []
    ended = worlds.cfalign("check", run.path, "--json", folder=tmp_path)
    assert ended.code == 1
    assert json.loads(ended.out)["unexpected"][0]["attribute"] == "wearing_hat"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--expected", "nowhere.toml"), "There is no file of relations 'nowhere.toml'"),
        (("--max-effect", 2), "Expected max_effect between 0 and 1, got 2"),
        (
            ("--expected", "typo.toml"),
            "The run has no relation 'friendly -> wearing_het'; nearest valid: friendly -> wea",
        ),
        (("--write", "typo.toml"), "typo.toml exists already"),
    ],
)
def test_bad_input_is_one_sentence(run: Run, tmp_path: Path, words: tuple[object, ...], sentence: str) -> None:
    (tmp_path / "typo.toml").write_text('friendly -> wearing_het = "expected"\n')
    given = [tmp_path / word if word == "typo.toml" else word for word in words]
    ended = worlds.cfalign("check", run.path, *given, folder=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert sentence in " ".join(ended.err.split())
    assert "Traceback" not in ended.err


def test_a_folder_that_is_no_run_and_a_run_that_is_not_finished(run: Run, tmp_path: Path) -> None:
    ended = worlds.cfalign("check", tmp_path, folder=tmp_path)
    assert ended.code == 2
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "status": "running"}))
    with pytest.raises(BadInput, match="is not finished"):
        check(Run(copy))
