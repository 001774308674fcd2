"""What a model does to its input is seen by nobody: every kind of change, at every position that a model can have."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars.selectors as cs
import pytest
import torch
from torch import Tensor, nn

import cfalign as cfa
import worlds

DRAWS: dict[str, int] = {"draws": 100}
QUICK: dict[str, Any] = {
    "alignment": cfa.AlignmentOptions(resamples=100, **DRAWS),
    "effects": cfa.EffectOptions(samples=100, **DRAWS),
}
Change = Callable[[Any], Any]
"""What is done to an input before it is read; the first of a pair does it in a copy."""

ON_TENSORS: dict[str, tuple[Change, Change]] = {
    "sub_": (lambda x: x.sub(0.2), lambda x: x.sub_(0.2)),
    "mul_ and add_": (lambda x: x.mul(0.9).add(0.05), lambda x: x.mul_(0.9).add_(0.05)),
    "a rectifier in place": (lambda x: nn.functional.relu(x - 0.4), lambda x: nn.ReLU(inplace=True)(x.sub_(0.4))),
    "clamp_": (lambda x: x.clamp(0.3, 0.6), lambda x: x.clamp_(0.3, 0.6)),
    "zero_ at the end": (lambda x: x + 0, lambda x: emptied(x)),
    "a slice": (lambda x: set_slice(x.clone()), lambda x: set_slice(x)),
}
ON_ARRAYS: dict[str, tuple[Change, Change]] = {
    "operators": (lambda x: x * np.float32(0.9) + np.float32(0.05), lambda x: operators(x)),
    "a view": (lambda x: flipped(x.copy()), lambda x: flipped(x)),
    "clip": (lambda x: np.clip(x, 0.3, 0.6), lambda x: np.clip(x, 0.3, 0.6, out=x)),
    "fill": (lambda x: x + 0, lambda x: filled(x)),
    "a tensor on it": (lambda x: x * np.float32(0.9), lambda x: torch.from_numpy(x).mul_(0.9).numpy()),
}


MEASURED = ("psi", "ratio_of_means", "median", "n")  # what follows from the images alone


def emptied(x: Tensor) -> Tensor:
    kept = x.clone()
    x.zero_()
    return kept


def set_slice(x: Tensor) -> Tensor:
    x[:, :, :4] = 0.5
    return x


def operators(x: Any) -> Any:
    x *= np.float32(0.9)
    x += np.float32(0.05)
    return x


def flipped(x: Any) -> Any:
    view = x.reshape(len(x), -1)
    view[:, :100] = 0.5
    return x


def filled(x: Any) -> Any:
    kept = x.copy()
    x.fill(0.0)
    return kept


class Changing(nn.Module):
    """Heads, or an autoencoder, that change what they are given."""

    def __init__(self, inner: nn.Module, change: Change) -> None:
        super().__init__()
        self.inner, self.change, self.size = inner, change, worlds.SIZE

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.change(x))  # type: ignore[no-any-return]

    def encode(self, x: Tensor) -> Tensor:
        return self.inner.encode(self.change(x))  # type: ignore[operator, no-any-return]

    def decode(self, z: Tensor) -> Tensor:
        return self.inner.decode(z)  # type: ignore[operator, no-any-return]


class ChangingLatents(Changing):
    def encode(self, x: Tensor) -> Tensor:
        self.kept = self.inner.encode(x)  # type: ignore[operator]
        return self.kept

    def decode(self, z: Tensor) -> Tensor:
        return self.inner.decode(z.mul_(0.95) if self.change is MUTATING else z.mul(0.95))  # type: ignore[operator, no-any-return]


def MUTATING(x: Any) -> Any:
    return x


def KEEPING(x: Any) -> Any:
    return x


class Reused(nn.Module):
    """Writes every answer into the same memory."""

    def __init__(self, inner: nn.Module, again: bool) -> None:
        super().__init__()
        self.inner, self.again, self.memory = inner, again, torch.zeros(512, worlds.LATENT)

    def _answer(self, found: Tensor) -> Tensor:
        if not self.again or found.requires_grad:
            return found
        self.memory[: len(found), : found.shape[1]] = found
        return self.memory[: len(found), : found.shape[1]]

    def forward(self, x: Tensor) -> Tensor:
        return self._answer(self.inner(x))

    def encode(self, x: Tensor) -> Tensor:
        return self._answer(self.inner.encode(x))  # type: ignore[operator]

    def decode(self, z: Tensor) -> Tensor:
        return self.inner.decode(z)  # type: ignore[operator, no-any-return]


def changed_heads(change: Change, mixing: Tensor = worlds.MIXING, targets: Any = worlds.TARGETS, **more: Any) -> Any:
    return cfa.classifiers.wrap(Changing(worlds.LinearHeads(mixing), change), targets, **more)


def numbers(**models: Any) -> list[Any]:
    """Everything in the matrix of a small audit."""
    images = worlds.images(6)
    before = images.clone()
    given: dict[str, Any] = {"reference": worlds.heads(), "autoencoder": worlds.autoencoder(), **models}
    judge = given.pop("judge", None)
    given["reference"] = cfa.Reference(given["reference"], judge)
    audited = given.pop("audited", None) or worlds.audited()
    options = cfa.AuditOptions(limit=3, batch=given.pop("batch", 64), **QUICK)
    run = cfa.audit(images, audited, **given, downstream=["smiling", "young"], options=options)
    assert torch.equal(images, before)
    numeric = [run.matrix().select(MEASURED), run.responses().select(cs.starts_with("after", "before", "null"))]
    return [number for table in numeric for row in table.rows() for number in row]


POSITIONS: dict[str, Callable[[Change], list[Any]]] = {
    "audited": lambda c: numbers(audited=changed_heads(c, worlds.SHORTCUT, ["friendly"], name="audited")),
    "reference": lambda c: numbers(reference=changed_heads(c, name="heads")),
    "judge": lambda c: numbers(judge=changed_heads(c, name="second")),
    "autoencoder": lambda c: numbers(autoencoder=Changing(worlds.LinearAutoencoder(), c)),
    "preprocessing": lambda c: numbers(
        audited=cfa.classifiers.wrap(worlds.LinearHeads(worlds.SHORTCUT), ["friendly"], prepare=c, name="audited")
    ),
    "black box": lambda c: numbers(
        audited=cfa.classifiers.black_box(
            lambda x: torch.sigmoid(worlds.LinearHeads(worlds.SHORTCUT)(c(x))), ["friendly"], name="audited"
        )
    ),
    "composition": lambda c: composed(c),
    "explanation": lambda c: explained(c),
    "rectification": lambda c: rectified(c),
    "training": lambda c: trained(c),
}


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether the numbers are alike but for rounding."""
    return len(one) > 0 and one == pytest.approx(other, rel=1e-4, abs=1e-5, nan_ok=True)


