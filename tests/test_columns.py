"""The names of columns and bases, as programs that read a run rely on them."""

from __future__ import annotations

from cfalign._runs.columns import Column, attribute_of, raised_label


def test_a_column_is_where_a_head_was_scored_and_its_name() -> None:
    names = [where.of("smiling") for where in Column]
    assert names == [
        "image.smiling",
        "reconstruction.smiling",
        "before.smiling",
        "after.smiling",
        "null.smiling",
        "off.smiling",
        "off_null.smiling",
        "score.smiling",
    ]


def test_heads_are_found_again_in_the_columns_whatever_they_are_called() -> None:
    heads = ["smiling", "a.b", "off.x", "not young", ""]
    columns = ["image_id", *Column.OFF.columns(heads), *Column.OFF_NULL.columns(heads)]
    assert Column.OFF.heads(columns) == heads
    assert Column.AFTER.heads(columns) == []


def test_a_raised_attribute_has_a_base_of_its_own() -> None:
    assert raised_label("young") == "not young"
    assert attribute_of("not young") == attribute_of("young") == "young"
