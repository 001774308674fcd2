"""Confounded subsets, gaps by label, and the benchmark on photographs: on rendered faces always, on real ones where
they are."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import worlds
from cfalign import autoencoders, classifiers
from cfalign._errors import BadInput, RunMismatch
from cfalign._figures.plots.pixels import save_png
from cfalign._results import Floats
from cfalign.benchmarks import Photographs, PhotographsOptions, photographs
from cfalign.benchmarks.photographs.drawing import photographs_figure
from cfalign.benchmarks.photographs.options import QUICK
from cfalign.benchmarks.photographs.worst_group import worst_group_gaps
from cfalign.datasets import Labels, open_dataset
from cfalign.synthetic import ATTRIBUTES, render, sample
from cfalign.training import AutoencoderTraining, ClassifierTraining, train_autoencoder, train_classifier
from cfalign.training.recipes.confounded_subsets import RECIPE, Confounded, chosen, groups, most_images, sizes, wanted

ONE = Confounded("smiling", "male", 0.8, 3)

# --- subsets ------------------------------------------------------------------------------------------------


def members(counts: list[int]) -> list[np.ndarray]:
    edges = np.cumsum([0, *counts])
    return [np.arange(a, b) for a, b in pairwise(edges)]


@given(counts=st.lists(st.integers(0, 400), min_size=4, max_size=4), dose=st.sampled_from([0.0, 0.3, 0.8, 0.95, 1.0]))
def test_the_largest_subset_is_the_largest_that_fits(counts: list[int], dose: float) -> None:
    def fits(images: int) -> bool:
        return all(need <= count for need, count in zip(wanted(images, dose), counts, strict=True))

    found = most_images(counts, dose)
    assert found == max(images for images in range(0, sum(counts) + 2, 2) if fits(images))


@given(dose=st.floats(0, 1), seed=st.integers(0, 50))
def test_a_subset_has_the_correlation_and_both_attributes_in_half_of_it(dose: float, seed: int) -> None:
    pools = members([500, 450, 480, 600])
    rows = chosen(pools, replace(ONE, dose=dose, seed=seed), images=800)
    assert len(np.unique(rows)) == len(rows) == 800
    group = np.searchsorted([500, 950, 1430], rows, side="right")
    target, confounder = group < 2, group % 2 == 0
    assert target.mean() == confounder.mean() == 0.5
    assert np.corrcoef(target, confounder)[0, 1] == pytest.approx(dose, abs=1 / 400 + 1e-9)


def test_subsets_depend_on_their_seed_and_on_nothing_else() -> None:
    pools = members([500, 450, 480, 600])
    first = chosen(pools, ONE, images=800)
    np.random.default_rng(0).random(5)
    np.testing.assert_array_equal(first, chosen(pools, ONE, images=800))
    assert set(first) != set(chosen(pools, replace(ONE, seed=4), images=800))


def test_all_doses_of_a_pair_have_one_size_and_a_dose_with_too_few_images_is_left_out() -> None:
    size = sizes([56, 1098, 3299, 3481], (0.0, 0.5, 1.0), least=200, most=2500, pair=("blond_hair", "male"))
    assert (size.images, size.doses) == (226, (0.0,))  # groups of 56, 57, 57 and 56
    assert size.left_out[1.0] == (
        "blond_hair from male at dose 1: only 56 training images have blond_hair=1 and male=1, 100 are needed for the "
        "smallest subset of 200."
    )
    full = sizes([1306, 2505, 2049, 2074], (0.0, 0.5, 1.0), least=200, most=2500, pair=("smiling", "male"))
    assert (full.images, full.doses, full.left_out) == (2500, (0.0, 0.5, 1.0), {})
    assert sizes([1306, 2505, 2049, 2074], (1.0,), least=9, most=9000, pair=("a", "b")).images == 2612


def test_images_without_a_label_are_in_no_group(tmp_path: Path) -> None:
    folder = worlds.write_images(tmp_path / "images", 6)
    rows = "".join(f"{i:04d}.png,{t},{c}\n" for i, (t, c) in enumerate(["11", "10", "01", "00", (1, ""), ("", 1)]))
    (tmp_path / "labels.csv").write_text("image,a,b\n" + rows)
    source, _ = open_dataset(folder)
    from cfalign.datasets import read_labels

    table = read_labels(tmp_path / "labels.csv", ids=source.ids)
    assert [g.tolist() for g in groups(table, "a", "b")] == [[0], [1], [2], [3]]


# --- gaps ---------------------------------------------------------------------------------------------------


def scores_of(*shares: float, n: int = 40) -> list[Floats]:
    """One classifier that says yes for this share of each group."""
    return [np.where(np.arange(n) < round(share * n), 0.9, 0.2)[:, None] for share in shares]


def test_the_worst_group_gap_is_the_mean_accuracy_minus_the_lowest() -> None:
    found = worst_group_gaps(
        scores_of(1.0, 0.5, 0.25, 0.0), seed=0, name="x"
    )  # right when yes in the first two groups only
    np.testing.assert_allclose(found.accuracies[:, 0], [1.0, 0.5, 0.75, 1.0])
    assert found.worst[0] == pytest.approx(0.8125 - 0.5)
    assert found.prediction[0] == pytest.approx(0.7 * ((1.0 - 0.5) + (0.25 - 0.0)) / 2)


def test_a_group_counts_the_same_however_many_images_it_has() -> None:
    few = scores_of(1.0, 0.5, 0.25, 0.0)
    many = [few[0], np.tile(few[1], (7, 1)), few[2], few[3]]
    first, second = (worst_group_gaps(s, seed=0, name="x") for s in (few, many))
    np.testing.assert_allclose(first.worst, second.worst)
    np.testing.assert_allclose(first.prediction, second.prediction)


def test_the_interval_of_a_gap_is_that_of_its_groups_images() -> None:
    certain = worst_group_gaps(scores_of(1.0, 1.0, 0.0, 0.0), seed=0, name="x")
    assert [float(v[0]) for v in certain.interval("worst")] == pytest.approx([0.0, 0.0])
    found = worst_group_gaps(scores_of(1.0, 0.5, 0.0, 0.0, n=100), seed=0, name="x", resamples=4000)
    # three groups never err: the gap is three quarters of the second group's errors
    assert found.worst_drawn.std() == pytest.approx(0.75 * np.sqrt(0.25 / 100), rel=0.06)
    low, high = found.interval("worst")
    assert low[0] < found.worst[0] < high[0]


def test_classifiers_are_compared_on_the_same_drawn_images() -> None:
    both = [np.repeat(s, 2, axis=1) for s in scores_of(0.8, 0.4, 0.3, 0.1)]
    found = worst_group_gaps(both, seed=0, name="x")
    np.testing.assert_array_equal(found.worst_drawn[:, 0], found.worst_drawn[:, 1])


# --- the benchmark on rendered faces ------------------------------------------------------------------------

PAIR = ("big_lips", "eyeglasses")
TINY = PhotographsOptions(
    pairs=(PAIR, ("smiling", "mustache")),
    doses=(0.0, 1.0),
    seeds=(0,),
    limit=8,
    least=150,
    most=300,
    per_group=40,
    recipe=replace(
        RECIPE,
        steps=70,
        widths=(8, 16, 32),
        batch=32,
        horizontal_flip=False,
        dropout=0.0,
        zoom=0.0,
        rotation=0.0,
        shift=0.0,
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces as PNG below ``images`` and ``labels.csv`` beside it, moustaches too rare for the second pair."""
    root = tmp_path_factory.mktemp("faces")
    (root / "images").mkdir()
    faces = sample(900, seed=5)
    keep = faces.labels()[:, ATTRIBUTES.index("mustache")] < 0.5
    keep[:20] = True
    labels = faces.labels()[keep].int().tolist()
    pixels = torch.cat([render(faces[at : at + 100]) for at in range(0, 900, 100)])[keep]
    with (root / "labels.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["image", "split", *ATTRIBUTES])
        for i, (image, row) in enumerate(zip(pixels, labels, strict=True)):
            array = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            Image.fromarray(array).save(root / "images" / f"{i:04d}.png")
            table.writerow([f"{i:04d}.png", "val" if i % 4 == 3 else "train", *row])
    return root


def measured(folder: Path, out: Path, options: PhotographsOptions = TINY) -> Photographs:
    source, labels = open_dataset(f"celeba:{folder}", size=64)
    assert isinstance(labels, Labels)
    reference, autoencoder = classifiers.load("embedded"), autoencoders.load("embedded")
    return photographs(
        source, labels, reference=reference, autoencoder=autoencoder, out=out, options=options, workers=1
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmark") / "out"


@pytest.fixture(scope="module")
def result(folder: Path, out: Path) -> Photographs:
    return measured(folder, out)


def test_the_confounded_classifier_has_the_gap_and_the_effect(result: Photographs) -> None:
    none, complete = result.classifiers
    assert (none.dose, complete.dose) == (0.0, 1.0)
    assert complete.gap > none.gap + 0.1
    assert complete.prediction_gap > none.prediction_gap + 0.2
    assert complete.effect > none.effect + 0.1
    assert complete.rank <= 3
    assert complete.attributes == len(classifiers.load("embedded").targets) - 1
    assert complete.ci_low <= complete.effect <= complete.ci_high
    assert complete.gap_low <= complete.gap <= complete.gap_high
    assert complete.gap == pytest.approx(np.mean(complete.accuracies) - min(complete.accuracies))
    assert 0 < complete.n <= 2 * TINY.limit
    (pair,) = result.pairs
    assert pair.monotone
    assert 150 <= pair.images <= 300
    assert max(pair.groups) <= 40


def test_a_pair_without_enough_images_is_left_out_and_counted(result: Photographs) -> None:
    headline = result.headline
    assert (headline["pairs"], headline["classifiers"], headline["left_out"]) == (1, 2, 3)  # two doses and the pair
    assert "4 training images have smiling=0 and mustache=1" in result.left_out[0]
    assert result.left_out[2].startswith("smiling from mustache: 0 dose(s)")
    assert np.isnan(headline["rank_effect_gap"])  # of two classifiers


def test_the_result_is_written_and_told(result: Photographs, out: Path, tmp_path: Path) -> None:
    written = json.loads((out / "summary.json").read_text())
    assert written["headline"]["monotone_pairs"] == 1
    assert written["headline"]["rank_effect_gap"] is None
    assert [c["dose"] for c in written["classifiers"]] == [0.0, 1.0]
    told = "\n".join(result.lines())
    assert "big_lips from eyeglasses" in told
    assert "Left out: smiling from mustache" in told
    save_png(photographs_figure(result), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as figure:
        assert figure.size[0] > 1000


def test_a_second_call_trains_nothing_and_says_the_same(folder: Path, result: Photographs, out: Path) -> None:
    files = {p: p.stat().st_mtime_ns for kind in ("classifiers", "bank") for p in (out / kind).rglob("*.safetensors")}
    assert len(files) > 2
    again = measured(folder, out)
    assert again.as_dict()["classifiers"] == result.as_dict()["classifiers"]
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_a_folder_of_other_settings_is_refused(folder: Path, result: Photographs, out: Path, tmp_path: Path) -> None:
    with pytest.raises(RunMismatch, match=r"options\.doses was \[0\.0, 1\.0\], now \[0\.0, 0\.5, 1\.0\]"):
        measured(folder, out, replace(TINY, doses=(0.0, 0.5, 1.0)))
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds files of something else"):
        measured(folder, tmp_path)
    (tmp_path / "benchmark.json").write_text("{")
    with pytest.raises(BadInput, match=r"Expected JSON in .*benchmark\.json, which cannot be read"):
        measured(folder, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": (("smiling", "smiling"),)}, "pairs TARGET:CONFOUNDER of two attributes"),
        ({"doses": (0.5,)}, "two or more different doses"),
        ({"doses": (0.0, 1.5)}, "doses: expected a list of numbers at least 0 and at most 1, got 1.5"),
        ({"split": "train"}, "split: expected another split than train_split"),
        ({"limit": 0}, "limit: expected a whole number at least 1, got 0"),
    ],
)
def test_options_that_cannot_work_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        replace(TINY, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": (("smiling", "eyeglases"),)}, "Expected a reference head for the confounder 'eyeglases'"),
        ({"pairs": (("smilling", "eyeglasses"),)}, "no attribute 'smilling'"),
        ({"split": "test"}, "test"),
        ({"pairs": (("smiling", "mustache"),)}, "Expected at least one pair with enough images, got none"),
        ({"pairs": (("smiling", "mustache"),), "least": 4}, "16 are needed to know a group's accuracy"),
    ],
)
def test_data_that_cannot_serve_is_refused(
    folder: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        measured(folder, tmp_path / "out", replace(TINY, **change))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pair", "smiling"], "--pair: expected TARGET:CONFOUNDER, e.g. smiling:male, got 'smiling'."),
        (["--doses", "0,half"], "--doses: expected numbers separated by commas, got '0,half'."),
        (["--seeds", "0.5"], "--seeds: expected whole numbers separated by commas, got '0.5'."),
        ([], "Missing --labels: these images have none of their own."),
    ],
)
def test_the_command_tells_what_it_cannot_use(folder: Path, tmp_path: Path, words: list[str], message: str) -> None:
    images = folder / "images"
    common = ["--images", images, "--reference", "embedded", "--autoencoder", "embedded"]
    ended = worlds.cfalign("benchmark", "photographs", *common, *words, folder=tmp_path)
    assert ended.code == 2
    assert message in ended.err