def composed(change: Change) -> list[Any]:
    one, other = changed_heads(change, name="one"), changed_heads(KEEPING, name="other")
    both = one["smiling"] + 0.5 * other["young"] - 0.2 * one["eyeglasses"]
    return numbers(audited=both, reference=worlds.heads())


def explained(change: Change) -> list[Any]:
    heads = changed_heads(change, name="own")
    found = cfa.explain(worlds.images(1)[0], [heads["smiling"]], autoencoder=worlds.autoencoder())
    return [*found.bases[0].frames.flatten().tolist(), *found.bases[0].scores.ravel().tolist()]


def rectified(change: Change) -> list[Any]:
    heads = changed_heads(change, name="own")
    shortcuts = [heads["smiling"]]
    options = cfa.RectificationOptions(limit=30, min_images=2, resamples=100)
    given: dict[str, Any] = {"images": worlds.images(60), "autoencoder": worlds.autoencoder(), "options": options}
    found = cfa.rectify(heads["eyeglasses"], against=shortcuts, **given)
    return [coefficient for coefficient, _ in found.composition.terms]


def trained(change: Change) -> list[Any]:
    from cfalign.training.classifier import _reconstructed

    torch.manual_seed(0)
    images = worlds.images(8)
    return [_reconstructed(images, Changing(worlds.LinearAutoencoder(), change), share=0.5).mean().item()]


