"""Synthetic faces: reproducible, local interventions, wanted correlations, labels by formula, errors."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch
from torch import Tensor

from cfalign._errors import BadInput
from cfalign.synthetic import (
    ATTRIBUTES,
    DERIVED,
    FACTORS,
    HAIR_COLOURS,
    INTERVENABLE,
    NUISANCE,
    OFF,
    ON,
    Faces,
    concatenate,
    effect,
    intervene,
    render,
    sample,
    switched,
)
from cfalign.synthetic.drawing import Painting
from cfalign.synthetic.renderer import flushes_denormals

ROWS = {  # where a factor may change pixels: image rows from, to (64 rows, pose included)
    "wearing_hat": (0, 19),
    "bangs": (4, 32),
    "receding_hairline": (4, 40),
    "arched_eyebrows": (17, 33),
    "bushy_eyebrows": (17, 33),
    "eyeglasses": (20, 41),
    "eye_shadow": (20, 41),
    "narrow_eyes": (20, 41),
    "bags_under_eyes": (20, 41),
    "big_nose": (24, 48),
    "pointy_nose": (24, 48),
    "wearing_earrings": (28, 46),
    "smiling": (32, 56),
    "big_lips": (32, 56),
    "mouth_slightly_open": (32, 56),
    "wearing_lipstick": (32, 56),
    "wearing_necklace": (46, 64),
    "wearing_necktie": (53, 64),
}


PINNED = [
    [0.59010, 0.50804, 0.63783, 0.57290, 0.63367, 0.55095, 0.50871, 0.39980],
    [0.60904, 0.49485, 0.55884, 0.50571, 0.52053, 0.47043, 0.48669, 0.32470],
    [0.60553, 0.45521, 0.48195, 0.47720, 0.44662, 0.41687, 0.46940, 0.33777],
]
"""Mean colour of every ninth row over 64 faces."""


@pytest.fixture(scope="module")
def faces() -> Faces:
    return sample(12, seed=3)


@pytest.fixture(scope="module")
def images(faces: Faces) -> Tensor:
    return render(faces)


def correlation(labels: Tensor, first: str, second: str) -> float:
    pair = labels[:, [ATTRIBUTES.index(first), ATTRIBUTES.index(second)]]
    return float(torch.corrcoef(pair.T)[0, 1])


def equal(first: Faces, second: Faces) -> bool:
    names = [field.name for field in dataclasses.fields(Faces)]
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


# ------------------------------------------------------------------ names and labels


def test_names_are_those_of_celeba_and_cover_the_papers_figure_8() -> None:
    assert len(FACTORS) == 31
    assert len(ATTRIBUTES) == 38
    assert list(ATTRIBUTES) == sorted(ATTRIBUTES)
    figure_8 = "mouth_slightly_open big_nose bushy_eyebrows arched_eyebrows smiling high_cheekbones pointy_nose"
    figure_8 += " wearing_lipstick heavy_makeup oval_face attractive young male"
    assert set(figure_8.split()) <= set(ATTRIBUTES)
    assert set(INTERVENABLE) == set(FACTORS) | set(HAIR_COLOURS)


def test_labels_follow_the_formulas() -> None:
    faces = sample(500, seed=0)
    v = dict(zip(FACTORS, faces.factors.unbind(1), strict=True))
    makeup = 0.4 * v["eye_shadow"] + 0.35 * v["wearing_lipstick"] + 0.25 * v["rosy_cheeks"]
    attractive = 0.35 * v["young"] + 0.25 * makeup - 0.3 * v["big_nose"] + 0.25 * v["oval_face"]
    attractive = attractive - 0.25 * v["bags_under_eyes"] + 0.2 * v["high_cheekbones"]
    expected = {name: v[name] > 0.5 for name in FACTORS}
    expected |= {name: faces.hair.argmax(1) == i for i, name in enumerate(HAIR_COLOURS)}
    expected["heavy_makeup"] = makeup > 0.5
    expected["attractive"] = attractive > 0.25
    expected["no_beard"] = (v["beard"] < 0.5) & (v["goatee"] < 0.5)
    labels = faces.labels()
    assert labels.shape == (500, 38)
    for i, name in enumerate(ATTRIBUTES):
        assert torch.equal(labels[:, i], expected[name].float()), name


def test_soft_labels_agree_with_hard_labels_and_grow_with_the_value() -> None:
    faces = sample(300, seed=1)
    soft = faces.soft_labels()
    assert torch.equal((soft > 0.5).float(), faces.labels())
    smiling = FACTORS.index("smiling")
    expected = torch.sigmoid(7 * (faces.factors[:, smiling] - 0.5))
    torch.testing.assert_close(soft[:, ATTRIBUTES.index("smiling")], expected)


# ------------------------------------------------------------------ sampling


def test_values_keep_the_gap_and_every_side_is_equally_frequent() -> None:
    faces = sample(20000, seed=2)
    assert faces.factors.min() >= 0
    assert faces.factors.max() <= 1
    assert (faces.factors - 0.5).abs().min() >= 0.2
    torch.testing.assert_close(faces.hair.sum(1), torch.ones(20000))
    share = faces.labels().mean(0)
    for i, name in enumerate(ATTRIBUTES):
        expected = 0.25 if name in (*HAIR_COLOURS, "no_beard") else 0.5
        assert abs(float(share[i]) - expected) < 0.015, name


def test_derived_labels_are_seldom_a_near_thing() -> None:
    values = sample(5000, seed=4).values()
    for name in DERIVED:
        assert ((values[:, ATTRIBUTES.index(name)] - 0.5).abs() < 0.05).float().mean() < 0.02, name


@pytest.mark.parametrize("phi", [-0.7, 0.0, 0.5, 0.9, 1.0])
def test_copula_hits_the_wanted_label_correlations(phi: float) -> None:
    wanted = {("smiling", "eyeglasses"): phi, ("male", "wearing_hat"): -phi, ("young", "blond_hair"): phi / 2}
    labels = sample(20000, seed=5, correlations=wanted).labels()
    for (first, second), value in wanted.items():
        assert abs(correlation(labels, first, second) - value) < 0.02, (first, second)
    assert abs(correlation(labels, "smiling", "male")) < 0.02


def test_chain_of_correlations_holds_together() -> None:
    wanted = {("smiling", "young"): 0.6, ("young", "male"): 0.6, ("smiling", "male"): 0.6}
    labels = sample(20000, seed=6, correlations=wanted).labels()
    for (first, second), value in wanted.items():
        assert abs(correlation(labels, first, second) - value) < 0.02


@pytest.mark.parametrize(
    ("correlations", "sentence"),
    [
        ({("smilin", "young"): 0.5}, "smiling"),
        ({("heavy_makeup", "young"): 0.5}, "eye_shadow, wearing_lipstick, rosy_cheeks"),
        ({("young", "young"): 0.5}, "repeats"),
        ({("young", "male"): 0.5, ("male", "young"): 0.5}, "repeats"),
        ({("young", "male"): 1.5}, r"\[-1, 1\]"),
        ({("black_hair", "gray_hair"): 0.5}, "exclude each other"),
        ({("black_hair", "male"): 0.8}, "can reach 0.5"),
        (
            {("young", "male"): 0.9, ("male", "smiling"): 0.9, ("young", "smiling"): -0.9},
            "cannot hold together",
        ),
    ],
)
def test_impossible_correlations_are_refused(correlations: dict[tuple[str, str], float], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        sample(4, seed=0, correlations=correlations)


def test_indexing_and_concatenation(faces: Faces) -> None:
    assert len(faces[4]) == 1
    assert equal(faces[-1], faces[11:])
    assert equal(faces[[0, 2]], faces[torch.tensor([0, 2])])
    assert equal(faces[faces.labels()[:, 0] > 0.5], faces[faces.labels()[:, 0].nonzero()[:, 0]])
    assert equal(concatenate([faces[:5], faces[5:]]), faces)
    with pytest.raises(IndexError):
        faces[12]
    with pytest.raises(BadInput):
        concatenate([])
    with pytest.raises(BadInput):
        sample(-1, seed=0)


# ------------------------------------------------------------------ rendering


def test_images_are_what_they_say(images: Tensor) -> None:
    assert images.shape == (12, 3, 64, 64)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.flatten(1).std(dim=1).min() > 0.1
    assert render(sample(0, seed=0)).shape == (0, 3, 64, 64)


def test_pixels_stay_what_the_embedded_models_were_trained_on() -> None:
    rows = render(sample(64, seed=0)).mean(dim=(0, 3))
    torch.testing.assert_close(rows[:, ::9], torch.tensor(PINNED), atol=1e-4, rtol=0)


def test_the_seed_decides_and_the_batch_does_not(faces: Faces, images: Tensor) -> None:
    assert equal(sample(12, seed=3), faces)
    assert not equal(sample(12, seed=4), faces)
    for batch in (1, 5, 64):
        assert torch.equal(render(faces, batch=batch), images)
    assert torch.equal(render(faces[7]), images[7:8])
    with pytest.raises(BadInput):
        render(faces, batch=0)


def test_the_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    render(sample(3, seed=9, correlations={("young", "male"): 0.3}))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("flushing", [False, True])
def test_the_treatment_of_denormals_is_restored(faces: Faces, flushing: bool) -> None:
    before = flushes_denormals()
    try:
        torch.set_flush_denormal(flushing)
        render(faces[:1])
        assert flushes_denormals() is flushing
    finally:
        torch.set_flush_denormal(before)


def test_drawing_on_few_rows_only_saves_time(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = sample(32, seed=10)
    extreme = dataclasses.replace(
        faces,
        nuisance=(faces.nuisance > 0.5).float(),
        factors=torch.where(torch.arange(32)[:, None] < 16, faces.factors, (faces.factors > 0.5).float()),
    )
    windowed = render(extreme)
    monkeypatch.setattr(Painting, "rows", lambda self, top, bottom: self)
    assert torch.equal(render(extreme), windowed)


# ------------------------------------------------------------------ interventions


@pytest.mark.parametrize("attribute", INTERVENABLE)
def test_an_intervention_is_exact_and_visible(faces: Faces, attribute: str) -> None:
    off, on = switched(faces, attribute)
    place = ATTRIBUTES.index(attribute)
    others = [i for i, name in enumerate(ATTRIBUTES) if name in FACTORS and name != attribute]
    torch.testing.assert_close(off.values()[:, place], torch.full((12,), OFF))
    torch.testing.assert_close(on.values()[:, place], torch.full((12,), ON))
    assert torch.equal(off.values()[:, others], on.values()[:, others])
    assert torch.equal(off.nuisance, on.nuisance)
    assert torch.equal(off.noise, on.noise)
    torch.testing.assert_close(on.hair.sum(1), torch.ones(12))
    change = (render(on) - render(off)).abs().amax(dim=(1, 3))
    assert change.max(dim=1).values.median() > 0.1
    first, last = ROWS.get(attribute, (0, 64))
    assert change[:, :first].sum() == 0
    assert change[:, last:].sum() == 0


@pytest.mark.parametrize("attribute", INTERVENABLE)
def test_pixels_follow_the_value_continuously(faces: Faces, attribute: str) -> None:
    values = [step / 20 for step in range(2, 20)]
    steps = render(concatenate([intervene(faces[0], attribute, value) for value in values]))
    whole = (steps[-1] - steps[0]).abs().mean()
    assert (steps[1:] - steps[:-1]).abs().mean(dim=(1, 2, 3)).max() < 0.4 * whole


def test_setting_the_value_it_has_changes_nothing(faces: Faces, images: Tensor) -> None:
    one = faces[2]
    assert equal(intervene(one, "young", float(one.factors[0, FACTORS.index("young")])), one)
    weight = float(one.hair[0].max())
    kept = intervene(one, HAIR_COLOURS[int(one.hair[0].argmax())], weight)
    torch.testing.assert_close(kept.hair, one.hair)
    assert torch.equal(render(faces), images)


def test_hair_of_one_pure_colour_can_be_switched_off(faces: Faces) -> None:
    pure = intervene(faces, "gray_hair", 1.0)
    assert torch.equal(pure.hair[:, HAIR_COLOURS.index("gray_hair")], torch.ones(12))
    off = intervene(pure, "gray_hair", OFF)
    torch.testing.assert_close(off.hair[:, 0], torch.full((12,), 1 - OFF))


@pytest.mark.parametrize("attribute", list(DERIVED))
def test_derived_attributes_name_their_factors(faces: Faces, attribute: str) -> None:
    with pytest.raises(BadInput, match=", ".join(DERIVED[attribute])):
        intervene(faces, attribute, 1.0)


def test_wrong_interventions_are_refused(faces: Faces) -> None:
    with pytest.raises(BadInput, match="eyeglasses"):
        intervene(faces, "eyeglases", 1.0)
    with pytest.raises(BadInput, match=r"\[0, 1\]"):
        intervene(faces, "young", 1.2)
    with pytest.raises(BadInput, match="at least one face"):
        effect(lambda images: images.mean(dim=(1, 2, 3)), faces[:0])


def test_effects_are_mean_changes_of_scores(faces: Faces) -> None:
    calls = []

    def score(images: Tensor) -> Tensor:
        calls.append(len(images))
        assert not torch.is_grad_enabled()
        return torch.stack([images[:, :, :12].mean(dim=(1, 2, 3)), images[:, :, 58:].mean(dim=(1, 2, 3))], dim=1)

    table = effect(score, faces[:3], batch=2)
    assert table.shape == (len(INTERVENABLE), 2)
    assert max(calls) == 2
    off, on = switched(faces[:3], "wearing_hat")
    torch.testing.assert_close(table[INTERVENABLE.index("wearing_hat")], (score_free(on) - score_free(off)).mean(dim=0))
    assert table[INTERVENABLE.index("wearing_hat"), 1] == 0
    assert table[INTERVENABLE.index("wearing_necktie"), 0] == 0
    assert table[INTERVENABLE.index("wearing_necktie"), 1] != 0


def score_free(faces: Faces) -> Tensor:
    images = render(faces)
    return torch.stack([images[:, :, :12].mean(dim=(1, 2, 3)), images[:, :, 58:].mean(dim=(1, 2, 3))], dim=1)


def test_a_single_head_may_return_one_number_per_image(faces: Faces) -> None:
    assert effect(lambda images: images.mean(dim=(1, 2, 3)), faces[:1]).shape == (len(INTERVENABLE), 1)


@pytest.mark.parametrize("name", NUISANCE)
def test_every_nuisance_changes_pixels(faces: Faces, name: str) -> None:
    base = faces[:1]
    for factor in ("wearing_hat", "wearing_necktie", "bangs"):
        base = intervene(base, factor, 0.0 if name == "parting_side" else 1.0)
    nuisance = base.nuisance.clone()
    nuisance[:, NUISANCE.index(name)] = (nuisance[:, NUISANCE.index(name)] + 0.5) % 1
    assert not torch.equal(render(dataclasses.replace(base, nuisance=nuisance)), render(base))


def test_public_signatures() -> None:
    assert str(inspect.signature(render)).startswith("(faces: 'Faces', *, batch: 'int' = 32)")
    assert list(inspect.signature(sample).parameters) == ["n", "seed", "correlations"]
