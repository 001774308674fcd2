"""The user's model leaves every entry point as it came, also when something breaks on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cfalign as cfa
import worlds
from cfalign import autoencoders, classifiers
from cfalign._audit.measurement import Base, WalkSettings, look, walk_all
from cfalign._counterfactuals.methods import latent_shift
from cfalign._counterfactuals.options import SearchOptions
from cfalign._heads.composition import head
from cfalign._heads.panel import panel
from cfalign._models.guard import modules_of, undisturbed
from cfalign._rectification.options import RectificationOptions
from cfalign._rectification.rectification import rectify

SIZE = 8
IMAGES = torch.from_numpy(np.random.default_rng(0).uniform(0.2, 0.8, size=(6, 3, SIZE, SIZE)).astype(np.float32))
ANY = SearchOptions(eligible=0.0001, max_evaluations=4, tolerance=1e-9)


class Boom(Exception):
    """What a user's model may raise."""


class Encoderish(nn.Module):
    """Everything that a mode, a buffer or a random draw could disturb."""

    def __init__(self, wide: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into = nn.Sequential(nn.Conv2d(3, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.Tanh(), nn.Dropout(0.5))
        self.out = nn.Sequential(nn.Conv2d(wide, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Sigmoid())
        self.break_at: int | None = None
        self.decodes = 0

    def encode(self, images: Tensor, /) -> Tensor:
        torch.rand(3)  # a model may draw
        if self.break_at == 0:
            raise Boom("encode")
        return self.into(images)

    def decode(self, latents: Tensor, /) -> Tensor:
        self.decodes += 1
        torch.rand(3)
        if self.decodes == self.break_at:
            raise Boom("decode")
        return self.out(latents)


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5))
        self.last = nn.Linear(8 * (SIZE - 2) ** 2, 3)
        self.break_at: int | None = None
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.break_at:
            raise Boom("classifier")
        return self.last(self.body(images)) + 1.0


def prepared() -> tuple[Encoderish, Heads]:
    """Modules in every kind of state: mixed modes, a frozen parameter, gradients, hooks."""
    ae, clf = Encoderish(), Heads()
    for module in (ae, clf):
        module.train()
    ae.into[1].eval()
    clf.body[4].eval()
    ae.into[0].weight.requires_grad_(False)
    clf.last.bias.requires_grad_(False)
    clf.last.weight.grad = torch.full_like(clf.last.weight, 2.0)
    ae.out[0].weight.grad = torch.full_like(ae.out[0].weight, 3.0)
    clf.body[0].register_forward_hook(lambda module, args, out: None)
    clf.body[0].register_full_backward_hook(lambda module, gin, gout: None)
    ae.out[0].register_forward_pre_hook(lambda module, args: None)
    return ae, clf


HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def state_of(*modules: nn.Module) -> dict[str, Any]:
    """All that must not change, in comparable form. Python's own generator is drawn from by the checks of shapes."""
    state: dict[str, Any] = {
        "torch": torch.random.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002 (the global one is the point)
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
    }
    for number, top in enumerate(modules):
        for name, module in top.named_modules():
            state[f"{number}.{name}.training"] = module.training
            state[f"{number}.{name}.hooks"] = [len(getattr(module, hooks)) for hooks in HOOKS]
        for name, parameter in top.named_parameters():
            key = f"{number}.{name}"
            state[f"{key}.requires_grad"] = parameter.requires_grad
            state[f"{key}.grad"] = None if parameter.grad is None else (id(parameter.grad), parameter.grad.tolist())
            state[f"{key}.hooks"] = len(parameter._backward_hooks or ())
            state[f"{key}.identity"] = (id(parameter), parameter.data_ptr())
        for name, tensor in top.state_dict().items():
            state[f"{number}.{name}.bytes"] = tensor.numpy().tobytes()
            state[f"{number}.{name}.device"] = (tensor.device, tensor.dtype)
    return state


def shift(ae: Encoderish, clf: Heads) -> None:
    wrapped = classifiers.wrap(clf, ["a", "b", "c"])
    latent_shift(IMAGES, wrapped["a"] + 0.3 * wrapped["b"], autoencoder=ae, options=ANY, batch=4)


def shift_wrapped(ae: Encoderish, clf: Heads) -> None:
    wrapped = classifiers.wrap(clf, ["a", "b", "c"])
    latent_shift(IMAGES, wrapped["a"], autoencoder=autoencoders.wrap(ae), options=ANY, batch=4)


def shift_by_schedule(ae: Encoderish, clf: Heads) -> None:
    wrapped = classifiers.wrap(clf, ["a", "b", "c"])
    options = SearchOptions(strategy="schedule", eligible=0.0001, max_lambda=100.0)
    latent_shift(IMAGES, wrapped["c"], autoencoder=ae, options=options)


def measure(ae: Encoderish, clf: Heads) -> None:
    wrapped = classifiers.wrap(clf, ["a", "b", "c"])
    table = panel([head(wrapped, t) for t in "abc"], [])
    with undisturbed(ae, wrapped):
        seen = look(IMAGES, table, autoencoder=ae, search=SearchOptions())
        pairs = [(i, b) for b in range(3) for i in range(len(IMAGES))]
        ids = [str(i) for i in range(len(IMAGES))]
        for _ in walk_all(
            seen,
            pairs,
            panel=table,
            bases=[Base(t, table[t]) for t in "abc"],
            image_ids=ids,
            autoencoder=ae,
            settings=WalkSettings(ANY),
        ):
            pass


def rectified(ae: Encoderish, clf: Heads) -> None:
    wrapped = classifiers.wrap(clf, ["a", "b", "c"])
    search = replace(ANY, drop=0.02, floor=-1.0, tolerance=0.015)
    options = RectificationOptions(search=search, min_images=1, limit=100, train=0.4, validation=0.3)
    rectify(wrapped["a"], [wrapped["b"]], images=IMAGES, autoencoder=ae, options=options)


ENTRIES = [shift, shift_wrapped, shift_by_schedule, measure, rectified]


@pytest.mark.parametrize("entry", ENTRIES)
def test_nothing_has_changed_afterwards(entry: Callable[[Encoderish, Heads], None]) -> None:
    ae, clf = prepared()
    before = state_of(ae, clf)
    entry(ae, clf)
    assert ae.decodes > 3
    assert state_of(ae, clf) == before


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("who", "when"), [("ae", 0), ("ae", 1), ("ae", 2), ("ae", 3), ("ae", 4), ("clf", 2), ("clf", 3)]
)
def test_nothing_has_changed_after_an_error_on_the_way(
    entry: Callable[[Encoderish, Heads], None], who: str, when: int
) -> None:
    """At encoding, at the reconstruction, in the gradient pass, in the search."""
    ae, clf = prepared()
    (ae if who == "ae" else clf).break_at = when
    before = state_of(ae, clf)
    with pytest.raises(Exception, match=r"encode|decode|classifier"):
        entry(ae, clf)
    assert state_of(ae, clf) == before


