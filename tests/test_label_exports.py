"""Labels as annotation tools export them: known by their content, and nothing in them is lost or run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfalign._errors import BadInput
from cfalign.datasets import Labels, read_labels

NAN = float("nan")
IDS = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def written(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def said(labels: Labels) -> tuple[str, ...]:
    assert labels.reading is not None
    return labels.reading.said


def values(labels: Labels, expected: dict[str, Sequence[float]]) -> None:
    assert labels.targets == tuple(expected)
    np.testing.assert_array_equal(labels.values, np.array(list(expected.values())).T)


COCO = {
    "images": [{"id": 7, "file_name": "c.jpg"}, {"id": 8, "file_name": "set/a.jpg"}, {"id": 9, "file_name": "d.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18},
        {"id": 2, "image_id": 7, "category_id": 18, "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 1},
        {"id": 4, "image_id": 8, "category_id": 1},
        {"id": 5, "image_id": 8, "category_id": 99},
        {"id": 6, "image_id": 77, "category_id": 1},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "Hot Dog"}, {"id": 3, "name": "car"}],
}


def test_coco_says_which_category_is_in_which_image(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path / "instances.json", COCO), ids=IDS)
    values(labels, {"person": [1, NAN, 1, 0], "hot_dog": [0, NAN, 1, 0], "car": [0, NAN, 0, 0]})
    assert said(labels) == (
        "Read as COCO: 6 annotations of 3 images.",
        "2 annotations not read: of an image or category that the file does not list.",
    )
    assert labels.images_without_row.count == 1


@pytest.mark.parametrize("place", ["labels.json", "annotations/instances_val.json", "result.json"])
def test_a_folder_with_one_file_of_labels(tmp_path: Path, place: str) -> None:
    written(tmp_path / place, COCO)
    (tmp_path / "data").mkdir()
    assert read_labels(tmp_path, ids=IDS).targets == ("person", "hot_dog", "car")


def test_a_folder_with_several_files_of_labels(tmp_path: Path) -> None:
    for name in ("train", "val"):
        written(tmp_path / "annotations" / f"{name}.json", COCO)
    with pytest.raises(BadInput, match=r"several files of labels; name one of them: annotations/train\.json, "):
        read_labels(tmp_path, ids=IDS)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"classes": ["cat", "cow", "dog"], "labels": {"a": 0, "c": 2, "d": None}},
            {"class_cat": [1, NAN, 0, NAN], "class_cow": [0, NAN, 0, NAN], "class_dog": [0, NAN, 1, NAN]},
        ),
        ({"classes": ["cat", "dog"], "labels": {"a": 0, "b": 1, "c": 1, "d": 1}}, {"dog": [0, 1, 1, 1]}),
        (
            {"classes": None, "labels": {"a": {"label": "cat", "confidence": 0.4}, "b": {"label": "dog"}}},
            {"dog": [0, 1, NAN, NAN]},
        ),
        (
            {"classes": ["cat", "dog"], "labels": {"a": [0, 1], "b": [], "c": None}},
            {"cat": [1, 0, NAN, NAN], "dog": [1, 0, NAN, NAN]},
        ),
        (
            {"classes": ["person", "dog"], "labels": {"data/a": [{"label": 1, "bounding_box": [0, 0, 1, 1]}], "b": []}},
            {"person": [0, 0, NAN, NAN], "dog": [1, 0, NAN, NAN]},
        ),
    ],
)
def test_fiftyone_labels(tmp_path: Path, content: dict[str, Any], expected: dict[str, list[float]]) -> None:
    labels = read_labels(written(tmp_path / "labels.json", content), ids=IDS)
    values(labels, {name.removeprefix("class_"): cells for name, cells in expected.items()})
    assert said(labels)[0].startswith("Read as FiftyOne: ")


def test_fiftyone_samples(tmp_path: Path) -> None:
    def sample(name: str, truth: str | None, objects: Sequence[str], *tags: str) -> dict[str, Any]:
        found = [{"_cls": "Detection", "label": one} for one in objects]
        return {
            "filepath": f"/data/me/{name}",
            "tags": list(tags),
            "metadata": {"_cls": "ImageMetadata", "width": 3},
            "truth": truth and {"_cls": "Classification", "label": truth},
            "objects": {"_cls": "Detections", "detections": found},
        }

    samples = [sample("a.jpg", "cat", ["person"], "train"), sample("b.jpg", "dog", [], "validation", "odd")]
    written(tmp_path / "samples.json", {"samples": [*samples, sample("c.jpg", None, ["person", "hat"])]})
    labels = read_labels(tmp_path, ids=IDS)
    values(
        labels,
        {"truth_dog": [0, 1, NAN, NAN], "objects_person": [1, 0, 1, NAN], "objects_hat": [0, 0, 1, NAN]},
    )
    assert labels.split == ("train", "val", None, None)


YAML = {
    "list": "path: ../data\nnames:\n  - person  # 0\n  - 'hot dog'\nnc: 2\n",
    "at the margin": "names:\n- person\n- hot dog\n\ntrain: images/train\n",
    "by number": 'train: x\nnames:\n  0: person\n  1: "hot dog"\n',
    "flow": "nc: 2\nnames: ['person', \"hot dog\"]\n",
    "flow over lines": "names: [person,\n  hot dog]\nval: x\n",
    "flow by number": "names: {0: person, 1: hot dog}\n",
}


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_yolo(tmp_path: Path, text: str) -> None:
    names = written(tmp_path / "data.yaml", text)
    written(tmp_path / "labels/train/a.txt", "1 0.5 0.5 0.1 0.1\n1 .5 5e-1 0.2 0.2\n")
    written(tmp_path / "labels/val/b.txt", "\n")
    written(tmp_path / "images/train/a.jpg", "")
    written(tmp_path / "images/val/c.jpg", "")
    for place in (tmp_path, names):
        labels = read_labels(place, ids=["images/train/a.jpg", "images/val/b.jpg", "images/val/c.jpg", "d.jpg"])
        values(labels, {"person": [0, 0, 0, NAN], "hot_dog": [1, 0, 0, NAN]})
        assert labels.split == ("train", "val", "val", None)
        assert said(labels) == (
            "Read as YOLO: 2 label files of 2 categories.",
            "Images of the export without a label file, which count as without objects: 1.",
        )


@pytest.mark.parametrize("names", ["classes.txt", "obj.names"])
def test_yolo_labels_beside_the_images(tmp_path: Path, names: str) -> None:
    written(tmp_path / names, "person\nhat\n")
    written(tmp_path / "data/a.txt", "0 0.5 0.5 0.1 0.1")
    written(tmp_path / "data/b.txt", "1 0.5 0.5 0.1 0.1 0.2 0.2 0.3 0.3\n")
    written(tmp_path / "train.txt", "data/a.jpg\n")
    values(read_labels(tmp_path, ids=IDS), {"person": [1, 0, NAN, NAN], "hat": [0, 1, NAN, NAN]})
    values(read_labels(tmp_path / names, ids=IDS), {"person": [1, 0, NAN, NAN], "hat": [0, 1, NAN, NAN]})


@pytest.mark.parametrize(
    "text",
    [
        "names: !!python/object/apply:os.system ['touch ran']\n",
        "names: [!!python/name:os.system '']\n",
        "names: *anchor\n",
        "names: |\n  person\n",
        "names:\n  0: person\n  2: hat\n",
        "names: [person, {0: hat}]\n",
        "names: [person\n",
        "names:\n",
        "names: [hat, hat]\n",
    ],
)
def test_names_that_only_a_yaml_library_reads_are_refused(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "data.yaml", text)
    written(tmp_path / "labels/a.txt", "0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(BadInput, match=r"must name (the categories of YOLO labels as a list|every category once)"):
        read_labels(tmp_path, ids=IDS)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("line", ["2 0.5 0.5 0.1 0.1", "0 0.5 0.5", "cat 0.5 0.5 0.1 0.1", "0.0 0.5 0.5 0.1 0.1"])
def test_a_line_that_is_no_object(tmp_path: Path, line: str) -> None:
    written(tmp_path / "classes.txt", "person\nhat\n")
    written(tmp_path / "labels/a.txt", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(BadInput, match=r"a\.txt, line 2: expected the number of one of 2 categories"):
        read_labels(tmp_path, ids=IDS)


def test_folders_of_classes(tmp_path: Path) -> None:
    for name in ("cat/a.jpg", "cat/deep/b.JPG", "dog/c.jpg", "emu/x.png", "emu/notes.txt", "README.md"):
        written(tmp_path / name, "")
    ids = ("cat/a.jpg", "cat/deep/b.JPG", "dog/c.jpg", "d.jpg")
    labels = read_labels(tmp_path, ids=ids)
    values(labels, {"cat": [1, 1, 0, NAN], "dog": [0, 0, 1, NAN], "emu": [0, 0, 0, NAN]})
    assert said(labels) == ("Read as folders of classes: 3 classes (cat, dog, emu).",)
    assert labels.unmatched_rows.count == 1


def test_folders_of_classes_in_splits(tmp_path: Path) -> None:
    for name in ("train/cat/a.jpg", "train/dog/b.jpg", "valid/dog/c.jpg"):
        written(tmp_path / name, "")
    labels = read_labels(tmp_path, ids=("train/cat/a.jpg", "train/dog/b.jpg", "valid/dog/c.jpg"))
    values(labels, {"dog": [0, 1, 1]})
    assert labels.split == ("train", "train", "val")


def test_records(tmp_path: Path) -> None:
    records = [{"file": "a.jpg", "hat": 1, "box": [1, 2]}, {"file": "b.jpg", "hat": 0, "age": 30}]
    labels = read_labels(written(tmp_path / "x.json", records), ids=IDS)
    values(labels, {"hat": [1, 0, NAN, NAN]})
    assert set(labels.ignored_columns) == {"age", "box"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ({}, r"must be COCO \(images, annotations, categories\), FiftyOne"),
        ([], "must be COCO"),
        ([1, 2], "must be COCO"),
        ({"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}, "must list an image, got none"),
        ({"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "x"}]}, "damaged.*file_name"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}, "but no categories"),
        ({"images": [{"id": [1], "file_name": "a"}], "annotations": [], "categories": [{"id": 1}]}, "damaged"),
        ({"images": [3], "annotations": 4, "categories": [{"id": 1, "name": "x"}]}, "damaged"),
        ({**COCO, "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]}, "another name; got 'x' twice"),
        ({**COCO, "categories": [{"id": 1, "name": "image"}]}, "called 'image'"),
        ({"classes": ["x"], "labels": {"a": 1}}, r"label of 'a' in .* number of one of 1 classes, got 1"),
        ({"classes": ["x"], "labels": {"a": 1.5}}, r"must be a class or its number, got 1\.5"),
        ({"samples": [{"ground_truth": {"_cls": "Classification", "label": "x"}}]}, "damaged.*filepath"),
        ('{"classes": ["x"], "labels": {"a\\ud800": 0}}', "damaged"),
    ],
)
def test_json_that_is_no_labels(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read_labels(written(tmp_path / "x.json", content), ids=IDS)
    assert "\n" not in str(caught.value)


def test_an_export_names_its_images_itself(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"id_column: .* says itself which image is meant"):
        read_labels(written(tmp_path / "x.json", COCO), ids=IDS, id_column="image")
