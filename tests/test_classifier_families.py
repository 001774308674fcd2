"""Classifiers of libraries by name: gradients, whole audits, fingerprints, and what does not fit."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor, nn

import cfalign as cfa
import worlds
from cfalign._errors import BadInput
from cfalign._models.fingerprint import fingerprint
from cfalign.classifiers import WrappedClassifier, load
from cfalign.classifiers.families.class_names import class_targets
from tiny_models import FAMILIES, Make, loaded, quiet, timm_file, tiny_vit, torchvision_file, xrv_file, xrv_network


@pytest.fixture(autouse=True)
def _warnings_stay_errors() -> Iterator[None]:
    """torchxrayvision switches off the warnings of the whole process when it is imported."""
    with warnings.catch_warnings():
        yield


@pytest.mark.parametrize("make", FAMILIES)
def test_gradients_reach_the_latent(make: Make, tmp_path: Path) -> None:
    clf, autoencoder = loaded(make(tmp_path)), cfa.autoencoders.load("embedded")
    images = cfa.synthetic.render(cfa.synthetic.sample(2, seed=0))
    z = autoencoder.encode(images).detach().requires_grad_(True)
    clf.logits(autoencoder.decode(z))[:, -1].sum().backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert (z.grad != 0).any(dim=1).all()
    logits = clf.logits(images).detach()
    assert torch.isfinite(logits).all()
    if clf.link == "softmax":
        torch.testing.assert_close(torch.sigmoid(logits).sum(dim=1), torch.ones(2))


def opinionated(clf: WrappedClassifier, images: Tensor) -> None:
    """Scale the last layer so that outputs vary by 1 over the images, and the first target is mostly predicted."""
    last = [m for m in clf.module.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        for after in (lambda out: last.weight.div_(out.std(dim=0).mean()), lambda out: last.bias.sub_(out.mean(dim=0))):
            after(clf.module(clf.prepare(images)))
        last.bias[0] += 1.5


@pytest.mark.parametrize("make", FAMILIES)
def test_a_whole_audit(make: Make, tmp_path: Path) -> None:
    clf, autoencoder = loaded(make(tmp_path)), cfa.autoencoders.load("embedded")
    images = cfa.synthetic.render(cfa.synthetic.sample(8, seed=0))
    opinionated(clf, images)
    before = {k: v.clone() for k, v in clf.module.state_dict().items()}
    run = cfa.audit(images, clf, autoencoder=autoencoder, bases=[clf.targets[0]], out=tmp_path / "run")
    responses = run.responses().filter(pl.col("base") == clf.targets[0])
    assert responses.height == 8
    tried = responses.filter(responses["outcome"] != "not_eligible")
    assert tried.height >= 4
    assert (tried["lambda"] > 0).all()
    assert (tried["base_after"] < tried["base_before"]).all()
    assert run.matrix().height == len(clf.targets)
    assert all(torch.equal(v, before[k]) for k, v in clf.module.state_dict().items())


@pytest.mark.parametrize("make", FAMILIES)
def test_where_files_lie_decides_nothing(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = (loaded(make(tmp_path / name)) for name in ("one", "two"))
    first.name = second.name = "same"
    assert fingerprint(first) == fingerprint(second)
    assert first.spec
    monkeypatch.chdir(tmp_path)
    family, _, rest = first.spec.partition(":")
    short = f"{family}:{rest}".replace(f"{tmp_path}/", "")
    assert short != first.spec
    assert loaded(short).spec == first.spec, "the spec holds in other folders too"
    with torch.no_grad():
        next(p for p in second.module.parameters() if p.ndim > 1).mul_(1.5)
    assert fingerprint(first) != fingerprint(second)


# -- names, and what does not fit --------------------------------------------------------------------------------------


def test_class_names_become_targets() -> None:
    assert class_targets(["Lung Lesion", "crane", "maillot, tank suit", "crane"]) == (
        *("lung_lesion", "crane_1", "maillot_tank_suit", "crane_3"),
    )
    assert class_targets(["a", "a_0", "A", "", "!"]) == ("a_0_0", "a_0_1", "a_2", "class_3", "class_4")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("torchvision:resnet81", "torchvision has no classification model 'resnet81'; nearest valid: resnet18"),
        ("torchvision:fcn_resnet50", "no classification model 'fcn_resnet50'"),
        (
            "torchvision:resnet18:IMAGENET1K_V7",
            "no weights 'IMAGENET1K_V7', and there is no such file; .*IMAGENET1K_V1",
        ),
        ("timm:resnet10", "timm has no model 'resnet10'; nearest valid: resnet1"),
        ("timm:resnet10t:nowhere.pt", r"no weight file 'nowhere\.pt'"),
        ("timm:local-dir:nowhere", r"no nowhere/config\.json"),
        ("hf:a/b/c", "no folder 'a/b/c'"),
        ("hf:", "no folder ''"),
        ("xrv:nowhere.pt", "no such file"),
        ("other:resnet18", "Unknown classifier 'other:resnet18'; .* FAMILY:NAME of "),
    ],
)
def test_specs_that_name_nothing(spec: str, sentence: str) -> None:
    for package in ("torchvision", "timm", "transformers", "torchxrayvision"):
        quiet(package)
    with pytest.raises(BadInput, match=sentence):
        load(spec)


@pytest.mark.parametrize(
    ("make", "head"), [(torchvision_file, "fc.bias"), (timm_file, "fc.weight"), (xrv_file, "classifier.weight")]
)
def test_files_that_do_not_fit(make: Make, head: str, tmp_path: Path) -> None:
    spec = make(tmp_path)
    path = Path(spec.rpartition(":")[2])
    content = torch.load(path)
    state = {k.removeprefix("module."): v for k, v in content.get("state_dict", content).items()}
    count = len(state[head])
    for change, sentence in (
        ({"classes": ["a"]}, rf"names 1 classes, but has {count} outputs"),
        ({"state_dict": {k: v for k, v in state.items() if k != head}}, rf"lacks '{head}', expected among its weights"),
        ({"state_dict": {**state, "extra": torch.zeros(1)}}, r"do not fit the network .*extra"),
        ({"state_dict": {}}, "no names and tensors"),
        ({"state_dict": {**state, "epoch": 3}}, "no names and tensors"),
    ):
        torch.save({"state_dict": state, **change}, path)
        with pytest.raises(BadInput, match=sentence):
            load(spec)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadInput, match="cut short or damaged"):
        load(spec)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(BadInput, match="neither safetensors nor a checkpoint"):
        load(spec)


class Touches:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("family", ["torchvision:resnet18", "timm:resnet10t", "timm:local-dir", "hf", "xrv"])
def test_pickles_with_code_are_refused(family: str, tmp_path: Path) -> None:
    for package in ("torchvision", "timm", "transformers", "torchxrayvision"):
        quiet(package)
    folder = tmp_path / "folder"
    tiny_vit(folder)
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save({"state_dict": Touches(tmp_path / "ran")}, path)
    with pytest.raises(BadInput, match=r"pytorch_model\.bin is a pickle that runs code when it is read"):
        load(f"{family}:{folder if family in ('timm:local-dir', 'hf') else path}")
    assert not (tmp_path / "ran").exists()


def test_a_grey_densenet_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "colour.pt"
    torch.save(xrv_network(in_channels=3).state_dict(), path)
    with pytest.raises(BadInput, match="takes colour images"):
        load(f"xrv:{path}")


@pytest.mark.parametrize("spec", ["torchvision:resnet18", "timm:resnet18", "hf:owner/name", "xrv:nih"])
def test_a_missing_extra_is_named(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {"torchvision": "torchvision.models", "hf": "transformers", "xrv": "torchxrayvision.models"}
    family = spec.partition(":")[0]
    monkeypatch.setitem(sys.modules, packages.get(family, family), None)
    with pytest.raises(BadInput, match=rf'not installed; pip install "cfalign\[{family}\]"'):
        load(spec)


def test_the_command_line_says_it_in_one_sentence(tmp_path: Path) -> None:
    quiet("timm")
    images = worlds.write_images(tmp_path / "images", 2)
    ended = worlds.cfalign(
        "audit",
        *worlds.options(
            images=images,
            classifier="timm:resnet10t:nowhere.pt",
            autoencoder=f"{worlds.__file__}:autoencoder",
            out=tmp_path / "run",
        ),
        folder=tmp_path,
    )
    assert ended.code == 2
    assert ended.err.strip() == "cfalign: There is no weight file 'nowhere.pt'."
