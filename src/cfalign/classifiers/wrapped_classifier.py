"""A user's torch module as a classifier with named targets, a link and preprocessing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import Composition, head, parse
from cfalign._heads.names import head_names
from cfalign._models.guard import device_of, floating_type_of, undisturbed, user_code
from cfalign._models.probe_images import probe_images
from cfalign.classifiers.answers import main_output
from cfalign.classifiers.link import Reading, origin_of, reading
from cfalign.classifiers.noted import Noted
from cfalign.classifiers.outputs import Link, as_logits, checked_columns, checked_probabilities, numbers
from cfalign.classifiers.preprocessing import resized_and_normalised

Prepare = Callable[[Tensor], Tensor]
TAKES = "if it takes other images, say so by size, normalize or prepare (grey: Preprocessing(grey=True))"
"""Advice where a module raises an error before it has answered anything."""


class WrappedClassifier(Noted):
    """Prepares images differentiably, calls the module, and gives one logit per target. ``wrap`` makes it."""

    differentiable = True
    spec: str | None = None
    """The spec that ``load`` made it from, so that a composition of its heads can be saved; None otherwise."""

    def __init__(
        self,
        module: nn.Module,
        targets: Sequence[str],
        *,
        link: Link | None = None,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        size: int | None = None,
        prepare: Prepare | None = None,
        name: str = "classifier",
        version: str | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise BadInput(
                f"Expected a torch.nn.Module, got {type(module).__name__}; wrap a plain function with black_box()."
            )
        if link is not None and link not in get_args(Link):
            raise BadInput(f"link must be 'sigmoid', 'softmax' or 'probability', got {link!r}.")
        if prepare is not None and (size is not None or normalize is not None):
            raise BadInput("Expected either prepare or size and normalize, got both; prepare does all preprocessing.")
        self.module, self.name = module, name
        self.link: Link = link or "sigmoid"
        self.targets = head_names(targets)
        if link == "softmax" and len(self.targets) < 2:
            raise BadInput("link='softmax' needs at least two targets, one per class; for one output use 'sigmoid'.")
        self.prepare: Prepare = prepare or resized_and_normalised(size, normalize)
        self.version = checked_version(version)
        self._declared = link
        self._reading: Reading | None = None
        self._slopes = False  # whether gradients were seen to flow through the module

    def __repr__(self) -> str:
        link = self.link if self._reading is None else self._reading.link
        return described_classifier(self, f"{type(self.module).__name__}, link={link!r}")

    def __getitem__(self, target: str) -> Composition:
        """One head, e.g. ``clf["smiling"]``. Raises BadInput for an unknown target."""
        return head(self, target)

    def compose(self, text: str) -> Composition:
        """A composition of its heads from text, e.g. ``clf.compose("smiling + 0.3*arched_eyebrows")``."""
        return parse(text, self)

    def logits(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to logits [n, target]; sigmoid(logit) is the probability under every link.

        The module and its preprocessing get a copy of the images, which they may change. The first call finds out
        whether the outputs are what ``link`` says, see ``classifiers.link``. Raises BadModel when they raise an error,
        give another shape than [n, target] or values outside [0, 1] for probabilities, or let no gradient through where
        images need one, and BadInput where it cannot be told whether they are logits or probabilities.
        """
        if self._reading is None:
            refuse_empty(self.module, name=self.name)
            self._reading = self._read(images)
        columns = self._columns(images)
        if images.requires_grad and torch.is_grad_enabled() and not self._slopes:
            refuse_flat(columns, images, name=self.name)
            self._slopes = True
        if self._reading.link == "probability":
            checked_probabilities(columns, name=self.name)
        return as_logits(columns, self._reading.link)

    def _columns(self, images: Tensor) -> Tensor:
        """The outputs of the module, [n, target] in float32."""
        x = prepared(images.to(device_of(self.module)).clone(), self.prepare, name=self.name)
        x = x.to(floating_type_of(self.module)) if x.is_floating_point() else x
        advice = TAKES if self._reading is None else ""
        with user_code(f"Classifier {self.name!r}, given images of shape {list(x.shape)},", advice=advice):
            given = self.module(x)
        told = self.link == "probability"
        out = main_output(given, images=len(x), targets=self.targets, probabilities=told)
        columns = checked_columns(out, name=self.name, images=len(x), targets=len(self.targets))
        return numbers(columns, name=self.name, whole=told)

    def _read(self, images: Tensor) -> Reading:
        """How its outputs are read: by those for images that never change, or these where it cannot take them."""
        if self._declared == "probability":
            return Reading("probability")
        frozen = torch.is_inference_mode_enabled() or any(p.is_inference() for p in self.module.parameters())
        with undisturbed(self), torch.set_grad_enabled(not frozen):
            drawn = probe_images((images.shape[1], images.shape[2], images.shape[3])).to(images).clone()
            try:
                outputs = self._columns(drawn.requires_grad_(not frozen))
            except BadModel:
                outputs = self._columns(images.detach().clone().requires_grad_(not frozen))
            found = reading(outputs, self._declared, name=self.name, origin=origin_of(outputs))
        self.note(found.note)
        return found


