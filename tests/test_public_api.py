"""The public names: each has one path, a docstring whose examples run, and a signature that stays small."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
from typing import Any

import pytest

import cfalign

ESSENTIAL = {"__version__", "audit", "autoencoders", "bank", "classifiers", "latent_shift"}
DECLARED: list[str] = list(getattr(cfalign, "__all__", ()))
PUBLIC: dict[str, Any] = {name: getattr(cfalign, name, None) for name in DECLARED}
DOCUMENTED = [
    name for name, value in PUBLIC.items() if inspect.ismodule(value) or inspect.isclass(value) or callable(value)
]


def _is_value(thing: Any) -> bool:
    """Fields of a dataclass or of an error are not steps of a call."""
    return dataclasses.is_dataclass(thing) or (inspect.isclass(thing) and issubclass(thing, Exception))


INSIDE = {
    f"{room}.{name}": getattr(module, name)
    for room, module in PUBLIC.items()
    if inspect.ismodule(module)
    for name in module.__all__
    if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))
}
"""What the public modules export."""

CALLED = [name for name in DOCUMENTED if not inspect.ismodule(PUBLIC[name]) and not _is_value(PUBLIC[name])]


def test_the_public_names_are_declared_once() -> None:
    missing = ESSENTIAL - set(PUBLIC)
    assert not missing, f"cfalign.__all__ lacks {sorted(missing)}"
    assert len(PUBLIC) == len(DECLARED)


def test_declared_names_exist_and_no_other_is_public() -> None:
    """Modules aside: an imported submodule is an attribute of its package, meant or not."""
    there = {name for name, value in vars(cfalign).items() if not name.startswith("_") and not inspect.ismodule(value)}
    declared = {name for name, value in PUBLIC.items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert there - {"annotations"} == declared


def test_importing_a_module_hides_no_public_name() -> None:
    for module in pkgutil.walk_packages(cfalign.__path__, "cfalign."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    hidden = [name for name, value in PUBLIC.items() if getattr(cfalign, name) is not value]
    assert not hidden, f"a module of the same name took the place of {hidden}"


@pytest.mark.parametrize("name", CALLED)
def test_signatures_stay_small(name: str) -> None:
    parameters = list(inspect.signature(PUBLIC[name]).parameters.values())
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert len(positional) <= 2, f"only data and model are positional, not {positional}"
    assert len(keywords) <= 7, f"at most seven keywords; more belong in an options dataclass: {keywords}"


@pytest.mark.docs
@pytest.mark.parametrize("name", [*DOCUMENTED, *INSIDE])
def test_docstrings_are_there_and_their_examples_run(name: str) -> None:
    value = PUBLIC.get(name, INSIDE.get(name))
    assert inspect.getdoc(value), f"cfalign.{name} has no docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for example in doctest.DocTestFinder().find(value, name, extraglobs={"cfa": cfalign}):
        assert runner.run(example).failed == 0, f"an example of {example.name} fails; what it printed is above"


def printable() -> list[tuple[object, str]]:
    clf, autoencoder = cfalign.classifiers.load("embedded"), cfalign.autoencoders.load("embedded")
    faces = cfalign.synthetic.sample(2, seed=0)
    images = cfalign.synthetic.render(faces)
    found = cfalign.latent_shift(images, clf["smiling"], autoencoder=autoencoder)
    source = cfalign.datasets.TensorImages(images)
    composed = cfalign.classifiers.ComposedClassifier(1 - clf["smiling"], name="sad")
    return [
        (clf, "WrappedClassifier('embedded', AttributeNetwork, link='sigmoid': 5_o_clock_shadow, "),
        (composed, "ComposedClassifier('sad', Composition('1 - smiling', classifier='embedded'): sad)"),
        (cfalign.classifiers.black_box(print, ["bright"], name="box"), "BlackBox('box', print: bright)"),
        (autoencoder, "WrappedAutoencoder('embedded', VectorAutoencoder, size 64)"),
        (cfalign.Reference(clf), "Reference('embedded')"),
        (cfalign.LatentShift(clf.logits, autoencoder), "LatentShift('logits', link='logit')"),
        (faces, "Faces(2 faces)"),
        (found, "Counterfactuals(2: "),
        (source, "TensorImages('tensor', 2 images, 64x64)"),
        (source.load(range(2)), "Loaded(2 images, 64x64, 0 skipped)"),
        (cfalign.Run("nowhere"), "Run('nowhere', no run yet)"),
        (cfalign.SearchOptions(), "SearchOptions(drop=0.6, "),
    ]


def test_printed_objects_say_what_they_are() -> None:
    for thing, beginning in printable():
        assert repr(thing).startswith(beginning)
        assert " at 0x" not in repr(thing)
        assert "tensor(" not in repr(thing)
        assert len(repr(thing)) < 400
