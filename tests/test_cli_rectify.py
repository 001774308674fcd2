"""``cfalign rectify``: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

import worlds
from cfalign import classifiers
from cfalign._errors import BadInput
from cfalign._rectification.options import RectificationOptions
from cfalign.benchmarks.planted_rectification import planted_rectification

WORLDS = Path(worlds.__file__)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worlds.write_images(tmp_path_factory.mktemp("images"), 150)


def words(images: Path, out: Path, **more: object) -> list[object]:
    given = {
        "images": images,
        "classifier": f"{WORLDS}:audited",
        "reference": f"{WORLDS}:heads",
        "target": "friendly",
        "autoencoder": f"{WORLDS}:autoencoder",
        "against": "wearing_hat",
        "out": out,
        "set": "min_images=3",
        **more,
    }
    return [
        "rectify",
        *(w for k, v in given.items() if v is not None for w in ((f"--{k}",) if v is True else (f"--{k}", v))),
    ]


def test_help_teaches(tmp_path: Path) -> None:
    ended = worlds.cfalign("rectify", "--help", folder=tmp_path)
    assert ended.code == 0
    for word in ("--target", "--against", "--planted", "--reading", "rectified.json"):
        assert word in ended.out


def test_a_table_and_files(images: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    names = sorted(p.name for p in images.iterdir())
    labels.write_text("image,friendly\n" + "".join(f"{n},{i % 2}\n" for i, n in enumerate(names)))
    out = tmp_path / "out"
    ended = worlds.cfalign(*words(images, out, labels=labels), folder=tmp_path)
    assert ended.code == 0, ended.err
    lines = [" ".join(line.split()) for line in ended.out.splitlines() if line.strip(" ─━")]
    assert lines[0].startswith("friendly, on ")
    assert lines[1] == "shortcut β ψ before 95 % interval n ψ after 95 % interval n"
    assert lines[2].startswith("wearing_hat −")
    assert lines[3].startswith("wearing_hat (incoming) −")
    assert lines[4].startswith("Accuracy: ")
    assert lines[5].startswith("AUROC: ")
    assert re.match(r"Outcome: converged, step \d of \d kept \(secant\)", lines[6])
    assert lines[7].startswith("f' = friendly - ")
    assert lines[-1] == f"Classifier: {out / 'rectified.json'} curves: {out / 'curves.png'}"
    summary = json.loads((out / "summary.json").read_text())
    assert abs(summary["incoming_after"][0]["psi"]) < 0.02 < summary["incoming_before"][0]["psi"]
    curve = pl.read_csv(out / "curves.csv")
    assert curve.columns[:3] == ["step", "beta.wearing_hat", "psi_train.wearing_hat"]
    assert len(curve) == summary["steps"] >= 2
    assert (out / "curves.png").stat().st_size > 5000
    assert classifiers.load(str(out / "rectified.json")).targets == ("friendly_rectified",)


def test_the_labels_can_say_how_to_split(images: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    names = sorted(p.name for p in images.iterdir())
    parts = ["train"] * 60 + ["val"] * 30 + ["test"] * 60
    labels.write_text("image,friendly,split\n" + "".join(f"{n},1,{p}\n" for n, p in zip(names, parts, strict=True)))
    ended = worlds.cfalign(*words(images, tmp_path / "out", labels=labels, split=True), "--json", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["images"] == {"train": 60, "validation": 30, "test": 60, "skipped": 0}


def test_json_and_the_audit_of_the_result(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = worlds.cfalign(*words(images, out, reading="incoming"), "--json", folder=tmp_path)
    assert ended.code == 0, ended.err
    content = json.loads(ended.out)
    assert content["ending"] == "converged"
    assert abs(content["incoming_after"][0]["psi"]) < 0.02 < content["incoming_before"][0]["psi"]
    ended = worlds.cfalign(
        "audit",
        *worlds.options(
            images=images,
            classifier=out / "rectified.json",
            reference=f"{WORLDS}:heads",
            autoencoder=f"{WORLDS}:autoencoder",
            limit=15,
            out=tmp_path / "run",
        ),
        "--json",
        folder=tmp_path,
    )
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["audited"] == ["friendly_rectified"]
    assert "wearing_hat" not in [f["attribute"] for f in json.loads(ended.out)["findings"]]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"target": "friendli"}, "nearest valid: friendly"),
        ({"against": "wearing_het"}, "nearest valid: wearing_hat"),
        ({"against": ","}, "--against: expected names"),
        ({"target": None}, "Missing --target"),
        ({"faces": 100}, "either --images FOLDER or --faces NUMBER"),
        ({"autoencoder": None}, "--images needs --autoencoder"),
        ({"solver": "newton"}, "solver: expected one of secant, momentum"),
        ({"set": "min_images=60"}, "Too few images to rectify 'friendly'"),
        ({"classifier": f"{WORLDS}:torch_box"}, "is a black box"),
        ({"split": True}, "--split needs --labels"),
    ],
)
def test_bad_input_is_one_sentence(images: Path, tmp_path: Path, more: dict[str, object], told: str) -> None:
    ended = worlds.cfalign(*words(images, tmp_path / "out", **more), folder=tmp_path)
    assert ended.code == 2
    assert ended.out == ""
    sentence = " ".join(ended.err.splitlines()[-1].split())
    assert told in sentence
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def test_planted_takes_no_other_models(images: Path, tmp_path: Path) -> None:
    ended = worlds.cfalign(*words(images, tmp_path / "out"), "--planted", folder=tmp_path)
    assert ended.code == 2
    assert "does not go with --planted" in ended.err


def test_a_planted_shortcut_is_taken_out() -> None:
    """The incoming reading: by intervention, and in the group where target and shortcut part."""
    result = planted_rectification(
        options=RectificationOptions(reading="incoming", limit=150),
        names=["big_lips_from_eyeglasses"],
        faces=500,
        independent=400,
        interventions=6,
    )
    (row,) = result.rows
    assert row.effect_before > 0.3
    assert abs(row.effect_after) < 0.5 * row.effect_before
    assert row.worst_group_after > row.worst_group_before + 0.2
    assert abs(row.incoming_after) < abs(row.incoming_before)
    assert result.headline["pairs"] == 1
    assert len(result.lines()) == 2 + len(result.headline)
    assert json.loads(json.dumps(result.as_dict()))["reading"] == "incoming"


def test_a_planted_classifier_that_cannot_be_rectified_is_named() -> None:
    with pytest.raises(BadInput, match=r"None of 1 planted classifiers can be rectified: Too few images"):
        planted_rectification(names=["big_lips_from_eyeglasses"], faces=20, independent=10, interventions=1)
