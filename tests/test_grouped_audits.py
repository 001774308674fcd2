"""Audits and banks of images in groups: what the commands ask for, what a run keeps, and what follows from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import worlds
from cfalign._analysis.statistics import widening
from cfalign._audit.audit import audit
from cfalign._audit.bank import Bank, bank
from cfalign._audit.options import AuditOptions
from cfalign._audit.shards import people_of
from cfalign._errors import BadInput, RunMismatch
from cfalign._runs.run import Run
from cfalign.datasets import GroupedImages, TensorImages, grouped, read_labels
from linear_world import FromSingle, HeadsFromSingle, directions

OPTIONS = AuditOptions(limit=40, chunk=16)
PEOPLE = 24
MODELS = Path(worlds.__file__)


def of_people(count: int = 96, *, missing: int = 0) -> GroupedImages:
    """Images of 24 people, the first of them nobody's."""
    who = [None if i < missing else f"p{i % PEOPLE}" for i in range(count)]
    return grouped(TensorImages(worlds.images(count)), who, column="identity")


def audited(images: Any, out: Path) -> Run:
    given = {"reference": worlds.heads(), "autoencoder": worlds.autoencoder(), "options": OPTIONS}
    return audit(images, worlds.audited(), out=out, **given)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return audited(of_people(missing=2), tmp_path_factory.mktemp("people") / "run")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return audited(TensorImages(worlds.images(96)), tmp_path_factory.mktemp("plain") / "run")


def test_a_run_keeps_the_groups_of_its_images(run: Run) -> None:
    record = run.record()
    told = record["data"]["groups"]
    assert {k: told[k] for k in ("column", "count", "alone")} == {"column": "identity", "count": PEOPLE, "alone": 2}
    assert len(told["hash"]) == 16
    scores = run.scores()
    assert scores.columns[-1] == "group"
    assert scores.schema["group"] == pl.String
    wanted = {f"{i:06d}": None if i < 2 else f"p{i % PEOPLE}" for i in range(96)}
    assert dict(scores.select("image_id", "group").iter_rows()) == {i: wanted[i] for i in scores["image_id"]}
    assert record["groups_seen"] == PEOPLE + 2


def test_means_are_the_same_and_intervals_are_over_groups(run: Run, plain: Run) -> None:
    ours, theirs = run.matrix(), plain.matrix()
    for column in ("psi", "ratio_of_means", "median", "n"):
        assert ours[column].to_list() == theirs[column].to_list()
    assert ours["ci_low"].to_list() != theirs["ci_low"].to_list()
    assert "group" not in plain.scores().columns
    assert "groups" not in plain.record()["data"]
    assert "groups_seen" not in plain.record()


def test_a_cell_of_a_run_is_resampled_over_its_people(run: Run) -> None:
    """By hand, from the tables of the run."""
    rows = run.counterfactuals().filter(pl.col("base") == "wearing_hat")
    who = dict(run.scores().select("image_id", "group").iter_rows())
    psi = (rows["after.friendly"] - rows["before.friendly"]) / (rows["base_after"] - rows["base_before"])
    people = np.unique([who[i] or f"alone {i}" for i in rows["image_id"]], return_inverse=True)[1]
    sums, sizes = np.bincount(people, psi.to_numpy()), np.bincount(people)
    drawn = np.random.default_rng(0).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=4000)
    deviation = ((drawn @ sums) / (drawn @ sizes)).std() * widening(people)
    cell = run.matrix().row(
        by_predicate=(pl.col("base") == "wearing_hat") & (pl.col("downstream") == "friendly"), named=True
    )
    assert (cell["ci_high"] - cell["ci_low"]) / 2 == pytest.approx(1.96 * deviation, rel=0.15)


def test_images_in_another_order_of_groups_are_the_same_people() -> None:
    names = pl.Series("group", ["b", None, "a", "b"])
    scores = pl.DataFrame({"image_id": ["1", "2", "3", "4"], "skipped": [None] * 4}).with_columns(names)
    backwards = people_of(scores.reverse())
    forwards = people_of(scores)
    assert forwards is not None
    assert backwards is not None
    assert forwards.tolist() == backwards[::-1].tolist()
    assert forwards[0] == forwards[3]
    assert len(set(forwards.tolist())) == 3
    assert people_of(scores.drop("group")) is None


def test_a_run_of_other_groups_is_not_resumed(tmp_path: Path) -> None:
    audited(of_people(), tmp_path / "run")
    with pytest.raises(RunMismatch, match=r"data\.groups\.(alone|hash)"):
        audited(of_people(missing=1), tmp_path / "run")
    with pytest.raises(RunMismatch, match=r"data\.groups"):
        audited(TensorImages(worlds.images(96)), tmp_path / "run")


