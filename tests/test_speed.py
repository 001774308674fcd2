"""The benchmark of speed: passes are counted as they are made, and everything that follows from them is arithmetic.

In the linear world a first guess always lands, so the number of passes of every counterfactual is known.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import torch

import worlds
from cfalign._errors import BadInput, RunMismatch
from cfalign._heads.scoring import logits, respond
from cfalign.benchmarks.speed import SpeedOptions, agreement, authors, measure
from cfalign.benchmarks.speed.agreement import agreement as compared
from cfalign.benchmarks.speed.apart import AUDIT, AUTHORS, BARE, Counted, counted, counted_apart
from cfalign.benchmarks.speed.contestants import Answers, bare, default_audit
from cfalign.benchmarks.speed.counting import CountedAutoencoder, CountedClassifier, Counter, Passes
from cfalign.benchmarks.speed.drawing import speed_figure
from cfalign.benchmarks.speed.floor import PassTimes, best_batch, pass_times
from cfalign.benchmarks.speed.result import EmbeddedPart, LargePart, Round, Speed
from cfalign.benchmarks.speed.setting import Setting, embedded_setting, rows_by_base

IMAGES = 12


def linear_setting(options: SpeedOptions | None = None) -> Setting:
    """Linear models, in which the logit of a base falls along its ray as steeply as at z0."""
    count = IMAGES if options is None else options.images
    return Setting(worlds.images(count), worlds.LinearAutoencoder(), worlds.heads(), ("smiling", "young"), batch=5)


# --- counting ------------------------------------------------------------------------------------------------


def test_images_are_counted_forward_and_backward() -> None:
    counter, x = Counter(), worlds.images(3)
    autoencoder = CountedAutoencoder(worlds.LinearAutoencoder(), counter)
    classifier = CountedClassifier(worlds.heads(), counter)
    with torch.no_grad():
        z = autoencoder.encode(x)
        assert torch.equal(autoencoder.decode(z), autoencoder.inside.decode(z))
    z.requires_grad_(True)
    answers = logits(autoencoder.decode(z), [classifier])
    torch.autograd.grad(answers[:, 0].sum(), z, retain_graph=True)
    torch.autograd.grad(answers[:, 1].sum(), z)
    found = counter.passes()
    assert (found.encodes, found.decodes, found.decoder_backwards) == (3, 6, 6)
    assert (found.scored, found.classifier_backwards) == (3, 6)
    assert found.decoder_equivalents == 12
    assert found.per(6) == Passes(0.5, 1.0, 1.0, 0.5, 1.0)
    assert math.isnan(found.per(0).decodes)


def test_counting_models_answer_for_the_ones_inside() -> None:
    counter = Counter()
    autoencoder, classifier = CountedAutoencoder(worlds.BentAutoencoder(), counter), worlds.heads()
    around = CountedClassifier(classifier, counter)
    assert (autoencoder.size, autoencoder.pause) == (worlds.SIZE, 0.0)
    assert (around.name, around.targets, around.differentiable) == (classifier.name, classifier.targets, True)
    assert around.spec is None
    with pytest.raises(AttributeError, match="nothing"):
        _ = around.nothing


# --- the contestants -----------------------------------------------------------------------------------------


def test_pairs_are_those_that_a_base_predicts_positive() -> None:
    setting = linear_setting()
    z = setting.autoencoder.encode(setting.images)
    table = worlds.GAIN * z.detach() @ worlds.MIXING
    expected = [
        (base, row) for base in setting.bases for row in range(IMAGES) if table[row, worlds.TARGETS.index(base)] >= 0
    ]
    assert setting.pairs() == expected
    assert rows_by_base(expected)["young"] == [row for base, row in expected if base == "young"]


def test_passes_of_the_bare_method_where_the_first_guess_lands() -> None:
    """Per image one encode, D(E(x)) and the forward at z0, per pair a backward and one look, which scores x_λ too."""
    setting, pairs = linear_setting(), linear_setting().pairs()
    respond(setting.images[:1], [setting.classifier])
    around, counter = setting.counted()
    found = bare(around, pairs)
    passes, images = counter.passes(), len({row for _, row in pairs})
    assert found.pairs == tuple(pairs)
    assert (passes.encodes, passes.decodes) == (images, 2 * images + len(pairs))
    assert passes.decoder_backwards >= len(pairs)
    assert passes.scored == 2 * images + len(pairs)
    drop = found.own[:, 0] - found.own[:, 1]
    aims = np.minimum(0.6, found.own[:, 0] - 0.05)
    np.testing.assert_allclose(drop, aims, atol=0.011)
    for i, (base, _) in enumerate(pairs):
        column = worlds.TARGETS.index(base)
        np.testing.assert_allclose([found.before[i, column], found.after[i, column]], found.own[i], atol=1e-5)


def test_an_audit_is_counted_by_its_counterfactuals() -> None:
    around, counter = linear_setting().counted()
    count = default_audit(around)
    lowered = len(linear_setting().pairs())
    assert count == 2 * IMAGES, "every image lowers or raises each of both bases"
    assert counter.passes().decoder_backwards >= count > lowered


def test_a_process_of_its_own_counts_the_same() -> None:
    options = SpeedOptions(images=6, bases=("smiling", "young"))
    here, apart = (count(BARE, linear_setting, options) for count in (counted, counted_apart))
    assert apart.counterfactuals == here.counterfactuals == len(linear_setting(options).pairs())
    assert apart.passes == here.passes
    assert apart.peak >= apart.memory >= 0
    assert counted(AUDIT, linear_setting, options).counterfactuals == 12


TAKES_MEMORY = """
import torch
from cfalign.benchmarks.speed.apart import memory_now, peak_memory
before = memory_now()
block = torch.ones(128 * 1024 * 1024 // 4)
print(memory_now() - before, peak_memory() - before, float(block[-1]))
"""


def test_the_peak_of_a_process_holds_what_it_took() -> None:
    # In a fresh process: an old one may have memory left that a new block fits into.
    told = subprocess.run([sys.executable, "-c", TAKES_MEMORY], capture_output=True, text=True, check=True)
    now, peak, _ = map(float, told.stdout.split())
    assert now > 64
    assert peak > 64


# --- the floor -----------------------------------------------------------------------------------------------


def test_the_floor_is_a_sum_of_passes() -> None:
    times = PassTimes(batch=8, encode=1.0, decode=10.0, classify=100.0, backward=1000.0)
    assert times.per_image == 1 + 10 + 2 * 100
    assert times.per_counterfactual == 1000 + 10 + 100
    assert times.floor(images=3, counterfactuals=6) == 211 / 2 + 1110
    assert math.isnan(times.floor(images=3, counterfactuals=0))


def test_passes_are_timed_at_every_number_of_images() -> None:
    setting = linear_setting()
    for batch in (1, 5, 30):
        times = pass_times(setting, batch=batch, repeats=2)
        assert times.batch == batch
        assert min(times.encode, times.decode, times.classify, times.backward) > 0
    assert best_batch(setting, batches=(2, 3), sweeps=1) in (2, 3)
    assert all(not p.requires_grad or p.grad is None for p in worlds.heads().module.parameters())


# --- agreement -----------------------------------------------------------------------------------------------


def answers(rng: np.random.Generator, pairs: list[tuple[str, int]], drops: list[float]) -> Answers:
    own = np.array([[0.9, 0.9 - drop] for drop in drops])
    before, after = rng.random((2, len(pairs), 3))
    return Answers(tuple(pairs), own, before, after)


def test_matrices_are_compared_cell_by_cell() -> None:
    rng = np.random.default_rng(0)
    pairs = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
    theirs = answers(rng, pairs, [0.6, 0.61, 0.7, 0.6, 0.25])
    mixed = [pairs[i] for i in (4, 0, 3, 1, 2)]
    ours = answers(rng, mixed, [0.25, 0.6, 0.6, 0.6, 0.6])
    psi = rng.random((5, 3))
    found = compared(theirs, psi, ours, strategy="refined")
    differences = []
    for base, rows in (("a", [0, 1]), ("b", [3])):  # (a, 2) lands elsewhere, (b, 1) hardly moves
        for head in range(3):
            mine = []
            for i in rows:
                k = mixed.index(pairs[i])
                mine.append((ours.after[k, head] - ours.before[k, head]) / (ours.own[k, 1] - ours.own[k, 0]))
            differences.append(abs(sum(mine) / len(mine) - sum(psi[i, head] for i in rows) / len(rows)))
        assert base in dict(pairs)
    assert (found.pairs, found.same_drop, found.cells) == (5, 3, 6)
    assert found.largest == pytest.approx(max(differences))
    assert found.mean == pytest.approx(sum(differences) / 6)
    assert compared(theirs, psi, ours, strategy="schedule").same_drop == 2
    assert agreement.SAME_DROP["schedule"] < agreement.SAME_DROP["refined"]


def test_nothing_to_compare_is_no_agreement() -> None:
    rng = np.random.default_rng(0)
    one = answers(rng, [("a", 0)], [0.6])
    other = replace(one, own=np.array([[0.9, 0.5]]))
    found = compared(one, np.zeros((1, 3)), other, strategy="refined")
    assert (found.same_drop, found.cells) == (0, 0)
    assert math.isnan(found.largest)


# --- the authors' package ------------------------------------------------------------------------------------

STAND_IN = """
import pandas
import captum
import torch


class ModelWrapper(torch.nn.Module):
    def __init__(self, clf, target, sigmoid, rename_model):
        super().__init__()
        self.clf, self.targets = clf, [target]

    def forward(self, x):
        column = self.clf.targets.index(self.targets[0])
        return torch.sigmoid(self.clf(x))[:, [column]]


def compute_alignment(x, model1, models, ae, seperate_models):
    next(model1.parameters())
    method = captum.attr.LatentShift(model1, ae)
    frames = method.attribute(torch.from_numpy(x)[None])
    base = [float(model1(frame)[0, 0]) for frame in frames]
    found = []
    for model in models:
        heads = [float(model(frame)[0, 0]) for frame in frames]
        change = (heads[1] - heads[0]) / (base[1] - base[0])
        found.append({"preds": {"*base": base, "head": heads}, "rchange": change})
    return found
"""
METHOD = """
import torch


class LatentShift:
    def __init__(self, forward_func, ae):
        self.forward_func, self.ae = forward_func, ae

    def attribute(self, x):
        z = self.ae.encode(x).detach().requires_grad_(True)
        x0 = self.ae.decode(z)
        (slope,) = torch.autograd.grad(self.forward_func(x0)[:, 0], z)
        after = self.ae.decode(z - 0.5 * slope).detach()
        assert self.forward_func(after)[:, 0].detach().numpy().shape == ()
        return [after, x0.detach()]
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of the same name and the same calls, whose ``__init__`` cannot run, as that of the authors without
    torchvision."""
    if "pandas" in sys.modules:
        pytest.skip("pandas is imported already")
    folder = tmp_path / "latentshift"
    (folder / "cf").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('needs torchvision')\n")
    (folder / "alignment.py").write_text(STAND_IN)
    (folder / "cf" / "__init__.py").write_text("")
    (folder / "cf" / "latent_shift.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("stand_in")
def test_the_package_is_entered_without_its_init_and_leaves_nothing_behind() -> None:
    before = set(sys.modules)
    package = authors.authors_package()
    assert set(sys.modules) == before
    assert not hasattr(captum.attr, "LatentShift")
    setting = linear_setting()
    around, counter = setting.counted()
    pairs = setting.pairs()[:4]
    found, psi = authors.by_authors(around, pairs, package)
    assert not hasattr(captum.attr, "LatentShift")
    assert counter.passes().per(4).decodes == 2
    for i, (base, row) in enumerate(pairs):
        z = setting.autoencoder.encode(setting.images[[row]]).detach().requires_grad_(True)
        column = worlds.TARGETS.index(base)
        scores = torch.sigmoid(worlds.GAIN * z @ worlds.MIXING)
        (slope,) = torch.autograd.grad(scores[0, column], z)
        after = torch.sigmoid(worlds.GAIN * (z - 0.5 * slope) @ worlds.MIXING)
        expected = (after - scores)[0] / (after - scores)[0, column]
        np.testing.assert_allclose(psi[i], expected.detach().numpy(), atol=1e-3)
        np.testing.assert_allclose(found.own[i], [scores[0, column].item(), after[0, column].item()], atol=1e-4)
        np.testing.assert_allclose(found.before[i], scores[0].detach().numpy(), atol=1e-4)


def test_without_the_package_the_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authors, "NAME", "latentshift_that_nobody_installed")
    with pytest.raises(BadInput, match="not installed; `pip install --no-deps latentshift` brings it"):
        authors.authors_package()


@pytest.mark.usefixtures("stand_in")
def test_a_package_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latentshift" / "alignment.py").unlink()
    before = set(sys.modules)
    with pytest.raises(BadInput, match=r"cannot be imported: No module named 'latentshift\.alignment'"):
        authors.authors_package()
    assert set(sys.modules) == before


def test_the_schedule_is_theirs() -> None:
    """With the package itself: the same drops, the same ψ, and the passes that are known of it."""
    if find_spec(authors.NAME) is None:
        pytest.skip("needs the authors' package, which is no extra")
    setting = embedded_setting(SpeedOptions(images=6, bases=("smiling", "eyeglasses")))
    pairs = setting.pairs()
    around, counter = setting.counted()
    found, psi = authors.by_authors(around, pairs, authors.authors_package())
    passes = counter.passes().per(len(pairs))
    heads = len(setting.classifier.targets)
    assert (passes.encodes, passes.decoder_backwards) == (1, 1)
    assert passes.scored == 2 * heads + 2 + passes.decodes, "each head and frame anew, the base at both, and every step"
    same = compared(found, psi, bare(setting, pairs, strategy="schedule"), strategy="schedule")
    assert same.same_drop >= 0.9 * len(pairs)
    assert same.largest < 1e-3


# --- the result ----------------------------------------------------------------------------------------------


def planted(*, package: bool = True) -> Speed:
    """A result whose numbers are known."""
    times = PassTimes(batch=32, encode=0.001, decode=0.001, classify=0.0, backward=0.001)  # a floor of 3 ms: 2 + 2/2
    seconds = (0.006, 0.012, 0.3) if package else (0.006, 0.012, math.nan)
    rounds = tuple(Round(times, *(k * value for value in seconds)) for k in (1.0, 2.0, 3.0))
    names = (BARE, AUDIT, AUTHORS) if package else (BARE, AUDIT)
    rows = tuple(
        Counted(name, 10, 20, Passes(1, 2.0 + k, 1, 80, 1), 2.0, 50.0 + k, 400.0) for k, name in enumerate(names)
    )
    same = agreement.Agreement("refined", 30, 20, 0.02, 40, 0.011, 0.002)
    skipped = "" if package else "The authors' package is not installed."
    part = EmbeddedPart(20, 2, 3, 1, 20, 20, rounds, rows, (same,) if package else (), skipped)
    big = LargePart(1, (replace(times, batch=1), replace(times, batch=4)), (replace(rows[0], images=4),))
    return Speed(part, big if package else None, "" if package else measure.NOT_ASKED, 0)


def test_ratios_are_those_of_the_same_round() -> None:
    head = planted().headline
    assert head["floor_ms"] == pytest.approx(4.0)
    assert head["bare_to_floor"] == pytest.approx(2 * 6 / 4)
    assert head["bare_to_authors"] == pytest.approx(50)
    assert head["audit_to_authors"] == pytest.approx(25)
    assert head["decoder_equivalents_per_cf"] == 3 + 1
    assert head["psi_max_difference"] == 0.011
    assert math.isnan(head["psi_max_difference_schedule"])
    assert (head["large_decode_4"], head["large_bare_4_seconds"]) == (0.001, 0.1)


def test_a_person_reads_the_same_numbers() -> None:
    lines = planted().lines()
    assert lines[0].startswith("20 drawn faces, 2 bases × 3 heads, embedded models, 1 thread; medians over 3 rounds")
    row = next(line for line in lines if line.startswith("milliseconds"))
    assert row.split() == ["milliseconds", "12", "[6,", "18]", "24", "[12,", "36]", "600", "[300,", "900]"]
    assert any("20 of 30 pairs move the base by more than 0.3" in line and "at most 0.011" in line for line in lines)
    assert any(line.startswith("Networks of the paper's size") for line in lines)


def test_what_was_left_out_is_told() -> None:
    result = planted(package=False)
    lines = result.lines()
    assert "The authors' package was left out: The authors' package is not installed." in lines
    assert "--large measures them" in lines[-1]
    assert math.isnan(result.headline["bare_to_authors"])
    assert not any(name.startswith("large_") for name in result.headline)


@pytest.mark.parametrize("package", [True, False])
def test_the_figure_has_a_dot_per_contestant_and_the_floor(package: bool) -> None:
    axes, passes, _, memory = speed_figure(planted(package=package)).axes
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([12.0, 24.0, 600.0][: 3 if package else 2])
    assert axes.lines[-1].get_xdata()[0] == pytest.approx(4.0)
    assert passes.lines[-1].get_xdata()[0] == 3, "an encoded image is drawn once, for one counterfactual each"
    assert [line.get_xdata()[0] for line in memory.lines if line.get_marker() == "o"][:2] == [50.0, 51.0]


# --- options and the command ---------------------------------------------------------------------------------


def test_shares_of_the_pairs_are_disjoint_and_bounded() -> None:
    pairs = [("a", i) for i in range(10)]
    shares = measure._shares(pairs, SpeedOptions(rounds=3, authors_pairs=3))
    assert [len(share) for share in shares] == [3, 3, 3]
    assert len({pair for share in shares for pair in share}) == 9


@pytest.mark.parametrize("given", [{"bases": ()}, {"bases": ("smiling", "smiling")}, {"images": 1}, {"rounds": 0}])
def test_options_that_make_no_sense_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=next(iter(given))):
        SpeedOptions(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bases", "smiling,no_such_head"), "No embedded head is called 'no_such_head'"),
        (("--images", "1"), "images"),
        (("--bases", "smiling,smiling"), "'smiling' twice"),
    ],
)
def test_the_command_refuses_in_one_sentence(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    ended = worlds.cfalign("benchmark", "speed", *words, folder=tmp_path)
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert said in ended.err


def test_the_command_measures_once_and_tells_it_again(tmp_path: Path) -> None:
    words = ("--images", "6", "--bases", "smiling,young", "--rounds", "1", "--out", "speed")
    first = worlds.cfalign("benchmark", "speed", *words, "--json", folder=tmp_path)
    assert first.code == 0, first.err
    head = json.loads(first.out)["headline"]
    assert head["bare_decodes"] >= 3
    assert head["bare_to_floor"] > 0
    again = worlds.cfalign("benchmark", "speed", *words, folder=tmp_path)
    assert f"Figure: {Path('speed') / 'speed.png'}" in again.out
    assert json.loads((tmp_path / "speed" / "summary.json").read_text()) == json.loads(first.out)
    options = SpeedOptions(images=7, bases=("smiling", "young"), rounds=1)
    with pytest.raises(RunMismatch, match="images was 6, now 7"):
        measure.speed(options=options, out=tmp_path / "speed")
