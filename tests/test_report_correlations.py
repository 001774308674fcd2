"""Alignment beside correlation: numbers against NumPy, labels that are kept, pairs on which they disagree."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cfalign import Run, report
from cfalign._analysis.correlation import Correlation
from cfalign._errors import BadInput
from cfalign._results import Cell
from cfalign.datasets import Labels, read_labels
from cfalign.report.correlations import FILE, MOST, Correlations, disagreements
from cfalign.report.three_matrices import ordered_names, panels


@pytest.fixture
def run(tiny_run: Any, tmp_path: Path) -> Run:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def labels_of(run: Run, folder: Path, *targets: str) -> Labels:
    """Labels that are the predictions of the heads, rounded."""
    scores = run.scores()
    columns = [scores[f"image.{t}"].to_numpy() > 0.5 for t in targets]
    rows = [",".join([i, *(str(int(c[n])) for c in columns)]) for n, i in enumerate(scores["image_id"].to_list())]
    table = folder / "labels.csv"
    table.write_text("\n".join([",".join(["image", *targets]), *rows]) + "\n")
    return read_labels(table, ids=scores["image_id"].to_list())


def looked_at(run: Run) -> pl.DataFrame:
    """The scores of the images that some search looked at; the last chunk has scored more."""
    ids = {*run.counterfactuals(["image_id"])["image_id"], *run.ineligible()["image_id"]}
    return run.scores().filter(pl.col("image_id").is_in(sorted(ids)))


def test_predictions_correlate_as_numpy_says(run: Run) -> None:
    data = report.load(run)
    found = data.correlations
    assert found.names[0] == data.audited[0]
    scores = looked_at(run)
    assert 15 < len(scores) < len(run.scores())
    for a in found.names:
        for b in found.names:
            one, other = (scores[f"reconstruction.{h}"].to_numpy() for h in (a, b))
            assert found.predictions[a, b].r == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-6)
            assert found.predictions[a, b].n == len(scores)


def test_without_labels_there_are_two_matrices_and_a_sentence(run: Run) -> None:
    data = report.load(run)
    assert [p.title for p in panels(data)] == ["Alignment ψ", "Correlation of predictions"]
    assert "This run knows no" in report.html(data)


def test_labels_make_a_third_matrix_that_later_reports_have_too(run: Run, tmp_path: Path) -> None:
    labels = labels_of(run, tmp_path, "smiling", "young", "wearing_hat")
    report.write(run, labels=labels)
    report.write(run.path)
    data = report.load(run)
    assert [p.title for p in panels(data)] == ["Alignment ψ", "Correlation of predictions", "Correlation of labels"]
    expected = np.corrcoef(labels.subset(looked_at(run)["image_id"].to_list()).values.T)
    assert data.correlations.labels["smiling", "young"].r == pytest.approx(expected[0, 1])
    assert data.correlations.labels["young", "smiling"] == data.correlations.labels["smiling", "young"]
    assert np.isnan(data.correlations.labels["eyeglasses", "young"].r), "the labels do not know eyeglasses"
    assert {p.figure.count("<rect") for p in panels(data)} == {len(data.correlations.names) ** 2}
    pair = next(c for c in report.as_json(data)["correlations"] if {c["first"], c["second"]} == {"smiling", "young"})
    assert pair["labels"]["r"] == pytest.approx(expected[0, 1])


def test_all_matrices_have_one_order_with_the_audited_last(run: Run) -> None:
    data = report.load(run)
    names = ordered_names(data)
    assert sorted(names) == sorted(data.correlations.names)
    assert names[-1] == data.audited[0]
    assert len(names) <= MOST


def test_labels_of_images_that_the_run_has_not_are_left_out(run: Run, tmp_path: Path) -> None:
    labels = labels_of(run, tmp_path, "smiling", "young")
    more = replace(labels, ids=(*labels.ids, "elsewhere"), values=np.vstack([labels.values, [1.0, 0.0]]))
    report.write(run, labels=replace(more, split=None, extra={}))
    header, row = (run.path / FILE).read_text().splitlines()
    assert header == "first,second,r,ci_low,ci_high,n"
    assert row.endswith(f",{len(looked_at(run))}")


def test_labels_that_do_not_fit_are_refused(run: Run, tmp_path: Path) -> None:
    labels = labels_of(run, tmp_path, "smiling", "young")
    with pytest.raises(BadInput, match=r"know 1 of what the heads of .* are about; expected columns of at least two"):
        report.write(run, labels=labels.require(["young"]))
    elsewhere = replace(labels, ids=tuple(f"x{i}" for i in range(len(labels))))
    with pytest.raises(BadInput, match="The labels are of other images than the run"):
        report.write(run, labels=elsewhere)
    assert not (run.path / FILE).exists()


def cell(base: str, downstream: str, psi: float) -> Cell:
    return Cell(base, downstream, psi, psi, psi, psi, psi - 0.03, psi + 0.03, 60, 0, 0.001, 0.001)


@pytest.mark.parametrize("labelled", [False, True])
def test_pairs_on_which_both_disagree_are_told(labelled: bool) -> None:
    names = ("male", "big_nose", "hat", "tie")
    r = {("big_nose", "male"): 0.62, ("hat", "male"): 0.02, ("tie", "male"): 0.7}
    table = {pair: Correlation(size, size - 0.1, size + 0.1, 100) for pair, size in r.items()}
    found = Correlations(names, table, table if labelled else {})
    cells = [
        cell("big_nose", "male", 0.01),
        cell("hat", "male", 0.4),
        cell("tie", "male", 0.5),
        cell("hat", "tie", 0.0),
    ]
    what = "labels" if labelled else "predictions"
    assert disagreements(found, cells, ("male",), str) == [
        f"Correlated in the {what}, but the head does not move along: male and big_nose (r = +0.62, ψ = +0.01 "
        "[−0.02, 0.04]).",
        f"Hardly correlated in the {what}, but the head moves along: male and hat (r = +0.02, ψ = +0.40 [0.37, 0.43]).",
    ]
    assert disagreements(found, [cells[2]], ("male",), str) == [
        f"On none of these pairs do alignment and the correlation of {what} contradict each other clearly."
    ]


def test_a_run_without_scores_has_no_matrices(run: Run) -> None:
    shutil.rmtree(run.path / "scores")
    data = report.load(run)
    assert panels(data) == []
    assert "Alignment beside correlation" not in report.html(data)
