"""What to do next: commands of this very run that the command line takes, whatever its path is called."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from cfalign import report
from cfalign._cli.app import app
from cfalign._findings import Standing, Witness
from cfalign.report.next_steps import next_steps

GIVEN = {"images": "photos of me/", "size": 64, "classifier": "model.py:make", "autoencoder": "ae/"}
GIVEN |= {"reference": ["heads/", "more/"]}


def parsed(command: str) -> list[str]:
    """The words of a command, once the command line has taken them."""
    words = shlex.split(command)
    assert words[0] == "cfalign"
    group, at = typer.main.get_command(app), 1
    while hasattr(group, "commands"):
        group, at = group.commands[words[at]], at + 1
    group.make_context(words[at - 1], words[at:], resilient_parsing=False)
    return words


@pytest.fixture(params=["plain", "a folder with 'quotes' & $HOME"])
def data(request: pytest.FixtureRequest, tiny_run: Any, tmp_path: Path) -> Any:
    folder = tmp_path / request.param
    shutil.copytree(tiny_run.path, folder)
    return replace(report.load(folder), given=GIVEN)


def test_every_command_is_one_that_the_command_line_takes(data: Any) -> None:
    steps = next_steps(data)
    words = [parsed(step.command) for step in steps]
    assert [w[1] for w in words] == ["explore", "query", "explain", "rectify", "check", "check"]
    assert all(any(str(data.run_dir) in word for word in some) for some in words)
    explain, rectify = words[2], words[3]
    assert Path(explain[2]).is_file()
    assert explain[explain.index("--classifier") + 1] == "model.py:make"
    assert rectify[rectify.index("--images") + 1] == "photos of me/"
    finding = data.conclusions.findings[0]
    assert rectify[rectify.index("--against") + 1] == finding.attribute


def test_without_a_witness_one_is_trained_and_responses_are_allowed(data: Any) -> None:
    alone = dict.fromkeys(data.audited, Standing(Witness.NONE))
    counts = replace(data.conclusions.counts, standings=alone)
    steps = next_steps(replace(data, conclusions=replace(data.conclusions, findings=(), counts=counts)))
    words = [parsed(step.command) for step in steps]
    assert words[1][1:4] == ["train", "classifier", "--second"]
    assert all("--allow-responses" in some for some in words[2:])


def test_what_is_not_known_is_for_the_reader_to_fill_in(data: Any) -> None:
    commands = " ".join(step.command for step in next_steps(replace(data, given={})))
    assert all(word in commands for word in ("--images IMAGES", "--classifier CLASSIFIER", "--autoencoder AUTOENCODER"))


def test_every_form_of_the_report_ends_with_them(data: Any) -> None:
    steps = next_steps(data)
    assert report.as_json(data)["next"] == [{"why": s.why, "command": s.command} for s in steps]
    assert report.markdown(data).rstrip().endswith(f"{steps[-1].command}\n```")
    page = report.html(data)
    assert page.index('id="next"') > page.index('id="guide"')
    assert page.count('<pre class="command">') == len(steps)
