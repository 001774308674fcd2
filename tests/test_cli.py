"""The command line where all is well: what it prints and where."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.main import get_command

import cfalign
import worlds
from cfalign._cli.app import app

WORLDS = Path(worlds.__file__)


@pytest.fixture
def images(tiny_images: Path) -> Path:
    return tiny_images


def words(images: Path, out: Path) -> list[object]:
    return [
        "audit",
        *worlds.options(
            images=images,
            classifier=f"{WORLDS}:audited",
            reference=f"{WORLDS}:heads",
            autoencoder=f"{WORLDS}:autoencoder",
            limit=15,
            out=out,
        ),
    ]


def test_version_and_help(tmp_path: Path) -> None:
    ended = worlds.cfalign("--version", folder=tmp_path)
    assert (ended.code, ended.out, ended.err) == (0, f"cfalign {cfalign.__version__}\n", "")
    ended = worlds.cfalign("--help", folder=tmp_path)
    assert ended.code == 0
    for command in ("demo", "audit", "bank", "train", "query", "explain", "report", "benchmark"):
        assert command in ended.out
    for command in ("audit", "bank"):
        ended = worlds.cfalign(command, "--help", folder=tmp_path)
        assert ended.code == 0
        assert "--images" in ended.out


def _commands(group: Any) -> Iterator[Any]:
    yield group
    for command in getattr(group, "commands", {}).values():
        yield from _commands(command)


def test_no_default_is_swallowed_as_markup() -> None:
    """``[default: 3]`` in a help text is a style to rich, and vanishes; it has to be escaped."""
    texts = [p.help or "" for c in _commands(get_command(app)) for p in c.params if hasattr(p, "help")]
    assert sum("[default" in text for text in texts) > 20
    assert not [text for text in texts if re.search(r"(?<!\\)\[default", text)]


def test_an_audit_prints_what_it_found(images: Path, tmp_path: Path) -> None:
    ended = worlds.cfalign(*words(images, tmp_path / "run"), folder=tmp_path)
    assert ended.code == 0, ended.err
    lines = [" ".join(line.split()) for line in ended.out.splitlines() if line.strip(" ─━")]
    assert lines[0] == "Findings: attributes that the audited heads react to"
    assert lines[1] == "# audited head reacts to effect 95 % interval q incoming outgoing ψ n witness"
    assert lines[2].startswith("1 friendly wearing_hat +0.")
    assert lines[2].endswith(" 30 second heads"), "15 lowered and 15 raised"
    assert lines[3].startswith("60 images, 75 counterfactuals of 5 bases, 100.0% of 75 searches landed, 1.")
    assert lines[-1] == f"Report: {tmp_path / 'run' / 'report.html'}"
    assert "counterfactuals: 1 of 1" in ended.err, "progress is for stderr"
    for name in ("matrix.csv", "effects.csv", "findings.json", "run.json", "report.html", "report.md", "report.json"):
        assert (tmp_path / "run" / name).stat().st_size > 0


def test_json_is_one_object_on_stdout(images: Path, tmp_path: Path) -> None:
    ended = worlds.cfalign(*words(images, tmp_path / "run"), "--json", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out.count("\n") == 1
    content = json.loads(ended.out)
    assert content["run"] == str(tmp_path / "run")
    assert content["audited"] == ["friendly"]
    assert [f["attribute"] for f in content["findings"]] == ["wearing_hat"]
    assert content["images"] == 60


LOUD = """
import warnings
warnings.filterwarnings("ignore")  # as some libraries do when they are imported
import worlds
from torch import nn
from cfalign.classifiers import wrap
print("loading")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = worlds.heads().module

    def forward(self, images):
        print("a bar of progress")
        return self.heads(images).sigmoid()

def make():
    print("made")
    return wrap(Net(), worlds.heads().targets, name="loud")