def prepared(images: Tensor, prepare: Prepare, *, name: str) -> Tensor:
    """Images [n, c, h, w] in [0, 1] as the model takes them. Raises BadModel for another number of channels."""
    channels = getattr(prepare, "channels", None)
    if channels is not None and channels != images.shape[1]:
        raise BadModel(f"Classifier {name!r} takes images of {channels} channels, but these have {images.shape[1]}.")
    with user_code(f"The preprocessing of classifier {name!r}, given images of shape {list(images.shape)},"):
        found = prepare(images)
    if not isinstance(found, Tensor) or not found.ndim or len(found) != len(images):
        came = f"shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise BadModel(
            f"The preprocessing of classifier {name!r} returned {came} for images of shape {list(images.shape)}; "
            "expected a tensor with as many images."
        )
    return found


def refuse_empty(module: nn.Module, *, name: str) -> None:
    """Raises BadModel where a network has parameters or buffers without values: lazy ones, or on the meta device."""
    named = (*module.named_parameters(), *module.named_buffers())
    empty = next((key for key, tensor in named if is_lazy(tensor) or tensor.is_meta), None)
    if empty is not None:
        raise BadModel(f"Classifier {name!r} has no values in {empty!r} yet; load its weights before it is audited.")


def refuse_flat(columns: Tensor, images: Tensor, *, name: str) -> None:
    """Raises BadModel where no gradient flows from outputs [n, target] of a module to its images."""
    slope = None
    if columns.requires_grad:
        with user_code(f"Classifier {name!r}, asked for its gradient,"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operations without a gradient; what follows from them is said below
            (slope,) = torch.autograd.grad(columns.sum(), images, retain_graph=True, allow_unused=True)
    if slope is None:
        raise BadModel(
            f"No gradient flows through classifier {name!r}: it is quantised, or detaches its input (torch.no_grad, "
            ".detach(), NumPy); let gradients through, or wrap it by black_box(), which is audited with forward passes."
        )


def described_classifier(classifier: WrappedClassifier | object, what: str) -> str:
    """The ``repr`` of a classifier: class, name, content, first targets."""
    targets: tuple[str, ...] = getattr(classifier, "targets", ())
    shown = ", ".join(targets[:3]) + (f", … {len(targets)} targets" if len(targets) > 3 else "")
    return f"{type(classifier).__name__}({getattr(classifier, 'name', '')!r}, {what}: {shown})"


def checked_version(version: str | None) -> str | None:
    """A version that tells models apart. Raises BadInput for anything but a text that is not empty."""
    if version is not None and (not isinstance(version, str) or not version.strip()):
        raise BadInput(f"version must be a text that changes with the model, such as '2024-05-01', got {version!r}.")
    return version


def wrap(
    module: nn.Module,
    targets: Sequence[str],
    *,
    link: Link | None = None,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
    size: int | None = None,
    prepare: Prepare | None = None,
    name: str = "classifier",
    version: str | None = None,
) -> WrappedClassifier:
    """A torch module as a classifier with named heads; gradients flow through it.

    Args:
        module: Gives outputs [n, target] for images [n, c, h, w]; one target may come as [n]. Where it gives more
            than that (a dict, a tuple, an output of transformers) its heads are found by name or shape, see
            ``cfalign.classifiers.answers.main_output``; auxiliary heads play no part. Its parameters may be of any
            floating type: images are cast to it, and logits come back in float32.
        targets: One name per output. Names of words become lower snake case: ``"Big Nose"`` is ``big_nose``, and
            ``clf["Big Nose"]`` finds it. Names with other signs, such as ``"a+b"``, are taken as they are.
        link: What turns outputs into probabilities: ``"sigmoid"`` (one per output), ``"softmax"`` (classes exclude each
            other), or ``"probability"`` (they are probabilities already). By default ``"sigmoid"``, unless the first
            outputs are certainly something else; a ModelWarning tells.
        normalize: (means, standard deviations) per channel of images in [0, 1].
        size: Side of the square images that the module expects, in pixels; images are resized bilinearly.
        prepare: In place of ``normalize`` and ``size``, any differentiable callable from images to what the module
            expects, such as ``cfalign.classifiers.Preprocessing``.
        name: Tells classifiers apart that share a target.
        version: A text that changes whenever the module does. It stands for the module when runs are resumed; without
            it, weights, code and attributes are hashed.

    Raises BadInput for any other value of these.

    Example:
        >>> import torch
        >>> import cfalign as cfa
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
        >>> clf = cfa.classifiers.wrap(network, ["smiling", "young"], size=8, name="mine")
        >>> clf
        WrappedClassifier('mine', Sequential, link='sigmoid': smiling, young)
        >>> clf.logits(torch.rand(4, 3, 16, 16)).shape
        torch.Size([4, 2])
        >>> clf["smiling"] + 0.3 * clf["young"]
        Composition('smiling + 0.3*young', classifier='mine')
    """
    return WrappedClassifier(
        module, targets, link=link, normalize=normalize, size=size, prepare=prepare, name=name, version=version
    )
