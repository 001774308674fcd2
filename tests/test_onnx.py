"""ONNX files as black boxes: the answers of onnxruntime, batches, layouts, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import worlds
from cfalign._errors import BadInput, ModelWarning
from cfalign._models.fingerprint import fingerprint
from cfalign.classifiers import load
from cfalign.classifiers.exported.onnx_file import external_data, origin_in
from model_files import onnx_linear, onnx_node, say

onnx = pytest.importorskip("onnx", reason="makes the files")
pytest.importorskip("onnxruntime", reason="the extra onnx")

READ = worlds.LinearHeads().read.detach()
X = worlds.images(9)
EXPECTED = worlds.LinearHeads()(X).detach()


def probabilities(file: Path, x: Tensor = X) -> Tensor:
    return torch.sigmoid(load(str(file)).logits(x))


@pytest.mark.parametrize("batch", ["n", -1, 1, 4, 16])
@pytest.mark.parametrize("last", [False, True])
def test_every_batch_size_and_layout(tmp_path: Path, batch: int | str, last: bool) -> None:
    file = onnx_linear(tmp_path / "model.onnx", READ, batch=batch if batch != -1 else "batch", last=last)
    say(file, targets=list(worlds.TARGETS), link="sigmoid")
    read = load(str(file))
    assert (read.name, read.targets, read.differentiable) == ("model", worlds.TARGETS, False)
    torch.testing.assert_close(torch.sigmoid(read.logits(X)), torch.sigmoid(EXPECTED))
    assert read.logits(X[:1]).shape == (1, 4)


def test_links_sizes_and_normalising(tmp_path: Path) -> None:
    file = onnx_linear(tmp_path / "model.onnx", READ)
    say(file, link="softmax")
    torch.testing.assert_close(probabilities(file), torch.softmax(EXPECTED, dim=1))
    assert load(str(file)).targets == ("class_0", "class_1", "class_2", "class_3")
    with_sigmoid = onnx_linear(tmp_path / "other.onnx", READ, end="Sigmoid")
    say(with_sigmoid, link="probability")
    torch.testing.assert_close(probabilities(with_sigmoid), torch.sigmoid(EXPECTED))
    say(file, link="sigmoid", normalize=[[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
    torch.testing.assert_close(probabilities(file), torch.sigmoid(worlds.LinearHeads()(X / 2)))
    large = torch.nn.functional.interpolate(X, (32, 32), mode="bilinear")
    assert load(str(file)).logits(large).shape == (9, 4), "the size comes from the file"


@pytest.mark.parametrize("kind", ["FLOAT16", "DOUBLE"])
def test_other_precisions_and_one_output(tmp_path: Path, kind: str) -> None:
    file = onnx_linear(tmp_path / "model.onnx", READ[:, :1], flat=True, kind=kind)
    say(file, targets=["smiling"], link="sigmoid")
    tolerance = 1e-2 if kind == "FLOAT16" else 1e-5
    torch.testing.assert_close(probabilities(file), torch.sigmoid(EXPECTED[:, :1]), atol=tolerance, rtol=tolerance)


def test_a_grey_model_sees_the_mean_of_the_channels(tmp_path: Path) -> None:
    read = READ.view(3, 256, 4).sum(dim=0)
    file = onnx_linear(tmp_path / "grey.onnx", read, pixels=(1, 16, 16))
    say(file, link="sigmoid")
    expected = torch.sigmoid((X.mean(dim=1).flatten(1) - 0.5) @ read)
    torch.testing.assert_close(probabilities(file), expected)
    say(file, link="sigmoid", channels=3)
    with pytest.raises(BadInput, match=r"grey\.onnx\.json says channels 3, but the input of grey\.onnx has 1"):
        load(str(file))


def test_a_model_of_any_size(tmp_path: Path) -> None:
    file = onnx_node(tmp_path / "mean.onnx", "GlobalAveragePool", ["n", 3, "h", "w"], ["n", 3, 1, 1])
    say(file, link="probability", size=8)
    with pytest.raises(BadInput, match=r"gives torch\.float32 of shape \[2, 3, 1, 1\] for 2 images"):
        load(str(file))
    file = onnx_node(tmp_path / "sum.onnx", "ReduceMean", ["n", 3, "h", "w"], ["n", 3], axes=[2, 3], keepdims=0)
    say(file, link="probability")
    torch.testing.assert_close(probabilities(file), X.mean(dim=(2, 3)))


def test_another_file_is_another_classifier(tmp_path: Path) -> None:
    made = []
    for name, read in (("a", READ), ("b", READ), ("c", -READ)):
        (tmp_path / name).mkdir()
        file = onnx_linear(tmp_path / name / "model.onnx", read)
        say(file, link="sigmoid")
        made.append(fingerprint(load(str(file))))
    assert made[0] == made[1]
    assert made[0] != made[2]
    say(tmp_path / "b" / "model.onnx", link="softmax")
    assert fingerprint(load(str(tmp_path / "b" / "model.onnx"))) != made[0]


MEAN: dict[str, Any] = {"axes": [2, 3], "keepdims": 0}
IMAGES: list[Any] = ["n", 3, 16, 16]


def node(operator: str = "ReduceMean", shape: list[Any] = IMAGES, **more: Any) -> Callable[[Path], Path]:
    given = {**(MEAN if operator == "ReduceMean" else {}), **more}
    return lambda file: onnx_node(file, operator, shape, given.pop("out", ["n", 3]), **given)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (node("Whatever"), "uses the operator 'Whatever', which this onnxruntime"),
        (node("Conv", domain="com.acme"), "uses the operator 'com.acme'"),
        (node("Gelu", inputs=2), "has 2 inputs|operator 'Gelu'|cannot be loaded as ONNX"),
        (node("Add", inputs=2, out=IMAGES), r"has 2 inputs \(x0, x1\); expected one"),
        (node("Split", answers=["a", "b"], axis=2, out=["n", 3, 8, 16]), "has 2 outputs"),
        (node("ReduceMean", ["n", 768], axes=[1], out=["n"]), r"input of shape \['n', 768\]; expected images"),
        (node("ReduceMean", kind="INT64"), r"input of type tensor\(int64\); expected floats"),
        (node("ReduceMean", ["n", 3, 16, 24]), "16×24; expected a square"),
        (node("ReduceMean", ["n", 5, 16, 16], out=["n", 5]), "5 channels; expected 1 or 3"),
        (node("ReduceMean", axes=[0], out=[3, 16, 16]), r"gives torch\.float32 of shape \[3, 16, 16\]"),
    ],
)
def test_models_of_something_else(tmp_path: Path, make: Callable[[Path], Path], sentence: str) -> None:
    file = make(tmp_path / "model.onnx")
    say(file, link="sigmoid")
    with pytest.raises(BadInput, match=sentence) as caught:
        load(str(file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    with pytest.raises(BadInput, match="There is no file"):
        load(str(file))
    whole = onnx_linear(file, READ).read_bytes()
    say(file, link="sigmoid")
    for kept in (0, 1, 30, len(whole) // 2, len(whole) - 3):
        file.write_bytes(whole[:kept])
        with pytest.raises(BadInput, match=r"model\.onnx (cannot be loaded as ONNX|is an empty file)"):
            load(str(file))
    for other in (b"<html>", b"PK\x03\x04 a zip", json.dumps({"a": 1}).encode()):
        file.write_bytes(other)
        with pytest.raises(BadInput, match="cannot be loaded as ONNX"):
            load(str(file))


def test_a_count_that_does_not_fit(tmp_path: Path) -> None:
    file = onnx_linear(tmp_path / "model.onnx", READ)
    with pytest.raises(BadInput, match=r"does not say what its outputs are: write model\.onnx\.json"):
        load(str(file))
    say(file, targets=["a", "b"], link="sigmoid")
    with pytest.raises(BadInput, match=r"has 4 outputs, but model\.onnx\.json names 2 targets"):
        load(str(file))
    one = onnx_linear(tmp_path / "one.onnx", READ[:, :1])
    say(one, link="softmax")
    with pytest.raises(BadInput, match="link softmax needs at least two"):
        load(str(one))


# -- weights in other files, and what the outputs are ------------------------------------------------------------------


def beside(file: Path, read: Tensor, location: str) -> Path:
    """The linear model with its weights in a file of their own."""
    onnx_linear(file, read)
    made = onnx.load(file)
    place = file.parent / location
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    onnx.save_model(made, file, save_as_external_data=True, location=location, size_threshold=100)
    say(file, link="sigmoid")
    return file


@pytest.mark.parametrize("location", ["model.onnx.data", "model.onnx_data", "w.bin", "weights/deep/a b.ü", "x" * 150])
def test_weights_in_another_file_count_wherever_it_is(tmp_path: Path, location: str) -> None:
    found = []
    for number, read in enumerate((READ, -READ, READ)):
        (tmp_path / str(number)).mkdir()
        file = beside(tmp_path / str(number) / "model.onnx", read, location)
        (place,) = external_data(file)
        assert place == file.parent / location
        found.append(fingerprint(load(str(file))))
    assert found[0] == found[2] != found[1]


def test_weights_that_are_missing_or_elsewhere(tmp_path: Path) -> None:
    file = beside(tmp_path / "model.onnx", READ, "model.data")
    (tmp_path / "model.data").rename(tmp_path / "other.data")
    with pytest.raises(BadInput, match=r"keeps its weights in 'model\.data', which is not beside it"):
        load(str(file))
    for place in (b"../ab.data", b"/tmp/a.dat"):
        content = (tmp_path / "model.onnx").read_bytes().replace(b"model.data", place)
        (tmp_path / "out.onnx").write_bytes(content)
        say(tmp_path / "out.onnx", link="sigmoid")
        with pytest.raises(BadInput, match="outside of its own folder"):
            load(str(tmp_path / "out.onnx"))


def test_a_file_is_walked_without_an_error_of_its_own(tmp_path: Path) -> None:
    content = beside(tmp_path / "model.onnx", READ, "model.data").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        spoiled = bytearray(content[: rng.integers(1, len(content))])
        for at in rng.integers(0, len(spoiled), size=3):
            spoiled[at] = rng.integers(0, 256)
        file = tmp_path / "spoiled.onnx"
        file.write_bytes(bytes(spoiled))
        try:
            external_data(file)
            origin_in(file)
        except BadInput as error:
            assert "spoiled.onnx" in str(error)  # noqa: PT017 (either is right)


@pytest.mark.parametrize(("end", "kind"), [("Sigmoid", "bounded"), ("Identity", "free"), ("Tanh", "unknown")])
def test_what_an_onnx_model_ends_in(tmp_path: Path, end: str, kind: str) -> None:
    file = onnx_linear(tmp_path / "model.onnx", READ, end=end)
    assert origin_in(file) == kind


@pytest.mark.parametrize("end", ["Sigmoid", "Softmax"])
@pytest.mark.parametrize("link", ["sigmoid", "softmax"])
def test_probabilities_of_an_onnx_model_are_noticed(tmp_path: Path, end: str, link: str) -> None:
    file = onnx_linear(tmp_path / "model.onnx", READ, end=end)
    say(file, link="probability")
    right = load(str(file)).logits(worlds.images(4))
    say(file, link=link)
    with pytest.warns(ModelWarning, match="returns probabilities"):
        box = load(str(file))
    assert torch.equal(box.logits(worlds.images(4)), right)
    assert "probabilities" in box.notes[0]
