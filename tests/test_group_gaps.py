"""Group gaps: the parts of a difference of means, by hand, in closed form, and on faces with a planted shortcut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import cfalign as cfa
from cfalign._analysis.group_gaps import Groups, group_gaps
from cfalign._heads.panel import panel
from cfalign._heads.scoring import respond
from cfalign._results import Effect, Floats
from cfalign._runs.run import Run
from cfalign.benchmarks.photographs.worst_group import worst_group_gaps as gaps_by_labels
from cfalign.datasets import TensorImages
from cfalign.synthetic import ATTRIBUTES, render, sample

NAN = float("nan")


def groups(n: int = 200, *, seed: int = 0) -> Groups:
    """Three attributes; the second goes along with the first."""
    rng = np.random.default_rng(seed)
    a = rng.random(n) < 0.4
    b = np.where(rng.random(n) < 0.7, a, rng.random(n) < 0.5)
    c = rng.random(n) < 0.5
    has = np.column_stack([a, b, c])
    scores = 0.1 + 0.7 * has + rng.uniform(0, 0.1, has.shape)
    return Groups(("a", "b", "c"), has, scores, scores)


def effect(audited: str, attribute: str, size: float) -> Effect:
    return Effect(audited, attribute, size, size - 0.1, size + 0.1, size, NAN, 30, 0.01)


def test_differences_by_a_loop() -> None:
    one = groups()
    here, there = one.sizes
    for i in range(3):
        rows = [k for k in range(200) if one.has[k, i]]
        others = [k for k in range(200) if not one.has[k, i]]
        assert (here[i], there[i]) == (len(rows), len(others))
        for j in range(3):
            mean = sum(one.scores[k, j] for k in rows) / len(rows) - sum(one.scores[k, j] for k in others) / len(others)
            assert one.differences[i, j] == pytest.approx(mean)
    names = one.attributes
    for i, b in enumerate(names):
        assert one.spans[b] == pytest.approx(one.differences[i, i])
        for j, c in enumerate(names):
            assert one.together[b, c] == pytest.approx(one.differences[i, j] / one.differences[j, j])


def test_an_attribute_that_all_images_have_or_none() -> None:
    one = groups()
    all_have = Groups(one.attributes, one.has | np.array([True, False, False]), one.scores, one.scores)
    assert all_have.spans["a"] == 1.0
    assert np.isnan([all_have.together["a", c] for c in "abc"]).all()
    assert np.isfinite([all_have.together[b, c] for b in "bc" for c in "abc"]).all()
    rows = group_gaps(
        [effect("f", x, 0.2) for x in "abc"], {("f", "b"): (0.3, 0.2, 0.4)}, all_have, {"f": one.scores[:, 0]}
    )
    assert [np.isnan(r.gap) for r in rows] == [True, False, True]
    assert np.isnan(rows[0].observed)
    assert (rows[0].n_with, rows[0].n_without, rows[0].through) == (200, 0, "")


def test_the_rows_say_what_a_gap_is_made_of() -> None:
    one = groups()
    sizes = {"a": 0.3, "b": 0.5, "c": -0.2}
    of = {("f", x): s for x, s in sizes.items()}
    carried = {("f", x): (sum(sizes[c] * one.together[x, c] for c in "abc"),) * 3 for x in "abc"}
    rng = np.random.default_rng(1)
    audited = rng.uniform(0, 1, 200)
    rows = {
        r.attribute: r for r in group_gaps([effect(*key, s) for key, s in of.items()], carried, one, {"f": audited})
    }
    assert rows["a"].direct == 0.3
    assert rows["a"].indirect == pytest.approx(0.5 * one.together["a", "b"] - 0.2 * one.together["a", "c"])
    assert rows["a"].gap == pytest.approx(rows["a"].direct + rows["a"].indirect)
    assert rows["a"].observed == pytest.approx(audited[one.has[:, 0]].mean() - audited[~one.has[:, 0]].mean())
    assert rows["a"].through.startswith(f"b {0.5 * one.together['a', 'b']:+.2f}")


def test_a_linear_head_is_explained_wholly() -> None:
    """score = Σ share · attribute: direct and indirect parts together are the difference that is observed."""
    one, shares = groups(), {"a": 0.2, "b": 0.4, "c": -0.1}
    score: Floats = sum(s * one.scores[:, k] for k, s in enumerate(shares.values()))  # type: ignore[assignment]
    per_switch = {x: s * one.spans[x] for x, s in shares.items()}
    carried = {("f", x): (sum(per_switch[c] * one.together[x, c] for c in "abc"),) * 3 for x in "abc"}
    for row in group_gaps([effect("f", x, s) for x, s in per_switch.items()], carried, one, {"f": score}):
        assert row.gap == pytest.approx(row.observed, abs=1e-9)


def test_the_own_concept_is_not_a_gap() -> None:
    """A head ``other:b`` may answer ``b``: neither its direct effect nor what goes along with b through it counts."""
    one = groups()
    found = [effect("other:b", x, s) for x, s in (("a", 0.0), ("b", 0.9), ("c", 0.0))]
    rows = group_gaps(found, {("other:b", x): (0.0, 0.0, 0.0) for x in "abc"}, one, {"other:b": one.scores[:, 1]})
    assert all(r.gap == 0 == r.direct == r.indirect and r.through == "" for r in rows)
    assert rows[0].observed > 0.2


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Floats]]:
    """A classifier of ``chubby`` that uses pale skin, and its twin that does not; the two go together on the faces."""
    faces = sample(600, seed=5, correlations={("chubby", "pale_skin"): 0.7})
    images, labels = render(faces), faces.labels().numpy()
    names = ("chubby_from_pale_skin", "chubby_from_pale_skin_0")
    models = [cfa.classifiers.load(f"embedded:{name}") for name in names]
    run = cfa.audit(
        TensorImages(images),
        models,
        reference=cfa.classifiers.load("embedded"),
        autoencoder=cfa.autoencoders.load("embedded"),
        out=tmp_path_factory.mktemp("run"),
        options=cfa.AuditOptions(limit=12, shown=0),
    )
    y, pale = (labels[:, ATTRIBUTES.index(a)] > 0 for a in ("chubby", "pale_skin"))
    parts = [(y & pale), (y & ~pale), (~y & pale), (~y & ~pale)]
    table = panel([m["chubby"] for m in models], []).scores(respond(images, models))
    measured = gaps_by_labels([table[p] for p in parts], seed=0, name="test", resamples=10).prediction
    return run, dict(zip(run.record()["audited"], measured.tolist(), strict=True))


def test_gaps_without_labels_are_those_that_labels_show(audited: tuple[Run, dict[str, Floats]]) -> None:
    """The mean change with pale skin at fixed label, measured by labels, against the gap, which has seen no label."""
    run, by_label = audited
    rows = {r["audited"]: r for r in run.gaps().filter(run.gaps()["attribute"] == "pale_skin").to_dicts()}
    (used, right), (spared, twin) = by_label.items()
    assert abs(right) > 0.3 > 0.1 > abs(twin)
    assert rows[used]["gap"] == pytest.approx(right, abs=0.15)
    assert rows[spared]["gap"] == pytest.approx(twin, abs=0.1)
    assert rows[used]["ci_low"] <= rows[used]["gap"] <= rows[used]["ci_high"]


def test_a_run_keeps_a_row_for_every_effect(audited: tuple[Run, dict[str, Floats]]) -> None:
    run, _ = audited
    gaps, effects = run.gaps(), run.effects()
    key = ["audited", "attribute"]
    assert sorted(gaps.select(key).rows()) == sorted(effects.select(key).rows())
    both = gaps.join(effects, on=key).filter(pl.col("direct").is_not_null() & (pl.col("attribute") != "chubby"))
    assert (both["direct"] - both["effect"]).abs().max() < 1e-5
    assert run.gaps(run.record()["audited"][0]).height == gaps.height / 2
    size = gaps["gap"].abs().drop_nulls().to_list()
    assert size == sorted(size, reverse=True)


def test_images_that_miss_a_score_do_not_count() -> None:
    one = groups()
    fewer = replace(one, has=one.has[1:], scores=one.scores[1:])
    assert sum(fewer.sizes[0]) + sum(fewer.sizes[1]) == 3 * 199


def test_the_folder_of_a_run_holds_the_gaps(audited: tuple[Run, dict[str, Floats]]) -> None:
    header = (Path(audited[0].path) / "gaps.csv").read_text().splitlines()[0]
    assert header == "audited,attribute,gap,ci_low,ci_high,direct,indirect,observed,n_with,n_without,through"
