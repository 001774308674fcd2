"""Classifiers by spec: ``embedded``, ``embedded:NAME`` (planted), a weight file from ``cfalign train classifier``,
``path/to/file.py:factory``, a saved composition such as ``rectified.json``, ``FAMILY:NAME``, an exported model
(TorchScript ``.pt``, ``torch.export`` ``.pt2``, ``.onnx``), or the address of a server, ``http://…``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from cfalign._errors import BadInput, nearest
from cfalign._models.factories import call_factory, is_factory
from cfalign._models.weights import built, load_into, read_weights
from cfalign._types import Classifier
from cfalign.classifiers.attribute_network import build
from cfalign.classifiers.black_box import BlackBox
from cfalign.classifiers.composed_classifier import ComposedClassifier
from cfalign.classifiers.exported import endpoint, onnx, pt2, torchscript
from cfalign.classifiers.saved_composition import compose, read_composition
from cfalign.classifiers.wrapped_classifier import WrappedClassifier, wrap

EMBEDDED = Path(__file__).parent / "embedded"
FAMILIES: Mapping[str, str] = {
    "celeba": "celeba",
    "hf": "huggingface",
    "timm": "timm",
    "torchvision": "torchvision",
    "xrv": "xrv",
}
"""Spec ``FAMILY:NAME`` → the module of ``families`` whose ``load(name, trust=…)`` makes the classifier."""


def load(spec: str | os.PathLike[str], *, trust: bool = False) -> Classifier:
    """The classifier that ``spec`` names.

    Args:
        spec: One of

            - ``embedded``: 38 attributes of the synthetic faces; ``embedded:NAME``: one with a planted shortcut, see
              ``planted()``;
            - a ``.safetensors`` file, or its folder, from ``cfalign train classifier``;
            - ``path/to/file.py:factory``: a function of yours that returns a classifier, made by ``wrap`` or
              ``black_box``;
            - ``FAMILY:NAME`` of a library: ``timm``, ``torchvision``, ``hf``, ``xrv``, ``celeba``;
            - an exported model with its JSON beside it: ``.pt`` (TorchScript), ``.pt2`` (``torch.export``), ``.onnx``;
            - the address of a server, ``http://…``;
            - a ``.json`` file with a composition, as ``cfalign rectify`` saves it.
        trust: Whether a file may run code when it is read (a pickle). Such a file is refused otherwise.

    Raises BadInput for a model that does not exist, cannot be read or needs a package that is missing, and BadModel
    for a server that breaks its contract.

    Example:
        >>> import cfalign as cfa
        >>> clf = cfa.classifiers.load("embedded")
        >>> clf
        WrappedClassifier('embedded', AttributeNetwork, link='sigmoid': 5_o_clock_shadow, arched_eyebrows, ...)
        >>> clf["smiling"]
        Composition('smiling', classifier='embedded')
    """
    spec = os.fspath(spec)
    classifier = _load(spec, trust=trust)
    if isinstance(classifier, WrappedClassifier | BlackBox | ComposedClassifier):
        classifier.spec = _wherever(spec)
    return classifier


def _wherever(spec: str) -> str:
    """The spec with its path made absolute, so that it holds in other folders too."""
    if _is_embedded(spec):
        return spec  # whatever else bears that name in this folder
    family, colon, rest = spec.partition(":")
    if colon and family in FAMILIES:
        return f"{family}:{_family_path(family, rest)}"
    file, separator, name = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    path = Path(file).expanduser()
    return f"{path.resolve()}{separator}{name}" if path.exists() else spec


def _is_embedded(spec: str) -> bool:
    return spec == "embedded" or spec.startswith("embedded:")


def _family_path(family: str, name: str) -> str:
    before, colon, file = name.rpartition(":")
    path = Path(file).expanduser()
    known = not colon and family in ("timm", "torchvision")  # there a bare name is never a path
    return f"{before}{colon}{path.resolve()}" if file and path.exists() and not known else name


def _load(spec: str, *, trust: bool) -> Classifier:
    if _is_embedded(spec):
        return _embedded(spec.partition(":")[2] or "attributes")
    if spec.startswith(("http://", "https://")):
        return endpoint.load(spec)
    if is_factory(spec):
        return _from_factory(spec)
    family, colon, name = spec.partition(":")
    if colon and family in FAMILIES:
        module = import_module(f"{__package__}.families.{FAMILIES[family]}")
        found: Classifier = module.load(name, trust=trust)
        return found
    return _from_file(spec, trust=trust)


def _from_factory(spec: str) -> Classifier:
    made: object = call_factory(spec)
    if not isinstance(made, Classifier):
        raise BadInput(
            f"{spec} gave {type(made).__name__}; expected a classifier: return cfalign.classifiers.wrap(module, "
            "targets=[...]) or cfalign.classifiers.black_box(function, targets=[...])."
        )
    if isinstance(made, WrappedClassifier | BlackBox) and made.name in ("classifier", "black_box"):
        file, _, factory = spec.rpartition(":")
        made.name = f"{Path(file).stem}.{factory}"  # it was given none
    return made


def _from_file(spec: str, *, trust: bool) -> Classifier:
    path = Path(spec)
    if path.is_dir():
        path = path / "classifier.safetensors"
    if path.suffix == ".json":
        saved = read_composition(path)
        return compose(saved, {s: load(s, trust=trust) for s in saved.specs})
    if path.suffix == ".safetensors":
        return from_weights(path, name=path.resolve().parent.name if path.stem == "classifier" else path.stem)
    if path.suffix in torchscript.SUFFIXES:
        return torchscript.load(path, trust=trust)
    if path.suffix == pt2.SUFFIX:
        return pt2.load(path, trust=trust)
    if path.suffix == onnx.SUFFIX:
        return onnx.load(path)
    raise BadInput(
        f"Unknown classifier {spec!r}; expected embedded, embedded:NAME ({', '.join(planted()[:3])}, …), a "
        ".safetensors file or folder from `cfalign train classifier`, path/to/file.py:factory, a rectified.json, "
        f"FAMILY:NAME of {', '.join(FAMILIES)}, an exported model (.pt, .pt2, .onnx) with its JSON, or the address of "
        "a server."
    )


def planted() -> list[str]:
    """Names of the shipped classifiers with a planted shortcut, ``target_from_shortcut``, and of their unplanted
    twins.
    """
    return sorted(p.stem for p in EMBEDDED.glob("*.safetensors") if "_from_" in p.stem)


def _embedded(name: str) -> WrappedClassifier:
    path = EMBEDDED / f"{name}.safetensors"
    if not path.is_file():
        raise BadInput(f"No embedded classifier {name!r}; {nearest(name, ['attributes', *planted()])}.")
    return from_weights(path, name="embedded" if name == "attributes" else name)


def from_weights(path: Path, *, name: str) -> WrappedClassifier:
    """A trained classifier from its weight file."""
    state, config = read_weights(path, kind="classifier")
    network = built(build, config, path)
    load_into(network, state, path)
    return wrap(network, network.config["targets"], link="sigmoid", size=network.config["size"], name=name)
