"""The authors' package ``latentshift``, run as it is: one image and one base at a time.

Its licence is CC BY-NC 4.0, so nothing of it is part of cfalign; it must be installed. What it declares to need pins an
old pytorch-lightning and brings a torchvision that may not fit the torch that is installed, so it is no extra of
cfalign, and installed without its dependencies. What this module does about it, for as long as it is used:

- Its ``__init__`` imports its own networks, and with them torchvision, taming-transformers, OmegaConf and scikit-image.
  None is used here: the package is entered without running its ``__init__``.
- Its alignment imports pandas for tables that are not used here; where pandas is missing an empty module stands in.
- Its alignment looks up its method in Captum, which has none of that name: it is put there, and taken away again.
- It makes a float of an array of one number, which NumPy refuses since 2.4: its method gets an array without an axis.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import captum.attr
import numpy as np
from torch import Tensor, nn

from cfalign._errors import BadInput
from cfalign._models.guard import modules_of, undisturbed
from cfalign._results import Floats
from cfalign._types import Autoencoder, Classifier
from cfalign.benchmarks.speed.contestants import Answers
from cfalign.benchmarks.speed.setting import Pair, Setting

NAME = "latentshift"
INSTALL = f"pip install --no-deps {NAME}"
UNUSED = ("pandas",)
"""Packages that its alignment imports and does not use here."""


@dataclass(frozen=True)
class AuthorsPackage:
    """What is called of it."""

    alignment: Any
    """Its module of that name."""
    method: Any
    """Its class of the method, with a forward function that it can read."""


def authors_package() -> AuthorsPackage:
    """The package, imported; ``sys.modules`` is afterwards as it was. Raises BadInput where it cannot be imported."""
    found = find_spec(NAME)
    if found is None or not found.submodule_search_locations:
        raise BadInput(f"The authors' package is not installed; `{INSTALL}` brings it (its licence is CC BY-NC 4.0).")
    try:
        with _imports_undone(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in UNUSED:
                if find_spec(name) is None:
                    sys.modules[name] = ModuleType(name)
            entered = ModuleType(NAME)
            entered.__path__ = list(found.submodule_search_locations)
            sys.modules[NAME] = entered
            alignment = import_module(f"{NAME}.alignment")
            method = import_module(f"{NAME}.cf.latent_shift")
            return AuthorsPackage(alignment, _readable(method.LatentShift))
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"The authors' package cannot be imported: {error}; `{INSTALL}` brings the known one."
        ) from error


@contextmanager
def _imports_undone() -> Iterator[None]:
    """Modules of the package, and those that stood in, are forgotten again."""
    ours = {name: module for name, module in sys.modules.items() if _concerns(name)}
    for name in ours:
        del sys.modules[name]
    missing = [name for name in UNUSED if name not in sys.modules]
    try:
        yield
    finally:
        stood_in = [n for n in missing if getattr(sys.modules.get(n), "__spec__", None) is None]
        for name in [*filter(_concerns, list(sys.modules)), *stood_in]:
            sys.modules.pop(name, None)
        sys.modules.update(ours)


def _concerns(name: str) -> bool:
    return name == NAME or name.startswith(f"{NAME}.")


def _readable(method: Any) -> Any:
    """The class of the method for a forward function [n, 1] whose answers lose the axis of the image."""

    class OneImage(method):  # type: ignore[misc]
        def __init__(self, forward_func: Any, autoencoder: Any) -> None:
            super().__init__(lambda images: _Column(forward_func(images)), autoencoder)

    return OneImage


class _Column:
    """Answers [1, target]; a column of them is a number, not an array of one number."""

    def __init__(self, answers: Tensor) -> None:
        self.answers = answers

    def __getitem__(self, place: Any) -> Tensor:
        return self.answers[place].squeeze(0)


def by_authors(setting: Setting, pairs: Sequence[Pair], package: AuthorsPackage) -> tuple[Answers, Floats]:
    """Counterfactuals of the pairs by the authors' package, and its own relative changes ψ [pair, head].

    Its settings are those of the paper: drop 0.6, at most λ = 500,000, the scores of all heads at both ends.
    """
    wrapper, heads = package.alignment.ModelWrapper, _Heads(setting.classifier)
    named = {t: wrapper(heads, t, sigmoid=True, rename_model="") for t in setting.classifier.targets}
    images, inside = setting.images.numpy(), _Clipped(setting.autoencoder)
    rows = []
    with undisturbed(setting.autoencoder, setting.classifier), _in_captum(package.method):
        for base, row in pairs:
            found = package.alignment.compute_alignment(
                images[row], named[base], list(named.values()), inside, seperate_models=True
            )
            rows.append(_read(found))
    own, before, after, psi = (np.stack([row[i] for row in rows]) for i in range(4))
    return Answers(tuple(pairs), own, before, after), psi


def _read(found: Sequence[Any]) -> tuple[Floats, Floats, Floats, Floats]:
    """Scores of the base at x0 and x_λ, [2], scores of the heads at both, and ψ, [head] each. Its frames end at x0."""
    base, *_ = found[0]["preds"].values()
    heads = np.array([list(one["preds"].values())[1] for one in found], dtype=np.float64)
    psi = np.array([one["rchange"] for one in found], dtype=np.float64)
    return np.array([base[-1], base[0]], dtype=np.float64), heads[:, -1], heads[:, 0], psi


@contextmanager
def _in_captum(method: Any) -> Iterator[None]:
    had = getattr(captum.attr, "LatentShift", None)
    captum.attr.LatentShift = method
    try:
        yield
    finally:
        if had is None:
            del captum.attr.LatentShift
        else:
            captum.attr.LatentShift = had


class _Heads(nn.Module):
    """A classifier as the package takes it: a module with targets."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.inside = nn.ModuleList(modules_of(classifier))  # it asks for the device of the first parameter
        self.targets, self.answer = list(classifier.targets), classifier.logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, target]."""
        return self.answer(images)


class _Clipped:
    """An autoencoder as the package takes it: its images are clipped to [0, 1]."""

    def __init__(self, inside: Autoencoder) -> None:
        self.encode, self.inside = inside.encode, inside

    def decode(self, latents: Tensor) -> Tensor:
        """Images [n, c, h, w]."""
        return self.inside.decode(latents).clamp(0, 1)
