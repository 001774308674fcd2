"""A second classifier as a witness: other images, another network, and the commands that an audit offers."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import cfalign as cfa
import worlds
from cfalign._cli.output import complain, show_command
from cfalign._cli.witness import GivenFlag, second_options, training
from cfalign._errors import BadInput
from cfalign.datasets import Labels, Leftover
from cfalign.synthetic import ATTRIBUTES, render, sample
from cfalign.training import ClassifierTraining
from cfalign.training.classifier import learnable
from cfalign.training.splitting import Split, split_images

NONE = Leftover(0, ())


def labels(count: int, persons: int | None, **more: Any) -> Labels:
    ids = tuple(f"{i:04d}.png" for i in range(count))
    extra = {} if persons is None else {"identity": tuple(f"p{i % persons}" for i in range(count))}
    return replace(Labels(ids, ("a",), np.zeros((count, 1)), None, extra, NONE, NONE, {}), **more)


def halves(table: Labels, *, seed: int = 0, order: list[int] | None = None, **more: Any) -> list[Split]:
    candidates = order or list(range(len(table.ids)))
    return [
        split_images(candidates, labels=table, share=0.1, seed=seed, half=half, **more)
        for half in ("all", "first", "second")
    ]


@given(st.integers(100, 400), st.one_of(st.none(), st.integers(20, 60)), st.integers(0, 3))
def test_halves_share_no_image_and_no_person_and_leave_none_out(count: int, persons: int | None, seed: int) -> None:
    table = labels(count, persons)
    whole, first, second = halves(table, seed=seed)
    assert sorted((*first.train, *second.train)) == sorted(whole.train)
    assert first.held_out == second.held_out == whole.held_out
    assert whole.kept_out == 0
    assert first.kept_out == first.other_half == len(second.train)
    if persons is not None:
        who = table.extra["identity"]
        assert not {who[i] for i in first.train} & {who[i] for i in second.train}


@given(st.integers(1, 400), st.one_of(st.none(), st.integers(1, 60)))
def test_halves_are_as_equal_as_whole_persons_allow(count: int, persons: int | None) -> None:
    """Without a random part: the column `split` sends the last eight images elsewhere."""
    table = labels(count + 8, persons, split=("train",) * count + ("val",) * 8)
    _, first, second = halves(table)
    largest = 1 if persons is None else -(-count // persons)
    assert abs(len(first.train) - len(second.train)) <= largest
    assert persons or len(first.train) >= len(second.train)
    assert len(first.train) + len(second.train) == count


def test_halves_are_the_same_whatever_the_seed_and_the_order() -> None:
    table = labels(2000, None)
    _, first, second = halves(table)
    of_first, of_second = ({table.ids[i] for i in part.train} for part in (first, second))
    _, again, _ = halves(table, seed=5, order=list(range(1999, -1, -1)))
    assert not {table.ids[i] for i in again.train} & of_second
    assert len({table.ids[i] for i in again.train} & of_first) > 700


def test_networks_of_other_attributes_have_the_same_halves() -> None:
    """Of 400 images, the first 300 have the one label and the last 300 have the other."""
    values = np.tile([[0.0, 0.0], [1.0, 1.0]], (200, 1))
    values[300:, 0] = values[:100, 1] = np.nan
    table = labels(400, 80, targets=("a", "b"), values=values)
    first = learnable(table, ClassifierTraining(half="first", targets=("a",)))
    second = learnable(table, ClassifierTraining(half="second", targets=("b",), seed=1))
    who = table.extra["identity"]
    assert min(len(first.split.train), len(second.split.train)) > 100
    assert not {who[i] for i in first.split.train} & {who[i] for i in second.split.train}


# --- who is on an image ----------------------------------------------------------------------------------------------


@given(st.integers(80, 300), st.integers(12, 40), st.integers(0, 3))
def test_any_column_keeps_a_person_on_one_side(count: int, persons: int, seed: int) -> None:
    """The column counts, not the one whose name says person; images without a name stand alone."""
    who = tuple(None if i % 7 == 0 else f"w{i % persons}" for i in range(count))
    table = labels(count, 5)
    table = replace(table, extra={**table.extra, "worker_id": who})
    whole, first, second = halves(table, seed=seed, person_column="Worker ID")
    for one, other in ((whole.train, whole.held_out), (first.train, second.train)):
        assert not {who[i] for i in one if who[i]} & {who[i] for i in other if who[i]}
    assert "by Worker ID" in whole.how
    assert second.how.endswith("second half of the training images, by Worker ID")
    alone = [i for i in range(count) if who[i] is None]
    assert set(alone) & set(first.train)
    assert set(alone) & set(second.train)


def test_a_column_of_the_splits_is_kept_and_says_who_is_in_both_parts() -> None:
    table = labels(60, None, split=("train", "val") * 30, extra={"worker": tuple(f"w{i // 3}" for i in range(60))})
    whole, _, _ = halves(table, person_column="worker")
    assert (len(whole.train), len(whole.held_out)) == (30, 30)
    assert whole.how == "column split, which has 20 persons of worker in both parts"


def test_a_column_of_persons_that_is_not_there_or_blank_is_refused() -> None:
    table = labels(40, None, extra={"site": (None,) * 40, "worker_id": ("w",) * 40})
    with pytest.raises(
        BadInput, match=r"person_column: expected a column of the labels .*'wroker'; nearest .*worker_id"
    ):
        halves(table, person_column="wroker")
    with pytest.raises(BadInput, match="got 'site', which is blank for all images"):
        halves(table, person_column="site")
    with pytest.raises(BadInput, match="got 'who'; the others are attributes, so leave it out"):
        halves(labels(40, None), person_column="who")
    with pytest.raises(BadInput, match="person_column: expected a text, or none, got 3"):
        ClassifierTraining(person_column=3)  # type: ignore[arg-type]


def test_persons_in_a_column_of_zeros_and_ones_are_no_attribute() -> None:
    values = np.tile([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], (50, 1))
    found = learnable(labels(200, None, targets=("a", "who"), values=values), ClassifierTraining(person_column="who"))
    assert found.labels.targets == ("a",)
    assert {values[i, 1] for i in found.split.train}.isdisjoint(values[i, 1] for i in found.split.held_out)


# --- options ---------------------------------------------------------------------------------------------------------


def test_a_second_classifier_differs_in_images_seed_and_architecture_and_a_first_one_keeps_its_identity() -> None:
    for first in (ClassifierTraining(), ClassifierTraining(widths=(4, 8), half="first", seed=7, residual=False)):
        second = cfa.training.second(first)
        third = cfa.training.second(second)
        for name in ("half", "seed", "residual", "widths"):
            assert getattr(first, name) != getattr(second, name) != getattr(third, name), name
        assert third.half == "first", "no image that the second one learnt from"
    first = ClassifierTraining()
    assert {"half", "person_column"}.isdisjoint(first.identity()), "a folder that was trained before goes on"
    assert cfa.training.second().identity()["half"] == "second"
    assert ClassifierTraining(person_column="worker").identity()["person_column"] == "worker"


def test_a_second_classifier_is_the_first_one_in_all_else() -> None:
    first = ClassifierTraining(size=32, targets=("a",), horizontal_flip=False, steps=5, person_column="w", batch=16)
    second = cfa.training.second(first)
    changed = {f.name for f in fields(first) if getattr(first, f.name) != getattr(second, f.name)}
    assert changed == {"half", "seed", "residual", "widths", "epochs"}
    assert second.epochs == 2 * first.epochs, "half of the images are seen twice as often"
    assert cfa.training.second(second).epochs == second.epochs
    assert cfa.training.second() == cfa.training.second(ClassifierTraining())


# --- what half of the images can teach -------------------------------------------------------------------------------


def counted(count: int, *positives: int) -> Labels:
    """An attribute for each number, with so many positives, spread evenly."""
    values = np.zeros((count, len(positives)))
    for column, n in enumerate(positives):
        values[np.linspace(0, count - 1, n).round().astype(int), column] = 1
    return labels(count, None, targets=tuple(f"a{n}" for n in positives), values=values)


def test_an_attribute_that_half_of_the_images_do_not_tell_is_left_out_with_its_counts() -> None:
    table = counted(300, 100, 12, 290)
    whole, half = (learnable(table, ClassifierTraining(half=half)) for half in ("all", "second"))
    assert (whole.left_out, whole.labels.targets) == ({}, ("a100", "a12", "a290"))
    assert half.labels.targets == ("a100",)
    assert list(half.left_out) == ["a12", "a290"]
    few = int(table.column("a12")[list(half.split.train)].sum())
    many = len(half.split.train) - few
    assert (
        half.left_out["a12"]
        == f"{few} positive and {many} negative images in the second half, and 10 of each are needed"
    )


def test_attributes_that_are_asked_for_and_cannot_be_learnt_are_refused_by_name() -> None:
    table = counted(300, 100, 12, 6, 5, 4)
    second = ClassifierTraining(half="second")
    with pytest.raises(
        BadInput, match=r'"a12" cannot be learnt: \d positive and \d+ negative .* or set half=all to learn'
    ):
        learnable(table, replace(second, targets=("a100", "a12")))
    with pytest.raises(
        BadInput, match=r'^4 attributes cannot be learnt: "a12" \(\d positive .*"a5" \(.*\) and 1 more; '
    ):
        learnable(table.require(["a12", "a6", "a5", "a4"]), second)


def test_too_few_images_in_a_half_say_where_the_others_are() -> None:
    with pytest.raises(BadInput, match=r"at least 64 images, got 45 \(held out: 10, in the other half: 45\); .*all"):
        learnable(labels(100, None, split=("train",) * 90 + ("val",) * 10), ClassifierTraining(half="second"))
    with pytest.raises(BadInput, match=r"got \d \(held out: 1, in the other half: \d\); give more labelled images\.$"):
        learnable(counted(10, 5), ClassifierTraining(half="second"))


# --- commands --------------------------------------------------------------------------------------------------------


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
    train, again = offered(ended.err)
    assert "smiling, wearing_lipstick" in ended.err
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


WORLD = ("--classifier", f"{worlds.__file__}:heads", "--autoencoder", f"{worlds.__file__}:autoencoder")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 images of the linear world, four of each person, with names that a shell must not read."""
    folder = tmp_path_factory.mktemp("desk")
    worlds.write_images(folder / "my $images", 240)
    z = worlds.latents(240).numpy()
    table: dict[str, list[Any]] = {"file": [f"{i:04d}.png" for i in range(240)], "other": ["x"] * 240}
    table |= {name: (z[:, k] > 0).astype(int).tolist() for k, name in enumerate(("smiling", "young"))}
    table["wearing_hat"] = [int(i % 40 == 0) for i in range(240)]
    table["Worker ID"] = [f"w{i // 4}" for i in range(240)]
    table["split"] = [("train", "train", "train", "train", "val", "test")[i // 4 % 6] for i in range(240)]
    pl.DataFrame(table).write_csv(folder / "the labels.csv")
    pl.DataFrame(table | {"split": ["a", "b"] * 120}).write_csv(folder / "folds.csv")
    pl.DataFrame({k: v for k, v in table.items() if k not in ("Worker ID", "other", "split")}).write_csv(
        folder / "plain.csv"
    )
    return folder


def offered(err: str) -> tuple[list[str], list[str]]:
    """The words of the two commands that are told, as a shell reads a line of its own."""
    lines = [line for line in err.splitlines() if line.startswith("cfalign ")]
    assert len(lines) == 2, err
    train, again = map(shlex.split, lines)
    return train[1:], again[1:]


def test_offers_repeat_every_flag_that_was_typed_and_run_as_they_are(desk: Path) -> None:
    typed = ["audit", "--images", "my $images", *WORLD, "--labels", "the labels.csv", "--id-column", "file"]
    typed += [
        "--split",
        "train",
        "--group",
        "Worker ID",
        "--limit",
        "8",
        "--seed",
        "3",
        "--batch",
        "16",
        "--drop",
        "0.5",
    ]
    typed += ["--bases", "smiling, young", "--set", "shown=1", "--set", "effects.ridge=0.2", "--strategy", "refined"]
    ended = worlds.cfalign(*typed, "--out", "my run", "--fresh", folder=desk)
    assert ended.code == 0, ended.err
    train, again = offered(ended.err)
    assert train == [
        *("train", "classifier", "--second", "--images", "my $images", "--labels", "the labels.csv"),
        *("--id-column", "file", "--size", "16", "--person-column", "Worker ID", "--out", "my run-witness"),
    ]
    assert again[-4:] == ["--reference", "my run-witness", "--out", "my run-witnessed"]
    assert sorted(again[:-4]) == sorted(typed)
    assert worlds.cfalign(*train, "--set", "steps=2", folder=desk).code == 0
    measured = json.loads((desk / "my run-witness" / "measurement.json").read_text())
    assert measured["split"] == "column split; second half of the training images, by Worker ID"
    assert measured["images"]["train"] == 80, "half of 40 persons of four images"
    ended = worlds.cfalign(*again, folder=desk)
    assert ended.code == 0, ended.err
    standings = json.loads((desk / "my run-witnessed" / "run.json").read_text())["standings"]
    assert {name: s["witness"] for name, s in standings.items()} == dict.fromkeys(
        ("heads:smiling", "heads:young"), "second heads"
    )


def test_offers_name_the_own_concept_among_the_attributes(desk: Path) -> None:
    """`eyeglasses` is no attribute that the second network knows, and `young` is the witness of the audited head."""
    few = ("--bases", "young", "--downstream", "eyeglasses, Smiling", "--limit", 8)
    ended = worlds.cfalign("audit", "--images", "my $images", *WORLD, "--labels", "plain.csv", *few, folder=desk)
    assert ended.code == 0, ended.err
    _, again = offered(ended.err)
    assert again[again.index("--downstream") + 1] == "smiling,young"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (
            ("--labels", "folds.csv", "--split", "b"),
            'No witness of smiling, young, wearing_hat can be trained from these images and labels. The column "split" '
            'sends no image to "train"; it holds a, b. Say train and val there, or take',
        ),
        (
            ("--labels", "plain.csv", "--bases", "wearing_hat"),
            "The labels do not suffice for a witness of wearing_hat (3 positive and 107 negative images in the "
            "second half, and 10 of each are needed).",
        ),
    ],
)
def test_a_witness_that_cannot_be_trained_is_not_offered(args: tuple[str, ...], sentence: str, desk: Path) -> None:
    out = desk / f"none{len(args)}{args[1]}"
    ended = worlds.cfalign("audit", "--images", "my $images", *WORLD, *args, "--limit", 8, "--out", out, folder=desk)
    assert ended.code == 0, ended.err
    assert sentence in ended.err
    assert not [line for line in ended.err.splitlines() if line.startswith("cfalign ")]