"""


def test_a_loud_model_that_silences_warnings_hides_no_sentence_and_spoils_no_json(images: Path, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    words = worlds.options(images=images, classifier="loud.py:make", autoencoder=f"{WORLDS}:autoencoder", out="run")
    with warnings.catch_warnings():
        ended = worlds.cfalign("audit", *words, "--limit", 3, "--json", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)
    assert "made" in ended.err
    assert ended.err.count("cfalign: Classifier 'loud' returns probabilities") == 1


def test_options_reach_the_run(images: Path, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("shown = 1\nlimit = 3\n")
    more = worlds.options(seed=7, drop=0.5, config=config, set="effects.ridge=0.2", downstream="young,smiling")
    ended = worlds.cfalign(*words(images, tmp_path / "run"), *more, folder=tmp_path)
    assert ended.code == 0, ended.err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    settings = record["settings"]
    assert (settings["seed"], settings["limit"], settings["shown"]) == (7, 15, 1)
    assert (settings["search"]["drop"], settings["effects"]["ridge"]) == (0.5, 0.2)
    assert record["attributes"] == ["young", "smiling"]


def test_several_classifiers_and_compositions(images: Path, tmp_path: Path) -> None:
    ended = worlds.cfalign(
        "audit",
        *worlds.options(
            images=images,
            classifier=[f"{WORLDS}:audited", f"{WORLDS}:unnamed"],
            reference=f"{WORLDS}:heads",
            autoencoder=f"{WORLDS}:autoencoder",
            out=tmp_path / "run",
            bases="friendly, worlds.unnamed:friendly - 0.2*friendly",
            limit=5,
        ),
        folder=tmp_path,
    )
    assert ended.code == 0, ended.err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(record["audited"]) == 2
    assert record["audited"][0] == "friendly"


def test_a_bank_and_its_audit(images: Path, tmp_path: Path) -> None:
    made = worlds.cfalign(
        "bank",
        *worlds.options(
            images=images,
            reference=f"{WORLDS}:heads",
            autoencoder=f"{WORLDS}:autoencoder",
            limit=15,
            out=tmp_path / "bank",
        ),
        "--json",
        folder=tmp_path,
    )
    assert made.code == 0, made.err
    assert json.loads(made.out)["attributes"] == list(worlds.TARGETS)
    ended = worlds.cfalign(
        "audit",
        "--bank",
        tmp_path / "bank",
        "--classifier",
        f"{WORLDS}:numpy_box",
        "--out",
        tmp_path / "run",
        folder=tmp_path,
    )
    assert ended.code == 0, ended.err
    assert "wearing_hat" in ended.out
    direct = worlds.cfalign(*words(images, tmp_path / "direct"), folder=tmp_path)
    assert direct.code == 0
    ours, theirs = (pl.read_csv(tmp_path / run / "effects.csv") for run in ("run", "direct"))
    assert (ours["effect"] - theirs["effect"]).abs().max() < 1e-3


def test_a_judge_watches_the_reference(images: Path, tmp_path: Path) -> None:
    watched = ["--judge", f"{WORLDS}:judge"]
    ended = worlds.cfalign(*words(images, tmp_path / "run"), *watched, "--json", folder=tmp_path)
    assert ended.code == 0, ended.err
    content = json.loads(ended.out)
    assert content["judges"] == {a: f"judge:{a}" for a in ("young", "wearing_hat")}
    assert set(content["controls"]) == {"young", "wearing_hat"}
    ended = worlds.cfalign(*words(images, tmp_path / "none"), "--judge", "none", "--json", folder=tmp_path)
    assert json.loads(ended.out)["judges"] == {}
    made = [
        "bank",
        *worlds.options(images=images, reference=f"{WORLDS}:heads", autoencoder=f"{WORLDS}:autoencoder", limit=5),
        *watched,
        "--out",
        tmp_path / "bank",
    ]
    assert worlds.cfalign(*made, folder=tmp_path).code == 0
    of_bank = ["audit", "--bank", tmp_path / "bank", "--classifier", f"{WORLDS}:numpy_box", "--out", tmp_path / "of"]
    ended = worlds.cfalign(*of_bank, *watched, folder=tmp_path)
    assert ended.code == 2
    assert "--judge does not go with --bank" in ended.err
    assert worlds.cfalign(*of_bank, folder=tmp_path).code == 0
    assert json.loads((tmp_path / "of" / "run.json").read_text())["judges"] == content["judges"]


def test_a_judge_that_cannot_watch_is_refused(images: Path, tmp_path: Path) -> None:
    given = words(images, tmp_path / "run")
    alone = [word for k, word in enumerate(given) if "--reference" not in (word, given[k - 1])]
    for line, sentence in (
        ([*given, "--judge", f"{WORLDS}:heads"], "The judge is the reference classifier itself"),
        ([*given, "--judge", f"{WORLDS}:audited"], "The judge 'audited' knows none of the attributes"),
        (
            [*alone, "--judge", f"{WORLDS}:judge"],
            "--judge needs --reference: a judge measures the heads of a reference",
        ),
    ):
        ended = worlds.cfalign(*line, folder=tmp_path)
        assert (ended.code, ended.err.count("cfalign: "), "Traceback" in ended.err) == (2, 1, False), ended.err
        assert sentence in ended.err
        assert not (tmp_path / "run").exists()


def test_the_report_is_written_again(images: Path, tmp_path: Path) -> None:
    assert worlds.cfalign(*words(images, tmp_path / "run"), folder=tmp_path).code == 0
    page = tmp_path / "run" / "report.html"
    before = page.read_bytes()
    page.unlink()
    ended = worlds.cfalign("report", tmp_path / "run", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert f"html: {page}" in ended.out
    assert page.read_bytes() == before
