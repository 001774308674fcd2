"""Bad input through the real command line: exit 2, one clear sentence, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

import worlds
from cfalign._errors import BadInput, BadModel, CfalignError, RunMismatch, StorageFailed, nearest

WORLDS = Path(worlds.__file__)
Given = dict[str, Any]


def spec(name: str) -> str:
    return f"{WORLDS}:{name}"


class Desk:
    """A folder of images and what a whole audit command needs; single options can be changed."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder, self.images, self.out = folder, images, folder / "run"

    def audit(self, *, more: tuple[object, ...] = (), **options: object) -> worlds.Ended:
        """`cfalign audit`; an option that is None is left out."""
        given: Given = {
            "images": self.images,
            "classifier": spec("heads"),
            "autoencoder": spec("autoencoder"),
            "out": self.out,
            **options,
        }
        words = worlds.options(**{key: value for key, value in given.items() if value is not None})
        return worlds.cfalign("audit", *words, *more, folder=self.folder)


def refused(ended: worlds.Ended, *parts: str, notes: int = 0) -> str:
    """The sentence of a refusal, after so many notes; it must hold the parts."""
    assert ended.code == 2, (ended.code, ended.out, ended.err)
    assert "Traceback" not in ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith("cfalign: ")]
    assert len(lines) == 1 + notes, ended.err
    sentence = lines[-1]
    assert sentence.rstrip().endswith((".", ".)", "…")), sentence
    for part in parts:
        assert part in sentence, sentence
    assert ended.out == ""
    return sentence


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worlds.write_images(tmp_path_factory.mktemp("images"), 40)


@pytest.fixture
def desk(images: Path, tmp_path: Path) -> Desk:
    return Desk(tmp_path, images)


# -- the tree ---------------------------------------------------------------------------------------------------------


def test_the_tree() -> None:
    assert issubclass(BadModel, CfalignError)
    assert issubclass(BadModel, RuntimeError)
    assert not issubclass(BadModel, BadInput), "what the user gave is one thing, what his model did another"
    assert not issubclass(BadModel, ValueError)
    assert issubclass(RunMismatch, BadInput)
    assert issubclass(BadInput, ValueError)
    assert issubclass(StorageFailed, OSError)
    assert all(issubclass(kind, CfalignError) for kind in (BadInput, StorageFailed))


def test_nearest_names() -> None:
    assert nearest("smilin", ["smiling", "young"]) == "nearest valid: smiling"
    assert nearest("zzz", ["smiling", "young"]) == "valid: smiling, young"
    assert nearest("zzz", [f"t{i}" for i in range(20)]).endswith("t11, …")


# -- images -----------------------------------------------------------------------------------------------------------