def test_the_witness_of_a_network_that_was_trained_here_is_another_network(tmp_path: Path) -> None:
    given = {"classifier": GivenFlag("--classifier", [str(tmp_path)]), "images": GivenFlag("--images", "x")}
    record = {"options": {"half": "second", "seed": 1, "horizontal_flip": False, "widths": [4, 8], "residual": True}}
    (tmp_path / "training.json").write_text(json.dumps(record))
    options = second_options(given, (28, 28))
    assert (options.half, options.seed, options.residual, options.widths) == ("first", 2, False, (5, 9))
    words = training(given, options, Path("out"))
    assert words == [
        *("cfalign", "train", "classifier", "--second", "--images", "x", "--size", "28", "--set", "half=first"),
        *("--seed", "2", "--set", "widths=[5, 9]", "--no-flip", "--out", "out"),
    ]
    (tmp_path / "training.json").write_text("{}")
    assert second_options(given, (28, 28)).widths == (40, 72), "a side of 28 can be halved twice"
    with pytest.raises(BadInput, match="square images with an even side, got 64x33"):
        second_options(given, (33, 64))


def test_a_column_of_persons_on_the_command_line(desk: Path) -> None:
    common = ("train", "classifier", "--second", "--images", "my $images", "--size", "16", "--set", "steps=2")
    ended = worlds.cfalign(
        *common, "--labels", "the labels.csv", "--person-column", "Wroker", "--out", "x", folder=desk
    )
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == (
        "cfalign: person_column: expected a column of the labels.csv that says who is on an image, got 'Wroker'; "
        "nearest valid: worker_id, other."
    )
    ended = worlds.cfalign(*common, "--labels", "plain.csv", "--person-column", "who", "--out", "x", folder=desk)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.endswith("'who'; the others are attributes, so leave it out, and halves are drawn by image.\n")
    assert not (desk / "x").exists()


