"""Folders that are reached directly and by links: each image is listed once, and all names of it fit."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from PIL import Image

from cfalign._errors import BadInput
from cfalign.datasets import ImageFolder, open_images
from cfalign.datasets.linked_folders import LinkedIds


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "teal").save(root / name)
    return root


def links(source: object) -> dict[str, str]:
    ids = getattr(source, "ids", None)
    assert isinstance(ids, LinkedIds)
    return dict(ids.links)


def test_a_link_beside_its_target_gives_way_to_the_real_name(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", "v2/0.png", "v2/deep/1.png")
    (root / "current").symlink_to("v2")
    source = open_images(root, size=8)
    assert source.ids == ("v2/0.png", "v2/deep/1.png")
    assert links(source) == links(source.subset(["v2/0.png"])) == {"current": "v2"}


def test_a_folder_outside_is_followed_under_the_first_link_to_it(tmp_path: Path) -> None:
    folder(tmp_path / "disk", "x.png", "inner/y.png")
    root = folder(tmp_path / "data", "z.png")
    (root / "b").symlink_to(tmp_path / "disk")
    (root / "c").symlink_to(tmp_path / "disk")
    (root / "d").symlink_to(tmp_path / "disk" / "inner")
    source = ImageFolder(root, size=8)
    assert source.ids == ("b/inner/y.png", "b/x.png", "z.png")
    assert links(source) == {"c": "b", "d": "b/inner"}


def test_part_of_a_folder_that_was_listed_before_is_not_listed_again(tmp_path: Path) -> None:
    folder(tmp_path / "disk", "x.png", "inner/y.png")
    root = folder(tmp_path / "data", "z.png")
    (root / "a").symlink_to(tmp_path / "disk" / "inner")
    (root / "b").symlink_to(tmp_path / "disk")
    source = ImageFolder(root, size=8)
    assert source.ids == ("a/y.png", "b/x.png", "z.png")
    assert links(source) == {"b/inner": "a"}


def test_circles_end_and_are_no_other_name(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", "a/0.png", "b/1.png")
    (root / "a" / "up").symlink_to("..")
    (root / "b" / "across").symlink_to("../a")
    (root / "self").symlink_to(".")
    (root / "ping").symlink_to("pong")
    (root / "pong").symlink_to("ping")
    source = ImageFolder(root, size=8)
    assert source.ids == ("a/0.png", "b/1.png")
    assert links(source) == {"b/across": "a"}


def test_the_root_may_be_a_link_itself(tmp_path: Path) -> None:
    folder(tmp_path / "v2", "0.png")
    (tmp_path / "current").symlink_to("v2")
    assert ImageFolder(tmp_path / "current", size=8).ids == ("0.png",)


def test_ids_with_links_compare_as_a_tuple_and_survive_pickling(tmp_path: Path) -> None:
    ids = LinkedIds(["v2/0.png"], {"current": "v2"})
    assert ids == ("v2/0.png",)
    copied = pickle.loads(pickle.dumps(ids))
    assert copied == ids
    assert copied.links == {"current": "v2"}


def test_only_links_to_nowhere_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gone").symlink_to("nothing")
    with pytest.raises(BadInput, match="No image in"):
        ImageFolder(tmp_path / "data", size=8)
