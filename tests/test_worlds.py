"""The small exact world that other tests stand on."""

from __future__ import annotations

import torch

import worlds


def test_worlds_are_as_exact_as_they_say() -> None:
    coder = worlds.LinearAutoencoder()
    images = worlds.images(50)
    assert images.min() > 0
    assert images.max() < 1
    assert torch.allclose(coder.decode(coder.encode(images)), images, atol=1e-5)
    logits = worlds.LinearHeads()(images)
    assert torch.allclose(logits, worlds.GAIN * worlds.latents(50) @ worlds.MIXING, atol=1e-4)
