"""TorchScript and ``torch.export`` files as classifiers: the same answers and gradients as their modules."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cfalign as cfa
import worlds
from cfalign._errors import BadInput
from cfalign._models.fingerprint import fingerprint
from cfalign.classifiers import load, wrap
from cfalign.classifiers.exported.input_shape import batched
from cfalign.classifiers.exported.vetting import vet
from model_files import Colours, program, say, script

SMALL = torch.zeros(2, 3, 16, 16)
NORMALIZE = [[0.5, 0.4, 0.3], [0.2, 0.1, 0.4]]
Maker = Callable[..., Path]


def images(n: int = 5, size: int = 16) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


MAKERS = [pytest.param(script, ".pt", id="script"), pytest.param(program, ".pt2", id="program")]


@pytest.mark.parametrize(("maker", "suffix"), MAKERS)
def test_an_exported_model_answers_as_its_module(tmp_path: Path, maker: Maker, suffix: str) -> None:
    module, x = Colours(), images(size=24).requires_grad_(True)
    file = maker(tmp_path / f"model{suffix}", module, SMALL)
    say(file, targets=["Young", "Big Nose", "c"], link="sigmoid", normalize=NORMALIZE, size=16)
    read = load(str(file))
    assert (read.name, read.targets, read.differentiable) == ("model", ("young", "big_nose", "c"), True)
    ours = wrap(module, ["a", "b", "c"], normalize=(NORMALIZE[0], NORMALIZE[1]), size=16)
    for n in (1, 2, 5):
        torch.testing.assert_close(read.logits(x[:n]), ours.logits(x[:n]))
    (found,) = torch.autograd.grad(read.logits(x)[:, 1].sum(), x)
    (expected,) = torch.autograd.grad(ours.logits(x)[:, 1].sum(), x)
    assert (expected != 0).any()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("maker", "suffix"), MAKERS)
def test_links_and_names_of_their_own(tmp_path: Path, maker: Maker, suffix: str) -> None:
    module, x = Colours(), images()
    file = maker(tmp_path / f"model{suffix}", module, SMALL)
    (tmp_path / "model.json").write_text(json.dumps({"link": "softmax", "size": 16}))
    read = load(str(file))
    assert read.targets == ("class_0", "class_1", "class_2")
    torch.testing.assert_close(torch.sigmoid(read.logits(x)), torch.softmax(module(x), dim=1))
    say(file, link="sigmoid", targets=["x", "y", "z"])
    assert load(str(file)).targets == ("x", "y", "z"), "model.pt.json goes before model.json"


@pytest.mark.parametrize(("maker", "suffix"), MAKERS)
def test_a_grey_model_sees_the_mean_of_the_channels(tmp_path: Path, maker: Maker, suffix: str) -> None:
    module, x = Colours(outputs=2, channels=1), images()
    file = maker(tmp_path / f"grey{suffix}", module, SMALL[:, :1])
    say(file, link="sigmoid", channels=1, normalize=[[0.5], [0.25]], size=16)
    expected = module((x.mean(dim=1, keepdim=True) - 0.5) / 0.25)
    torch.testing.assert_close(load(str(file)).logits(x), expected)
    torch.testing.assert_close(load(str(file)).logits(x.mean(dim=1, keepdim=True)), expected)


@pytest.mark.parametrize("fixed", [1, 4])
def test_a_program_of_one_batch_size_takes_any(tmp_path: Path, fixed: int) -> None:
    module, x = Colours(), images(9).requires_grad_(True)
    file = program(tmp_path / "model.pt2", module, torch.zeros(fixed, 3, 16, 16), batch=False)
    say(file, link="sigmoid")
    read = load(str(file))
    torch.testing.assert_close(read.logits(x), module(x))
    (found,) = torch.autograd.grad(read.logits(x).square().sum(), x)
    (expected,) = torch.autograd.grad(module(x).square().sum(), x)
    torch.testing.assert_close(found, expected)
    assert read.logits(images(2, size=40)).shape == (2, 3), "its size is read from the file"


def test_batches_are_filled_and_cut() -> None:
    seen: list[int] = []

    def run(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x.sum(dim=(1, 2, 3))

    x = images(7)
    for least, most, sizes in ((1, None, [7]), (1, 3, [3, 3, 1]), (4, 4, [4, 4]), (9, None, [9])):
        seen.clear()
        torch.testing.assert_close(batched(run, x, least=least, most=most), x.sum(dim=(1, 2, 3)))
        assert seen == sizes
    assert batched(run, x[:0], most=4).shape == (0,)


@pytest.mark.parametrize(("maker", "suffix"), MAKERS)
def test_a_whole_audit(tmp_path: Path, maker: Maker, suffix: str) -> None:
    file = maker(tmp_path / f"model{suffix}", worlds.LinearHeads(worlds.SHORTCUT), SMALL)
    say(file, targets=["friendly"], link="sigmoid", size=16)
    given: dict[str, Any] = {"reference": worlds.heads(), "autoencoder": worlds.autoencoder()}
    run = cfa.audit(worlds.images(8), load(str(file)), **given, out=tmp_path / "run")
    same = cfa.audit(worlds.images(8), worlds.audited(), **given, out=tmp_path / "same")
    drop = ["base", "downstream"]
    for ours, theirs in zip(run.matrix().rows(named=True), same.matrix().rows(named=True), strict=True):
        assert [ours[k] for k in drop] == [theirs[k] for k in drop]
        assert ours["psi"] == pytest.approx(theirs["psi"], abs=1e-4, nan_ok=True)


def test_files_of_the_same_weights_and_other_code_are_told_apart(tmp_path: Path) -> None:
    class Negative(Colours):
        def forward(self, images: Tensor) -> Tensor:
            return -super().forward(images)

    made = []
    for name, module in (("a", Colours()), ("b", Negative())):
        (tmp_path / name).mkdir()
        file = script(tmp_path / name / "model.pt", module, SMALL)
        say(file, link="sigmoid", size=16)
        made.append(file)
    assert fingerprint(load(str(made[0]))) != fingerprint(load(str(made[1])))
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    assert fingerprint(load(str(tmp_path / "moved" / "model.pt"))) == fingerprint(load(str(made[0])))
    say(tmp_path / "moved" / "model.pt", link="probability", size=16)
    assert fingerprint(load(str(tmp_path / "moved" / "model.pt"))) != fingerprint(load(str(made[0])))


# -- what is not read -------------------------------------------------------------------------------------------------


def test_a_pickled_module_needs_trust(tmp_path: Path) -> None:
    module, file = Colours(), tmp_path / "model.pth"
    torch.save(module, file)
    say(file, link="sigmoid", size=16)
    with pytest.raises(BadInput, match=r"pickle that runs code.*file\.py:factory.*--trust"):
        load(str(file))
    trusted = load(str(file), trust=True)
    torch.testing.assert_close(trusted.logits(images()), module(images()))
    torch.save(module.state_dict(), file)
    for trust in (False, True):
        with pytest.raises(BadInput, match=r"weights .* without their network: name a factory"):
            load(str(file), trust=trust)
    torch.save(torch.zeros(3), file)
    with pytest.raises(BadInput, match="holds a Tensor, no torch module"):
        load(str(file))


def rewritten(file: Path, **changes: Callable[[bytes], bytes | None]) -> Path:
    """The archive with entries changed, by the end of their names; None leaves one out."""
    with zipfile.ZipFile(file) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries:
            change = next((c for end, c in changes.items() if name.rpartition("/")[2].partition(".")[0] == end), None)
            after: bytes | None = content if change is None else change(content)
            if after is not None:
                archive.writestr(name, after)
    return file


class Marks:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.mkdir, (self.mark,))


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    file = program(tmp_path / "model.pt2", Colours(), SMALL)
    say(file, link="sigmoid")
    return file


def test_a_plain_program_passes(exported: Path, tmp_path: Path) -> None:
    assert vet(exported) is None
    head = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.AdaptiveAvgPool2d(2))
    whole = nn.Sequential(head, nn.Upsample(size=(5, 5), mode="bilinear"), nn.Flatten(), nn.Linear(100, 3))
    assert vet(program(tmp_path / "other.pt2", whole, SMALL)) is None


def test_a_program_with_a_pickle_is_refused_before_torch_reads_it(exported: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save((Marks(mark),), tmp_path / "inputs.pt")
    content = (tmp_path / "inputs.pt").read_bytes()
    with zipfile.ZipFile(exported) as archive:
        names = archive.namelist()
        entries = {name: archive.read(name) for name in names}
    with zipfile.ZipFile(exported, "w") as archive:
        for name in names:
            archive.writestr(name, content if "sample_inputs" in name else entries[name])
    with pytest.raises(BadInput, match=r"may run code .*sample inputs are a pickle.*--trust"):
        load(str(exported))
    assert not mark.exists()
    with pytest.raises(BadInput):  # torch itself runs it, and then fails over what it gave
        load(str(exported), trust=True)
    assert mark.exists()


def change(old: str, new: str) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        assert old.encode() in content, (old, content[:3000])
        return content.replace(old.encode(), new.encode())

    return changed


@pytest.mark.parametrize(
    ("entry", "old", "new", "part"),
    [
        ("model", "torch.ops.aten.mean.dim", "torch.os.system", "torch.os.system"),
        ("model", "torch.ops.aten.mean.dim", "torch.ops.load_library", "load_library"),
        ("model", "torch.ops.aten.mean.dim", "_operator.methodcaller", "methodcaller"),
        ("model", "torch.ops.aten.mean.dim", "torch.ops.aten.__class__.mro", "__class__"),
        ("model", "Symbol(", "exec(", "expr_str"),
        ("model", "positive=True", "positive=Symbol.mro", "expr_str"),
        ("model", '{"name": "images"}', '{"name": "x=print(1)"}', "x=print(1)"),
        ("model", '"forward_arg_names": ["images"]', '"forward_arg_names": ["x=1"]', "forward_arg_names"),
        ("model", '"builtins.tuple\\"', '"__import__(1)\\"', "spec"),
        ("model_weights_config", '"use_pickle": false', '"use_pickle": true', "pickled tensors"),
    ],
)
def test_programs_that_are_not_of_the_plain_form(exported: Path, entry: str, old: str, new: str, part: str) -> None:
    rewritten(exported, **{entry: lambda c: change(old, new)(c) if c[:1] == b"{" else c})
    with pytest.raises(BadInput, match="may run code when it is loaded") as caught:
        load(str(exported))
    assert part in str(caught.value)


def test_guards_are_left_behind(exported: Path, tmp_path: Path) -> None:
    evil = f"__import__('os').mkdir('{tmp_path / 'mark'}') is None"
    guards = change('"guards_code": []', f'"guards_code": ["{evil}"]')
    rewritten(exported, model=lambda c: guards(c) if c[:1] == b"{" else c)
    assert load(str(exported)).logits(images()).shape == (5, 3)
    assert not (tmp_path / "mark").exists()


def test_programs_with_other_entries(exported: Path) -> None:
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr("model/data/aotinductor/model/code.so", b"x")
    assert "aotinductor" in str(vet(exported))
    with zipfile.ZipFile(exported, "w") as archive:
        archive.writestr("model/models/model.json", "{}")
        archive.writestr("model/models/MODEL.json", "{}")
    assert vet(exported) == "its table of contents is ambiguous"
    with zipfile.ZipFile(exported, "w") as archive:
        archive.writestr("model/models/model.json", "{")
    with pytest.raises(BadInput, match="is damaged"):
        vet(exported)
    with zipfile.ZipFile(exported, "w") as archive:
        archive.writestr("version", "8.0")
    with pytest.raises(BadInput, match="export it again"):
        vet(exported)


def test_programs_of_other_inputs(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a + b).mean((2, 3))

    file = program(tmp_path / "two.pt2", Two(), SMALL, SMALL, batch=False)
    with pytest.raises(BadInput, match=r"takes the inputs \[2, 3, 16, 16\], \[2, 3, 16, 16\]; expected one"):
        load(str(file))
    file = program(tmp_path / "wide.pt2", Colours(), torch.zeros(2, 3, 16, 24))
    with pytest.raises(BadInput, match="16×24; expected a square"):
        load(str(file))
    file = program(tmp_path / "many.pt2", Colours(channels=5), torch.zeros(2, 5, 16, 16))
    with pytest.raises(BadInput, match="5 channels; expected 1 or 3"):
        load(str(file))
    file = program(tmp_path / "row.pt2", nn.Linear(4, 2), torch.zeros(2, 4))
    with pytest.raises(BadInput, match=r"takes the inputs \[.*4\]; expected one, images"):
        load(str(file))


def test_an_archive_that_says_less_than_it_holds(tmp_path: Path) -> None:
    file = script(tmp_path / "model.pt", Colours(), SMALL)
    say(file, link="sigmoid", size=16)
    with zipfile.ZipFile(file) as archive:
        entry = archive.getinfo("model/data.pkl")
    content = bytearray(file.read_bytes())
    at = content.rindex(b"model/data.pkl") - 46 + 24  # uncompressed size in the table of contents
    assert int.from_bytes(content[at : at + 4], "little") == entry.file_size
    content[at : at + 4] = (1).to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(BadInput, match=r"model\.pt .*\.$"):
        load(str(file))


def test_pickles_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(BadInput, match="no archive as torch writes it"):
        load(str(tmp_path / "model.pt2"))
    shutil.copy(program(tmp_path / "real.pt2", Colours(), SMALL), tmp_path / "model.pt")
    with pytest.raises(BadInput, match=r"give it the suffix \.pt2"):
        load(str(tmp_path / "model.pt"))
    shutil.copy(script(tmp_path / "real.pt", Colours(), SMALL), tmp_path / "model.pt2")
    with pytest.raises(BadInput, match=r"no archive of torch\.export\.save"):
        load(str(tmp_path / "model.pt2"))
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.ts")
    with pytest.raises(BadInput, match="no TorchScript"):
        load(str(tmp_path / "model.ts"))
