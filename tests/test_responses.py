"""Responses: columns in order, batches that do not matter, broken shapes named."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfalign._errors import BadModel
from cfalign._heads.scoring import logits, respond
from linear_world import SHAPE, LinearClassifier, directions, linear_images

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


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 3, 1), (3, 3)])
def test_another_shape_is_named_with_the_classifier(shape: tuple[int, ...]) -> None:
    class Odd(LinearClassifier):
        def logits(self, images: torch.Tensor, /) -> torch.Tensor:
            return torch.zeros(shape)

    odd = Odd(directions(3, overlap=0.0), [0.0] * 3, name="odd")
    with pytest.raises(BadModel, match=r"'odd' returned logits of shape .* expected \(4, 3\)"):
        logits(linear_images(4), [odd])