FEW = ("sub_", "a rectifier in place")
CASES = [(p, c) for p in POSITIONS for c in ON_TENSORS if c in FEW or p in ("audited", "autoencoder")]


@pytest.mark.parametrize(("position", "change"), CASES)
def test_a_change_in_place_is_a_change_in_a_copy(position: str, change: str) -> None:
    careful, careless = ON_TENSORS[change]
    assert same(POSITIONS[position](careless), POSITIONS[position](careful))


@pytest.mark.parametrize("change", ON_ARRAYS)
def test_changes_of_arrays(change: str) -> None:
    read = worlds.LinearHeads(worlds.SHORTCUT).read.detach().numpy()

    def made(act: Change) -> list[Any]:
        def answer(x: Any) -> Any:
            return 1 / (1 + np.exp(-(act(x).reshape(len(x), -1) - np.float32(0.5)) @ read))

        box = cfa.classifiers.black_box(answer, ["friendly"], name="audited", numpy=True)
        return numbers(audited=box)

    careful, careless = ON_ARRAYS[change]
    assert same(made(careless), made(careful))


def test_latents_that_are_changed_or_written_again() -> None:
    careful = numbers(autoencoder=ChangingLatents(worlds.LinearAutoencoder(), KEEPING))
    assert same(numbers(autoencoder=ChangingLatents(worlds.LinearAutoencoder(), MUTATING)), careful)


@pytest.mark.parametrize("position", ["audited", "reference", "autoencoder"])
def test_answers_in_one_memory(position: str) -> None:
    def made(again: bool) -> list[Any]:
        if position == "autoencoder":
            return numbers(autoencoder=Reused(worlds.LinearAutoencoder(), again), batch=3)
        mixing, names = (worlds.SHORTCUT, ["friendly"]) if position == "audited" else (worlds.MIXING, worlds.TARGETS)
        clf = cfa.classifiers.wrap(Reused(worlds.LinearHeads(mixing), again), names, link="sigmoid", name=position)
        return numbers(**{position: clf}, batch=3)

    assert same(made(True), made(False))


def test_a_box_that_keeps_its_input_and_changes_it_later() -> None:
    net = worlds.LinearHeads(worlds.SHORTCUT)

    def made(keep: bool) -> list[Any]:
        kept: list[Any] = []

        def answer(x: Any) -> Any:
            for before in kept:
                before.fill(0.25) if isinstance(before, np.ndarray) else before.fill_(0.25)
            if keep:
                kept.append(x)
            return torch.sigmoid(net(torch.as_tensor(x)))

        for numpy in (True, False):
            box = cfa.classifiers.black_box(answer, ["friendly"], name="audited", numpy=numpy, version="1")
            found = numbers(audited=box)
        return found

    assert same(made(True), made(False))


def test_orders_and_chunks_decide_nothing(tmp_path: Path) -> None:
    """Four models that change their input in four ways, audited together in every order and in several chunks."""
    ways = list(ON_TENSORS.values())[:4]
    models = [
        changed_heads(ways[0][1], worlds.SHORTCUT, ["friendly"], name="a"),
        cfa.classifiers.black_box(
            lambda x: torch.sigmoid(worlds.LinearHeads(worlds.SHORTCUT)(ways[1][1](x))), ["friendly"], name="b"
        ),
        changed_heads(ways[3][1], worlds.SHORTCUT, ["friendly"], name="c"),
    ]
    bank = cfa.bank(
        worlds.images(12),
        worlds.heads(),
        autoencoder=worlds.autoencoder(),
        out=tmp_path / "bank",
        options=cfa.AuditOptions(limit=5, chunk=5),
    )
    alone = {m.name: cfa.audit(bank, m).effects("friendly")["incoming"].to_list() for m in models}
    for order in permutations(models):
        for batch in (64, 3):
            run = cfa.audit(bank, list(order), options=cfa.AuditOptions(batch=batch, limit=5, chunk=5))
            table = run.effects()
            for place, one in enumerate(order):
                label = "friendly" if place == 0 else f"{one.name}:friendly"
                found = table.filter(table["audited"] == label)["incoming"].to_list()
                assert found == pytest.approx(alone[one.name], abs=1e-5, nan_ok=True)