def made_bank(folder: Path, images: Any) -> Bank:
    return bank(images, worlds.heads(), autoencoder=worlds.autoencoder(), options=OPTIONS, out=folder / "bank")


def test_an_audit_of_a_bank_has_the_groups_of_the_bank(run: Run, tmp_path: Path) -> None:
    made = made_bank(tmp_path, of_people(missing=2))
    other = audit(made, worlds.numpy_box(), options=OPTIONS, out=tmp_path / "run")
    record = other.record()
    assert record["data"] == {"bank": made.identity(), "groups": run.record()["data"]["groups"]}
    assert record["groups_seen"] == PEOPLE + 2
    ours, theirs = (r.effects().sort("attribute") for r in (other, run))
    for column in ("effect", "ci_low", "ci_high"):
        np.testing.assert_allclose(ours[column], theirs[column], atol=5e-3)
    known = made_bank(tmp_path / "plain", TensorImages(worlds.images(96)))
    assert known.groups() == {}
    assert known.identity() != made.identity()


def test_an_audit_in_closed_form_has_wider_intervals_where_people_differ(tmp_path: Path) -> None:
    """Images of one person are alike: five of each say what one says."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(-0.3, 0.3, size=(40, 8))
    z = torch.from_numpy(np.repeat(centres, 5, axis=0) + rng.normal(scale=0.01, size=(200, 8)))
    autoencoder, targets = FromSingle(), ("a", "b")
    images = TensorImages(autoencoder.decode(z).detach().float())
    heads = HeadsFromSingle(directions(2, overlap=0.5), [0.0, 0.3], targets)
    runs = {
        name: audit(source, heads, autoencoder=autoencoder, options=AuditOptions(limit=200), out=tmp_path / name)
        for name, source in {"images": images, "people": grouped(images, np.repeat(np.arange(40), 5).tolist())}.items()
    }
    width = {
        name: {(c.base, c.downstream): c.ci_high - c.ci_low for c in found.cells() if c.base != c.downstream}
        for name, found in runs.items()
    }
    for pair, wide in width["people"].items():
        assert 1.7 < wide / width["images"][pair] < 3.2, "about the root of 5"
    assert runs["people"].record()["data"]["groups"]["count"] == 40


# --- the source ---------------------------------------------------------------------------------------------


def test_a_grouped_source_delegates_all_but_the_groups() -> None:
    images = TensorImages(torch.rand(4, 3, 8, 8))
    found = grouped(images, [7, 7, " ", None])
    assert found.groups == ("7", "7", None, None)
    assert (found.ids, found.shape, found.source, found.fingerprint()) == (
        images.ids,
        images.shape,
        images.source,
        images.fingerprint(),
    )
    assert torch.equal(found.load([2]).images, images.load([2]).images)
    part = found.subset(["000003", "000001"])
    assert (part.ids, part.groups, part.known, part.alone) == (("000003", "000001"), (None, "7"), 1, 1)
    assert found.subset([True, False, False, True]).groups == ("7", None)


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (["a", "b"], "must be one per image: expected 3, got 2"),
        ("abc", "must be one per image: expected 3, got one text"),
        (["a", "b", 0.5], "must be texts, whole numbers or None, got 0.5"),
        (["a", "b", True], "got True"),
        (["a", "a", "a"], "All 3 images are of one group, person = 'a'"),
    ],
)
def test_groups_that_are_none(groups: Any, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        grouped(TensorImages(torch.rand(3, 3, 8, 8)), groups, column="person")


def test_any_column_of_labels_as_text(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("image,smiling,Identity,split\na,1,2880,train\nb,0,,test\nc,,17,test\n")
    labels = read_labels(table, ids=["c", "a", "b"])
    assert labels.texts("identity") == labels.texts("Identity") == ("17", "2880", None)
    assert labels.texts("smiling") == (None, "1", "0")
    assert labels.texts("split") == ("test", "train", "test")
    assert labels.subset(labels.in_split("test")).texts("identity") == ("17", None)
    with pytest.raises(BadInput, match=r"The labels have no column 'identiy'; nearest valid: identity"):
        labels.texts("identiy")


# --- the commands -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 15 people, four of whose images have no name, and a bank of them."""
    folder = tmp_path_factory.mktemp("desk")
    worlds.write_images(folder / "photos", 60)
    rows = [f"{i:04d}.png,{i % 2},{'' if i < 4 else f'p{i % 15}'},{'b' if i < 30 else 'a'},one" for i in range(60)]
    (folder / "labels.csv").write_text("image,smiling,Identity,split,site\n" + "\n".join(rows) + "\n")
    return folder


