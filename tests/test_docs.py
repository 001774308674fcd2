"""The README and the pages of docs/: their Python runs, their commands parse, their links lead somewhere, and their
numbers are those of the records.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
import shlex
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import cfalign as cfa
from cfalign import synthetic
from cfalign._cli import app
from test_architecture import ROWS

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted(DOCS.glob("*.md")),
    )
}
ELSEWHERE = {"docs/tutorial.md": "test_tutorial.py", "docs/http.md": "test_endpoint.py"}
"""Pages whose Python other tests run."""
RUN = [name for name, text in PAGES.items() if "```python\n" in text and name not in ELSEWHERE]
Command = Any  # of the library below typer
COMMANDS: Command = typer.main.get_command(app)


WITH_PACKAGES = [
    (packages, block)
    for text in PAGES.values()
    for packages, block in re.findall(r"^```python ([\w ]+)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
]
"""Blocks that need packages: their names, as they are imported, stand behind the language."""


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language; a line that ends with a backslash goes on."""
    return re.findall(rf"```{language}\n(.*?)```", text.replace("\\\n", " "), flags=re.DOTALL)


def spans(text: str) -> list[str]:
    """What stands in backticks inside sentences and tables."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def leaves(command: Command = COMMANDS, name: str = "cfalign") -> Iterator[tuple[str, Command]]:
    """All commands that are no groups, with their names."""
    if hasattr(command, "commands"):
        for sub, found in command.commands.items():
            yield from leaves(found, f"{name} {sub}")
    else:
        yield name, command


def found_command(words: list[str]) -> tuple[Command, list[str]]:
    """The command, or group, that the words name, and the words after it."""
    command, rest = COMMANDS, words
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no `cfalign {' '.join(words)}`"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def options_of(command: Command) -> set[str]:
    """The names of its options."""
    return {"--help", *(name for p in command.params for name in (*p.opts, *p.secondary_opts))}


@pytest.mark.parametrize("name", RUN)
def test_the_python_of_a_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pages take as given, a folder of images and a network, is made here: small, by seed."""
    write_faces(tmp_path / "photos", count=24)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page", "network": two_heads()}
    for block in blocks(PAGES[name], "python"):
        exec(compile(block, f"<{name}>", "exec"), names)
    if name == "README.md":
        assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(("packages", "block"), WITH_PACKAGES, ids=[packages for packages, _ in WITH_PACKAGES])
