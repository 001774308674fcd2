"""Data sets by spec: CelebA, Waterbirds and tar shards as they are published, rendered here."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cfalign as cfa
import worlds
from cfalign._errors import BadInput
from cfalign.datasets import ImageFolder, ImageSource, ImageWarning, Labels, in_batches, open_dataset, open_images
from cfalign.datasets.label_columns import class_columns

WORLDS = Path(worlds.__file__)
ATTRIBUTES = ("5_o_Clock_Shadow", "Smiling", "Wearing_Hat")


def write_celeba(root: Path, count: int = 10, *, below: str = "img_align_celeba") -> Path:
    """Image i smiles where i is even; 0 … 5 train, 6, 7 val, the rest test; two images per person."""
    images = worlds.write_images(root / below, count)
    names = [f"{i + 1:06d}.png" for i in range(count)]
    for i, name in enumerate(names):
        (images / f"{i:04d}.png").rename(images / name)
    rows = [f"{n} {-1:2d} {1 if i % 2 == 0 else -1:2d} {1 if i > 4 else -1:2d}" for i, n in enumerate(names)]
    (root / "list_attr_celeba.txt").write_text(f"{count}\n{' '.join(ATTRIBUTES)} \n" + "\n".join(rows) + "\n")
    parts = [0 if i < 6 else 1 if i < 8 else 2 for i in range(count)]
    (root / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in zip(names, parts, strict=True)))
    (root / "identity_CelebA.txt").write_text("".join(f"{n} {i // 2}\n" for i, n in enumerate(names)))
    return root


def write_waterbirds(root: Path) -> Path:
    folder = root / "001.Albatross"
    worlds.write_images(folder, 4)
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    lines += [f"{i},001.Albatross/{i:04d}.png,{i % 2},{min(i, 2)},{i // 2},/o/ocean/{i}.jpg" for i in range(4)]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def png(value: int, *, side: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write_shard(path: Path, members: dict[str, bytes], *, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def labelled(source: ImageSource, labels: Labels | None) -> tuple[ImageSource, Labels]:
    assert labels is not None
    assert isinstance(source, ImageSource)
    assert labels.ids == source.ids
    return source, labels


# ------------------------------------------------------------------ CelebA


@pytest.mark.parametrize("below", ["img_align_celeba", "."])
def test_celeba_gives_images_labels_splits_and_persons(tmp_path: Path, below: str) -> None:
    root = write_celeba(tmp_path / "faces", below=below)
    source, labels = labelled(*open_dataset(f"celeba:{root}", size=16))
    assert source.ids == tuple(f"{i:06d}.png" for i in range(1, 11))
    assert source.source == "celeba:faces"
    assert labels.targets == ("5_o_clock_shadow", "smiling", "wearing_hat")
    assert labels.column("smiling").tolist() == [1, 0] * 5
    assert labels.column("5_o_clock_shadow").tolist() == [0] * 10
    assert labels.split == ("train",) * 6 + ("val",) * 2 + ("test",) * 2
    assert labels.extra["identity"] == tuple(str(i // 2) for i in range(10))
    assert labels.unmatched_rows.count == labels.images_without_row.count == 0
    torch.testing.assert_close(source.load([3]).images[0], worlds.images(10)[3], rtol=0, atol=0.5 / 255 + 1e-6)
    assert source.fingerprint() == ImageFolder(root / below, size=16).fingerprint()


def test_celeba_lists_as_csv_and_a_part_of_the_images(tmp_path: Path) -> None:
    root = write_celeba(tmp_path)
    for stem in ("list_attr_celeba", "list_eval_partition", "identity_CelebA"):
        (root / f"{stem}.txt").unlink()
    names = [f"{i:06d}.jpg" for i in range(1, 11)]  # the images are PNG: another extension is no other image
    rows = "".join(f"{n},{1 if i % 2 else -1},-1\n" for i, n in enumerate(names))
    (root / "list_attr_celeba.csv").write_text("image_id,Smiling,Young\n" + rows)
    (root / "list_eval_partition.csv").write_text("image_id,partition\n" + "".join(f"{n},2\n" for n in names))
    (root / "img_align_celeba" / "000001.png").unlink()
    _, labels = labelled(*open_dataset(f"celeba:{root}", size=8))
    assert labels.column("smiling").tolist() == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert set(labels.split or ()) == {"test"}
    assert "identity" not in labels.extra
    assert (labels.unmatched_rows.count, labels.unmatched_rows.examples) == (1, ("000001.jpg",))


def test_celeba_with_one_table_instead_of_its_lists(tmp_path: Path) -> None:
    worlds.write_images(tmp_path / "images", 3)
    (tmp_path / "labels.csv").write_text(
        "image,identity,split,smiling\n0000.png,7,train,1\n0001.png,7,val,0\n0002.png,8,val,1\n"
    )
    source, labels = labelled(*open_dataset(f"celeba:{tmp_path}", size=8))
    assert source.ids == ("0000.png", "0001.png", "0002.png")
    assert (labels.targets, labels.split) == (("smiling",), ("train", "val", "val"))
    assert labels.column("smiling").tolist() == [1, 0, 1]


def _without_attributes(root: Path) -> None:
    (root / "list_attr_celeba.txt").unlink()


def _other_names(root: Path) -> None:
    for i, path in enumerate(sorted((root / "img_align_celeba").iterdir())):
        path.rename(path.with_name(f"cat{i}.png"))


def _edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        file = root / name
        file.write_text(file.read_text().replace(old, new, 1))

    return edit


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_attributes, r"must hold list_attr_celeba\.txt: celeba:FOLDER expects CelebA's own lists"),
        (
            _other_names,
            r"None of the 10 rows of .*list_attr_celeba\.txt belongs to one of the 10 images: .*'000001\.png'",
        ),
        (_edit("list_attr_celeba.txt", "10\n", ""), "must begin with the number of images"),
        (_edit("list_attr_celeba.txt", "10\n", "12\n"), "must list 12 images, got 10"),
        (_edit("list_attr_celeba.txt", "Smiling ", ""), r"must have 2 value\(s\) per image, got 3 in line 3"),
        (_edit("list_attr_celeba.txt", "000004.png -1", "000004.png -1 1"), "got 4 in line 6"),
        (_edit("list_eval_partition.txt", "000003.png 0", "000003.png 7"), "a partition must be 0 .*, got '7'"),
        (
            _edit("list_eval_partition.txt", "000003.png 0", "000003.png"),
            r"must have 1 value\(s\) per image, got 0 in line 3",
        ),
    ],
)
def test_spoilt_celeba(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    root = write_celeba(tmp_path)
    spoil(root)
    with pytest.raises(BadInput, match=message) as raised:
        open_dataset(f"celeba:{root}", size=8)
    assert "\n" not in str(raised.value)


# ------------------------------------------------------------------ Waterbirds


def test_waterbirds(tmp_path: Path) -> None:
    source, labels = labelled(*open_dataset(f"waterbirds:{write_waterbirds(tmp_path)}", size=16))
    assert source.ids[0] == "001.Albatross/0000.png"
    assert labels.targets == ("waterbird", "water_background")
    assert labels.values.tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert labels.split == ("train", "val", "test", "test")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "metadata.csv").unlink(), r"must hold metadata\.csv"),
        (
            _edit("metadata.csv", "place,", "background,"),
            "must have the columns img_filename, y, place, split; it lacks place",
        ),
        (_edit("metadata.csv", "0000.png,0,0", "0000.png,0,3"), "a split must be 0 .*, got '3'"),
        (lambda root: (root / "001.Albatross").rename(root / "x"), "None of the 4 rows"),
    ],
)
def test_spoilt_waterbirds(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    root = write_waterbirds(tmp_path)
    spoil(root)
    with pytest.raises(BadInput, match=message):
        open_dataset(f"waterbirds:{root}", size=8)


# ------------------------------------------------------------------ tar shards


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for shard in range(3):
        members: dict[str, bytes] = {}
        for i in range(4):
            at = 4 * shard + i
            members[f"./set/{i:03d}.png"] = b"no image" if at == 5 else png(10 * at)
            members[f"./set/{i:03d}.json"] = json.dumps(
                {
                    "Smiling": at % 2,
                    "hat": None if at == 2 else at > 6,
                    "age": 20 + at,
                    "split": "val" if i == 3 else "train",
                }
            ).encode()
            members[f"./set/{i:03d}.cls"] = str(i % 3).encode()
            members[f"./set/{i:03d}.seg.png"] = png(0)  # no image of its own
        write_shard(tmp_path / f"part-{shard:02d}.tar", members)
    return tmp_path


@pytest.mark.parametrize("pattern", ["part-{00..02}.tar", "part-*.tar", "part-{00,01,02}.tar", "part-0[0-2].tar"])
def test_shards(shards: Path, pattern: str) -> None:
    source, labels = labelled(*open_dataset(f"webdataset:{shards}/{pattern}", size=8))
    assert source.ids[:2] == ("part-00/set/000", "part-00/set/001")
    assert len(source.ids) == 12
    assert source.source == f"webdataset:{pattern}"
    loaded = source.load([11, 0, 5, 4])
    assert loaded.indices == (11, 0, 4)
    assert (loaded.images[:, 0, 0, 0] * 255).round().tolist() == [110, 0, 40]
    assert [s.image_id for s in loaded.skipped] == ["part-01/set/001"]
    assert "not an image" in loaded.skipped[0].reason
    assert labels.targets == ("smiling", "hat", "class_0", "class_1", "class_2")
    assert labels.column("smiling").tolist() == [0, 1] * 6
    np.testing.assert_array_equal(labels.column("hat"), [0, 0, np.nan, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert labels.column("class_1").tolist() == [0, 1, 0, 0] * 3
    assert labels.split == ("train", "train", "train", "val") * 3
    assert labels.extra["age"][0] == "20"
    part = source.subset(labels.in_split("val"))
    assert part.ids == ("part-00/set/003", "part-01/set/003", "part-02/set/003")
    assert (part.load([2]).images[0, 0, 0, 0] * 255).round() == 110
    assert (
        part.fingerprint()
        != source.fingerprint()
        == open_images(f"webdataset:{shards}/{pattern}", size=8).fingerprint()
    )


def test_two_classes_are_one_column_and_no_labels_are_none(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "a.tar",
        {
            f"{i}.{kind}": png(60 * i) if kind == "png" else str(i % 2).encode()
            for i in range(4)
            for kind in ("png", "cls")
        },
    )
    _, labels = labelled(*open_dataset(f"webdataset:{tmp_path}/a.tar"))
    assert labels.targets == ("class",)
    assert labels.values[:, 0].tolist() == [0, 1, 0, 1]
    write_shard(tmp_path / "b.tar", {"0.png": png(0)})
    assert open_dataset(f"webdataset:{tmp_path}/b.tar")[1] is None


def test_class_columns() -> None:
    two = [[0], [1], None]
    assert class_columns("label", two, ["cat", "dog"]) == {"dog": ["0", "1", None]}
    assert class_columns("smiling", two, ["no", "yes"]) == {"smiling": ["0", "1", None]}
    assert class_columns("tags", [[0, 1], [], [1]], ["hat", "tie"]) == {"hat": ["1", "0", "0"], "tie": ["1", "0", "1"]}
    assert class_columns("digit", [[2], [0]], ["0", "1", "2"]) == {
        "digit_0": ["0", "1"],
        "digit_1": ["0", "0"],
        "digit_2": ["1", "0"],
    }
    many = [str(i) for i in range(300)]
    assert class_columns("species", [[7], None], many) == {"species": ["7", None]}


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_compressed_shard_is_unpacked_for_as_long_as_it_is_read(tmp_path: Path, mode: str) -> None:
    members = {"0.png": png(40), "0.cls": b"1", "1.png": png(250), "1.cls": b"0"}
    plain = open_dataset(f"webdataset:{write_shard(tmp_path / 'a.tar', members)}", size=8)[0]
    write_shard(tmp_path / f"a.tar.{mode}", members, mode=f"w:{mode}")
    (tmp_path / "a.tar").unlink()
    source, labels = labelled(*open_dataset(f"webdataset:{tmp_path}/a.tar.{mode}", size=8))
    assert source.ids == plain.ids == ("a/0", "a/1")
    assert labels.values.ravel().tolist() == [1, 0]
    part = source.subset(["a/1"])
    place = part._contents[0].path  # type: ignore[attr-defined]
    del source
    assert (part.load([0]).images[0, 0, 0, 0] * 255).round() == 250
    del part
    assert not place.exists()


def test_members_are_read_or_counted(tmp_path: Path) -> None:
    members = {
        "0.jpg": png(0),
        "0.seg.png": png(1),
        "0.txt": b"a caption",
        "0.npy": b"x",
        "0.json": b'{"hat": 1}',
        "0.seg.json": b'{"hat": 0}',
        "1.image": png(250),
        "1.cls": b"3",
        "2.cls": b"0",
        "._3.jpg": b"x",
        "noending": png(0),
        "4.png": png(4),
        "4.json": b"{" + b" " * 1_000_000 + b"}",
    }
    with pytest.warns(ImageWarning, match=r"2 of 5 images .* left out: 1 \.npy .*, 1 no ending \(the name of a member"):
        source, labels = labelled(*open_dataset(f"webdataset:{write_shard(tmp_path / 'a.tar', members)}", size=8))
    assert source.ids == ("a/0", "a/1", "a/4")
    assert source.load([0, 1, 2]).skipped == ()
    assert labels.targets == ("hat", "class_3")
    inventory = source.inventory  # type: ignore[attr-defined]
    assert (inventory.given, inventory.images, inventory.labels) == (len(members), 3, 2)
    assert {kind.what: (kind.count, kind.lost) for kind in inventory.left_out} == {
        ".npy": (1, True),
        "no ending": (1, True),
        ".cls": (1, False),
        ".json": (1, False),
        ".seg.json": (1, False),
        ".seg.png": (1, False),
        ".txt": (1, False),
        "hidden": (1, False),
    }


def test_keys_end_at_the_first_dot_and_what_collides_is_warned_of(tmp_path: Path) -> None:
    members = {
        f"{i}.{side}.{kind}": png(100 * i) if kind == "jpg" else b"%d" % i
        for i in range(3)
        for side in ("right", "left")
        for kind in ("jpg", "cls")
    }
    with pytest.warns(
        ImageWarning, match=r"3 of 6 images .* left out: 3 \.right\.jpg .*give each image a key of its own"
    ):
        source, labels = labelled(*open_dataset(f"webdataset:{write_shard(tmp_path / 'a.tar', members)}", size=8))
    assert source.ids == ("a/0", "a/1", "a/2")
    assert (source.load([0, 1, 2]).images[:, 0, 0, 0] * 255).round().tolist() == [0, 100, 200]
    assert labels.targets == ("class_0", "class_1", "class_2")
    only = {f"a/{i}.b.jpg": png(200) for i in range(3)}
    assert open_images(f"webdataset:{write_shard(tmp_path / 'b.tar', only)}", size=8).ids == ("b/a/0", "b/a/1", "b/a/2")
    numbered = {f"img.{i:03d}.jpg": png(200) for i in range(5)}
    with pytest.warns(ImageWarning, match=r"4 of 5 images .* left out: 4 \.\*\.jpg"):
        open_images(f"webdataset:{write_shard(tmp_path / 'c.tar', numbered)}", size=8)


def test_odd_labels_of_a_shard(tmp_path: Path) -> None:
    deep = {"0.png": png(200), "0.json": b"[" * 200_000}
    with pytest.raises(BadInput, match=r"The labels 0\.json in .* cannot be read"):
        open_dataset(f"webdataset:{write_shard(tmp_path / 'a.tar', deep)}", size=8)
    odd = {
        "0.png": png(200),
        "0.json": b'{"hat": 1, "long": 1' + b"0" * 400 + b', "half": "\\ud800", "\\udfff": 1, "n": NaN}',
    }
    _, labels = labelled(*open_dataset(f"webdataset:{write_shard(tmp_path / 'b.tar', odd)}", size=8))
    assert "hat" in labels.targets


def test_a_shard_that_leads_back_is_refused(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", {"0.png": png(0), "1.png": png(1)})
    content = bytearray(shard.read_bytes())
    content[124:136] = b"\xff" * 10 + b"\xfc\0"  # a negative size, in the form for large ones
    content[148:156] = b"%06o\0 " % sum(b" " * 8 + content[:148] + content[156:512])
    shard.write_bytes(content)
    with pytest.raises(BadInput, match="cannot be read as a tar"):
        open_dataset(f"webdataset:{shard}", size=8)


@pytest.mark.parametrize(
    ("make", "pattern", "message"),
    [
        (lambda d: None, "x-{0..3}.tar", r"No such shard: .*x-0\.tar; webdataset:PATTERN names tar files"),
        (lambda d: None, "*.tar", "No such shard"),
        (lambda d: (d / "a.tar.gz").write_bytes(b"\x1f\x8bwrong"), "a.tar.gz", r"a\.tar\.gz cannot be read as a tar: "),
        (
            lambda d: (d / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfdx"),
            "a.tar.zst",
            r"with Zstandard: unpack it first \(zstd -d\)",
        ),
        (
            lambda d: (d / "a.tar.gz").write_bytes(gzip.compress(bytes(3 * 2**20))),
            "a.tar.gz",
            "No image in .* got no member",
        ),
        (lambda d: (d / "a.tar").write_bytes(b"not a tar at all" * 100), "a.tar", "as a tar"),
        (
            lambda d: (d / "a.tar").write_bytes(
                write_shard(d / "b", {"0.png": png(0, side=99), "1.png": png(1)}).read_bytes()[:700]
            ),
            "a.tar",
            "cannot be read as a tar: unexpected end of data",
        ),
        (lambda d: write_shard(d / "a.tar", {"0.txt": b"x"}), "a.tar", "No image in"),
        (
            lambda d: write_shard(d / "a.tar", {"0.png": png(0), "0.json": b"[1]"}),
            "a.tar",
            "must be a JSON object of names and values, got list",
        ),
        (
            lambda d: write_shard(d / "a.tar", {"0.png": png(0), "0.json": b"{"}),
            "a.tar",
            r"0\.json in .* cannot be read",
        ),
        (
            lambda d: write_shard(d / "a.tar", {"0.png": png(0), "0.jpg": png(0)}),
            "a.tar",
            "got two with the key '0'",
        ),
        (
            lambda d: [write_shard(d / n / "a.tar", {"0.png": png(0)}) for n in ("x", "y")],
            "*/a.tar",
            "The shards of .* must have different names",
        ),
    ],
)
def test_spoilt_shards(tmp_path: Path, make: Callable[[Path], object], pattern: str, message: str) -> None:
    make(tmp_path)
    with pytest.raises(BadInput, match=message) as raised:
        open_dataset(f"webdataset:{tmp_path}/{pattern}", size=8)
    assert "\n" not in str(raised.value)


# ------------------------------------------------------------------ specs and commands


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("celeb:/data", "There is no family 'celeb' of data sets; nearest valid: celeba"),
        ("celeba:", "'celeba:' names no data; expected a folder of images"),
        ("celeba:/nowhere", "No such folder of CelebA: /nowhere"),
        ("waterbirds:/nowhere", "No such folder of Waterbirds: /nowhere"),
        ("/nowhere", "No such image folder"),
    ],
)
def test_unknown_specs(spec: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_dataset(spec)


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds.write_images(tmp_path / "ab:c", 2)
    monkeypatch.chdir(tmp_path)
    assert len(open_images("ab:c").ids) == 2
    assert open_dataset(worlds.images(2))[1] is None


def test_an_audit_from_python(tmp_path: Path, shards: Path) -> None:
    for spec, count in ((f"celeba:{write_celeba(tmp_path / 'faces')}", 10), (f"webdataset:{shards}/part-*.tar", 11)):
        run = cfa.audit(spec, worlds.heads(), autoencoder=worlds.autoencoder(), out=tmp_path / f"run{count}")
        assert run.record()["images"] == count
        assert run.record()["data"]["source"] == spec.split(":")[0] + (":faces" if count == 10 else ":part-*.tar")


MODELS = ("--classifier", f"{WORLDS}:heads", "--autoencoder", f"{WORLDS}:autoencoder")


def test_every_command_takes_a_spec(tmp_path: Path) -> None:
    spec = f"celeba:{write_celeba(tmp_path / 'faces', 120)}"
    audit = ("audit", "--images", spec, "--split", "train", *MODELS, "--out", tmp_path / "run", "--json")
    ended = worlds.cfalign(*audit, folder=tmp_path)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["images"] == 6
    again = worlds.cfalign(*audit, folder=tmp_path)  # the same images by the same spec: the run goes on
    assert again.code == 0, again.err
    other = worlds.cfalign(*audit[:4], "val", *audit[5:], folder=tmp_path)
    assert other.code == 2
    assert "data" in other.err
    ended = worlds.cfalign(*audit[:4], "nowhere", *audit[5:], folder=tmp_path)
    assert (ended.code, ended.err) == (
        2,
        "cfalign: No image is in the split 'nowhere'; the table has test, train, val.\n",
    )
    ended = worlds.cfalign(
        *("bank", "--images", spec, "--split", "test", "--reference", f"{WORLDS}:heads", "--autoencoder"),
        *(f"{WORLDS}:autoencoder", "--limit", "20", "--out", tmp_path / "bank", "--json"),
        folder=tmp_path,
    )
    assert ended.code == 0, ended.err
    ended = worlds.cfalign(
        *("train", "classifier", "--images", spec, "--out", tmp_path / "heads", "--size", "16", "--epochs", "0.1"),
        *("--set", "widths=[4]", "--set", "hidden=4"),
        folder=tmp_path,
    )
    assert ended.code == 2  # six images of the split train are too few: the data set's own split is what counts
    assert re.search(r"Training needs at least \d+ images, got 6", ended.err)
    again = ["query", tmp_path / "run", "--images", spec, "--sheet", tmp_path / "s.png"]
    needed = re.search(r"give (.*)\.\n", worlds.cfalign(*again, folder=tmp_path).err)
    assert needed is not None
    ended = worlds.cfalign(*again, *needed[1].split(), folder=tmp_path)
    assert ended.code == 0, ended.err
    ended = worlds.cfalign(
        "train", "classifier", "--images", tmp_path / "faces", "--out", tmp_path / "h", folder=tmp_path
    )
    assert (ended.code, ended.err) == (
        2,
        "cfalign: Missing --labels: a folder of images brings none of its own.\n",
    )


def test_rectify_by_the_split_of_a_data_set(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "faces", 150)
    names = [f"{i + 1:06d}.png" for i in range(150)]
    (root / "list_eval_partition.txt").write_text(
        "".join(f"{n} {0 if i < 60 else 1 if i < 90 else 2}\n" for i, n in enumerate(names))
    )
    _edit("list_attr_celeba.txt", "Smiling", "Friendly")(root)
    models = ("--classifier", f"{WORLDS}:audited", "--reference", f"{WORLDS}:heads", "--autoencoder", MODELS[-1])
    ended = worlds.cfalign(
        *("rectify", "--images", f"celeba:{root}", "--target", "friendly", "--against", "wearing_hat", "--split"),
        *(*models, "--set", "min_images=3", "--out", tmp_path / "out"),
        folder=tmp_path,
    )
    assert ended.code == 0, ended.err
    assert "Accuracy: " in ended.out  # the data set's own labels
    ended = worlds.cfalign(
        *("rectify", "--images", root / "img_align_celeba", "--target", "friendly", "--against", "wearing_hat"),
        *("--split", *models, "--out", tmp_path / "other"),
        folder=tmp_path,
    )
    assert ended.code == 2
    assert "--split needs --labels" in ended.err


def test_training_on_the_splits_of_a_data_set(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "faces", 100)
    names = [f"{i + 1:06d}.png" for i in range(100)]
    (root / "list_eval_partition.txt").write_text("".join(f"{n} {max(0, i // 10 - 7)}\n" for i, n in enumerate(names)))
    ended = worlds.cfalign(
        *("train", "classifier", "--images", f"celeba:{root}", "--out", tmp_path / "heads", "--size", "16"),
        *("--epochs", "1", "--set", "widths=[4]", "--set", "hidden=4", "--json"),
        folder=tmp_path,
    )
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["held_out"] == 10
    assert set(found["targets"]) >= {"smiling"}


@pytest.mark.parametrize(
    ("package", "spec", "extra"), [("datasets", "hf:x", "data"), ("torchxrayvision", "xrv:NIH_Dataset:x", "xrv")]
)
def test_a_missing_package_names_its_extra(
    package: str, spec: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput, match=rf"needs the package '{package}'.*cfalign\[{extra}\]"):
        open_dataset(spec)


def test_memory_of_shards_is_that_of_the_ids(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", {f"{i:04d}.png": png(i % 250) for i in range(1000)})
    source = open_images(f"webdataset:{tmp_path}/a.tar", size=8)
    seen = [i for batch in in_batches(source, batch=64) for i in batch.indices]
    assert seen == list(range(1000))
