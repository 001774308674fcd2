"""Pictures of matplotlib: what is drawn is read back from the axes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from cfalign._figures import style
from cfalign._figures.plots.alignment_matrix import draw_matrix, write_values
from cfalign._figures.plots.pixels import blank, change, largest, new_figure, save_png, signed_map
from cfalign._figures.plots.rectification import Curve, rectification_curves


def test_a_change_is_that_of_the_channel_that_changed_most() -> None:
    before, after = np.zeros((1, 2, 3), dtype=np.float32), np.zeros((1, 2, 3), dtype=np.float32)
    after[0, 0] = [0.1, -0.5, 0.2]
    after[0, 1] = [0.0, 0.0, 0.3]
    np.testing.assert_allclose(change(before, after), [[-0.5, 0.3]])


def test_a_single_pixel_does_not_set_the_colour_scale() -> None:
    values = np.full(1000, 0.2)
    values[0], values[1] = -9.0, math.nan
    assert largest(values) == pytest.approx(0.2)
    assert largest(np.array([math.nan])) == 1.0


def test_a_signed_map_is_white_where_nothing_changed() -> None:
    axes = new_figure(2, 2).add_subplot()
    signed_map(axes, np.array([[-0.5, 0.0, 0.5]], dtype=np.float32))
    (image,) = axes.images
    assert image.get_clim() == pytest.approx((-0.5, 0.5), abs=0.01)
    blue, white, red = (to_hex(image.to_rgba(np.array([v]))[0]) for v in (-0.5, 0.0, 0.5))
    assert (blue, red) == (style.diverging(-1), style.diverging(1))
    assert min(int(white[at : at + 2], 16) for at in (1, 3, 5)) >= 253


def test_a_blank_frame_says_why() -> None:
    axes = new_figure(2, 2).add_subplot()
    blank(axes, "not in the run")
    assert [text.get_text() for text in axes.texts] == ["not in the run"]


def test_a_matrix_has_its_rows_below_each_other_and_a_dash_where_undefined() -> None:
    axes = new_figure(3, 3).add_subplot()
    grid = np.array([[1.0, -0.25], [math.nan, 0.5], [0.0, 2.0]])
    draw_matrix(axes, grid, ["a", "b", "c"], ["x", "y"])
    write_values(axes, grid)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y"]
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array().filled(np.nan), grid)
    assert image.get_clim() == (-1, 1)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert (written[0, 0], written[1, 0], written[0, 1]) == ("1.00", "−.25", style.DASH)


def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        figure = new_figure(1, 1)
        figure.add_subplot().plot([0, 1], [1, 0])
        save_png(figure, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_rectification_has_a_column_per_shortcut(tmp_path: Path) -> None:
    one = Curve("hat", [0, 1, 2], [0.0, 0.1, 0.2], [0.5, 0.3, 0.1], [0.5, math.nan, 0.1])
    nothing = Curve("beard", [0, 1, 2], [0.0, 0.0, 0.0], [math.nan] * 3, [math.nan] * 3)
    rectification_curves([one], tmp_path / "one.png", title="t", best_step=2)
    rectification_curves([one, nothing], tmp_path / "two.png", title="t", best_step=2)
    with Image.open(tmp_path / "one.png") as narrow, Image.open(tmp_path / "two.png") as wide:
        assert wide.size[0] - narrow.size[0] == pytest.approx(3.9 * 150, abs=2)
        assert wide.size[1] == narrow.size[1]