def test_the_python_for_a_library_runs(
    packages: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block alone; skipped where a package of it is not installed."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    write_faces(tmp_path / "photos", count=4)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries
        for package in packages.split():
            pytest.importorskip(package)
        exec(compile(block, f"<{packages}>", "exec"), names)
        source = cfa.datasets.open_images(names.get("source", "photos/"), size=64)
        images = source.load(range(2)).images
        assert len(images) == 2
        assert images.isfinite().all()
        if "clf" in names:
            answer = names["clf"].logits(images)
            assert answer.shape == (2, len(names["clf"].targets))
            assert answer.isfinite().all()


def test_every_extra_that_brings_models_or_images_has_an_example() -> None:
    shown = {package for packages, _ in WITH_PACKAGES for package in packages.split()}
    assert shown >= {"torchvision", "timm", "transformers", "torchxrayvision", "onnxruntime", "pydicom", "datasets"}


def write_faces(folder: Path, *, count: int) -> None:
    """Rendered faces as image files."""
    folder.mkdir()
    for number, image in enumerate(synthetic.render(synthetic.sample(count, seed=1))):
        pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


def two_heads() -> torch.nn.Module:
    """A small network with two outputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 2))


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_parse(name: str) -> None:
    lines = [line for block in blocks(PAGES[name], "sh") for line in block.splitlines()]
    for line in lines:
        if line.startswith("cfalign "):
            command, arguments = found_command(shlex.split(line, comments=True)[1:])
            command.make_context(line, arguments)  # as the command line does, up to the call


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_and_options_in_sentences_exist(name: str) -> None:
    everywhere = options_of(COMMANDS).union(*(options_of(command) for _, command in leaves()))
    for span in spans(PAGES[name]):
        if span.startswith("cfalign "):
            command, _ = found_command([word for word in shlex.split(span)[1:] if word not in ("COMMAND", "…")])
            unknown = set(re.findall(r"--[a-z-]+", span)) - options_of(command)
            assert not unknown, f"`{span}`: there is no {', '.join(unknown)}"
        elif span.startswith("--"):
            assert span.split()[0] in {*everywhere, "--quick"}, f"no command has {span}"


@pytest.mark.parametrize("name", PAGES)
def test_the_names_of_the_package_exist(name: str) -> None:
    text = "\n".join(span for span in spans(PAGES[name]) if not span.startswith("cfalign "))
    for dotted in re.findall(r"\b(?:cfalign|cfa)(?:\.[A-Za-z_]\w*)+", text):
        module, *attributes = re.sub(r"^cfa\.", "cfalign.", dotted).split(".")
        found: Any = importlib.import_module(module)
        for attribute in attributes:
            if not hasattr(found, attribute):
                importlib.import_module(f"{found.__name__}.{attribute}")
            found = getattr(found, attribute)


@pytest.mark.parametrize("name", PAGES)
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{name} links to {target}"


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    named = re.findall(r"\bmake ([a-z-]+)\b(?=`| {2,}|$)", "\n".join(PAGES.values()), flags=re.MULTILINE)
    assert named
    assert set(named) <= targets


def test_every_command_has_its_section_and_example() -> None:
    sections = re.split(r"^### ", PAGES["docs/commands.md"], flags=re.MULTILINE)[1:]
    described = {section.splitlines()[0]: section for section in sections}
    assert set(described) == {name for name, _ in leaves()}
    for name, section in described.items():
        assert any(line.startswith(name) for line in "".join(blocks(section, "sh")).splitlines()), name


def test_the_settings_are_all_there_with_their_defaults() -> None:
    told = dict(re.findall(r"^\| `([a-z_.]+)` \| (\S+) \|", PAGES["docs/commands.md"], flags=re.MULTILINE))
    assert told == {name: shown(value) for name, value in settings(cfa.AuditOptions())}


def test_the_settings_of_the_example_exist() -> None:
    known = {name for name, _ in settings(cfa.AuditOptions())}
    (example,) = blocks(PAGES["docs/commands.md"], "toml")
    named = re.findall(r"^([a-z_.]+) =", example, flags=re.MULTILINE)
    assert len(named) == len(tomllib.loads(example))
    assert set(named) <= known


def settings(options: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of options, those of nested options with a dot."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{before}{field.name}.")
        else:
            yield f"{before}{field.name}", value


def shown(value: Any) -> str:
    """A default as the page writes it."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def script(name: str) -> ModuleType:
    """A Python file of docs/ as a module; it may import others from there."""
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


measurements = script("measurements")


def test_the_pages_hold_the_numbers_of_the_records() -> None:
    found = measurements.records()
    assert PAGES["docs/measurements.md"] == measurements.page(found), "run `python docs/measurements.py`"
    assert PAGES["README.md"] == measurements.in_readme(PAGES["README.md"], found), "run `python docs/measurements.py`"
    assert {path.stem for path in measurements.RECORDS.glob("*.json")} == set(measurements.ORDER)


@pytest.mark.parametrize("name", measurements.ORDER)
def test_a_claim_has_at_most_two_numbers_a_cell(name: str) -> None:
    record = measurements.records()[name]
    for claim in record["claims"]:
        for cell in measurements.measured(record, claim):
            assert len(re.findall(r"\d+(?:\.\d+)?", cell)) <= 2, cell


@pytest.mark.parametrize("name", measurements.ORDER)
def test_every_recorded_number_is_shown(name: str) -> None:
    record = measurements.records()[name]
    used = "".join(claim["value"] + claim.get("interval", "") for claim in record["claims"])
    assert set(record["numbers"]) == set(re.findall(r"{(\w+)", used))


def test_a_benchmarks_headline_renews_a_record() -> None:
    record = measurements.records()["semantics"]
    known, others = measurements.renew(record, {"headline": {"rank1_heads": 35, "other": 1.0}}, "semantics")
    assert (known, others) == (["rank1_heads"], ["heads"])
    assert measurements.measured(record, record["claims"][0])[0] == "35 of 35"
    record = measurements.records()["fig8"]
    measurements.renew(record, {"fig8": {"headline": {"mean_accuracy_change": -0.014}}}, "fig8")
    assert measurements.measured(record, record["claims"][2])[0] == "-0.01"
    with pytest.raises(SystemExit, match="expected a JSON object with a `headline`"):
        measurements.renew(record, {"fig2": {}}, "fig8")


def test_the_picture_of_the_readme_is_what_its_script_draws(tmp_path: Path) -> None:
    script("finding").main(tmp_path / "finding.png")
    drawn, shipped = (np.asarray(Image.open(folder / "finding.png"), dtype=float) for folder in (tmp_path, DOCS))
    assert drawn.shape == shipped.shape
    assert np.abs(drawn - shipped).mean() < 1.0  # of 255


def test_the_readme_makes_at_most_three_claims() -> None:
    shown = measurements.readme_claims(measurements.records()).splitlines()
    assert 1 <= len(shown) <= 3
    assert "{" not in "".join(shown)


def test_the_strips_are_what_their_script_draws(tmp_path: Path) -> None:
    script("gallery").main(tmp_path)
    for name in ("strips.webp", "few.webp"):
        drawn, shipped = (np.asarray(Image.open(folder / name), dtype=float) for folder in (tmp_path, DOCS / "images"))
        assert drawn.shape == shipped.shape
        assert np.abs(drawn - shipped).mean() < 2.0  # of 255; both are compressed


def test_contributing_tells_the_layers_and_every_room() -> None:
    rows = re.findall(r"^\| ([a-z ]+) \| (`[^|]*`) \|$", PAGES["CONTRIBUTING.md"], flags=re.MULTILINE)
    assert [(row, tuple(spans(rooms))) for row, rooms in rows] == list(ROWS)
    told = re.findall(r"^\| (`[^|]+`) \|", PAGES["CONTRIBUTING.md"], flags=re.MULTILINE)
    described = {room for cell in told for room in spans(cell)}
    assert {room for _, rooms in ROWS for room in rooms} - {"__main__", "cfalign"} <= described


def test_every_sentence_of_refusal_can_be_searched() -> None:
    messages = script("messages")
    assert PAGES["docs/messages.md"] == messages.page(), "run `python docs/messages.py`"
    assert PAGES["docs/messages.md"].count("\n- ") > 200
    assert "messages.md" in PAGES["docs/own-models.md"]


def test_pages_that_other_tests_run_are_named_there() -> None:
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (ROOT / "tests" / test).read_text(encoding="utf-8"), page
