"""Model files and addresses that cannot be used, through the real command: exit 2, one clear sentence, nothing written,
and no code of theirs run. At the end what works, so that the refusals mean something.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import worlds
from cfalign._models.weights import save_weights
from cfalign.synthetic import render, sample
from model_files import DESCRIBED, Colours, onnx_linear, onnx_node, program, say, script, serving, shortcut

SMALL = torch.zeros(2, 3, 16, 16)
READ = worlds.LinearHeads(worlds.SHORTCUT)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worlds.write_images(tmp_path_factory.mktemp("images"), 12)


class Desk:
    """A folder and an audit of whatever classifier; every refusal leaves the folder as it was."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder, self.images = folder, images

    def audit(self, classifier: object, *more: object, apart: bool = False) -> worlds.Ended:
        """`cfalign audit`, with sound images, reference heads and autoencoder; `apart`: in a process of its own."""
        given = ("--images", self.images, "--autoencoder", f"{worlds.__file__}:autoencoder")
        heads = ("--reference", f"{worlds.__file__}:heads", "--out", self.folder / "run")
        words = ("audit", "--classifier", classifier, *given, *heads, *more)
        if apart:
            return worlds.Command(*words, folder=self.folder).wait()
        return worlds.cfalign(*words, folder=self.folder)

    def refuses(self, classifier: object, *parts: str, more: tuple[object, ...] = (), apart: bool = False) -> str:
        """The one sentence; it must hold the parts."""
        before = {p: p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}
        ended = self.audit(classifier, *more, apart=apart)
        assert ended.code == 2, (ended.code, ended.out, ended.err)
        lines = ended.err.splitlines()
        assert len(lines) == 1, ended.err
        assert lines[0].startswith("cfalign: "), ended.err
        assert lines[0].endswith("."), ended.err
        assert ended.out == ""
        for part in parts:
            assert part in lines[0], lines[0]
        assert {p: p.read_bytes() for p in self.folder.rglob("*") if p.is_file()} == before
        return lines[0]


@pytest.fixture
def desk(tmp_path: Path, images: Path) -> Desk:
    return Desk(tmp_path, images)


class Marks:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


Make = Callable[[Path], object]  # a folder → the spec of a classifier


def sound(folder: Path, **content: Any) -> Path:
    """A TorchScript file of the audited head and a JSON beside it."""
    file = script(folder / "model.pt", READ, SMALL)
    say(file, **{"targets": ["friendly"], "link": "sigmoid", "size": 16, **content})
    return file


def cut(make: Make, kept: float) -> Make:
    """The first part of a file."""

    def made(folder: Path) -> Path:
        file = Path(str(make(folder)))
        content = file.read_bytes()
        file.write_bytes(content[: int(kept * len(content))])
        return file

    return made