# --- photographs --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_quick_on_photographs(shared_data: Path, tmp_path: Path) -> None:
    """With models trained in a minute: guards the way through, claims nothing of the method's quality."""
    source, labels = open_dataset(f"celeba:{shared_data / 'celeba'}", size=64)
    assert labels is not None
    train = labels.in_split("train") & (np.arange(len(labels)) % 6 == 0)
    some = train | labels.in_split("val")
    faces, table = source.subset(some), labels.subset(some)
    train_autoencoder(faces, out=tmp_path / "ae", options=AutoencoderTraining(latent=128), labels=table)
    heads = ClassifierTraining(
        targets=("male", "smiling", "heavy_makeup", "mouth_slightly_open", "eyeglasses", "young"),
        widths=(16, 32, 64, 96),
        residual=False,
        steps=120,
        average=0.95,
    )
    train_classifier(faces, table, out=tmp_path / "heads", options=heads)
    words = [
        "benchmark",
        "photographs",
        "--quick",
        "--json",
        *worlds.options(
            images=f"celeba:{shared_data / 'celeba'}",
            reference=tmp_path / "heads",
            autoencoder=tmp_path / "ae",
            out=tmp_path / "out",
        ),
    ]
    ended = worlds.cfalign(*words, folder=tmp_path)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["headline"]["pairs"], found["headline"]["classifiers"]) == (2, 6)
    assert (tmp_path / "out" / "photographs.png").is_file()
    for target, confounder in QUICK.pairs:
        none, *_, most = [c for c in found["classifiers"] if (c["target"], c["confounder"]) == (target, confounder)]
        assert most["gap"] > none["gap"] + 0.1
        assert most["prediction_gap"] > none["prediction_gap"] + 0.2
        assert most["incoming"] > none["incoming"]
    assert found["headline"]["rank_effect_gap"] > 0.3
