"""The algebra of heads: Python and text give the same value, scores are what Eqs. 4 and 5 say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfalign import Outcome, latent_shift
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition, Head, complement, head, parse
from cfalign._heads.panel import Panel, labelled, panel, weights
from cfalign.classifiers import ComposedClassifier
from linear_world import LATENTS, LinearAutoencoder, LinearClassifier, directions, linear_images

TARGETS = ("smiling", "arched_eyebrows", "5_o_clock_shadow", "young")


def made(name: str = "faces", targets: tuple[str, ...] = TARGETS) -> LinearClassifier:
    return LinearClassifier(np.ones((len(targets), LATENTS)), [0.0] * len(targets), targets, name=name)


FACES = made()
OTHER = made("other", ("smiling", "hat"))
S, A, B, Y = (FACES[t] for t in TARGETS)
LOGITS = torch.tensor([[0.3, -1.2, 2.0, 0.0], [5.0, 0.1, -3.0, 40.0]], dtype=torch.float64)


def p(column: int) -> torch.Tensor:
    return 1 / (1 + torch.exp(-LOGITS[:, column]))


# --- algebra ------------------------------------------------------------------------------------------------


def test_python_and_text_give_the_same_value() -> None:
    assert parse("smiling + 0.3*arched_eyebrows", FACES) == S + 0.3 * A
    assert parse("smiling - 2*arched_eyebrows + 5_o_clock_shadow", FACES) == S - 2.0 * A + B
    assert parse("-smiling", FACES) == -S
    assert hash(S + 0.3 * A) == hash(parse("smiling+.3*arched_eyebrows", FACES))
    assert S + 0.3 * A != S + 0.4 * A
    assert (S + A).scaled("logit") != S + A


def test_terms_of_one_head_are_merged_in_order_of_appearance() -> None:
    assert (S + A + S).terms == ((2.0, Head(FACES, "smiling")), (1.0, Head(FACES, "arched_eyebrows")))
    assert 0.5 * (S + A) == 0.5 * S + 0.5 * A == (S + A) * 0.5
    assert (S - S).terms == ((0.0, Head(FACES, "smiling")),)
    assert not (S - S).is_head


def test_a_plain_head() -> None:
    assert S.is_head
    assert not (2.0 * S).is_head
    assert not (S + A).is_head
    assert S == head(FACES, "smiling") == parse("smiling", FACES)
    assert S.terms[0][1].index == 0
    assert Y.terms[0][1].index == 3


def test_classifiers_of_a_mixture_appear_once() -> None:
    mixed = OTHER["hat"] + 0.5 * S + A
    assert mixed.classifiers == (OTHER, FACES)


def test_scales_meet() -> None:
    """A plain head fits both scales; anything else must say which is meant."""
    on_logit = (S + 0.5 * A).scaled("logit")
    assert (on_logit + Y).on == (Y + on_logit).on == (on_logit - Y + Y).on == "logit"
    assert (S + A).on == "probability"
    assert (S.scaled("logit") + A).on == (A + S.scaled("logit")).on == "logit"
    for pair in ((on_logit, 0.3 * A), (0.3 * A, on_logit), (S.scaled("logit"), 0.3 * A), (S + A, Y.scaled("logit"))):
        with pytest.raises(BadInput, match="scaled"):
            _ = pair[0] + pair[1]
    assert (2.0 * on_logit).on == (-on_logit).on == "logit"


def test_what_is_no_composition_cannot_be_added() -> None:
    with pytest.raises(TypeError):
        _ = S + "young"  # type: ignore[operator]
    with pytest.raises(BadInput, match="at least one head"):
        Composition(())


def test_a_constant_is_part_of_the_sum() -> None:
    shifted = 2.0 * (S + 0.3 * A - 0.25) + 0.1
    assert shifted == Composition((2.0 * S + 0.6 * A).terms, constant=-0.4)
    assert shifted.name == "2*smiling + 0.6*arched_eyebrows - 0.4"
    assert parse(shifted.name, FACES) == shifted
    assert parse("0.5 - smiling + 1e-1", FACES) == 0.5 + -S + 0.1
    assert not (S + 0.1).is_head
    logits = {FACES: LOGITS[[0, 0]]}
    both = (S + 0.3 * A).scaled("logit")
    assert (both - 0.25).name.endswith("- 0.25")
    for on in ("logit", "probability"):
        plain, moved = (c.scaled(on) for c in (both, both - 0.25))
        rows = weights([plain, moved], [FACES])
        values = rows.value(logits[FACES])
        torch.testing.assert_close(values[1], values[0] - 0.25, rtol=1e-6, atol=1e-6)
        scores = torch.sigmoid(values) if on == "logit" else values
        torch.testing.assert_close(moved.score(logits)[0], scores[1], rtol=1e-6, atol=1e-6)


def test_numbers_scale_and_shift_from_either_side() -> None:
    assert S / 2 == 0.5 * S == 2 * S / 4 == S * np.float32(0.5) == np.float64(0.5) * S
    assert -S == -1 * S == 0 - S
    assert S - 1 == -1 + S == Composition(S.terms, constant=-1.0)
    assert 1 - (1 - S) == S
    assert Composition(((-0.5, Head(FACES, "smiling")),), constant=1.0) == 1 - S / 2
    assert (S + 0.5 * A + 3) / 2 == 0.5 * S + 0.25 * A + 1.5
    assert (1 - S.scaled("logit")) == Composition((-S).terms, on="logit", constant=1.0)
    assert sum([S, A, B]) == S + A + B


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: S / 0, "number other than zero to divide smiling by, got 0"),
        (lambda: S / math.nan, "Expected finite numbers .* got nan"),
        (lambda: S / math.inf, "Expected finite numbers .* got inf"),
        (lambda: S / A, "smiling divided by arched_eyebrows; heads can be added"),
        (lambda: 1 / S, "got 1 divided by smiling; divide a composition by a number"),
        (lambda: S * A, "smiling multiplied by arched_eyebrows"),
        (lambda: S * math.nan, "Expected finite numbers"),
        (lambda: S - math.inf, "Expected finite numbers"),
        (lambda: 1e308 * (1e308 * S), "Expected finite numbers"),
        (lambda: Composition(S.terms, constant=math.nan), "Expected finite numbers"),
    ],
)
def test_what_no_weighted_sum_can_hold_is_refused(made: Callable[[], Composition], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        made()


def test_arithmetic_with_anything_else_is_a_type_error() -> None:
    for wrong in (lambda: S / "2", lambda: "2" / S, lambda: 1 - (S - "x"), lambda: S * np.ones(3), lambda: "x" - S):
        with pytest.raises(TypeError):
            wrong()  # type: ignore[no-untyped-call]


def test_printed_compositions_say_what_they_are() -> None:
    assert repr(S) == "Composition('smiling', classifier='faces')"
    assert repr(1 - A) == "Composition('1 - arched_eyebrows', classifier='faces')"
    assert repr((S - 1).scaled("logit")) == "Composition('smiling - 1', on='logit', classifier='faces')"
    mixed = OTHER["smiling"] + S / 3
    assert repr(mixed) == (
        "Composition('other:smiling + 0.3333333333333333*faces:smiling', classifiers=('other', 'faces'))"
    )
    assert repr(S.terms[0][1]) == "Head('faces', 'smiling')"
    assert mixed.name == "smiling + 0.333333*smiling"
    assert "0x" not in repr([mixed, S])


# --- absence ------------------------------------------------------------------------------------------------


def test_one_minus_a_head_is_the_probability_that_it_is_absent() -> None:
    """1 − p = sigmoid(−logit), also where the probability is 1 in floating point."""
    logits = torch.tensor([[0.3], [-2.0], [60.0], [math.nan]], dtype=torch.float64)
    one = made(targets=("smiling",))
    absent = 1 - one["smiling"]
    score = absent.score({one: logits})
    torch.testing.assert_close(score, torch.sigmoid(-logits[:, 0]), equal_nan=True)
    assert score[2] > 0
    row = weights([absent], [one])
    assert row.on_logit.tolist() == [True]
    value = row[torch.zeros(4, dtype=torch.int64)].value(logits)
    torch.testing.assert_close(value, -logits[:, 0], equal_nan=True)
    assert ((score >= 0.5) == (value >= 0))[:3].all()
    assert absent.scaled("logit") == -one["smiling"].scaled("logit") == complement(one["smiling"])
    assert complement(absent) == one["smiling"].scaled("logit")


def test_an_absence_as_a_classifier_keeps_its_exact_logit() -> None:
    images = torch.full((2, 3, 4, 4), 0.5, dtype=torch.float64)
    sure = LinearClassifier(np.zeros((1, LATENTS)), [90.0], ("hat",))
    absent = ComposedClassifier(1 - sure["hat"], name="no_hat")
    assert absent.logits(images).tolist() == [[-90.0]] * 2
    assert ComposedClassifier(0.9 - sure["hat"], name="low").logits(images).min() > -14, "a sum of probabilities ends"


def test_only_one_minus_a_whole_head_is_a_sum_of_logits() -> None:
    for composition in (1 - 0.5 * S, 0.9 - S, 1 + S, 1 - S - A, S + A, -S):
        assert composition.sum_of_logits is None
        assert weights([composition], [FACES]).on_logit.tolist() == [False]
        expected = sum(c * p(h.index) for c, h in composition.terms) + composition.constant
        torch.testing.assert_close(composition.score({FACES: LOGITS}), expected)
    assert S.sum_of_logits == S.scaled("logit")
    assert (S + A).scaled("logit").sum_of_logits == (S + A).scaled("logit")


def test_counterfactuals_of_an_absence_raise_the_head() -> None:
    """Eligible are the images on which the head is not predicted; the logit rises along its own direction."""
    x = linear_images(40, spread=0.25)
    clf = LinearClassifier(directions(2, overlap=0.3), [0.2, 0.0], ("hat", "smile"))
    found = latent_shift(x, 1 - clf["hat"], autoencoder=LinearAutoencoder(), drop=0.1)
    logits = clf.logits(found.reconstructions)[:, 0]
    eligible = torch.tensor([outcome is not Outcome.NOT_ELIGIBLE for outcome in found.outcomes])
    assert eligible.tolist() == (logits <= 0).tolist()
    assert 5 < int(eligible.sum()) < 35
    before = torch.sigmoid(-logits)
    np.testing.assert_allclose(found.base_before, before.detach().numpy())
    reached = torch.tensor([outcome is Outcome.REACHED for outcome in found.outcomes])
    assert reached.sum() > 3
    after = clf.logits(found.images)[:, 0]
    torch.testing.assert_close(
        after.sigmoid()[reached] - logits.sigmoid()[reached],
        torch.full((int(reached.sum()),), 0.1, dtype=torch.float64),
        atol=0.011,
        rtol=0,
    )
    # z_λ = z0 − λ ∂(1 − p)/∂z, so the logit rises by λ·p(1 − p)·|a|²
    slope = (logits.sigmoid() * (1 - logits.sigmoid()))[reached] * (clf.weight[0] ** 2).sum()
    torch.testing.assert_close((after - logits)[reached], torch.from_numpy(found.lambdas)[reached] * slope)


# --- scores -------------------------------------------------------------------------------------------------


def test_scores_on_probabilities_are_weighted_sums_without_clipping() -> None:
    score = (S + 0.3 * A - 2.0 * B).score({FACES: LOGITS})
    torch.testing.assert_close(score, p(0) + 0.3 * p(1) - 2 * p(2))
    assert (S + Y).score({FACES: LOGITS})[1] > 1.9
    assert (A - B).score({FACES: LOGITS})[0] < 0


def test_scores_on_logits_are_probabilities_of_sums() -> None:
    score = (S + 0.3 * A - 2.0 * B).scaled("logit").score({FACES: LOGITS})
    expected = torch.sigmoid(LOGITS[:, 0] + 0.3 * LOGITS[:, 1] - 2 * LOGITS[:, 2])
    torch.testing.assert_close(score, expected)


def test_a_head_has_one_score_on_either_scale() -> None:
    torch.testing.assert_close(S.score({FACES: LOGITS}), p(0))
    torch.testing.assert_close(S.scaled("logit").score({FACES: LOGITS}), p(0))
    torch.testing.assert_close((0.5 * S).score({FACES: LOGITS}), 0.5 * p(0))


coefficients = st.floats(-5, 5).map(lambda c: round(c, 3))
sums = st.lists(st.tuples(coefficients, st.sampled_from(range(4))), min_size=1, max_size=6)


@given(st.lists(st.tuples(sums, st.sampled_from(["probability", "logit"])), min_size=1, max_size=5))
def test_rows_of_weights_give_the_same_scores(rows: list[tuple[list[tuple[float, int]], str]]) -> None:
    """What the batched search descends, what the panel writes and what one composition says are the same numbers."""
    table = []
    for terms, on in rows:
        parts = tuple((c, Head(FACES, TARGETS[i])) for c, i in terms)
        table.append(Composition(parts, on=on))  # type: ignore[arg-type]
    chosen = weights(table, [OTHER, FACES])
    assert chosen.coefficients.shape == (len(table), 6)
    concatenated = torch.cat([torch.zeros(2, 2, dtype=torch.float64), LOGITS], dim=1)
    scores = Panel(tuple(map(str, range(len(table)))), tuple(table)).scores(LOGITS)
    for i, composition in enumerate(table):
        expected = composition.score({FACES: LOGITS})
        value = chosen[torch.tensor([i, i])].value(concatenated)
        score = torch.sigmoid(value) if chosen.on_logit[i] else value
        torch.testing.assert_close(score, expected, atol=1e-5, rtol=0)
        np.testing.assert_allclose(scores[:, i], expected.numpy(), atol=1e-12)


def test_a_head_without_weight_may_be_nan() -> None:
    broken = LOGITS.clone()
    broken[:, 1], broken[:, 2] = math.nan, math.inf
    broken.requires_grad_(True)
    value = weights([S], [FACES])[torch.tensor([0, 0])].value(broken)
    torch.testing.assert_close(value, LOGITS[:, 0])
    (gradient,) = torch.autograd.grad(value.sum(), broken)
    assert gradient.tolist() == [[1, 0, 0, 0]] * 2
    scores = panel([S, A, B], []).scores(broken)
    np.testing.assert_allclose(scores[:, 0], p(0))
    assert np.isnan(scores[:, 1]).all()
    assert (scores[:, 2] == 1).all()


# --- text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smiling", S),
        ("  smiling  ", S),
        ("+smiling", S),
        ("- smiling", -S),
        ("0.3*smiling", 0.3 * S),
        (".5 * smiling", 0.5 * S),
        ("2.*smiling", 2.0 * S),
        ("1e-2*smiling", 0.01 * S),
        ("smiling - 1.5*5_o_clock_shadow", S - 1.5 * B),
        ("5_o_clock_shadow+5_o_clock_shadow", 2.0 * B),
        ("2*5_o_clock_shadow", 2.0 * B),
        ("faces:smiling", S),
        ("smiling + 1", S + 1),
    ],
)
def test_texts_that_are_read(text: str, expected: Composition) -> None:
    assert parse(text, FACES) == expected
    assert parse(text, FACES, on="logit") == expected.scaled("logit")


@given(st.lists(st.tuples(coefficients, st.sampled_from(TARGETS)), min_size=1, max_size=5))
def test_a_name_reads_back_as_the_same_composition(terms: list[tuple[float, str]]) -> None:
    composition = Composition(tuple((c, Head(FACES, t)) for c, t in terms))
    again = parse(composition.name, FACES)
    assert [h for _, h in again.terms] == [h for _, h in composition.terms]
    np.testing.assert_allclose([c for c, _ in again.terms], [c for c, _ in composition.terms], rtol=1e-5)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from(range(4))), min_size=1, max_size=5), st.floats(-9, 9))
def test_printed_text_reads_back_exactly(terms: list[tuple[float, int]], constant: float) -> None:
    heads = [Head(OTHER, "hat"), *(Head(FACES, t) for t in TARGETS[:3])]
    for on in ("logit", "probability"):
        composition = Composition(tuple((c, heads[i]) for c, i in terms), on=on, constant=constant)
        known = {c.name: c for c in composition.classifiers}
        assert parse(str(composition), known, on=on) == composition


def test_names_as_people_write_them() -> None:
    assert (1 - S).name == str(1 - S) == "1 - smiling"
    assert (0.5 - S - A / 2).name == "0.5 - smiling - 0.5*arched_eyebrows"
    assert (S - A + 1).name == "smiling - arched_eyebrows + 1"
    assert (-S - 1).name == "-smiling - 1"
    assert (S + 0.3 * A).name == "smiling + 0.3*arched_eyebrows"
    assert (S - A).name == "smiling - arched_eyebrows"
    assert (-0.25 * S).name == "-0.25*smiling"
    assert (-S + 2.0 * A).name == "-smiling + 2*arched_eyebrows"


def test_several_classifiers_are_searched_in_order_or_named() -> None:
    known = {"faces": FACES, "other": OTHER}
    assert parse("smiling", known) == S
    assert parse("hat", known) == OTHER["hat"]
    assert parse("other:smiling + 0.5*faces:smiling", known) == OTHER["smiling"] + 0.5 * S


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty composition"),
        ("   ", "Cannot read"),
        ("smilling", "nearest valid: smiling"),
        ("other:smiling", "nearest valid"),
        ("smiling arched_eyebrows", "at position 8"),
        ("smiling +", "at position 8"),
        ("smiling + + young", "at position 8"),
        ("smiling * 0.3", "at position 8"),
        ("0.3", "Cannot read"),
        ("0.3*", "Cannot read"),
        ("smiling + 0.3*", "Cannot read"),
        ("(smiling)", "at position 0"),
    ],
)
def test_texts_that_are_refused(text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        parse(text, FACES)


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="'faces' has no target 'yung'; nearest valid: young"):
        head(FACES, "yung")


# --- panels -------------------------------------------------------------------------------------------------


def test_panel_labels() -> None:
    table = panel([S, A], [("other", OTHER["smiling"]), ("other", OTHER["hat"]), ("faces", S)])
    assert table.labels == ("smiling", "arched_eyebrows", "other:smiling", "hat")
    assert table["other:smiling"] == OTHER["smiling"]
    assert table.classifiers == (FACES, OTHER)


def test_panel_scores_follow_the_labels() -> None:
    table = panel([A], [("other", OTHER["hat"] + 0.5 * S), ("faces", S)])
    assert table.classifiers == (FACES, OTHER)
    others = torch.tensor([[0.0, 1.0], [0.5, -1.0]], dtype=torch.float64)
    scores = table.scores(torch.cat([LOGITS, others], dim=1))
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores[:, 0], p(1))
    np.testing.assert_allclose(scores[:, 1], torch.sigmoid(others[:, 1]) + 0.5 * p(0))
    np.testing.assert_allclose(scores[:, 2], p(0))


def test_labels_that_cannot_be_told_apart_are_refused() -> None:
    twin = made()
    assert list(labelled([("faces", S)], taken=[])) == ["smiling"]
    with pytest.raises(BadInput, match="give the classifiers different names"):
        labelled([("faces", S), ("faces", twin["smiling"]), ("faces", made()["smiling"])], taken=[])
