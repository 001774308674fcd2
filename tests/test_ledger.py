"""The folder of a benchmark: what is measured once is read again, other settings and other files are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from cfalign._errors import BadInput, RunMismatch
from cfalign.benchmarks.ledger import claim, measured_once, numbers, staged, workplace


def test_a_temporary_folder_is_removed_and_a_given_one_is_kept(tmp_path: Path) -> None:
    with workplace(None) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    (tmp_path / "kept").mkdir()
    with workplace(tmp_path / "kept") as folder:
        (folder / "part").touch()
    assert (tmp_path / "kept" / "part").is_file()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="Expected a folder as --out, got the file"), workplace(tmp_path / "file"):
        pass


def test_a_folder_belongs_to_the_settings_that_claimed_it(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    claim(folder, {"images": 4, "doses": (0.0, 0.5)}, file="settings.json")
    written = (folder / "settings.json").read_bytes()
    claim(folder, {"images": 4, "doses": (0.0, 0.5)}, file="settings.json")
    assert (folder / "settings.json").read_bytes() == written
    with pytest.raises(RunMismatch, match="images was 4, now 5"):
        claim(folder, {"images": 5, "doses": (0.0, 0.5)}, file="settings.json")
    assert (folder / "settings.json").read_bytes() == written


def test_a_folder_with_other_files_is_not_claimed(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds files of something else"):
        claim(tmp_path, {"images": 4}, file="settings.json")
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]


def test_a_measurement_is_made_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def measure() -> list[dict[str, float]]:
        calls.append(len(calls))
        return [{"effect": 0.1, "q": math.nan}]

    file = tmp_path / "pair" / "measured.json"
    first = measured_once(file, {"seed": 1}, "rows", measure)
    again = measured_once(file, {"seed": 1}, "rows", measure)
    assert calls == [0]
    assert first == again == [{"effect": 0.1, "q": None}], "what is returned is the JSON, measured or read"
    with pytest.raises(RunMismatch, match="seed was 1, now 2"):
        measured_once(file, {"seed": 2}, "rows", measure)
    assert calls == [0], "nothing is measured over a measurement of other settings"


def test_a_measurement_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def measure() -> None:
        raise RuntimeError("stopped")

    file = tmp_path / "measured.json"
    with pytest.raises(RuntimeError, match="stopped"):
        measured_once(file, {}, "rows", measure)
    assert not file.exists()


def test_a_damaged_measurement_is_named(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_text("{")
    with pytest.raises(BadInput, match=r"Expected JSON in .*measured\.json, which cannot be read"):
        measured_once(file, {}, "rows", list)


def test_null_is_read_as_nan() -> None:
    row = numbers(json.loads('{"name": "a", "n": 3, "psi": null}'))
    assert (row["name"], row["n"]) == ("a", 3)
    assert math.isnan(row["psi"])


def test_stages_have_the_number_of_their_part() -> None:
    told: list[tuple[str, int, int]] = []
    progress = staged(lambda stage, done, total: told.append((stage, done, total)), 1, 7)
    progress("audit", 3, 10)
    assert told == [("audit 2/7", 3, 10)]
