"""From the tables of a run to arrays, on tables written by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from cfalign._audit.options import AuditOptions
from cfalign._audit.shards import Shards
from cfalign._results import Outcome, Skipped

NAN = float("nan")
HEADS = ("a", "b")
KINDS = ("before", "after", "null", "off", "off_null")


def response(image: str, base: str, outcome: str, scores: dict[str, tuple[float, float]]) -> dict[str, object]:
    """A row of ``responses``; scores of the two heads by kind."""
    row: dict[str, object] = {"image_id": image, "base": base, "outcome": outcome}
    for kind in KINDS:
        row |= {f"{kind}.{head}": x for head, x in zip(HEADS, scores.get(kind, (NAN, NAN)), strict=True)}
    return row


SCORES = pl.DataFrame(
    {
        "image_id": ["x", "y", "z", "broken", "w"],
        "skipped": [None, None, None, "no image", None],
        "image.a": [0.9, 0.2, 0.5, None, 0.5],
        "image.b": [0.1, 0.2, 0.3, None, 0.4],
        "reconstruction.a": [0.8, 0.4, 0.5, None, NAN],
        "reconstruction.b": [0.1, 0.2, 0.9, None, 0.4],
    }
)
MOVED = {"before": (0.8, 0.1), "after": (0.2, 0.2), "null": (0.8, 0.1), "off": (0.05, 0.3), "off_null": (0.7, 0.1)}
RESPONSES = pl.DataFrame(
    [
        response("z", "a", "not_eligible", {"before": (0.5, 0.9)}),
        response("x", "a", "reached", MOVED),
        response("y", "not a", "floor", {kind: (1 - one, other) for kind, (one, other) in MOVED.items()}),
        response("w", "b", "reached", MOVED),
    ]
)
SHARDS = Shards.read([RESPONSES[:2], RESPONSES[2:]], SCORES)


def test_a_row_holds_the_counterfactuals_of_its_base_in_the_order_of_the_shards() -> None:
    row = SHARDS.row("a", ["b", "a"])
    assert row.image.tolist() == [2, 0], "places in scores"
    assert row.outcomes == (Outcome.NOT_ELIGIBLE, Outcome.REACHED)
    np.testing.assert_equal(np.asarray(row.before), [[0.9, 0.5], [0.1, 0.8]])
    np.testing.assert_equal(np.asarray(row.after), [[NAN, NAN], [0.2, 0.2]])
    np.testing.assert_equal(row.base_after, [NAN, 0.2])


def test_switched_are_those_that_count_off_and_then_on() -> None:
    rows = SHARDS.switched(["a"], HEADS, options=AuditOptions())
    assert [(r.base, len(r)) for r in rows] == [("a", 1), ("a", 1)]
    lowered, raised = rows
    assert lowered.base_change.tolist() == pytest.approx([-0.75])
    assert raised.base_change.tolist() == pytest.approx([0.75])
    np.testing.assert_equal(np.asarray(lowered.null), [[0.7, 0.1]])
    assert len(SHARDS.switched(["a"], HEADS, options=replace(AuditOptions(), both_ways=False))) == 1


def test_images_that_could_not_be_loaded_are_told_apart() -> None:
    assert SHARDS.images == 4
    assert SHARDS.skipped == (Skipped("broken", "no image"),)


def test_groups_are_of_the_images_that_a_search_looked_at_and_whose_scores_are_known() -> None:
    groups, places = SHARDS.groups(["a", "b"], {}, 0.5)
    assert places == [0, 1, 2], "w has an unknown score, the broken one has none"
    assert groups.has.tolist() == [[True, False], [False, False], [True, True]]
    judged, _ = SHARDS.groups(["a"], {"a": "b"}, 0.5)
    assert judged.has.tolist() == [[True], [False], [True]], "the attribute's own head predicts it"
    assert judged.scores.tolist() == [[0.1], [0.2], [0.9]], "its judge watches it"
    assert SHARDS.groups(["b"], {}, 0.5)[1] == [4], "no search for b looked at the others"


def test_drift_and_the_spread_of_logits() -> None:
    drift = SHARDS.drift(HEADS)
    assert math.isnan(drift["a"])
    assert drift["b"] == pytest.approx((0 + 0 + 0.6 + 0) / 4)
    scale = SHARDS.logit_scale(HEADS)
    logits = np.log(np.array([0.8, 0.4, 0.5]) / np.array([0.2, 0.6, 0.5]))
    assert scale["a"] == pytest.approx(logits.std()), "over the scores that are known"
    wide = Shards.read([RESPONSES], SCORES.with_columns(pl.Series("reconstruction.b", [1.2, 0.1, 0.1, None, 0.1])))
    assert math.isnan(wide.logit_scale(["b"])["b"]), "a composition that leaves [0, 1] has no logit"
    same = Shards.read([RESPONSES], SCORES.with_columns(pl.Series("reconstruction.b", [0.3] * 5)))
    assert math.isnan(same.logit_scale(["b"])["b"])


def test_scores_on_reconstructions_are_nan_where_unknown() -> None:
    np.testing.assert_equal(SHARDS.on_reconstructions(["a"])["a"], [0.8, 0.4, 0.5, NAN, NAN])


def test_images_that_are_not_eligible_count_without_a_wide_row() -> None:
    narrow = pl.DataFrame({"image_id": ["y", "z", "w"], "base": ["a", "a", "b"], "base_before": [0.4, 0.45, 0.4]})
    shards = Shards.read([RESPONSES.filter(pl.col("outcome") != "not_eligible")], SCORES, narrow)
    assert [shards.not_eligible(base) for base in ("a", "b", "not a")] == [2, 1, 0]
    assert shards.row("a", HEADS).outcomes == (Outcome.REACHED,)
    assert len(shards.row("nobody", HEADS)) == 0
    assert shards.row("nobody", HEADS).before.shape == (0, 2)
    assert shards.groups(["a", "b"], {}, 0.5)[1] == [0, 1, 2], "the images looked at are the same"


def test_an_image_that_no_search_looked_at_changes_nothing() -> None:
    """The last chunk scores more images than the searches need, a larger one more."""
    extra = SCORES.filter(pl.col("image_id") == "x").with_columns(
        pl.lit("unseen").alias("image_id"), pl.lit(0.999).alias("reconstruction.a"), pl.lit(0.7).alias("image.b")
    )
    more = Shards.read([RESPONSES], pl.concat([SCORES, extra]))
    assert more.seen.tolist() == [True, True, True, False, True, False]
    np.testing.assert_equal(more.drift(HEADS), SHARDS.drift(HEADS))
    np.testing.assert_equal(more.logit_scale(HEADS), SHARDS.logit_scale(HEADS))
