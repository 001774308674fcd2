"""True effects by intervention, against faces that are switched, rendered and scored here one attribute at a time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cfalign import classifiers
from cfalign.benchmarks.true_effects import Interventions, true_effects
from cfalign.synthetic import INTERVENABLE, render, sample, switched


class Patches(nn.Module):
    """Two logits: the means of the upper and the lower half of an image; with dropout, off in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[2] // 2
        upper, lower = images[:, :, :half].mean(dim=(1, 2, 3)), images[:, :, half:].mean(dim=(1, 2, 3))
        return self.drop(torch.stack([upper, lower], dim=1))


FACES = sample(5, seed=3)
PATCHES = classifiers.wrap(Patches(), targets=["upper", "lower"], name="patches")
LOWER_FIRST = classifiers.wrap(Patches(), targets=["first", "second"], name="again")


def expected() -> np.ndarray:
    """[head, attribute]"""
    columns = []
    module = Patches().eval()
    for attribute in INTERVENABLE:
        off, on = (torch.sigmoid(module(render(side))).double() for side in switched(FACES, attribute))
        columns.append((on - off).mean(dim=0).numpy())
    return np.stack(columns, axis=1)


def test_effects_are_mean_changes_with_one_attribute_switched() -> None:
    table = true_effects([PATCHES], FACES)
    assert table.shape == (2, len(INTERVENABLE))
    np.testing.assert_allclose(table, expected(), atol=1e-6)
    assert np.abs(table).max() > 0.001, "some attribute changes the mean of a half"


def test_faces_rendered_once_serve_many_classifiers() -> None:
    told: list[tuple[str, int, int]] = []
    made = Interventions.on_faces(FACES, progress=lambda *at: told.append(at), stage="truth")
    assert told[-1] == ("truth", len(INTERVENABLE), len(INTERVENABLE))
    both = made.effects([PATCHES, LOWER_FIRST])
    np.testing.assert_allclose(both, np.concatenate([expected()] * 2).T, atol=1e-6)


def test_models_keep_their_mode() -> None:
    module = Patches().train()
    true_effects([classifiers.wrap(module, targets=["upper", "lower"], name="training")], FACES)
    assert module.training
