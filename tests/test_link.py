"""How a network's outputs are read: probabilities are noticed whatever link was said, and logits are never refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cfalign as cfa
import model_files
import worlds
from cfalign._errors import BadInput, BadModel, ModelWarning
from cfalign._models.fingerprint import fingerprint
from cfalign.classifiers import wrap

IMAGES = worlds.images(5)
NAMES = ("a", "b", "c", "d")


class Ends(nn.Module):
    """Linear heads with something at the end."""

    def __init__(self, end: Callable[[Tensor], Any], mixing: Tensor = worlds.MIXING) -> None:
        super().__init__()
        self.heads, self.end = worlds.LinearHeads(mixing), end

    def forward(self, images: Tensor) -> Any:
        return self.end(self.heads(images))


def softmax(logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=1)


PROBABILITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "a module": nn.Sigmoid(),
    "a module of softmax": nn.Softmax(dim=1),
    "softmax": softmax,
    "hard sigmoid": nn.functional.hardsigmoid,
    "the complement": lambda z: 1 - torch.sigmoid(z),
    "a mean of networks": lambda z: torch.stack([torch.sigmoid(z), torch.sigmoid(z * 1.1)]).mean(dim=0),
    "a mean of softmaxes": lambda z: (softmax(z) + softmax(z * 2)) / 2,
    "columns, put together": lambda z: torch.cat([torch.sigmoid(z[:, :2]), torch.sigmoid(z[:, 2:])], dim=1).clone(),
    "in half": lambda z: torch.sigmoid(z.half()).float(),
    "softmax without a gradient": lambda z: softmax(z).detach(),
    "normalised by hand": lambda z: z.exp() / z.exp().sum(dim=1, keepdim=True),
    "a dict": lambda z: {"logits": torch.sigmoid(z)},  # type: ignore[dict-item]
}
LOGITS: dict[str, Callable[[Tensor], Tensor]] = {
    "as they are": lambda z: z,
    "small": lambda z: z * 1e-3,
    "small and positive": lambda z: z * 1e-3 + 0.5,
    "a cosine": lambda z: nn.functional.normalize(z, dim=1),
    "rectified": torch.relu,
    "gated": lambda z: torch.sigmoid(z) * z,
    "a constant": lambda z: z * 0 + 0.25,
    "without a gradient": lambda z: z.detach(),
    "distances": lambda z: -z.abs(),
}


@pytest.fixture(autouse=True)
def _errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("link", [None, "sigmoid", "softmax"])
@pytest.mark.parametrize("end", PROBABILITIES)
def test_probabilities_are_read_as_they_are(end: str, link: Any) -> None:
    module = Ends(PROBABILITIES[end])
    right = wrap(module, NAMES, link="probability").logits(IMAGES)
    clf = wrap(module, NAMES, link=link, name="net")
    before = fingerprint(clf)
    with pytest.warns(ModelWarning, match=r"'net' returns probabilities .* link='probability'") as told:
        assert torch.equal(clf.logits(IMAGES), right)
    assert len(told) == 1
    assert clf.notes == (str(told[0].message),)
    assert torch.equal(clf.logits(IMAGES), right), "once, and without another word"
    assert "link='probability'" in repr(clf)
    assert fingerprint(clf) == before


@pytest.mark.parametrize("end", [name for name in PROBABILITIES if "softmax" not in name and "hand" not in name])
def test_one_probability_is_seen_by_what_made_it(end: str) -> None:
    module = Ends(PROBABILITIES[end], worlds.MIXING[:, :2])
    one = nn.Sequential(module) if end == "a dict" else Ends(lambda z: PROBABILITIES[end](z)[:, 0], worlds.MIXING)
    names = ["a", "b"] if end == "a dict" else ["a"]
    clf = wrap(one, names)
    with pytest.warns(ModelWarning, match="returns probabilities"):
        clf.logits(IMAGES)
    assert torch.allclose(clf.logits(IMAGES), wrap(one, names, link="probability").logits(IMAGES))


@pytest.mark.parametrize("link", [None, "sigmoid"])
@pytest.mark.parametrize("end", LOGITS)
def test_logits_stay_logits(end: str, link: Any) -> None:
    module = Ends(LOGITS[end])
    clf = wrap(module, NAMES, link=link)
    assert torch.equal(clf.logits(IMAGES), module(IMAGES))
    assert clf.notes == ()


def test_means_of_pixels_are_logits_although_they_lie_between_0_and_1() -> None:
    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(2, 3))

    clf = wrap(Mean(), ["red", "green", "blue"])
    assert torch.equal(clf.logits(IMAGES), IMAGES.mean(dim=(2, 3)))


@pytest.mark.parametrize("link", [None, "sigmoid", "softmax"])
def test_logarithms_of_probabilities_are_a_softmax(link: Any) -> None:
    clf = wrap(Ends(lambda z: torch.log_softmax(z, dim=1)), NAMES, link=link)
    right = wrap(Ends(lambda z: z), NAMES, link="softmax").logits(IMAGES)
    if link == "softmax":
        found = clf.logits(IMAGES)
    else:
        with pytest.warns(ModelWarning, match="logarithms of probabilities"):
            found = clf.logits(IMAGES)
    assert torch.allclose(found, right, atol=1e-5)


UNSURE: dict[str, Callable[[Tensor], Tensor]] = {
    "by hand": lambda z: 1 / (1 + torch.exp(-z)),
    "without a gradient": lambda z: torch.sigmoid(z).detach(),
    "clipped": lambda z: (z / 8 + 0.5).clamp(0, 1),
    "a tangent": lambda z: torch.tanh(z) / 2 + 0.5,
}


@pytest.mark.parametrize("end", UNSURE)
def test_what_may_be_either_is_asked_for_and_said(end: str) -> None:
    module = Ends(UNSURE[end])
    with pytest.raises(BadInput, match=r"'net' returns values between 0\S* and \S+ alone.*say link='probability', or"):
        wrap(module, NAMES, name="net").logits(IMAGES)
    said = wrap(module, NAMES, link="sigmoid", name="net")
    with pytest.warns(ModelWarning, match=r"read with link='sigmoid', as was said"):
        assert torch.equal(said.logits(IMAGES), module(IMAGES))


def test_probabilities_that_are_none_are_refused() -> None:
    with pytest.raises(BadModel, match=r"returned values between -\S+ and \S+; expected probabilities"):
        wrap(Ends(lambda z: z), NAMES, link="probability").logits(IMAGES)


def test_nan_and_rounding_are_no_values_outside() -> None:
    clf = wrap(Ends(lambda z: torch.sigmoid(z) * (1 + 1e-6)), NAMES, link="probability")
    assert torch.isfinite(clf.logits(IMAGES)).all()
    spoiled = wrap(Ends(lambda z: torch.where(z > 1, torch.nan, torch.sigmoid(z))), NAMES, link="probability")
    assert torch.isnan(spoiled.logits(worlds.images(40))).any()


def test_a_network_that_takes_real_images_only_is_read_by_them() -> None:
    class Choosy(Ends):
        def forward(self, images: Tensor) -> Any:
            if len(images) == 8:
                raise ValueError("no face")
            return super().forward(images)

    with pytest.warns(ModelWarning, match="returns probabilities"):
        found = wrap(Choosy(torch.sigmoid), NAMES).logits(IMAGES)
    assert torch.allclose(torch.sigmoid(found), torch.sigmoid(worlds.LinearHeads()(IMAGES)), atol=1e-6)


def test_reading_leaves_no_trace() -> None:
    module = Ends(lambda z: nn.functional.dropout(z, 0.5, training=True))
    module.train()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    clf = wrap(module, NAMES)
    with torch.no_grad():
        clf._read(IMAGES)
    assert torch.equal(torch.rand(3), expected)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    with torch.inference_mode():
        assert wrap(Ends(lambda z: z.sub_(0.1)), NAMES).logits(IMAGES).shape == (5, 4)


def test_a_run_keeps_how_its_models_were_read(tmp_path: Path) -> None:
    clf = wrap(Ends(torch.sigmoid), worlds.TARGETS, name="net")
    given: dict[str, Any] = {"autoencoder": worlds.autoencoder(), "options": cfa.AuditOptions(limit=4)}
    with pytest.warns(ModelWarning, match="returns probabilities"):
        run = cfa.audit(worlds.images(12), clf, **given, out=tmp_path / "run")
    plain = cfa.audit(worlds.images(12), wrap(worlds.LinearHeads(), worlds.TARGETS, name="net"), **given)
    assert run.record()["probes"]["classifiers"][0]["notes"] == list(clf.notes)
    one, other = (r.matrix()["psi"].to_numpy() for r in (run, plain))
    assert one == pytest.approx(other, abs=1e-4, nan_ok=True)


def test_exported_networks_too(tmp_path: Path) -> None:
    file = model_files.script(tmp_path / "net.pt", nn.Sequential(worlds.LinearHeads(), nn.Sigmoid()))
    model_files.say(file, targets=list(NAMES), link="sigmoid", size=worlds.SIZE)
    clf = cfa.classifiers.load(str(file))
    with pytest.warns(ModelWarning, match="returns probabilities"):
        found = clf.logits(IMAGES)
    assert torch.allclose(torch.sigmoid(found), torch.sigmoid(worlds.LinearHeads()(IMAGES)), atol=1e-5)
