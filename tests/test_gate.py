"""The gate: which effects of a run are beyond what is expected, through the functions and through the command."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

import cfalign as cfa
import worlds
from cfalign._audit.gate import Checked, Verdict, check, read_relations, started
from cfalign._audit.measured import Measured
from cfalign._errors import BadInput
from cfalign._findings import FindingKind
from cfalign._runs.run import Run
from compared_runs import audited


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


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Audits of a classifier without a shortcut, with one, and with the same one on other images."""
    folder = tmp_path_factory.mktemp("releases")
    return {
        "honest": audited(folder / "honest", 0.0),
        "planted": audited(folder / "planted", 1.0),
        "again": audited(folder / "again", 1.0, seed=1),
        "weak": audited(folder / "weak", 0.25),
    }


def test_what_the_baseline_has_too_passes_and_is_told(releases: dict[str, Run]) -> None:
    verdict = check(releases["again"], baseline=releases["planted"])
    assert verdict.unexpected == ()
    assert [c.found.attribute for c in verdict.known] == ["wearing_hat"]
    assert verdict.known[0].reason.startswith("the baseline has it too (+")
    assert verdict.baseline == str(releases["planted"].path)
    assert {m.what for m in verdict.mismatches} == {"images", "seed"}


@pytest.mark.parametrize(("before", "word"), [("honest", "appeared"), ("weak", "grew")])
def test_what_is_new_or_grew_since_the_baseline_fails(releases: dict[str, Run], before: str, word: str) -> None:
    verdict = check(releases["planted"], baseline=releases[before])
    assert [c.found.attribute for c in verdict.unexpected] == ["wearing_hat"]
    assert verdict.unexpected[0].reason.startswith(f"{word} since the baseline (")
    assert verdict.known == ()


def test_what_grew_within_its_limit_passes(releases: dict[str, Run]) -> None:
    assert check(releases["planted"], baseline=releases["honest"], max_effect=0.9).unexpected == ()
    limits = {"friendly -> wearing_hat": math.inf}
    assert check(releases["planted"], baseline=releases["honest"], expected=limits).unexpected == ()


def test_a_baseline_without_a_number_excuses_nothing(releases: dict[str, Run], tmp_path: Path) -> None:
    fewer = audited(tmp_path / "fewer", 1.0, downstream=["smiling", "eyeglasses"])
    verdict = check(releases["planted"], baseline=fewer)
    assert [c.reason for c in verdict.unexpected] == [
        "the baseline has no number for it: the run before does not measure this attribute"
    ]


def test_every_compared_number_is_told_once(releases: dict[str, Run]) -> None:
    verdict = check(releases["planted"], baseline=releases["weak"])
    told = [*verdict.unexpected, *verdict.known, *verdict.allowed]
    assert len({c.found.names[0] for c in told}) == len(told) == verdict.checked
    with pytest.raises(BadInput, match="with those of a baseline only"):
        check(releases["planted"], match={"friendly": "friendly"})
    assert cfa.check is check


def test_the_command_holds_a_run_against_a_baseline(releases: dict[str, Run], tmp_path: Path) -> None:
    honest, planted, again = (releases[name].path for name in ("honest", "planted", "again"))
    ended = worlds.cfalign("check", again, "--baseline", planted, folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("known: friendly -> wearing_hat  +")
    ended = worlds.cfalign("check", again, "--baseline", honest, "--format", "github", folder=tmp_path)
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.startswith("::error title=Unexpected effect::friendly -> wearing_hat  +")


def test_the_command_writes_the_verdict_into_a_file_and_tells_it(releases: dict[str, Run], tmp_path: Path) -> None:
    planted = releases["planted"].path
    ended = worlds.cfalign("check", planted, "--format", "sarif", "--output", "x/verdict.sarif", folder=tmp_path)
    assert ended.code == 1
    assert ended.out.startswith("unexpected: friendly -> wearing_hat  +")
    assert ended.out.splitlines()[-1] == "The verdict is in x/verdict.sarif too."
    (run,) = json.loads((tmp_path / "x" / "verdict.sarif").read_text())["runs"]
    assert [r["ruleId"] for r in run["results"]] == ["unexpected-effect"]


def test_a_baseline_of_other_counterfactuals_is_warned_of(releases: dict[str, Run], tmp_path: Path) -> None:
    other = audited(tmp_path / "bent", 1.0, reference=worlds.bent_heads())
    ended = worlds.cfalign("check", releases["planted"].path, "--baseline", other.path, folder=tmp_path)
    assert "Warning: unlike the baseline: reference, " in ended.err
    assert "the numbers of both runs do not mean the same" in " ".join(ended.err.split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--match", "a=b"), "--match needs --baseline"),
        (("--format", "junit", "--json"), "--json does not go with --format"),
        (("--format", "html"), "Invalid value for '--format'"),
    ],
)
def test_options_without_effect_are_refused(run: Run, tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    ended = worlds.cfalign("check", run.path, *words, folder=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert sentence in " ".join(ended.err.split())
