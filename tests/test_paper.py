"""The figures of the paper: by the command, from models of one's own and from the embedded ones, and piece by piece."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from scipy.stats import pearsonr

import worlds
from cfalign._audit.options import AuditOptions
from cfalign._errors import BadInput
from cfalign._paper import FigureInputs, embedded_inputs
from cfalign._paper.figure_2 import AlignmentAndCorrelation, alignment_and_correlation
from cfalign._paper.figure_5 import InducedShortcut
from cfalign._paper.figure_7 import curve_table, solver_curves
from cfalign._paper.figure_8 import beside_the_paper, grid, matrices
from cfalign._paper.figure_10 import iterations
from cfalign._paper.figure_inputs import NATURAL
from cfalign._paper.printed_alignment import ALIGNMENT
from cfalign._paper.rectified_collection import collection
from cfalign._paper.saliency_and_alignment import scored
from cfalign._paper.single_image import explained_image
from cfalign._rectification.options import RectificationOptions
from cfalign._runs.run import Run
from cfalign.datasets import Labels, Leftover, TensorImages
from linear_world import FromSingle, HeadsFromSingle, directions, linear_images


@pytest.fixture(scope="module")
def inputs() -> FigureInputs:
    return embedded_inputs(faces=150, seed=3)


def command(*arguments: object, folder: Path) -> worlds.Ended:
    return worlds.cfalign("reproduce", *arguments, folder=folder)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """Every figure by the command, from models of one's own, and the words of that command."""
    folder = tmp_path_factory.mktemp("own")
    images = worlds.write_images(folder / "images", 240)
    labels = (worlds.paper_heads().logits(worlds.images(240)) > 0).int().tolist()
    rows = (",".join(map(str, (f"{i:04d}.png", *row))) for i, row in enumerate(labels))
    (folder / "labels.csv").write_text("\n".join([",".join(("image", *worlds.PAPER)), *rows]))
    models = ["--classifier", f"{worlds.__file__}:paper_heads", "--autoencoder", f"{worlds.__file__}:autoencoder"]
    data = ["--images", images, "--labels", folder / "labels.csv"]
    words: list[object] = ["--quick", *data, *models, "--out", "figures"]
    ended = command("all", *words, folder=folder)
    assert ended.code == 0, ended.err
    return folder / "figures", words


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on the embedded faces."""
    folder = tmp_path_factory.mktemp("paper")
    ended = command("all", "--quick", "--out", "figures", folder=folder)
    assert ended.code == 0, ended.err
    return folder / "figures"


def assert_every_figure(folder: Path, *, heads: int) -> None:
    more = ("fig3_male", "fig3_attractive", "fig5_images")
    for name in (*more, "fig2", "fig4", "fig5", "fig6", "fig7", "fig8", "fig9", "fig10"):
        with Image.open(folder / f"{name}.png") as image:
            assert min(image.size) > 300
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
        assert "<svg" in (folder / f"{name}.svg").read_text()[:2000]
    assert set(json.loads((folder / "summary.json").read_text())) == {f"fig{i}" for i in range(2, 11)}
    assert len(pl.read_csv(folder / "fig9.csv")) == heads**2
    assert len(pl.read_csv(folder / "fig2.csv")) == 13 * 13


def assert_rectified(folder: Path) -> dict[str, Any]:
    """Figs. 7, 8 and 10: the shortcut of many heads is taken out of them. Returns the headline."""
    entry = json.loads((folder / "summary.json").read_text())["fig8"]
    assert entry["headline"]["targets_with_smaller_psi"] == entry["headline"]["targets"] == 3
    assert entry["headline"]["mean_abs_psi_after"] < 0.25 * entry["headline"]["mean_abs_psi_before"]
    assert entry["headline"]["most_steps"] <= 12
    targets = pl.read_csv(folder / "fig8_targets.csv")
    assert targets["target"].to_list() == ["heavy_makeup", "high_cheekbones", "young"]
    curve = pl.read_csv(folder / "fig7.csv")
    assert curve.group_by("target").agg(pl.col("kept").sum())["kept"].to_list() == [1, 1, 1]
    steps = pl.read_csv(folder / "fig10.csv")
    assert len(steps) == 2 * len(curve) * 4, "both parts, every step, every class"
    own = steps.filter((pl.col("step") == 0) & (pl.col("target") == pl.col("downstream")))
    assert own["psi"].to_list() == pytest.approx([1.0] * 6)
    headline: dict[str, Any] = entry["headline"]
    return headline


def test_every_figure_is_drawn_with_its_numbers(own: tuple[Path, list[object]]) -> None:
    assert_every_figure(own[0], heads=len(worlds.PAPER))
    assert_rectified(own[0])
    entries = json.loads((own[0] / "summary.json").read_text())
    assert entries["fig5"]["monotone"]
    assert entries["fig2"]["skipped"] == {}
    assert entries["fig4"]["auroc"] == [], "of images that are not rendered no truth is known"
    assert entries["fig4"]["pairs"] == len(pl.read_csv(own[0] / "fig4.csv")) == 13 * 12


def test_a_figure_made_again_keeps_the_others_and_its_numbers(own: tuple[Path, list[object]]) -> None:
    folder, words = own
    before = (folder / "fig5.csv").read_bytes()
    ended = command("fig5", *words, "--json", folder=folder.parent)
    assert ended.code == 0, ended.err
    assert (folder / "fig5.csv").read_bytes() == before
    assert set(json.loads(ended.out)) == {"fig5"}
    assert "fig9" in json.loads((folder / "summary.json").read_text())


@pytest.mark.slow
def test_every_figure_of_the_embedded_faces_is_drawn(paper: Path) -> None:
    assert_every_figure(paper, heads=38)


@pytest.mark.slow
def test_what_goes_together_in_the_images_alone_is_found_not_to_be_used(paper: Path) -> None:
    """The heads were trained on independent attributes: cheekbones go with smiles here, and neither head uses it."""
    entry = json.loads((paper / "summary.json").read_text())["fig2"]
    pairs = {(r["base"], r["downstream"]) for r in entry["correlated_but_not_aligned"]}
    assert {("smiling", "high_cheekbones"), ("high_cheekbones", "smiling")} <= pairs
    assert ("attractive", "young") not in pairs, "this one is used by construction"
    assert entry["skipped"] == {}


@pytest.mark.slow
def test_an_induced_shortcut_shows_by_its_dose(paper: Path) -> None:
    none, some, much = pl.read_csv(paper / "fig5.csv").to_dicts()
    assert none["psi"] < some["psi"] < much["psi"]
    assert abs(none["psi"]) < 0.1
    assert none["ci_high"] < some["ci_low"]
    assert json.loads((paper / "summary.json").read_text())["fig5"]["monotone"]


@pytest.mark.slow
def test_a_shortcut_of_many_heads_is_taken_out_of_them(paper: Path) -> None:
    headline = assert_rectified(paper)
    assert headline["mean_abs_effect_after"] < 0.5 * headline["mean_abs_effect_before"]
    assert headline["mean_accuracy_change"] > -0.02


@pytest.mark.slow
def test_saliency_maps_tell_less_than_interventions_and_incoming_alignment(paper: Path) -> None:
    entry = json.loads((paper / "summary.json").read_text())["fig4"]
    found = {d["name"]: d for d in entry["auroc"]}
    assert len(found) == 9
    assert found["incoming ψ"]["auroc"] > 0.85
    for name in ("input gradient, IoU", "guided backprop, cosine"):
        assert found[name]["auroc"] < found["incoming ψ"]["auroc"]
        assert found[name]["ci_low"] <= found[name]["auroc"] <= found[name]["ci_high"]
    table = pl.read_csv(paper / "fig4.csv")
    known = table.filter(pl.col("effect").is_finite())
    assert entry["pairs"] == len(known) == len(table) - 2 * 35, "two heads' own concepts are not among the attributes"
    assert entry["used"] == (known["truth"].abs() > 0.1).sum() > 15
    assert entry["concepts"]["ψ pointy_nose → big_nose"]["n"] > 0


def test_figures_that_fail_are_named_and_the_others_are_made(tmp_path: Path) -> None:
    """Heads of a small world have two of the paper's classes: enough for two figures."""
    images, out, heads = worlds.write_images(tmp_path / "images", 60), tmp_path / "out", f"{worlds.__file__}:heads"
    models = ("--classifier", heads, "--autoencoder", f"{worlds.__file__}:autoencoder")
    ended = command("all", "--quick", "--images", images, *models, "--out", out, folder=tmp_path)
    assert ended.code == 2
    assert (out / "fig2.png").is_file()
    assert len(pl.read_csv(out / "fig9.csv")) == len(worlds.TARGETS) ** 2
    assert "fig9: 4 heads" in ended.out
    summary = json.loads((out / "summary.json").read_text())
    failed = {name for name, entry in summary.items() if "failed" in entry}
    assert failed == {"fig3", "fig4", "fig5", "fig6", "fig7", "fig8", "fig10"}
    for name in failed:
        assert f"cfalign: {name} was not made: {summary[name]['failed']}\n" in ended.err
    assert "Expected at least two of the classes" in summary["fig8"]["failed"]
    again = command("fig9", "--quick", "--images", images, *models, "--out", out, "--json", folder=tmp_path)
    assert again.code == 0, again.err
    assert set(json.loads(again.out)) == {"fig9"}
    kept = json.loads((out / "summary.json").read_text())
    assert kept["fig2"] == summary["fig2"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fig22",), "No figure 'fig22'"),
        (("fig2", "--classifier", "x.py:make"), "--classifier needs --images"),
        (("fig2", "--images", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    ended = command(*arguments, folder=tmp_path)
    assert ended.code == 2
    assert sentence in ended.err
    assert "Traceback" not in ended.err


def test_classes_that_are_missing_are_named_and_the_others_go_on(inputs: FigureInputs, tmp_path: Path) -> None:
    assert inputs.labels is not None
    known = [t for t in inputs.labels.targets if t != "young"]
    fewer = replace(inputs, labels=inputs.labels.require(known))
    options = AuditOptions(limit=12, shown=0)
    wanted = ("smiling", "big_nose", "young", "wings")
    result = alignment_and_correlation(fewer, tmp_path / "run", classes=wanted, options=options)
    assert result.classes == ("smiling", "big_nose")
    assert result.skipped == {
        "wings": "the classifier has no such target",
        "young": "the labels have no such column",
    }
    with pytest.raises(BadInput, match="Expected at least two of the classes"):
        alignment_and_correlation(fewer, tmp_path / "other", classes=("smiling", "wings"))
    few = AuditOptions(limit=3, shown=0)
    with pytest.raises(BadInput, match="of at least one class, got smiling: 3, big_nose: 3:"):
        alignment_and_correlation(fewer, tmp_path / "few", classes=("smiling", "big_nose"), options=few)


NAMES = ("smiling", "big_nose", "young")
HEADS = HeadsFromSingle(directions(3, overlap=0.4), [0.8, 0.3, 0.2], NAMES, name="linear")


def linear(**more: Any) -> FigureInputs:
    images = linear_images(240, seed=3)
    labels = (HEADS.logits(torch.as_tensor(images)).detach().numpy() > 0).astype(float)
    ids = [f"image_{i}" for i in range(len(images))]
    none = Leftover(0, ())
    table = Labels(tuple(ids), HEADS.targets, labels, None, {}, none, none, {})
    return replace(FigureInputs(TensorImages(images, ids), table, HEADS, FromSingle()), **more)


def test_rectified_and_audited_tell_the_same(tmp_path: Path) -> None:
    """In a linear world: before, after, and the rows of the matrices on the very same test images."""
    options = RectificationOptions(reading="outgoing", limit=10_000, min_images=5)
    found = collection(linear(), targets=("smiling", "young", "wings"), options=options)
    assert found.classes == ("smiling", "young", "big_nose")
    assert found.skipped == {"wings": "the classifier has no such target"}
    assert found.failures() == found.skipped
    table = matrices(found, tmp_path / "run", options=AuditOptions(limit=1000, shown=0))
    for target, one in found.found.items():
        assert abs(one.after[0].psi) < 0.03 < abs(one.before[0].psi)
        for when, reading in (("before", one.before[0]), ("after", one.after[0])):
            (cell,) = table.filter(when=when, base=target, downstream="big_nose").to_dicts()
            assert (cell["psi"], cell["n"]) == (pytest.approx(reading.psi, abs=0.01), reading.n)
    assert grid(table, "before", found.classes).diagonal() == pytest.approx([1.0] * 3)
    steps = iterations(found, tmp_path / "steps", options=AuditOptions(limit=1000, shown=0))
    for target, one in found.found.items():
        for step in one.curve:
            mine = steps.filter(target=target, step=step.step, downstream="big_nose")
            for part, psi, n in (
                ("train", step.psi_train, step.n_train),
                ("val", step.psi_validation, step.n_validation),
            ):
                (cell,) = mine.filter(part=part).to_dicts()
                assert (cell["psi"], cell["n"]) == (pytest.approx(psi[0], abs=0.01), n)


def test_the_labels_may_say_which_images_are_for_what() -> None:
    whole = linear()
    assert whole.labels is not None
    split = tuple(("train", "val", "test")[i % 3] for i in range(240))
    options = RectificationOptions(reading="outgoing", limit=10_000, min_images=5)
    given = replace(whole, labels=replace(whole.labels, split=split))
    found = collection(given, targets=("smiling",), options=options)
    assert found.split == split
    assert found.found["smiling"].images["test"] == 80
    half = replace(whole, labels=replace(whole.labels, split=("val",) * 240))
    drawn = collection(half, targets=("smiling",), options=options)
    assert [drawn.split.count(p) for p in ("train", "val", "test")] == [120, 48, 72]


def test_targets_that_cannot_be_rectified_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    never = HeadsFromSingle(directions(3, overlap=0.4), [0.8, 0.3, -9.0], NAMES, name="linear")
    options = RectificationOptions(reading="outgoing", limit=10_000, min_images=5)
    found = collection(linear(classifier=never), targets=("smiling", "young"), options=options)
    assert list(found.found) == ["smiling"]
    assert found.skipped["young"].startswith("Too few images to rectify 'young': 0 of 120 training images")
    table = matrices(found, tmp_path / "run", options=AuditOptions(limit=50, shown=0))
    assert np.isnan(grid(table, "after", found.classes)[found.classes.index("young")]).all()
    with pytest.raises(BadInput, match="No target can be rectified against 'big_nose': Too few"):
        collection(linear(classifier=never), targets=("young",), options=options)
    with pytest.raises(BadInput, match=r"The shortcut 'wings' cannot be used: the classifier has no such target"):
        collection(linear(), shortcut="wings", targets=("smiling", "young"), options=options)


def test_the_papers_matrix_agrees_with_itself() -> None:
    classes = list(ALIGNMENT)
    values = np.array([[ALIGNMENT[a].get(b, math.nan) for b in classes] for a in classes])
    assert beside_the_paper(values, classes) == {"rank_correlation": pytest.approx(1.0), "cells": 150}
    assert beside_the_paper(-values, classes)["rank_correlation"] == pytest.approx(-1.0)
    assert beside_the_paper(values[:1, :1], classes[:1])["cells"] == 0


def test_correlations_as_scipy_has_them(inputs: FigureInputs, tmp_path: Path) -> None:
    assert inputs.labels is not None
    options = AuditOptions(limit=200, shown=0)  # more than there are: every image is looked at
    names = ("smiling", "high_cheekbones")
    result = alignment_and_correlation(inputs, tmp_path / "run", classes=names, options=options)
    row = result.table.row(1, named=True)
    labels = inputs.labels.require(["smiling", "high_cheekbones"]).values
    expected = pearsonr(labels[:, 0], labels[:, 1])
    assert row["label_correlation"] == pytest.approx(expected.statistic)
    ends = expected.confidence_interval(0.95)
    assert (row["label_ci_low"], row["label_ci_high"]) == pytest.approx((ends.low, ends.high))
    assert row["label_n"] == 150
    assert result.table.row(0, named=True)["prediction_correlation"] == pytest.approx(1.0)


def compared(**psi: tuple[float, float, float, float]) -> AlignmentAndCorrelation:
    """Classes a and b; ``ab=(ψ, low, high, correlation)``."""
    rows = []
    for key in ("aa", "ab", "ba", "bb"):
        value, low, high, r = psi.get(key, (1.0, 1.0, 1.0, 1.0))
        ends = {"psi": value, "ci_low": low, "ci_high": high, "n": 20, "prediction_correlation": r}
        rows.append({"base": key[0], "downstream": key[1], **ends})
    return AlignmentAndCorrelation(("a", "b"), pl.DataFrame(rows), {})


def test_unused_and_asymmetric_pairs_need_their_intervals() -> None:
    clear = compared(ab=(0.02, -0.05, 0.08, 0.5), ba=(0.6, 0.5, 0.7, 0.5))
    assert [(r["base"], r["downstream"]) for r in clear.unused()] == [("a", "b")]
    (pair,) = clear.asymmetric()
    assert pair["pair"] == ["a", "b"]
    assert pair["difference"] == pytest.approx(-0.58)
    assert pair["ci_high"] - pair["ci_low"] == pytest.approx(2 * math.hypot(0.065, 0.1))
    vague = compared(ab=(0.02, -0.4, 0.44, 0.5), ba=(0.3, -0.2, 0.8, 0.1))
    assert vague.unused() == []
    assert vague.asymmetric() == []
    undefined = compared(ab=(math.nan,) * 4, ba=(math.nan,) * 4)
    assert undefined.unused() == undefined.asymmetric() == []


def test_a_dose_response_that_dips_is_not_monotone() -> None:
    assert InducedShortcut("f", "g", pl.DataFrame({"psi": [0.0, 0.1, 0.3]})).monotone
    assert not InducedShortcut("f", "g", pl.DataFrame({"psi": [0.0, 0.1, 0.1]})).monotone


def test_the_image_of_a_study_is_predicted_by_all_its_bases(inputs: FigureInputs) -> None:
    shown = explained_image(inputs, "smiling", "smiling + 0.3*arched_eyebrows")
    assert len(shown.bases) == 2
    assert all(base.base_scores[0] >= 0.5 for base in shown.bases)
    assert shown.name in inputs.images.ids
    original = inputs.images.load([inputs.images.ids.index(shown.name)]).images[0]
    assert torch.equal(shown.image, original)
    with pytest.raises(BadInput, match=r"smiling - 2\*smiling predict positive, got none among 150 images"):
        explained_image(inputs, "smiling - 2*smiling")


def test_labels_of_the_rendered_faces_are_correlated_as_among_people() -> None:
    drawn = embedded_inputs(faces=800, seed=1).labels
    assert drawn is not None
    for (one, other), wanted in NATURAL.items():
        a, b = drawn.require([one, other]).values.T
        assert np.corrcoef(a, b)[0, 1] == pytest.approx(wanted, abs=0.15), (one, other)


def test_detectors_are_scored_on_pairs_where_all_are_defined() -> None:
    table = pl.DataFrame(
        {
            "head": ["a", "a", "b", "b", "c"],
            "truth": [0.5, 0.0, -0.4, 0.05, 0.9],
            "good": [0.9, 0.1, -0.8, 0.2, math.nan],
            "bad": [0.1, 0.9, 0.2, 0.8, 0.5],
        }
    )
    detectors, pairs, used = scored(table, ["bad", "good"], seed=0)
    assert [(d.name, d.auroc) for d in detectors] == [("good", 1.0), ("bad", 0.0)]
    assert (pairs, used) == (4, 2)


def test_the_complete_matrix_is_written_as_the_run_has_it(
    own: tuple[Path, list[object]],
) -> None:
    folder, _ = own
    entry = json.loads((folder / "summary.json").read_text())["fig9"]
    run = Run(folder / "runs" / "fig9")
    assert sorted(entry["order"]) == sorted(worlds.PAPER)
    assert entry["n"] == {cell.base: cell.n for cell in run.cells() if cell.base == cell.downstream}
    written = {(r["base"], r["downstream"]): r["psi"] for r in pl.read_csv(folder / "fig9.csv").to_dicts()}
    assert written == {(c.base, c.downstream): pytest.approx(c.psi) for c in run.cells()}


def test_single_images_are_the_same_for_all_bases_of_a_figure(own: tuple[Path, list[object]]) -> None:
    entry = json.loads((own[0] / "summary.json").read_text())
    heads = set(worlds.PAPER)
    assert set(entry["fig3"]) == {"male", "attractive"}
    for base in entry["fig3"]:
        assert set(entry["fig3"][base][base]["psi"]) == heads - {base}
    both = [entry["fig6"][base] for base in ("heavy_makeup", "heavy_makeup - 0.3*big_lips")]
    assert [base["outcome"] for base in both] == ["reached", "reached"]
    assert both[0]["psi"] != both[1]["psi"]
    assert set(entry["fig6"]) == {"image", "heavy_makeup", "heavy_makeup - 0.3*big_lips"}


def test_the_solver_s_curve_is_that_of_the_rectification() -> None:
    options = RectificationOptions(reading="outgoing", limit=10_000, min_images=5)
    found = collection(linear(), targets=("smiling",), options=options)
    (one,) = found.found.values()
    table = curve_table(found)
    assert table["beta"].to_list() == [step.beta[0] for step in one.curve]
    assert table["psi_train"].to_list() == [step.psi_train[0] for step in one.curve]
    assert table.filter("kept")["step"].to_list() == [one.best_step]
    axes = solver_curves(found).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["training"].get_ydata()) == table["psi_train"].to_list()
    validated = table.filter(pl.col("psi_validation").is_finite())
    assert list(lines["validation"].get_xdata()) == validated["step"].to_list()