def test_inside_the_models_are_in_evaluation_mode_without_parameter_gradients() -> None:
    """Dropout would make two runs differ and batch statistics would depend on the batch."""
    ae, clf = prepared()
    seen = []
    ae.out[0].register_forward_hook(
        lambda module, args, out: seen.append((ae.training, ae.into[3].training, clf.body[1].training))
    )
    clf.last.register_forward_hook(lambda module, args, out: seen.append((module.weight.requires_grad, False, False)))
    wrapped = classifiers.wrap(clf, ["a", "b", "c"])
    one, other = (latent_shift(IMAGES, wrapped["a"], autoencoder=ae, options=ANY) for _ in range(2))
    assert set(seen) == {(False, False, False)}
    assert torch.equal(one.images, other.images)
    alone = latent_shift(IMAGES[:1], wrapped["a"], autoencoder=ae, options=ANY)
    torch.testing.assert_close(alone.images[0], one.images[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(mode: Any) -> None:
    ae, clf = prepared()
    wrapped = classifiers.wrap(clf, ["a", "b", "c"])
    images = IMAGES.clone().requires_grad_(mode is torch.enable_grad)
    with mode():
        found = latent_shift(images, wrapped["a"], autoencoder=ae, options=ANY)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert images.grad is None
    assert not found.images.requires_grad
    assert not found.reconstructions.requires_grad


def test_the_images_given_are_not_written_to() -> None:
    ae, clf = prepared()
    images = IMAGES.clone()
    found = latent_shift(images, classifiers.wrap(clf, ["a", "b", "c"])["a"], autoencoder=ae, options=ANY)
    assert torch.equal(images, IMAGES)
    found.images.zero_()
    assert not torch.equal(found.reconstructions, found.images)


class CarelessCoder(nn.Module):
    """The same autoencoder as ``careful``, which changes what it is given in place."""

    def __init__(self, inner: Encoderish, careful: bool) -> None:
        super().__init__()
        self.inner, self.careful = inner, careful

    def encode(self, images: Tensor, /) -> Tensor:
        return self.inner.encode(images.sub(0.1) if self.careful else images.sub_(0.1))

    def decode(self, latents: Tensor, /) -> Tensor:
        return self.inner.decode(latents.mul(0.9) if self.careful else latents.mul_(0.9))


class CarelessHeads(nn.Module):
    """The same heads as ``careful``, which change what they are given in place."""

    def __init__(self, inner: Heads, careful: bool) -> None:
        super().__init__()
        self.inner, self.careful = inner, careful

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.sub(0.2).mul(1.1) if self.careful else images.sub_(0.2).mul_(1.1))


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_models_do_to_their_input_changes_no_result(wrapped: bool) -> None:
    found = []
    for careful in (True, False):
        ae, clf = prepared()
        coder: Any = CarelessCoder(ae, careful)
        coder = autoencoders.wrap(coder) if wrapped else coder
        mine = classifiers.wrap(CarelessHeads(clf, careful), ["a", "b", "c"])
        images = IMAGES.clone()
        made = latent_shift(images, mine["a"] + 0.3 * mine["b"], autoencoder=coder, options=ANY, batch=4)
        assert torch.equal(images, IMAGES)
        found.append(made)
    for name in ("images", "reconstructions"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name)), name


