"""Figures: whole SVG, numbers as written, nothing where there is no number, names that cannot break out."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfalign._figures import style
from cfalign._figures import svg as figures
from cfalign._figures.svg import alignment
from cfalign._results import Cell, Effect, StartsAt

NAN = math.nan
EVIL = '"><script>&'


def effect(attribute: str, value: float, *, q: float = 0.001, half: float = 0.05, audited: str = "a:smiling") -> Effect:
    return Effect(audited, attribute, value, value - half, value + half, value, NAN, 40, q)


def cell(base: str, downstream: str, psi: float, *, q: float = 0.001) -> Cell:
    n = 0 if math.isnan(psi) else 40
    return Cell(base, downstream, psi, psi, psi, NAN, psi - 0.05, psi + 0.05, n, 2, q, q)


def matrix(names: list[str]) -> list[Cell]:
    return [cell(b, d, 1.0 if b == d else 0.3, q=NAN if b == d else 0.01) for b in names for d in names]


def walk(**scores: tuple[float, ...]) -> figures.Walk:
    return figures.Walk("x.png", "base", (0.9, 0.6, 0.3), {"base": (0.9, 0.6, 0.3), **scores})


def parsed(svg: str) -> ElementTree.Element:
    """The figure as XML: an error here is a broken figure."""
    root = ElementTree.fromstring(svg)
    for node in root.iter():
        for value in node.attrib.values():
            assert not re.search(r"\bnan\b|\binf\b", value), (node.tag, node.attrib)
    return root


def words(svg: str) -> list[str]:
    return ["".join(t for t in node.itertext()) for node in parsed(svg).iter("text")]


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [
        (0.394, "0.39", "+0.39"),
        (-0.12, "−0.12", "−0.12"),
        (0.001, "0.00", "0.00"),
        (-0.001, "0.00", "0.00"),
        (NAN, "–", "–"),
        (math.inf, "–", "–"),
    ],
)
def test_numbers(value: float, plain: str, with_sign: str) -> None:
    assert style.number(value) == plain
    assert style.signed(value) == with_sign


@pytest.mark.parametrize(
    ("q", "expected"), [(0.0002, "q < 0.001"), (0.0123, "q = 0.012"), (0.31, "q = 0.31"), (NAN, "q –")]
)
def test_q_values(q: float, expected: str) -> None:
    assert style.q_value(q) == expected


def test_intervals_and_clipped_names() -> None:
    assert style.interval(-0.06, 0.014) == "[−0.06, 0.01]"
    assert style.interval(NAN, 0.1) == "–"
    assert style.clip("short", 10) == "short"
    assert style.clip("shortcut_eyeglasses:smiling", 12) == "shortc…iling"


def test_ticks_are_round_and_hold_zero() -> None:
    assert style.ticks(-0.1, 0.7, about=8) == [-0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert style.ticks(0.0, 1.0, about=4) == [0.0, 0.5, 1.0]


def test_colours_run_from_blue_over_white_to_red() -> None:
    assert style.diverging(0.0) == "#ffffff"
    assert style.diverging(-2.0) == style.diverging(-1.0) == "#084081"
    assert style.diverging(5.0) == style.diverging(1.0) == "#8c0c25"
    assert style.ink_on(style.diverging(1.0)) == style.PAPER
    assert style.ink_on(style.diverging(0.1)) == style.INK
    with pytest.raises(ValueError, match="No colour"):
        style.diverging(NAN)


def test_effects_are_sorted_own_first_missing_last() -> None:
    effects = [effect("b", NAN), effect("c", 0.1), effect("d", -0.4), effect("smiling", 0.2)]
    assert [e.attribute for e in figures.by_size(effects)] == ["smiling", "d", "c", "b"]


def test_a_mark_is_hollow_where_it_is_not_significant_and_a_dash_where_nothing_is_known() -> None:
    unknown = Effect("a:smiling", "young", NAN, NAN, NAN, NAN, NAN, 0, NAN)
    rows = [effect("smiling", 0.6), effect("hat", -0.31, q=0.2), unknown]
    own, hollow, none = (parsed(figures.effect_mark(e, scale=figures.common_scale(rows))) for e in rows)
    assert len(own.findall(".//polygon")) == 1
    assert not own.findall(".//circle")
    (dot,) = hollow.findall(".//circle")
    assert dot.attrib["fill"] == style.PAPER
    assert hollow.attrib["aria-label"].startswith("hat → a:smiling effect −0.31 [−0.36, −0.26], n = 40, q = 0.20")
    assert not none.findall(".//circle")
    assert "No counterfactual of young counts" in "".join(none.itertext())
    assert "–" in "".join(none.itertext())


def test_marks_on_one_scale_put_equal_effects_at_equal_places() -> None:
    scale = figures.common_scale([effect("x", 0.5), effect("y", -0.2)])
    places = [
        parsed(figures.effect_mark(effect(n, 0.5), scale=scale)).findall(".//circle")[0].attrib["cx"]
        for n in ("x", "y")
    ]
    assert places[0] == places[1]


def test_the_axis_has_its_zero_where_the_marks_have_theirs() -> None:
    scale = figures.common_scale([effect("x", 0.5), effect("y", -0.2)])
    (zero,) = (t for t in parsed(figures.effect_axis(scale=scale)).iter("text") if t.text == "0")
    (line,) = parsed(figures.effect_mark(effect("x", 0.3, q=0.5, half=NAN), scale=scale)).findall("line")
    assert zero.attrib["x"] == line.attrib["x1"]


def test_wide_intervals_end_in_an_arrow() -> None:
    wide = effect("x", 0.1, half=9.0, q=0.9)
    svg = figures.effect_mark(wide, scale=figures.common_scale([wide]))
    assert len(parsed(svg).findall(".//polygon")) == 2


def test_cells_with_images_are_links() -> None:
    drawn = figures.matrix_heatmap(matrix(["a", "b"]), links={("a", "b"): "#finding-1"})
    (link,) = parsed(drawn).iter("a")
    assert link.attrib["href"] == "#finding-1"
    assert link.attrib["aria-label"].startswith("base a → downstream b")
    assert len(list(link.iter("circle"))) == 1


def test_a_value_matrix_keeps_the_order_of_its_names_and_a_dash_where_nothing_is_known() -> None:
    names = ["x", "y"]
    values = {("x", "x"): 1.0, ("x", "y"): -0.5, ("y", "y"): 1.0}
    drawn = figures.value_matrix(names, values, label="r of 2 heads", hovers={pair: str(pair) for pair in values})
    root = parsed(drawn)
    assert root.attrib["aria-label"] == "r of 2 heads"
    fills = [r.attrib["fill"] for r in root.iter("rect")]
    assert fills == [style.diverging(1.0), style.diverging(-0.5), style.FAINT, style.diverging(1.0)]
    assert [w for w in words(drawn) if w == style.DASH] == [style.DASH]


@pytest.mark.parametrize("name", ["short", "w" * 60, "W" * 60, "\U0001f642" * 30, "وجه" * 20, "a_" * 300])
def test_a_fitted_name_keeps_its_ends_and_its_room(name: str) -> None:
    shown = style.fitted(name, 120.0, 11.0)
    assert style.width_of(shown, 11.0) <= 120.0
    assert shown[0] == name[0]
    assert shown[-1] == name[-1]
    assert (shown == name) == (style.width_of(name, 11.0) <= 120.0)


def test_thumbnail_keeps_the_largest() -> None:
    effects = [effect(f"x{i}", i / 100) for i in range(1, 30)] + [effect("smiling", 0.9)]
    shown = words(figures.forest_thumbnail(effects, scale=figures.Scale(-0.4, 0.4)))
    assert shown[::2] == ["smiling", "x29", "x28", "x27", "x26", "x25"]


def test_heatmap_keeps_the_diagonal_and_sets_the_audited_apart() -> None:
    names = ["a", "b", "c", "d", "aud"]
    rows, columns = figures.matrix_order(matrix(names), apart=["aud"])
    assert rows == columns
    assert rows[-1] == "aud"
    svg = figures.matrix_heatmap(matrix(names), apart=["aud"])
    root = parsed(svg)
    assert len(root.findall(".//rect")) == 25
    assert sum(r.attrib.get("stroke") == style.INK for r in root.findall(".//rect")) == 5


def test_similar_heads_stand_together() -> None:
    psi = {"a": [1.0, 0.0, 0.9, 0.0], "b": [0.0, 1.0, 0.0, 0.9], "c": [0.9, 0.0, 1.0, 0.0], "d": [0.0, 0.9, 0.0, 1.0]}
    cells = [cell(b, d, v) for b, row in psi.items() for d, v in zip(psi, row, strict=True)]
    order, _ = figures.matrix_order(cells)
    assert abs(order.index("a") - order.index("c")) == 1
    assert abs(order.index("b") - order.index("d")) == 1


def test_empty_cells_say_why() -> None:
    cells = [cell("a", "a", NAN, q=NAN), cell("a", "b", NAN, q=NAN)]
    svg = figures.matrix_heatmap(cells, reasons={"a": "2 × base change too small"})
    titles = ["".join(t.itertext()) for t in parsed(svg).iter("title")]
    assert "base a → downstream b\nno value: 0 images count, 2 excluded (2 × base change too small)" in titles
    assert words(svg).count("–") == 2


@pytest.mark.parametrize(("many", "printed"), [(5, "0.30"), (30, ".30"), (60, None)])
def test_values_are_printed_while_they_can_be_read(many: int, printed: str | None) -> None:
    names = [f"h{i}" for i in range(many)]
    shown = words(figures.matrix_heatmap(matrix(names)))
    assert sum(w == printed for w in shown) == (many * (many - 1) if printed else 0)
    if printed is None:
        assert len(shown) == 2 * many + 1  # nothing but labels


@pytest.mark.parametrize("names", [["only"], ["a", "b"]])
def test_small_matrices(names: list[str]) -> None:
    assert figures.matrix_order(matrix(names)) == (names, names)
    parsed(figures.matrix_heatmap(matrix(names)))


def test_walk_psi_is_the_change_between_its_ends() -> None:
    one = walk(hat=(0.8, 0.9, 0.5), flat=(0.2, 0.2, 0.2), lost=(0.1, 0.1, NAN))
    assert one.psi("hat") == pytest.approx(0.5)
    assert one.psi("flat") == 0
    assert math.isnan(one.psi("lost"))
    assert math.isnan(figures.Walk("x", "b", (0.5, 0.5), {"b": (0.5, 0.5)}).psi("b"))


def test_alignment_plot_labels_the_three_most_aligned_and_inverse() -> None:
    heads = {f"up{i}": (0.1, 0.1, 0.1 + 0.1 * i) for i in range(5)} | {
        f"down{i}": (0.9, 0.9, 0.9 - 0.1 * i) for i in range(5)
    }
    one = walk(**heads, marked_one=(0.5, 0.5, 0.5), lost=(NAN, NAN, NAN))
    assert alignment.labelled_heads(one, marked=["marked_one", "lost"]) == [
        *("marked_one", "down4", "down3", "down2", "up4", "up3", "up2"),
    ]
    svg = figures.alignment_plot(one, start=StartsAt.IMAGE, marked=["marked_one"])
    shown = words(svg)
    assert len([w for w in shown if re.fullmatch(r"(up|down)\d", w)]) == 6
    assert shown[shown.index("down4") - 1] == "+0.67"
    assert shown[shown.index("base") + 1] == "base", "the word, then the head of that name"
    assert len(parsed(svg).findall(".//polyline")) == 13  # every head and the base


def test_alignment_plot_says_where_the_walk_starts() -> None:
    for start, other in ((StartsAt.IMAGE, StartsAt.RECONSTRUCTION), (StartsAt.RECONSTRUCTION, StartsAt.IMAGE)):
        svg = figures.alignment_plot(walk(hat=(0.1, 0.2, 0.3)), start=start)
        assert start.picture in words(svg)
        assert other.picture not in words(svg)
        (word,) = (t for t in parsed(svg).iter("text") if t.text == start.picture)
        arrow = max(parsed(svg).findall("line"), key=lambda line: float(line.attrib["y1"]))
        room = float(arrow.attrib["x1"]) - float(word.attrib["x"])
        assert 0 < room - 5.5 * len(start.picture) < 15, "beside the word, not through it"


@given(st.lists(st.floats(0, 200), max_size=10))
def test_labels_do_not_overlap(wanted: list[float]) -> None:
    placed = alignment.spread(sorted(wanted), spacing=13.5, low=0.0, high=200.0)
    assert all(b - a >= 13.5 - 1e-9 for a, b in pairwise(placed))
    assert all(-1e-9 <= p <= 200 + 1e-9 for p in placed)


def test_controls_and_outcomes() -> None:
    controls = [figures.Control("a", 0.1, 0.02, 0.05, 0.2, 30), figures.Control("b", NAN, NAN, NAN, NAN, 0)]
    shown = words(figures.controls_plot(controls))
    assert {"0.100", "0.020", "0.050", "0.200"} <= set(shown)
    assert sum("not measured in this run" in w for w in shown) == 4
    without = figures.controls_plot(controls, drift=False)
    assert {"0.020", "0.050", "0.200"} <= set(words(without))
    assert "0.100" not in words(without)
    assert "drift" not in without.lower()
    assert (
        len(parsed(without).findall(".//rect")) == len(parsed(figures.controls_plot(controls)).findall(".//rect")) - 1
    )
    bar = parsed(figures.outcome_bar({"reached": 3, "turned": 1, "not_eligible": 50, "new_kind": 2}))
    assert [r.attrib["width"] for r in bar.findall("rect")] == ["220", "110", "36.67", "73.33"]
    assert bar.attrib["aria-label"] == "reached 3, turned 1, new_kind 2"
    parsed(figures.outcome_bar({}))


def test_hostile_names_stay_names() -> None:
    cells = [cell(EVIL, EVIL, 1.0, q=NAN), cell(EVIL, "b", 0.2)]
    rows = [effect(EVIL, 0.2)]
    drawn = [
        figures.matrix_heatmap(cells, reasons={EVIL: EVIL}),
        figures.effect_mark(rows[0], scale=figures.common_scale(rows)),
        figures.value_matrix([EVIL], {(EVIL, EVIL): 1.0}, label=EVIL, hovers={(EVIL, EVIL): EVIL}),
        figures.matrix_heatmap(cells, links={(EVIL, EVIL): EVIL}),
        figures.forest_thumbnail(rows, scale=figures.common_scale(rows)),
        figures.alignment_plot(
            figures.Walk(EVIL, EVIL, (0.9, 0.3), {EVIL: (0.9, 0.3), EVIL + "2": (0.1, 0.9)}), start=StartsAt.IMAGE
        ),
        figures.controls_plot([figures.Control(EVIL, 0.1, 0.1, 0.1, 0.1, 3)]),
        figures.outcome_bar({EVIL: 3}),
        figures.colour_bar(),
    ]
    for svg in drawn:
        assert "<script" not in svg
        parsed(svg)
