"""True effects: a classifier that reads one pixel region answers to one attribute; direct and total part company."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cfalign import benchmarks, classifiers
from cfalign._errors import BadInput
from cfalign._heads.scoring import respond
from cfalign.benchmarks.truth import Truth
from cfalign.synthetic import ATTRIBUTES, INTERVENABLE, effect, render, sample

TOGETHER = {("chubby", "pale_skin"): 0.9}


@pytest.fixture(scope="module")
def found() -> Truth:
    planted = classifiers.load("embedded:chubby_from_pale_skin")
    return benchmarks.truth(planted, faces=10, correlations=TOGETHER, seed=3)


def test_direct_effects_are_those_of_the_interventions(found: Truth) -> None:
    planted = classifiers.load("embedded:chubby_from_pale_skin")
    faces = sample(10, seed=30_003, correlations=TOGETHER)
    expected = effect(lambda x: torch.sigmoid(respond(x, [planted])), faces)[:, 0]
    assert [e.attribute for e in found.effects] == list(INTERVENABLE)
    np.testing.assert_allclose([e.direct for e in found.effects], expected, atol=1e-5)
    for e in found.effects:
        assert e.direct_low <= e.direct <= e.direct_high
        assert e.n == 10


def test_total_effects_are_contrasts_of_the_same_faces(found: Truth) -> None:
    planted = classifiers.load("embedded:chubby_from_pale_skin")
    faces = sample(10, seed=30_003, correlations=TOGETHER)
    score = torch.sigmoid(respond(render(faces), [planted]))[:, 0]
    for e in found.effects:
        has = faces.labels()[:, ATTRIBUTES.index(e.attribute)] > 0.5
        assert e.total == pytest.approx(float(score[has].mean() - score[~has].mean()), abs=1e-5)


def test_a_correlate_has_a_total_effect_beyond_its_direct_one(found: Truth) -> None:
    chubby = next(e for e in found.effects if e.attribute == "chubby")
    assert chubby.total > chubby.direct_high
    other = next(e for e in found.effects if e.attribute == "wearing_necktie")
    assert abs(other.direct) < 0.05


def test_json_and_lines_tell_the_strongest_first(found: Truth) -> None:
    content = found.as_dict()
    strongest = max(found.effects, key=lambda e: abs(e.direct))
    assert content["headline"] == {"strongest.chubby": strongest.direct}
    assert content["correlations"] == {"chubby:pale_skin": 0.9}
    lines = found.lines()
    assert len(lines) == 6
    assert strongest.attribute in lines[1]


def test_one_face_is_too_few() -> None:
    with pytest.raises(BadInput, match=r"at least two faces.*got 1"):
        benchmarks.truth(classifiers.load("embedded:chubby_from_pale_skin"), faces=1)
