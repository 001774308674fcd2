"""The user's Python files, named on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from cfalign._errors import BadInput
from cfalign._models.factories import call_factory, is_factory


def file(folder: Path, text: str, name: str = "own.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_what_is_a_factory() -> None:
    assert is_factory("a/b.py:make")
    assert is_factory("model.py")
    assert not is_factory("embedded")
    assert not is_factory("weights.safetensors")


def test_functions_classes_and_values(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        "from torch import nn\n"
        "def make(): return 7\n"
        "class Coder:\n    def encode(self, x): return x\n    def decode(self, z): return z\n"
        "coder = Coder()\nnet = nn.Linear(1, 1)\nvalue = 'text'\n",
    )
    assert call_factory(f"{path}:make") == 7
    assert type(call_factory(f"{path}:Coder")).__name__ == "Coder"
    assert type(call_factory(f"{path}:coder")).__name__ == "Coder"
    assert isinstance(call_factory(f"{path}:net"), nn.Linear), "a module is not called"
    assert call_factory(f"{path}:value") == "text"


def test_a_file_may_import_its_neighbours_and_leaves_the_path_as_it_was(tmp_path: Path) -> None:
    file(tmp_path, "ANSWER = 42\n", "cfalign_test_neighbour.py")
    path = file(tmp_path, "from cfalign_test_neighbour import ANSWER\ndef make(): return ANSWER\n")
    before = list(sys.path)
    assert call_factory(f"{path}:make") == 42
    assert sys.path == before
    sys.modules.pop("cfalign_test_neighbour")


def test_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    for i in (1, 2):
        (tmp_path / str(i)).mkdir()
        file(tmp_path / str(i), f"def make(): return {i}\n")
    assert [call_factory(f"{tmp_path / str(i) / 'own.py'}:make") for i in (1, 2)] == [1, 2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def make(:\n", r"own\.py could not be imported: SyntaxError: .*line 1"),
        ("x = 1\nimport nothing_like_this\n", r"ModuleNotFoundError: No module named 'nothing_like_this' \(line 2\)"),
        ("def make():\n    raise ValueError('first\\nsecond.')\n", r"raised ValueError: first second \(line 2\)\.$"),
        ("def make(size): return size\n", "raised TypeError: .*missing 1 required positional argument: 'size'"),
        ("import sys\nsys.exit(3)\n", r"could not be imported: SystemExit: 3 \(line 2\)"),
        ("def mak(): return 1\n", "defines no 'make'; nearest valid: mak"),
        ("def make():\n    raise RuntimeError\n", r"raised RuntimeError \(line 2\)\.$"),
    ],
)
def test_what_the_users_code_does_wrong_is_said_in_one_line(text: str, sentence: str, tmp_path: Path) -> None:
    path = file(tmp_path, text)
    with pytest.raises(BadInput, match=sentence) as caught:
        call_factory(f"{path}:make")
    assert "\n" not in str(caught.value)


def test_the_line_is_named_for_a_relative_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file(tmp_path, "\n\ndef make(): return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"ZeroDivisionError: division by zero \(line 3\)"):
        call_factory("own.py:make")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no file"):
        call_factory(f"{tmp_path}/none.py:make")
    with pytest.raises(BadInput, match="names a file but no factory"):
        call_factory("own.py")
    with pytest.raises(BadInput, match="names a file but no factory"):
        call_factory("own.py:")