@pytest.mark.parametrize("turn", range(3))
def test_who_is_audited_beside_whom_changes_no_result(turn: int, tmp_path: Path) -> None:
    """A network, a black box and a NumPy black box that change their input, first, last and between."""
    module = worlds.LinearHeads(worlds.SHORTCUT)
    weights = module.read.detach().numpy()

    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return module(x.mul_(0.9).add_(0.05))

    def numbers(x: Any) -> Any:
        x *= 0.9
        x += 0.05
        return 1 / (1 + np.exp(-(x.reshape(len(x), -1) - 0.5) @ weights))

    made = [
        classifiers.wrap(InPlace(), ["friendly"], name="network"),
        classifiers.black_box(lambda x: torch.sigmoid(module(x.mul_(0.9).add_(0.05))), ["friendly"], name="box"),
        classifiers.black_box(numbers, ["friendly"], name="array", numpy=True),
    ]
    order = made[turn:] + made[:turn]
    bank = cfa.bank(worlds.images(12), worlds.heads(), autoencoder=worlds.autoencoder(), out=tmp_path / "bank")
    together = cfa.audit(bank, order, out=tmp_path / "run").effects()
    for number, one in enumerate(order):
        alone = cfa.audit(bank, one, out=tmp_path / one.name).effects("friendly")
        label = "friendly" if number == 0 else f"{one.name}:friendly"
        ours = together.filter(together["audited"] == label)
        assert ours["incoming"].to_list() == pytest.approx(alone["incoming"].to_list(), abs=1e-6, nan_ok=True)


class Plain:
    """No torch module itself, as many users' autoencoders are."""

    def __init__(self, module: Encoderish) -> None:
        self.parts = {"net": [module]}

    def encode(self, images: Tensor, /) -> Tensor:
        return self.parts["net"][0].encode(images)

    def decode(self, latents: Tensor, /) -> Tensor:
        return self.parts["net"][0].decode(latents)


@pytest.mark.parametrize("wrapped", [False, True])
def test_modules_inside_plain_objects_are_found(wrapped: bool) -> None:
    ae, clf = prepared()
    plain = autoencoders.wrap(Plain(ae)) if wrapped else Plain(ae)
    assert modules_of(plain) == [ae]
    before = state_of(ae, clf)
    base = classifiers.wrap(clf, ["a", "b", "c"])["a"]
    one, other = (latent_shift(IMAGES, base, autoencoder=plain, options=ANY) for _ in range(2))
    assert torch.equal(one.images, other.images)
    assert state_of(ae, clf) == before


def test_the_check_itself_notices_changes() -> None:
    """Every kind of change that the tests above look for is one that they would see."""
    changes: list[Callable[[Encoderish, Heads], Any]] = [
        lambda ae, clf: clf.eval(),
        lambda ae, clf: ae.into[1].train(),
        lambda ae, clf: clf.last.bias.requires_grad_(True),
        lambda ae, clf: clf.last.weight.grad.add_(1.0),
        lambda ae, clf: setattr(clf.last.weight, "grad", None),
        lambda ae, clf: clf.register_forward_hook(lambda *args: None),
        lambda ae, clf: ae.out[1].running_mean.add_(1e-6),
        lambda ae, clf: torch.rand(1),
        lambda ae, clf: clf.last.weight.data.mul_(1.0001),
        lambda ae, clf: np.random.rand(),  # noqa: NPY002
    ]
    for change in changes:
        ae, clf = prepared()
        before = state_of(ae, clf)
        change(ae, clf)
        assert state_of(ae, clf) != before
