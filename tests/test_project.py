"""The files around the package: they agree with it, with one another, and name no machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import cfalign

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "cfalign"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WEIGHTS_LIMIT = 12_000_000

# Put together from pieces, so that this file does not match itself.
PRIVATE = {
    "a package registry": "|".join(
        (
            r"pypi\." + "org",
            r"python" + r"hosted\.org",
            r"download\.py" + r"torch\.org",
            r"anaconda\." + "org",
        )
    ),
    "an index option": "--(?:extra-)?index" + "-url|--find" + "-links|PIP_" + "INDEX|PIP_" + "FIND",
    "a path of one machine": r"(?<![\w.~-])/(?:wo" + "rk|ro" + "ot|Us" + "ers|ho" + "me|op" + r"t/(?:wheels|pypi))/\w",
}


def _tracked() -> Iterator[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listing.returncode:
        pytest.skip("not a git checkout, so it is unknown which files belong to the project")
    names = os.fsdecode(listing.stdout).split("\0")
    yield from (ROOT / name for name in names if name and (ROOT / name).is_file())


def test_changelog_tells_of_this_version() -> None:
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)
    assert versions[0] == cfalign.__version__


def test_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.findall(r"^version: (\S+)$", citation, flags=re.MULTILINE) == [cfalign.__version__]


def test_licence_is_complete_and_the_declared_one() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "Copyright 2026 The cfalign authors" in text
    assert PYPROJECT["project"]["license"] == "Apache-2.0"


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)} holds {what}: {match.group(0).decode()}"
        for path in _tracked()
        for what, pattern in PRIVATE.items()
        for match in re.finditer(pattern.encode(), path.read_bytes())
    ]
    assert not found, "\n".join(found)


def test_the_search_for_private_names_finds_them() -> None:
    planted = [
        "https://pypi" + ".org/simple",
        "cd /wo" + "rk/project",
        "/ho" + "me/someone/x",
        "--index" + "-url",
    ]
    assert all(any(re.search(pattern, text) for pattern in PRIVATE.values()) for text in planted)


def test_shipped_weights_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in PACKAGE.rglob("*.safetensors")}
    assert sum(sizes.values()) <= WEIGHTS_LIMIT, sizes


def test_every_dependency_is_pinned() -> None:
    text = (ROOT / "constraints.txt").read_text("utf-8")
    pinned = {_plain(name) for name in re.findall(r"^([\w.-]+)==\S+$", text, flags=re.MULTILINE)}
    project = PYPROJECT["project"]
    extras = [line for extra in ("dev", "docs") for line in project["optional-dependencies"][extra]]
    wanted = project["dependencies"] + extras + PYPROJECT["build-system"]["requires"]
    assert {_plain(re.split(r"[<>=!~ \[]", line)[0]) for line in wanted} <= pinned


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_readme_shows_the_two_commands_first() -> None:
    first = re.search(r"```\w*\n(.*?)```", README, flags=re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first.group(1).splitlines()] == ["make demo", "make test"]


BARE = """
import re, sys
from importlib import metadata

def needed(name, seen):
    name = re.sub("[-_.]+", "-", name).lower()
    if name in seen:
        return
    try:
        wanted = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    seen.add(name)
    for one in wanted:
        if "extra ==" not in one:
            needed(re.match("[A-Za-z0-9._-]+", one)[0], seen)

there = set()
needed("cfalign", there)
hidden = {
    module for module, owners in metadata.packages_distributions().items()
    if not {re.sub("[-_.]+", "-", owner).lower() for owner in owners} & there
}
for module in hidden:
    sys.modules[module] = None
from cfalign._cli import main
sys.argv = ["cfalign", *sys.argv[1:]]
main()
"""


def _bare(*words: str) -> subprocess.CompletedProcess[str]:
    """A command in this environment as it would be without any extra: other packages cannot be imported."""
    return subprocess.run([sys.executable, "-c", BARE, *words], capture_output=True, text=True)


def test_without_any_extra_the_command_line_is_there() -> None:
    ended = _bare("--help")
    assert ended.returncode == 0, ended.stderr
    assert "explore" in ended.stdout


def test_a_command_that_needs_an_extra_says_which(tiny_run: cfalign.Run) -> None:
    ended = _bare("explore", str(tiny_run.path), "--no-browser", "--port", "0")
    assert ended.returncode == 2
    assert 'pip install "cfalign[explore]"' in ended.stderr
    assert "Traceback" not in ended.stderr