def command(name: str, desk: Path, *more: object, **given: object) -> worlds.Ended:
    data = {"images": "photos", "labels": "labels.csv", "autoencoder": f"{MODELS}:autoencoder", "limit": 10}
    words = worlds.options(**{k: v for k, v in (data | given).items() if v is not None})
    return worlds.cfalign(name, *words, *more, folder=desk)


def test_an_audit_over_people(desk: Path) -> None:
    ended = command("audit", desk, classifier=f"{MODELS}:heads", group="identity", out="run")
    assert ended.code == 0, ended.err
    assert "60 images are of 15 groups (identity); 4 images have none and are a group of their own each." in ended.err
    record = json.loads((desk / "run" / "run.json").read_text())
    assert (record["data"]["groups"]["count"], record["data"]["groups"]["alone"]) == (15, 4)
    assert record["labels"]["table"] == "labels.csv"
    again = command("audit", desk, classifier=f"{MODELS}:heads", group="smiling", out="run")
    assert again.code == 2
    assert "data.groups.column" in again.err
    assert "Fewer than 10 groups tell little" in again.err


def test_an_audit_of_people_of_a_split(desk: Path) -> None:
    ended = command("audit", desk, classifier=f"{MODELS}:heads", group="Identity", split="b", out="split")
    assert ended.code == 0, ended.err
    groups = json.loads((desk / "split" / "run.json").read_text())["data"]["groups"]
    assert (groups["column"], groups["count"], groups["alone"]) == ("identity", 15, 4)


def test_a_bank_of_people_and_its_audit(desk: Path) -> None:
    made = command("bank", desk, reference=f"{MODELS}:heads", group="identity", out="bank")
    assert made.code == 0, made.err
    bare = {"images": None, "labels": None, "autoencoder": None, "limit": None, "bank": "bank"}
    for out, group in (("of-bank", None), ("of-bank-named", "identity")):
        ended = command("audit", desk, classifier=f"{MODELS}:numpy_box", out=out, group=group, **bare)
        assert ended.code == 0, ended.err
        assert json.loads((desk / out / "run.json").read_text())["data"]["groups"]["count"] == 15
    other = command("audit", desk, classifier=f"{MODELS}:numpy_box", out="x", group="site", **bare)
    assert other.code == 2
    assert "--group: the bank was made with the groups 'identity', got 'site'" in other.err
    assert command("bank", desk, reference=f"{MODELS}:heads", labels=None, out="plain").code == 0
    none = command("audit", desk, classifier=f"{MODELS}:numpy_box", out="x", group="site", **bare | {"bank": "plain"})
    assert none.code == 2
    assert "--group: the bank was made with no groups, got 'site'" in none.err
    assert not (desk / "x").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"group": "identty"}, "The labels have no column 'identty'; nearest valid: identity"),
        ({"group": "identity", "labels": None}, "--group needs --labels, whose column it reads, or a data set"),
        ({"group": "site"}, "All 60 images are of one group, site = 'one'"),
    ],
)
def test_groups_that_cannot_be_had(desk: Path, given: dict[str, Any], sentence: str) -> None:
    ended = command("audit", desk, classifier=f"{MODELS}:heads", out="never", **given)
    assert ended.code == 2
    assert sentence in ended.err
    assert not (desk / "never").exists()


def test_a_bank_reads_labels_for_something(desk: Path) -> None:
    ended = command("bank", desk, reference=f"{MODELS}:heads", out="never")
    assert ended.code == 2
    assert "--labels needs --split or --group: a bank reads splits and groups only." in ended.err


def test_the_persons_of_celeba_are_groups(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    worlds.write_images(root / "img_align_celeba", 40)
    names = [f"{i:04d}.png" for i in range(40)]
    (root / "list_attr_celeba.txt").write_text(
        "40\nSmiling\n" + "".join(f"{n} {(-1) ** i}\n" for i, n in enumerate(names))
    )
    (root / "identity_CelebA.txt").write_text("".join(f"{n} {i // 3}\n" for i, n in enumerate(names)))
    given = {"images": f"celeba:{root}", "labels": None, "group": "identity", "out": "run"}
    ended = command("audit", tmp_path, classifier=f"{MODELS}:heads", **given)
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["groups"]["count"] == 14
