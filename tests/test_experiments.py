"""The experiments of the paper: on the embedded faces by the command, and piece by piece against other ways."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scipy.stats import pearsonr

from cfalign.errors import BadInput
from cfalign.experiments import Comparison, Induced, Material, comparison, embedded, study
from cfalign.sweep import AuditOptions


@pytest.fixture(scope="module")
def material() -> Material:
    return embedded(faces=150, seed=3)


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cfalign.cli", "reproduce", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    ended = command("all", "--quick", "--out", "figures", folder=folder)
    assert ended.returncode == 0, ended.stderr
    return folder / "figures"


def test_every_figure_is_drawn_with_its_numbers(paper: Path) -> None:
    for name in ("fig2", "fig3_male", "fig3_attractive", "fig5", "fig5_images", "fig6", "fig9"):
        with Image.open(paper / f"{name}.png") as image:
            assert min(image.size) > 300
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
        assert "<svg" in (paper / f"{name}.svg").read_text()[:2000]
    assert set(json.loads((paper / "summary.json").read_text())) == {"fig2", "fig3", "fig5", "fig6", "fig9"}
    assert len(pl.read_csv(paper / "fig9.csv")) == 38 * 38
    assert len(pl.read_csv(paper / "fig2.csv")) == 13 * 13


def test_what_goes_together_in_the_images_alone_is_found_not_to_be_used(paper: Path) -> None:
    """The heads were trained on independent attributes: cheekbones go with smiles here, and neither head uses it."""
    entry = json.loads((paper / "summary.json").read_text())["fig2"]
    pairs = {(r["base"], r["downstream"]) for r in entry["correlated_but_not_aligned"]}
    assert {("smiling", "high_cheekbones"), ("high_cheekbones", "smiling")} <= pairs
    assert ("attractive", "young") not in pairs, "this one is used by construction"
    assert entry["skipped"] == {}


def test_an_induced_shortcut_shows_by_its_dose(paper: Path) -> None:
    none, some, much = pl.read_csv(paper / "fig5.csv").to_dicts()
    assert none["psi"] < some["psi"] < much["psi"]
    assert abs(none["psi"]) < 0.1
    assert none["ci_high"] < some["ci_low"]
    assert json.loads((paper / "summary.json").read_text())["fig5"]["monotone"]


def test_a_figure_made_again_keeps_the_others_and_its_numbers(paper: Path) -> None:
    before = (paper / "fig5.csv").read_bytes()
    ended = command("fig5", "--quick", "--out", str(paper), "--json", folder=paper)
    assert ended.returncode == 0, ended.stderr
    assert (paper / "fig5.csv").read_bytes() == before
    assert set(json.loads(ended.stdout)) == {"fig5"}
    assert "fig9" in json.loads((paper / "summary.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fig22",), "No figure 'fig22'"),
        (("fig2", "--classifier", "x.py:make"), "go with --images"),
        (("fig2", "--images", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    ended = command(*arguments, folder=tmp_path)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_classes_that_are_missing_are_named_and_the_others_go_on(material: Material, tmp_path: Path) -> None:
    assert material.labels is not None
    known = [t for t in material.labels.targets if t != "young"]
    fewer = replace(material, labels=material.labels.require(known))
    result = comparison(
        fewer, tmp_path / "run", classes=("smiling", "big_nose", "young", "wings"),
        options=AuditOptions(limit=12, shown=0),
    )  # fmt: skip
    assert result.classes == ("smiling", "big_nose")
    assert result.skipped == {
        "wings": "the classifier has no such target",
        "young": "the labels have no such column",
    }
    with pytest.raises(BadInput, match="At least two of the classes"):
        comparison(fewer, tmp_path / "other", classes=("smiling", "wings"))
    with pytest.raises(BadInput, match=r"No class has the 10 counterfactuals .* \(smiling: 3, big_nose: 3\)"):
        comparison(fewer, tmp_path / "few", classes=("smiling", "big_nose"), options=AuditOptions(limit=3, shown=0))


def test_correlations_as_scipy_has_them(material: Material, tmp_path: Path) -> None:
    assert material.labels is not None
    options = AuditOptions(limit=200, shown=0)  # more than there are: every image is looked at
    result = comparison(material, tmp_path / "run", classes=("smiling", "high_cheekbones"), options=options)
    row = result.table.row(1, named=True)
    labels = material.labels.require(["smiling", "high_cheekbones"]).values
    expected = pearsonr(labels[:, 0], labels[:, 1])
    assert row["label_correlation"] == pytest.approx(expected.statistic)
    ends = expected.confidence_interval(0.95)
    assert (row["label_ci_low"], row["label_ci_high"]) == pytest.approx((ends.low, ends.high))
    assert row["label_n"] == 150
    assert result.table.row(0, named=True)["prediction_correlation"] == pytest.approx(1.0)


def compared(**psi: tuple[float, float, float, float]) -> Comparison:
    """Classes a and b; ``ab=(ψ, low, high, correlation)``."""
    rows = []
    for key in ("aa", "ab", "ba", "bb"):
        value, low, high, r = psi.get(key, (1.0, 1.0, 1.0, 1.0))
        ends = {"psi": value, "ci_low": low, "ci_high": high, "n": 20, "prediction_correlation": r}
        rows.append({"base": key[0], "downstream": key[1], **ends})
    return Comparison(("a", "b"), pl.DataFrame(rows), {})


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
    assert Induced("f", "g", pl.DataFrame({"psi": [0.0, 0.1, 0.3]})).monotone
    assert not Induced("f", "g", pl.DataFrame({"psi": [0.0, 0.1, 0.1]})).monotone


def test_the_image_of_a_study_is_predicted_by_all_its_bases(material: Material) -> None:
    shown = study(material, "smiling", "smiling + 0.3*arched_eyebrows")
    assert len(shown.bases) == 2
    assert all(base.base_scores[0] >= 0.5 for base in shown.bases)
    with pytest.raises(BadInput, match="None of 150 images is predicted positive"):
        study(material, "smiling - 2*smiling")
