"""Scores of classifiers: columns in order, batches and neighbours that do not matter, broken shapes named."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfalign._errors import BadModel
from cfalign._heads.scoring import logits, respond
from cfalign.classifiers import ComposedClassifier, black_box, wrap
from linear_world import SHAPE, LinearClassifier, directions, linear_images

PIXELS = math.prod(SHAPE)
ONE = LinearClassifier(directions(3, overlap=0.2), (0.1, 0.2, 0.3), name="one")
TWO = LinearClassifier(directions(2, overlap=0.5), (-0.1, 0.4), name="two")


def test_columns_are_the_heads_of_every_classifier_in_order() -> None:
    images = linear_images(5)
    out = logits(images, [TWO, ONE])
    assert out.shape == (5, 5)
    torch.testing.assert_close(out[:, :2], TWO.logits(images))
    torch.testing.assert_close(out[:, 2:], ONE.logits(images))


@settings(max_examples=15)
@given(st.integers(1, 40), st.integers(0, 25))
def test_batches_do_not_matter(batch: int, count: int) -> None:
    images = linear_images(25)[:count]
    out = respond(images, [ONE, TWO], batch=batch)
    assert not out.requires_grad
    torch.testing.assert_close(out, logits(images, [ONE, TWO]).detach(), atol=1e-12, rtol=0)


def test_gradients_flow_to_the_images_through_logits_alone() -> None:
    images = linear_images(4).requires_grad_(True)
    logits(images, [ONE]).sum().backward()
    expected = (ONE.basis @ ONE.weight.T).sum(dim=1).detach().view(SHAPE)
    torch.testing.assert_close(images.grad, expected.expand(4, *SHAPE))
    assert not respond(images, [ONE]).requires_grad


def test_each_module_is_called_once_per_batch() -> None:
    calls = []

    class Counting(LinearClassifier):
        def logits(self, images: torch.Tensor, /) -> torch.Tensor:
            calls.append(len(images))
            return super().logits(images)

    respond(linear_images(10), [Counting(directions(8, overlap=0.0), [0.0] * 8)], batch=4)
    assert calls == [4, 4, 2]


class Careless(LinearClassifier):
    """Changes its input while it answers."""

    def logits(self, images: torch.Tensor, /) -> torch.Tensor:
        return super().logits(images.mul_(0.5).sub_(0.1).double())


def _module(images: torch.Tensor) -> torch.Tensor:
    return images.sub_(0.2).mul_(1.1).flatten(1)[:, :2]


class CarelessModule(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return _module(images)


def _array(images: Any) -> Any:
    images *= 0.5
    return images.reshape(len(images), -1)[:, :2]


def careless() -> list[Any]:
    """Every kind of classifier, each changing what it is given in place."""
    identity = torch.nn.Identity()
    return [
        Careless(directions(2, overlap=0.2), (0.1, 0.2), name="raw"),
        wrap(CarelessModule(), ["a", "b"], name="module"),
        wrap(torch.nn.Flatten(), [f"t{i}" for i in range(PIXELS)], prepare=lambda x: x.mul_(0.5), name="prepare"),
        black_box(lambda x: torch.sigmoid(_module(x)), ["a", "b"], name="box"),
        black_box(_array, ["a", "b"], name="array", numpy=True),
        ComposedClassifier(wrap(CarelessModule(), ["a", "b"])["a"] * 0.5, name="composed"),
        wrap(identity, ["a"], prepare=lambda x: x.mul_(0.5).mean(dim=(1, 2, 3)), name="same"),
    ]


def test_what_a_classifier_does_to_its_input_is_its_own_affair() -> None:
    """At every position, and for the caller's own images."""
    images = linear_images(5).float()
    before = images.clone()
    alone = [logits(images.clone(), [one]) for one in careless()]
    for turn in range(len(alone)):
        order = careless()[turn:] + careless()[:turn]
        expected = torch.cat(alone[turn:] + alone[:turn], dim=1)
        torch.testing.assert_close(logits(images, order), expected, rtol=0, atol=0)
        assert torch.equal(images, before)
    for one in careless()[1:]:
        one.logits(images)
        assert torch.equal(images, before), one


def test_gradients_flow_through_what_changes_its_input() -> None:
    images = linear_images(3).float().requires_grad_(True)
    logits(images, careless()[:3]).sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).any()


def test_squeezed_answers_of_one_image() -> None:
    """A model that ends in squeeze() answers [] for one image and one target, [k] for one image and k targets."""
    for columns, targets in ((1, ["a"]), (2, ["a", "b"])):
        squeezed = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(PIXELS, columns))
        squeezed.register_forward_hook(lambda module, args, out: out.squeeze())
        images = linear_images(5).float()
        made = [
            wrap(squeezed, targets, name="module"),
            black_box(lambda x, run=squeezed: torch.sigmoid(run(x)), targets, name="box"),
            black_box(lambda x, run=squeezed: torch.sigmoid(run(x)).detach().numpy(), targets, name="array"),
        ]
        for one in made:
            whole = logits(images, [one])
            single = torch.cat([logits(part, [one]) for part in images.split(1)])
            torch.testing.assert_close(single, whole)
            assert respond(images, [one], batch=2).shape == (5, columns)


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 3, 1), (3, 3)])
def test_another_shape_is_named_with_the_classifier(shape: tuple[int, ...]) -> None:
    class Odd(LinearClassifier):
        def logits(self, images: torch.Tensor, /) -> torch.Tensor:
            return torch.zeros(shape)

    odd = Odd(directions(3, overlap=0.0), [0.0] * 3, name="odd")
    with pytest.raises(BadModel, match=r"'odd' returned logits of shape .* expected \(4, 3\)"):
        logits(linear_images(4), [odd])