def filled(name: str, content: bytes) -> Make:
    """A file of such content, and a sound JSON."""

    def made(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        say(folder / name, link="sigmoid", size=16)
        return folder / name

    return made


def saved(content: Any, name: str = "model.pt", **more: Any) -> Make:
    """What ``torch.save`` makes of it, and a sound JSON."""

    def made(folder: Path) -> Path:
        torch.save(content, folder / name, **more)
        say(folder / name, link="sigmoid", size=16)
        return folder / name

    return made


def told(**content: Any) -> Make:
    return lambda folder: sound(folder, **content)


def beside(text: str) -> Make:
    """A sound file and this beside it."""

    def made(folder: Path) -> Path:
        file = sound(folder)
        (folder / "model.pt.json").write_text(text)
        return file

    return made


def scripted(module: nn.Module, *example: Tensor, **content: Any) -> Make:
    def made(folder: Path) -> Path:
        file = script(folder / "model.pt", module, *example)
        say(file, **{"link": "sigmoid", "size": 16, **content})
        return file

    return made


def bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/constants.pkl", b"\0" * (64 << 20))
    return folder / "model.pt"


def trained(change: Callable[[dict[str, Tensor]], Any]) -> Make:
    """A weight file of ``cfalign train classifier`` with other contents."""

    def made(folder: Path) -> Path:
        from cfalign.classifiers.attribute_network import AttributeNetwork

        network = AttributeNetwork(["friendly"], size=16, widths=(4, 8), hidden=8)
        state = network.state_dict()
        change(state)

        class Holder(nn.Module):
            def state_dict(self, *_: Any, **__: Any) -> Any:
                return state

        save_weights(folder / "classifier.safetensors", Holder(), network.config)
        return folder / "classifier.safetensors"

    return made


class Words(nn.Module):
    """Not of images: it takes whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.table(words).sum(dim=1)


class Pair(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.mean((2, 3)), images


class Two(nn.Module):
    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        return (images * mask).mean((2, 3))


FILES: dict[str, tuple[Make, tuple[str, ...]]] = {
    # the file itself
    "no file": (lambda f: f / "model.pt", ("There is no weight file",)),
    "a folder": (lambda f: (f / "model.pt").mkdir() or f / "model.pt", ("classifier.safetensors",)),
    "empty": (filled("model.pt", b""), ("is an empty file",)),
    "empty program": (filled("model.pt2", b""), ("is an empty file",)),
    "a web page": (filled("model.pt", b"<!DOCTYPE html>"), ("neither safetensors nor a checkpoint",)),
    "a web page as program": (filled("model.pt2", b"<!DOCTYPE html>"), ("no archive as torch writes it",)),
    "truncated script": (cut(told(), 0.6), ("cut short or damaged", "copy it again")),
    "truncated checkpoint": (cut(saved({"a": torch.ones(9)}, "model.pth"), 0.5), ("cut short or damaged",)),
    "truncated old checkpoint": (
        cut(saved({"a": torch.ones(9)}, "model.pth", _use_new_zipfile_serialization=False), 0.5),
        ("cut short",),
    ),
    "truncated program": (
        cut(lambda f: program(f / "model.pt2", Colours(), SMALL), 0.5),
        ("cut short or damaged",),
    ),
    "a bomb": (bomb, ("would unpack to 67108864",)),
    "weights alone": (saved(READ.state_dict()), ("without their network", "file.py:factory")),
    "a tensor": (saved(torch.ones(2)), ("holds a Tensor", "no torch module")),
    "a module": (saved(READ), ("pickle that runs code", "--trust", "file.py:factory")),
    "a program as script": (
        lambda f: program(f / "model.pt2", Colours(), SMALL).rename(f / "model.pt"),
        ("give it the suffix .pt2",),
    ),
    "weights of cfalign, a key missing": (trained(lambda s: s.pop("head.1.weight")), ("Missing key", "head.1.weight")),
    "weights of cfalign, a key too many": (
        trained(lambda s: s.update({"other.weight": torch.ones(1)})),
        ("Unexpected key", "other.weight"),
    ),
    "weights of cfalign, another shape": (
        trained(lambda s: s.update({"head.1.weight": torch.ones(3, 3)})),
        ("size mismatch for head.1.weight",),
    ),
    "an unknown suffix": (filled("model.tflite", b"TFL3"), ("Unknown classifier", ".onnx")),
    # the JSON beside it
    "no JSON": (lambda f: script(f / "model.pt", READ, SMALL), ("write model.pt.json (or model.json) beside it",)),
    "JSON that is none": (beside("{targets: 1}"), ("cannot be read as JSON", '"link": "sigmoid"')),
    "JSON of a list": (beside("[1, 2]"), ("holds a list; expected an object",)),
    "an unknown key": (told(tragets=["a"]), ("Unknown key 'tragets'", "nearest valid: targets")),
    "no link": (beside('{"targets": ["friendly"]}'), ("sigmoid, softmax, probability", "got no link")),
    "an unknown link": (told(link="logit"), ("got 'logit'",)),
    "targets of one name": (told(targets="friendly"), ("targets must be a list of names",)),
    "two targets alike": (told(targets=["a", "A"]), ("Two targets are called 'a'",)),
    "more targets than outputs": (told(targets=["a", "b", "c"]), ("has 1 outputs", "names 3 targets")),
    "softmax of one": (told(link="softmax"), ("at least two targets",)),
    "a size in words": (told(size="big"), ("size must be a whole number of pixels, got 'big'",)),
    "another size": (told(size=20), ("does not take images of shape [2, 3, 20, 20]",)),
    "channels": (told(channels=4), ("channels must be 1 or 3, got 4",)),
    "means without deviations": (told(normalize=[[0.5]]), ("normalize must be [means, stds]",)),
    "a deviation of 0": (told(normalize=[[0.5], [0.0]]), ("stds above 0",)),
    "means of two channels": (told(normalize=[[0.5] * 2, [0.5] * 2]), ("normalize has 2 means", "3 channel(s)")),
    "a grey model without saying so": (
        scripted(nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), SMALL[:, :1]),
        ("does not take images of shape [2, 3, 16, 16]", "1 channels"),
    ),
    # what is in it
    "a script of words": (scripted(Words(), torch.zeros(2, 5, dtype=torch.int64)), ("does not take images",)),
    "a script of two answers": (scripted(Pair(), SMALL), ("gives tuple for 2 images; expected floats",)),
    "a script of two inputs": (scripted(Two(), SMALL, SMALL), ("does not take images", "mask")),
    "a script of pictures": (scripted(nn.Upsample(scale_factor=2), SMALL), ("of shape [2, 3, 32, 32]",)),
    "a program of rows": (
        lambda f: program(f / "m.pt2", nn.Linear(4, 2), torch.zeros(2, 4)),
        ("expected one, images",),
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_used(case: str, desk: Desk) -> None:
    make, parts = FILES[case]
    # In a process of its own no type is checked at run time, so that a tuple comes as far as it does for a user.
    desk.refuses(make(desk.folder), *parts, apart=case == "a script of two answers")


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "old.pt"])
def test_code_in_a_pickle_is_not_run_unless_it_is_trusted(desk: Desk, name: str) -> None:
    mark = desk.folder / "mark"
    modern = name != "old.pt"
    saved({"state_dict": READ.state_dict(), "more": Marks(mark)}, name, _use_new_zipfile_serialization=modern)(
        desk.folder
    )
    desk.refuses(desk.folder / name, "runs code when it is read", "--trust")
    assert not mark.exists()
    ended = desk.audit(desk.folder / name, "--trust")
    assert ended.code == 2, "weights alone are no classifier, trusted or not"
    assert mark.is_dir()


def test_code_in_a_program_is_not_run(desk: Desk) -> None:
    file, mark = program(desk.folder / "model.pt2", Colours(), SMALL), desk.folder / "mark"
    torch.save((Marks(mark),), desk.folder / "inputs.pt")
    with zipfile.ZipFile(file) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for entry, content in entries.items():
            evil = (desk.folder / "inputs.pt").read_bytes() if "sample_inputs" in entry else content
            archive.writestr(entry, evil)
    desk.refuses(file, "may run code", "TorchScript or ONNX", "--trust")
    assert not mark.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "--images", "I", "--autoencoder", "embedded", "--classifier", "M"),
        ("audit", "--images", "I", "--autoencoder", "embedded", "--classifier", "embedded", "--reference", "M"),
        ("bank", "--images", "I", "--autoencoder", "embedded", "--reference", "M"),
        ("explain", "I/0000.png", "--base", "friendly", "--classifier", "M"),
        (
            "rectify",
            *worlds.options(images="I", autoencoder="embedded", classifier="M", target="a", against="b"),
        ),
        ("reproduce", "fig5", "--images", "I", "--classifier", "M", "--autoencoder", "embedded"),
    ],
)
def test_every_command_refuses_and_trusts(desk: Desk, words: tuple[str, ...]) -> None:
    mark, file = desk.folder / "mark", desk.folder / "model.pt"
    saved({"more": Marks(mark)})(desk.folder)
    given = [word.replace("I", str(desk.images), 1) if word[0] == "I" else word for word in words]
    given = [str(file) if word == "M" else word for word in given] + ["--out", str(desk.folder / "run")]
    ended = worlds.cfalign(*given, folder=desk.folder)
    assert (ended.code, mark.exists()) == (2, False), ended.err
    assert "--trust" in ended.err
    ended = worlds.cfalign(*given, "--trust", folder=desk.folder)
    assert (ended.code, mark.exists()) == (2, True), ended.err
    assert not (desk.folder / "run").exists()


# -- ONNX -------------------------------------------------------------------------------------------------------------

ONNX: dict[str, tuple[Make, tuple[str, ...]]] = {
    "no file": (lambda f: f / "model.onnx", ("There is no file",)),
    "empty": (filled("model.onnx", b""), ("is an empty file",)),
    "a web page": (filled("model.onnx", b"<!DOCTYPE html>"), ("cannot be loaded as ONNX",)),
    "truncated": (cut(lambda f: onnx_linear(f / "model.onnx", READ.read), 0.5), ("cannot be loaded as ONNX",)),
    "an operator that is none": (
        lambda f: onnx_node(f / "m.onnx", "Deformable", ["n", 3, 8, 8], ["n", 3]),
        ("uses the operator 'Deformable'", "older opset"),
    ),
    "a wrong rank": (
        lambda f: onnx_node(f / "m.onnx", "ReduceMean", ["n", 3, 8], ["n", 3], axes=[2], keepdims=0),
        ("input of shape ['n', 3, 8]; expected images, four axes",),
    ),
    "a wrong type": (
        lambda f: onnx_node(f / "m.onnx", "Identity", ["n", 3, 8, 8], ["n", 3, 8, 8], kind="UINT8"),
        ("input of type tensor(uint8); expected floats",),
    ),
    "two inputs": (
        lambda f: onnx_node(f / "m.onnx", "Add", ["n", 3, 8, 8], ["n", 3, 8, 8], inputs=2),
        ("has 2 inputs (x0, x1); expected one",),
    ),
    "no JSON": (lambda f: onnx_linear(f / "m.onnx", READ.read), ("write m.onnx.json (or m.json) beside it",)),
}


@pytest.mark.parametrize("case", ONNX)
def test_an_onnx_file_that_cannot_be_used(case: str, desk: Desk) -> None:
    pytest.importorskip("onnx", reason="makes the files")
    pytest.importorskip("onnxruntime", reason="the extra onnx")
    make, parts = ONNX[case]
    desk.refuses(make(desk.folder), *parts)


def test_onnx_without_its_extra(desk: Desk) -> None:
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        desk.refuses(filled("model.onnx", b"x")(desk.folder), "'onnxruntime'", 'pip install "cfalign[onnx]"')
    else:
        pytest.skip("onnxruntime is installed here")


# -- addresses --------------------------------------------------------------------------------------------------------


def test_addresses_that_cannot_be_used(desk: Desk) -> None:
    desk.refuses("http://127.0.0.1:9/", "127.0.0.1:9/ cannot be reached (connection refused), 4 times")
    desk.refuses("http://", "is no address; expected http://host:port/path")
    with serving(shortcut, b"<!DOCTYPE html><html>Sign in</html>") as server:
        desk.refuses(server.address, "did not answer JSON", "<!DOCTYPE html>")
    with serving(shortcut, {"classes": 3}) as server:
        desk.refuses(server.address, "does not describe a classifier", '"targets"')
    with serving(shortcut) as server:
        server.failures = [404]
        desk.refuses(server.address, "answered 404")


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (lambda x: b"<html>busy</html>", "did not answer JSON"),
        (lambda x: [[0.5, 0.5]] * len(x), "expected [12, 1]: images, targets"),
        (lambda x: [[1.5]] * len(x), "expected probabilities in [0, 1]"),
        (lambda x: [[float("nan")]] * len(x), "NaN or infinity"),
    ],
)
def test_answers_that_cannot_be_used(desk: Desk, answer: Any, part: str) -> None:
    with serving(answer) as server:
        ended = desk.audit(server.address)
    assert ended.code == 2, ended.err
    sentences = [line for line in ended.err.splitlines() if line.startswith("cfalign: ")]
    assert len(sentences) == 1
    assert part in sentences[0]
    assert "Traceback" not in ended.err
    assert not (desk.folder / "run").exists()


# -- and what works ---------------------------------------------------------------------------------------------------


def test_a_trusted_module_and_a_grey_script_are_audited(desk: Desk) -> None:
    saved(nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 1)))(desk.folder)
    ended = desk.audit(desk.folder / "model.pt", "--trust")
    assert ended.code == 0, ended.err
    grey = desk.folder / "grey"
    grey.mkdir()
    pooled = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, 1))
    file = scripted(pooled, SMALL[:, :1], channels=1, targets=["friendly"])(grey)
    ended = Desk(grey, desk.images).audit(file)
    assert ended.code == 0, ended.err


@pytest.fixture(scope="module")
def faces_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of the embedded faces, made by the command."""
    folder = tmp_path_factory.mktemp("faces")
    for i, face in enumerate(render(sample(60, seed=0))):
        pixels = (face * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    words = ("--images", folder, "--reference", "embedded", "--autoencoder", "embedded", "--limit", 8)
    some = ("--attributes", "smiling,wearing_hat,young", "--out", folder / "bank")
    ended = worlds.cfalign("bank", *words, *some, folder=folder)
    assert ended.code == 0, ended.err
    return folder / "bank"


def dark(read: Tensor) -> nn.Module:
    """A head that answers to the darkness of the upper third of the face, where hats are."""
    module = nn.Linear(3 * 64 * 64, 1)
    with torch.no_grad():
        module.weight.copy_(read.T)
        module.bias.zero_()
    return nn.Sequential(nn.Flatten(), module)


def upper() -> Tensor:
    weights = torch.zeros(3, 64, 64)
    weights[:, :16] = -0.01
    return weights.reshape(-1, 1)


def audited(bank: Path, classifier: object, out: Path) -> pl.DataFrame:
    ended = worlds.cfalign("audit", "--bank", bank, "--classifier", classifier, "--out", out, folder=out.parent)
    assert ended.code == 0, ended.err
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "complete"
    return pl.read_csv(out / "effects.csv").sort("attribute")


def test_a_bank_of_the_embedded_faces_audits_a_script_an_onnx_file_and_a_server(
    faces_bank: Path, tmp_path: Path
) -> None:
    module = dark(upper())

    def answer(x: Tensor) -> list[list[float]]:
        with torch.no_grad():
            found: list[list[float]] = torch.sigmoid(module(x - 0.5)).tolist()
        return found

    file = script(tmp_path / "upper.pt", module, torch.zeros(2, 3, 64, 64))
    say(file, targets=["upper"], link="sigmoid", normalize=[[0.5], [1.0]], size=64)
    first = audited(faces_bank, file, tmp_path / "script")
    assert first["audited"].unique().to_list() == ["upper"]
    incoming = dict(zip(first["attribute"], first["incoming"], strict=True))
    assert incoming["wearing_hat"] > 0.05 > 10 * max(abs(incoming["smiling"]), abs(incoming["young"]))
    with serving(answer, {**DESCRIBED, "targets": ["upper"], "size": 64}) as server:
        second = audited(faces_bank, server.address, tmp_path / "server")
        assert max(len(c["images"]["data"]) for method, c in server.asked if method == "POST") > 2**17
    for name in ("effect", "incoming"):
        assert second[name].to_list() == pytest.approx(first[name].to_list(), abs=1e-4)
    pytest.importorskip("onnx", reason="makes the file")
    pytest.importorskip("onnxruntime", reason="the extra onnx")
    file = onnx_linear(tmp_path / "upper.onnx", upper(), pixels=(3, 64, 64), batch=7)
    say(file, targets=["upper"], link="sigmoid")
    third = audited(faces_bank, file, tmp_path / "onnx")
    for name in ("effect", "incoming"):
        assert third[name].to_list() == pytest.approx(first[name].to_list(), abs=1e-4)
