"""A second classifier as a witness: other images, another network, and the commands that an audit offers."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import cfalign as cfa
import worlds
from cfalign.datasets import Labels, Leftover
from cfalign.synthetic import ATTRIBUTES, render, sample
from cfalign.training import ClassifierTraining
from cfalign.training.options import SECOND
from cfalign.training.splitting import Split, split_images


def labels(count: int, persons: int | None) -> Labels:
    ids = tuple(f"{i:04d}.png" for i in range(count))
    extra = {} if persons is None else {"identity": tuple(f"p{i % persons}" for i in range(count))}
    none = Leftover(0, ())
    return Labels(ids, ("a",), np.zeros((count, 1)), None, extra, none, none, {})


def halves(table: Labels, *, seed: int = 0, order: list[int] | None = None) -> list[Split]:
    candidates = order or list(range(len(table.ids)))
    return [
        split_images(candidates, labels=table, share=0.1, seed=seed, ids=table.ids, half=half)
        for half in ("all", "first", "second")
    ]


@given(st.integers(100, 400), st.one_of(st.none(), st.integers(20, 60)), st.integers(0, 3))
def test_halves_share_no_image_and_no_person_and_leave_none_out(count: int, persons: int | None, seed: int) -> None:
    table = labels(count, persons)
    whole, first, second = halves(table, seed=seed)
    assert sorted((*first.train, *second.train)) == sorted(whole.train)
    assert first.held_out == second.held_out == whole.held_out
    assert whole.kept_out == 0
    assert first.kept_out == len(second.train)
    if persons is not None:
        who = table.extra["identity"]
        assert not {who[i] for i in first.train} & {who[i] for i in second.train}


def test_halves_are_about_equal_and_the_same_whatever_the_seed_and_the_order() -> None:
    table = labels(2000, None)
    _, first, second = halves(table)
    assert abs(len(first.train) - len(second.train)) < 150, "three standard deviations"
    of_first, of_second = ({table.ids[i] for i in part.train} for part in (first, second))
    _, again, _ = halves(table, seed=5, order=list(range(1999, -1, -1)))
    assert not {table.ids[i] for i in again.train} & of_second
    assert len({table.ids[i] for i in again.train} & of_first) > 700


def test_a_second_classifier_differs_in_images_seed_and_architecture_and_a_first_one_keeps_its_identity() -> None:
    first, second = ClassifierTraining(), ClassifierTraining(**SECOND)
    for name in ("half", "seed", "residual", "widths"):
        assert getattr(first, name) != getattr(second, name), name
    assert "half" not in first.identity(), "a folder that was trained before goes on"
    assert second.identity()["half"] == "second"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    faces = sample(240, seed=3)
    (folder / "images").mkdir()
    for i, image in enumerate(render(faces)):
        pixels = (255 * image.permute(1, 2, 0)).round().byte().numpy()
        Image.fromarray(pixels).save(folder / "images" / f"{i:03d}.png")
    columns = [ATTRIBUTES.index(name) for name in ("smiling", "wearing_lipstick")]
    table = {"image": [f"{i:03d}.png" for i in range(240)]}
    table |= {ATTRIBUTES[k]: faces.labels()[:, k].int().tolist() for k in columns}
    pl.DataFrame(table).write_csv(folder / "labels.csv")
    return folder


def test_the_offered_commands_train_a_witness_and_audit_against_it(photos: Path) -> None:
    few = ("--set", "steps=8")
    labelled = ("--images", "images", "--labels", "labels.csv")
    ended = worlds.cfalign("train", "classifier", *labelled, "--out", "heads", *few, folder=photos)
    assert ended.code == 0, ended.err
    audit = ("audit", *labelled, "--classifier", "heads", "--autoencoder", "embedded", "--out", "run", "--limit", 8)
    ended = worlds.cfalign(*audit, folder=photos)
    assert ended.code == 0, ended.err
    offered = [line.removeprefix("cfalign:").split() for line in ended.err.splitlines() if " --second " in line]
    offered += [line.removeprefix("cfalign:").split() for line in ended.err.splitlines() if " --reference " in line]
    assert len(offered) == 2, ended.err
    train, again = (shlex.split(" ".join(words))[1:] for words in offered)
    assert worlds.cfalign(*train, *few, folder=photos).code == 0
    ended = worlds.cfalign(*again, folder=photos)
    assert ended.code == 0, ended.err
    assert "--second" not in ended.err, "it has a witness now"
    record = json.loads((photos / "run-witnessed" / "run.json").read_text())
    assert {s["witness"] for s in record["standings"].values()} == {"second heads"}
    assert [m["role"] for m in record["models"]["classifiers"]] == ["audited", "reference"]
    measured = json.loads((photos / "run-witness" / "measurement.json").read_text())
    assert "second half" in measured["split"]
    assert measured["images"]["train"] < 140


def test_labels_change_no_number_and_offer_nothing_where_they_know_no_head(photos: Path) -> None:
    images = ("--images", "images", "--classifier", f"{worlds.__file__}:heads", "--limit", 6)
    args = ("audit", *images, "--autoencoder", f"{worlds.__file__}:autoencoder")
    pl.DataFrame({"image": [f"{i:03d}.png" for i in range(240)], "wavy": [0, 1] * 120}).write_csv(photos / "other.csv")
    plain = worlds.cfalign(*args, "--out", "plain", folder=photos)
    other = worlds.cfalign(*args, "--labels", "other.csv", "--out", "other", folder=photos)
    assert plain.code == other.code == 0, plain.err + other.err
    assert "--second" not in plain.err + other.err
    for name in ("matrix.csv", "effects.csv"):
        assert (photos / "plain" / name).read_bytes() == (photos / "other" / name).read_bytes()


def test_the_new_names_are_public() -> None:
    assert cfa.training.ClassifierTraining(half="first").half == "first"
