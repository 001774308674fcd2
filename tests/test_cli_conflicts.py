"""A flag or a setting without effect is an error, whatever the command."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from typer.main import get_command

import worlds
from cfalign._cli.app import app
from cfalign._cli.conflicts import CONFLICTS, Conflict
from cfalign._cli.settings import COMMANDS
from cfalign._validation import settings_of

ROOT: Any = get_command(app)


def _found(command: str) -> Any:
    found = ROOT
    for word in command.split():
        found = found.commands[word]
    return found


def _flags(command: str) -> dict[str, Any]:
    return {p.name: p for p in _found(command).params}


def _settings(command: str) -> dict[str, Any]:
    return {s.name: s.default for s in settings_of(COMMANDS[command])} if command in COMMANDS else {}


def _typed(parameter: Any) -> list[str]:
    """A flag with a value that its type takes."""
    if parameter.is_flag:
        return [parameter.opts[0]]
    if isinstance(parameter.default, Enum):
        return [parameter.opts[0], str(parameter.default.value)]
    if get_origin(parameter.type_descriptor.annotation) is Literal:
        return [parameter.opts[0], get_args(parameter.type_descriptor.annotation)[0]]
    value = "64" if parameter.max is None else str(parameter.max)
    return [parameter.opts[0], value]


def _said(name: str, command: str) -> list[str]:
    """The flag, or the setting, with some value."""
    flags = _flags(command)
    if name in flags:
        return _typed(flags[name])
    return ["--set", f"{name}=1"]


def _needed(command: str, besides: set[str]) -> list[str]:
    """What the command line cannot be read without."""
    words: list[str] = []
    for parameter in _found(command).params:
        if parameter.required and parameter.name not in besides:
            words += ["x"] if parameter.param_type_name == "argument" else _typed(parameter)
    return words


def _cases() -> Iterator[Any]:
    """Every flag and every setting that a row of the table names."""
    for number, conflict in enumerate(CONFLICTS):
        flags, settings = _flags(conflict.command), _settings(conflict.command)
        for idle in conflict.idle:
            inner = [name for name in settings if name.startswith(f"{idle}.")]
            for name in [idle, *inner] if idle in flags or idle in settings else inner:
                yield pytest.param(conflict, name, id=f"{number}-{conflict.command}-{name}")


@pytest.mark.parametrize(("conflict", "name"), list(_cases()))
def test_it_is_refused(conflict: Conflict, name: str, tmp_path: Path) -> None:
    case = [] if conflict.beside is None else _said(conflict.beside, conflict.command)
    given = {name, *([] if conflict.beside is None else [conflict.beside])}
    words = [*conflict.command.split(), *_needed(conflict.command, given), *case, *_said(name, conflict.command)]
    ended = worlds.cfalign(*words, folder=tmp_path)
    shown = _flags(conflict.command)[name].opts[0] if name in _flags(conflict.command) else f"The setting {name}"
    assert (ended.code, ended.out) == (2, ""), ended.err
    assert ended.err.startswith(f"cfalign: {shown} ")
    assert ended.err.endswith(f": {conflict.because}.\n")
    assert list(tmp_path.iterdir()) == []


def test_every_row_names_what_the_command_has() -> None:
    for conflict in CONFLICTS:
        known = {*_flags(conflict.command), *_settings(conflict.command)}
        known |= {name.partition(".")[0] for name in known}
        named = {*conflict.idle, *filter(None, (conflict.beside, *conflict.needed))}
        unknown = named - known
        assert not unknown, f"{conflict.command}: {unknown}"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("audit", "--classifier", "x", "--bank", "b", "--estimate"),
            "--estimate does not go with --bank: the bank was made with its own.",
        ),
        (
            ("audit", "--classifier", "x", "--bank", "b", "--set", "search.drop=0.2"),
            "The setting search.drop does not go with --bank: the bank was made with its own.",
        ),
        (
            ("rectify", "--planted", "--correlation", "0.0"),
            "--correlation does not go with --planted: the shipped planted classifiers and faces are taken.",
        ),
        (
            ("rectify", "--images", "x", "--correlation", "0.9"),
            "--correlation needs --faces: only drawn faces have one.",
        ),
        (
            ("bank", "--images", "x", "--reference", "x", "--autoencoder", "x", "--set", "effects.ridge=0.2"),
            "The setting effects.ridge does not go with `cfalign bank`: only an audit reads this setting.",
        ),
        (
            ("train", "classifier", "--images", "x", "--epochs", "3", "--set", "steps=5"),
            "--epochs does not go with the setting steps: steps say how long.",
        ),
    ],
)
def test_the_sentence_says_what_and_why(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    ended = worlds.cfalign(*words, folder=tmp_path)
    assert (ended.code, ended.out, ended.err) == (2, "", f"cfalign: {sentence}\n")


def test_a_file_says_as_much_as_set(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[search]\ndrop = 0.2\n")
    words = ("audit", "--classifier", "x", "--bank", "b", "--config", "settings.toml")
    ended = worlds.cfalign(*words, folder=tmp_path)
    assert ended.err == "cfalign: The setting search.drop does not go with --bank: the bank was made with its own.\n"


def test_what_has_an_effect_beside_a_bank_is_taken(tmp_path: Path) -> None:
    words = ["audit", "--classifier", "embedded", "--bank", "nowhere", "--batch", "3", "--trust"]
    words += ["--set", "shown=1", "--set", "effects.ridge=0.2", "--set", "alignment.resamples=200"]
    ended = worlds.cfalign(*words, folder=tmp_path)
    assert "does not go with" not in ended.err
    assert "No run directory at nowhere" in ended.err