def test_images_that_are_not_there(desk: Desk, tmp_path: Path) -> None:
    refused(desk.audit(images=tmp_path / "nowhere"), "No such image folder", "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(desk.audit(images=empty), "No image in", "an empty folder")
    (empty / "notes.txt").write_text("x")
    refused(desk.audit(images=empty), "1 .txt (no image)", ".png")
    refused(desk.audit(images=empty / "notes.txt"), "got the file")
    refused(desk.audit(images=None), "needs --images and --autoencoder")
    assert not desk.out.exists()


def test_a_corrupt_image_among_good_ones_is_skipped_and_named(desk: Desk, tmp_path: Path) -> None:
    folder = worlds.write_images(tmp_path / "mixed", 12)
    (folder / "0003.png").write_bytes((folder / "0003.png").read_bytes()[:60])
    (folder / "0005.png").write_bytes(b"")
    (folder / "zzz.jpg").write_text("no image at all")
    ended = desk.audit(images=folder)
    assert ended.code == 0, ended.err
    assert "Skipped 3 of 13 images:" in ended.out
    for name, reason in (("0003.png", ""), ("0005.png", "empty file"), ("zzz.jpg", "not an image")):
        assert re.search(rf"{name}: .*{reason}", ended.out), ended.out
    skipped = json.loads((desk.out / "run.json").read_text())["skipped"]
    assert [s["image_id"] for s in skipped] == ["0003.png", "0005.png", "zzz.jpg"]
    assert all(s["reason"] for s in skipped)
    report = (desk.out / "report.md").read_text()
    assert all(s["image_id"] in report for s in skipped)


def test_only_corrupt_images(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(b"\x89PNG nothing")
    refused(desk.audit(images=folder), "None of the 3 images", "0.png")
    assert not desk.out.exists()


def test_every_kind_of_image_is_handled(desk: Desk, tmp_path: Path) -> None:
    folder, rng = tmp_path / "kinds", np.random.default_rng(0)
    folder.mkdir()
    pixels = rng.integers(90, 160, (20, 24, 3), dtype=np.uint8)
    colour = Image.fromarray(pixels)
    colour.convert("L").save(folder / "grey.png")
    colour.convert("RGBA").save(folder / "rgba.png")
    colour.convert("LA").save(folder / "la.png")
    colour.convert("P").save(folder / "palette.png")
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.convert("1").save(folder / "bits.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "deep.tif")
    colour.save(folder / "plain.webp")
    ended = desk.audit(images=folder)
    assert ended.code == 0, ended.err
    record = json.loads((desk.out / "run.json").read_text())
    assert (record["images"], record["skipped"]) == (9, [])
    scores = pl.read_parquet(desk.out / "scores").sort("image_id")
    by_name = dict(zip(scores["image_id"], scores["image.smiling"], strict=True))
    assert abs(by_name["deep.png"] - by_name["deep.tif"]) < 1e-6
    assert abs(by_name["rgba.png"] - by_name["plain.webp"]) < 0.3


# -- names ------------------------------------------------------------------------------------------------------------


def test_unknown_targets_name_the_nearest(desk: Desk) -> None:
    refused(desk.audit(bases="smilng"), "No target 'smilng'", "nearest valid: smiling")
    refused(desk.audit(bases="smiling + 0.5*yuong"), "nearest valid: young")
    refused(desk.audit(downstream="eyeglases"), "nearest valid: eyeglasses")
    refused(desk.audit(classifier=spec("audited"), reference=spec("heads"), downstream="hat"), "wearing_hat")
    refused(desk.audit(bases="smiling ++ young"), "Cannot read")
    refused(desk.audit(bases=" , "), "--bases: expected names separated by commas")
    assert not desk.out.exists()


# -- labels -----------------------------------------------------------------------------------------------------------


def test_label_tables(desk: Desk, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    refused(desk.audit(labels=table, split="val"), "No such labels table")
    table.write_text("a,b\n1,0\n0,1\n")
    refused(desk.audit(labels=table, split="val"), "must have an image column", "a, b")
    table.write_text("image,smiling\nx.png,1\ny.png,0\n")
    refused(desk.audit(labels=table, split="val"), "None of the 2 rows", "'x.png'", "'0000.png'")
    table.write_text("image,smiling\n0000.png,1\n0001.png\n")
    refused(desk.audit(labels=table, split="val"), "line 3")
    table.write_text("image,smiling,split\n0000.png,1,train\n")
    ended = desk.audit(labels=table, split="val")
    refused(ended, "No image is in the split 'val'", "train", notes=2)
    assert "cfalign: Labels of labels.csv: the column 'image' names the images by path" in ended.err
    assert f"cfalign: 39 images have no row in {table}, e.g. 0001.png." in ended.err
    refused(desk.audit(split="val"), "--split needs --labels")
    assert not desk.out.exists()


def test_a_split_of_the_labels_is_what_is_audited(desk: Desk, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rows = [f"{i:04d}.png,{i % 2},{'val' if i < 25 else 'train'}" for i in range(40)]
    table.write_text("\n".join(["image,smiling,split", *rows, "gone.png,1,val"]) + "\n")
    ended = desk.audit(labels=table, split="val")
    assert ended.code == 0, ended.err
    assert json.loads((desk.out / "run.json").read_text())["data"]["images"] == 25
    assert f"cfalign: 1 rows match no image in {table}, e.g. gone.png." in ended.err
    assert "have no row" not in ended.err


# -- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("small_autoencoder", ("(3, 16, 16)", "(3, 8, 8)", "same shape")),
        ("tanh_autoencoder", ("range from -", "expected [0, 1]", "(x + 1) / 2")),
        ("nan_autoencoder", ("NaN",)),
        ("failing_autoencoder", ("The encode of autoencoder", "[40, 3, 16, 16]", "raised ValueError: boom")),
        ("posterior_autoencoder", ("encode returned dict", "expected a tensor")),
        ("heads", ("must return an object with the methods encode and decode",)),
    ],
)
def test_autoencoders_that_break_their_contract(name: str, parts: tuple[str, ...], desk: Desk) -> None:
    sentence = refused(desk.audit(autoencoder=spec(name)))
    for part in parts:
        assert part.strip("()") in sentence, sentence
    assert not desk.out.exists(), "a corrected autoencoder may use the same folder"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nan_heads", ("'smiling' returned NaN or infinity for all of 40 images", "check its normalisation")),
        ("too_many_columns", ("'own' returned", "[40, 8]", "[40, 4]", "one column per target")),
        ("transposed", ("'own' returned", "[4, 40]")),
        ("raising_heads", ("'own'", "raised RuntimeError: mat1 and mat2 shapes cannot be multiplied")),
        ("detaching", ("No gradient flows",)),
        ("torch_box", ("black box", "--reference", "cfalign bank")),
        ("wrong_thing", ("gave int", "cfalign.classifiers.wrap")),
        ("bare_module", ("gave LinearHeads", "cfalign.classifiers.wrap")),
        ("raises", ("raised RuntimeError: no weights here", "(line ")),
        ("leaves", ("raised SystemExit: 0",)),
        ("head", ("defines no 'head'", "nearest valid: heads")),
    ],
)
def test_classifiers_that_break_their_contract(name: str, parts: tuple[str, ...], desk: Desk) -> None:
    refused(desk.audit(classifier=spec(name)), *parts)
    assert not desk.out.exists(), "a corrected classifier may use the same folder"


def test_a_classifier_that_answers_nan_to_some_images(desk: Desk) -> None:
    ended = desk.audit(classifier=spec("nan_sometimes"))
    assert ended.code == 0, ended.err
    record = json.loads((desk.out / "run.json").read_text())
    assert 0 < record["outcomes"]["smiling"]["not_finite"] < 10
    assert "not finite" in (desk.out / "report.md").read_text().replace("_", " ").lower()


def test_nobody_is_predicted_positive(desk: Desk) -> None:
    ended = desk.audit(classifier=spec("never_positive"))
    assert ended.code == 0, ended.err
    assert "No counterfactual for young: none of 40 images is predicted positive." in ended.out
    cells = pl.read_csv(desk.out / "matrix.csv").filter(pl.col("base") == "young")
    assert cells["n"].to_list() == [0] * 4
    assert cells["psi"].null_count() == 4


def test_no_counterfactual_counts(desk: Desk) -> None:
    ended = desk.audit(drop=0.1, more=("--set", "search.floor=0.0"))
    assert ended.code == 0, ended.err
    assert re.search(r"No counterfactual of .*smiling.* counts: .*\d+ base change too small", ended.out)
    assert pl.read_csv(desk.out / "matrix.csv")["n"].sum() == 0


def test_files_that_are_no_models(desk: Desk, tmp_path: Path) -> None:
    weights = tmp_path / "classifier.safetensors"
    refused(desk.audit(classifier=weights), "There is no weight file")
    weights.write_bytes(b"\x00" * 50)
    refused(desk.audit(classifier=weights), "cannot be read as safetensors")
    refused(desk.audit(autoencoder=weights), "cannot be read as safetensors")
    broken = tmp_path / "broken.py"
    broken.write_text("def make(:\n")
    refused(desk.audit(classifier=f"{broken}:make"), "could not be imported", "SyntaxError", "line 1")
    broken.write_text("import nothing_like_this\n")
    refused(desk.audit(classifier=f"{broken}:make"), "ModuleNotFoundError", "(line 1)")
    broken.write_text("x = 1\n\ndef make():\n    return 1 / 0\n")
    refused(desk.audit(classifier=f"{broken}:make"), "ZeroDivisionError", "(line 4)")
    refused(desk.audit(classifier=f"{broken}"), "names a file but no factory")
    refused(desk.audit(classifier=f"{tmp_path}/none.py:make"), "There is no file")
    refused(desk.audit(classifier="resnet18"), "Unknown classifier 'resnet18'", "path/to/file.py:factory")
    refused(desk.audit(autoencoder="vae"), "Unknown autoencoder 'vae'")
    refused(desk.audit(classifier="embedded:nothing"), "No embedded classifier")
    assert not desk.out.exists()


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings(desk: Desk, tmp_path: Path) -> None:
    refused(desk.audit(more=("--set", "search.dorp=0.5")), "Unknown setting 'search.dorp'", "nearest valid: drop")
    refused(desk.audit(more=("--set", "limit")), "--set: expected name=value")
    refused(desk.audit(limit=-3), "limit: expected a whole number at least 1, got -3")
    refused(desk.audit(seed=-1), "seed: expected a whole number at least 0")
    refused(desk.audit(strategy="quick"), "search.strategy: expected one of refined, schedule, got 'quick'")
    config = tmp_path / "settings.toml"
    config.write_text("limt = 3\n")
    refused(desk.audit(config=config), "Unknown setting 'limt'", "nearest valid: limit")
    config.write_text("[search\n")
    refused(desk.audit(config=config), "cannot be read as TOML")
    refused(desk.audit(config=tmp_path / "none.toml"), "There is no settings file")
    assert not desk.out.exists()


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    for words in (("audit",), ("audit", "--limit", "many", "--classifier", "embedded"), ("nothing",)):
        ended = worlds.cfalign(*words, folder=tmp_path)
        assert ended.code == 2
        assert "Traceback" not in ended.err
        assert "Error" in ended.err


# -- where the run goes -----------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_out_of_another_run(desk: Desk) -> None:
    assert desk.audit(limit=5).code == 0
    before = contents(desk.out)
    refused(desk.audit(limit=6), "holds another run", "settings.limit was 5, now 6", "--out")
    refused(desk.audit(limit=5, classifier=spec("bent_heads")), "models.classifiers")
    refused(desk.audit(limit=5, autoencoder=spec("slow_autoencoder")), "models.autoencoder.hash")
    assert contents(desk.out) == before
    record = json.loads((desk.out / "run.json").read_text())
    (desk.out / "run.json").write_text(json.dumps({**record, "schema": 0}))
    refused(desk.audit(limit=5), "schema version 0", "--out")


def test_images_that_changed_since(desk: Desk, tmp_path: Path) -> None:
    folder = worlds.write_images(tmp_path / "own", 12)
    assert desk.audit(images=folder).code == 0
    (folder / "0000.png").write_bytes((folder / "0001.png").read_bytes())
    refused(desk.audit(images=folder), "holds another run", "data.hash")


def test_out_that_is_something_else(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    refused(desk.audit(out=file), "is a file")
    refused(desk.audit(out=file / "below"), "is a file")
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    refused(desk.audit(out=folder), "holds files that are not a run")
    assert contents(folder) == {"thesis.tex": b"mine"}
    assert file.read_text() == "mine"
    (folder / "thesis.tex").rename(folder / ".hidden")
    assert desk.audit(out=folder, limit=3).code == 0


def test_out_that_cannot_be_written(desk: Desk, images: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    words: list[object] = ["--images", images, "--classifier", spec("heads"), "--autoencoder", spec("autoencoder")]
    user = None
    if os.getuid() == 0:  # root may write anywhere, so the command becomes nobody
        user = 65534
        for place in (tmp_path, *tmp_path.parents, images, *images.parents):
            if place.stat().st_uid == os.getuid() and place not in (Path("/"), Path("/tmp")):
                place.chmod(place.stat().st_mode | 0o055)
    locked.chmod(0o555)
    ended = worlds.Command("audit", *words, "--out", locked / "run", folder=tmp_path, user=user).wait()
    refused(ended, "Could not write", "ermission denied", "Pick a folder that can be written to")
    assert list(locked.iterdir()) == []
    locked.chmod(0o700)
    if user is not None:
        ended = worlds.Command("audit", *words, "--out", locked / "run", folder=tmp_path, user=user).wait()
        refused(ended, "cannot be used", "permission denied")


# -- banks ------------------------------------------------------------------------------------------------------------


def test_banks(desk: Desk, images: Path, tmp_path: Path) -> None:
    made = ["--images", images, "--reference", spec("heads"), "--autoencoder", spec("autoencoder")]
    bank = tmp_path / "bank"
    refused(
        worlds.cfalign("bank", *made, "--attributes", "yung", "--out", bank, folder=tmp_path), "nearest valid: young"
    )
    refused(
        worlds.cfalign("bank", *made[:2], "--reference", spec("torch_box"), *made[4:], "--out", bank, folder=tmp_path),
        "black box",
        "a bank cannot be made of its heads",
    )
    assert not bank.exists()
    ended = worlds.cfalign("bank", *made, "--limit", 10, "--out", bank, folder=tmp_path)
    assert ended.code == 0, ended.err
    assert f"cfalign audit --bank {bank}" in ended.out
    no_images: Given = {"images": None, "autoencoder": None}
    box = {"classifier": spec("numpy_box"), **no_images}
    refused(desk.audit(classifier=spec("numpy_box"), bank=bank, autoencoder=None), "--images does not go with --bank")
    refused(desk.audit(bank=tmp_path / "nowhere", **box), "No run directory")
    record = json.loads((bank / "run.json").read_text())
    (bank / "run.json").write_text(json.dumps({**record, "status": "running"}))
    refused(desk.audit(bank=bank, **box), "is not finished", "cfalign bank")
    (bank / "run.json").write_text(json.dumps(record))
    refused(desk.audit(bank=bank, bases="friendl", **box), "nearest valid: friendly")
    assert not desk.out.exists()
    ended = desk.audit(bank=bank, **box)
    assert ended.code == 0, ended.err
    refused(desk.audit(bank=desk.out, out=tmp_path / "other", **box), "an audit's directory, not a bank's")


def test_reports_of_something_else(tmp_path: Path) -> None:
    refused(worlds.cfalign("report", tmp_path / "nowhere", folder=tmp_path), "No run directory")
    refused(worlds.cfalign("report", tmp_path, folder=tmp_path), "is not a run directory")