def test_what_a_half_does_not_teach_is_told_for_people_and_programs(desk: Path) -> None:
    common = ("train", "classifier", "--second", "--images", "my $images", "--size", "16", "--set", "steps=2")
    ended = worlds.cfalign(*common, "--labels", "plain.csv", "--out", "half", folder=desk)
    assert ended.code == 0, ended.err
    why = "3 positive and 107 negative images in the second half, and 10 of each are needed"
    assert f"No head for wearing_hat: {why}.\n" in ended.out
    assert "Split of the images: random; second half of the training images, by image.\n" in ended.out
    ended = worlds.cfalign(*common, "--labels", "plain.csv", "--out", "half", "--json", folder=desk)
    assert json.loads(ended.out)["left_out"] == {"wearing_hat": why}


def test_ten_images_are_refused_in_a_sentence(tmp_path: Path) -> None:
    worlds.write_images(tmp_path / "images", 10)
    pl.DataFrame({"image": [f"{i:04d}.png" for i in range(10)], "young": [0, 1] * 5}).write_csv(tmp_path / "l.csv")
    ended = worlds.cfalign(
        *("train", "classifier", "--second", "--images", "images", "--labels", "l.csv", "--out", "x"), folder=tmp_path
    )
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[1:] == [
        "cfalign: Training needs at least 64 images, got 5 (held out: 1, in the other half: 4); give more labelled "
        "images."
    ]
    assert not (tmp_path / "x").exists()


def test_the_new_names_are_public() -> None:
    assert cfa.training.ClassifierTraining(half="first").half == "first"
    assert "second" in cfa.training.__all__
    assert not hasattr(cfa.training, "SECOND")


def test_names_of_pictures_are_told_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show_command(["cfalign", "audit", "--images", "hf:cat:train", "--out", "a\tb"])
    assert capsys.readouterr().err == "cfalign audit --images hf:cat:train --out 'a\tb'\n"
    complain("hf:cat:train")
    assert capsys.readouterr().err == "cfalign: hf:cat:train\n"
