"""Training on tiny images: it learns, measures honestly, goes on after being killed, and refuses what cannot work."""

from __future__ import annotations

import csv
import json
import math
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import worlds
from cfalign._analysis.statistics import auroc
from cfalign._errors import BadInput, RunMismatch, StorageFailed
from cfalign._models.weights import load_into, read_weights
from cfalign.autoencoders.components import ComponentAutoencoder
from cfalign.autoencoders.trained import build as build_autoencoder
from cfalign.classifiers.attribute_network import AttributeNetwork, Residual
from cfalign.classifiers.attribute_network import build as build_classifier
from cfalign.datasets import ImageFolder, Labels, Leftover, TensorImages, read_labels
from cfalign.training import (
    AutoencoderReport,
    AutoencoderTraining,
    ClassifierReport,
    ClassifierTraining,
    Progress,
    train_autoencoder,
    train_classifier,
)
from cfalign.training.augmentation import augmented, moved
from cfalign.training.decoded_images import DecodedImages, decode_all
from cfalign.training.held_out import mean_auroc, psnr
from cfalign.training.loop import TrainingState, schedule
from cfalign.training.principal_components import components_of
from cfalign.training.processes import in_processes
from cfalign.training.splitting import split_images

SIZE = 16
TINY = AutoencoderTraining(
    architecture="convolutional", size=SIZE, latent=4, encoder=(8, 16), decoder=(16, 8), steps=80, warmup=0.1
)
COMPONENTS = AutoencoderTraining(size=SIZE, latent=12, whiten_from=4)
HEADS = ClassifierTraining(
    size=SIZE, widths=(8, 16), hidden=16, residual=False, dropout=0.0, average=0.95, steps=60, batch=32
)


def faces(count: int = 120, *, seed: int = 0) -> Tensor:
    """A bright disc on a plain ground: three colours, two of position. [n, 3, SIZE, SIZE]"""
    generator = torch.Generator().manual_seed(seed)
    ground, disc = torch.rand(2, count, 3, 1, 1, generator=generator)
    centre = 4 + 8 * torch.rand(count, 2, 1, 1, generator=generator)
    axis = torch.arange(SIZE).float()
    inside = ((axis[:, None] - centre[:, :1]) ** 2 + (axis - centre[:, 1:]) ** 2 < 16).float()
    images: Tensor = ground * (1 - inside) + disc * inside
    return images


def is_red(images: Tensor) -> Tensor:
    return torch.gt(images[:, 0, 0, 0], 0.5).float()


def labels_for(
    values: Tensor,
    targets: Sequence[str] = ("red",),
    *,
    split: Sequence[str | None] | None = None,
    extra: dict[str, tuple[str | None, ...]] | None = None,
) -> Labels:
    table = values.double().numpy()
    return Labels(
        ids=tuple(f"{i:06d}" for i in range(len(table))),
        targets=tuple(targets),
        values=table[:, None] if table.ndim == 1 else table,
        split=None if split is None else tuple(split),
        extra=extra or {},
        unmatched_rows=Leftover(0, ()),
        images_without_row=Leftover(0, ()),
        ignored_columns={},
    )


def write_folder(folder: Path, images: Tensor) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        pixels = image.mul(255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{i:04d}.png")
    return folder


# --- it learns -------------------------------------------------------------------------------------------------------


def reopened(report: AutoencoderReport) -> Any:
    state, config = read_weights(report.weights, kind="autoencoder")
    network = build_autoencoder(config)
    load_into(network, state, report.weights)
    return network


@pytest.mark.parametrize(
    "options", [COMPONENTS, replace(TINY, latent=8, average=0.95, steps=200)], ids=lambda o: o.architecture
)
def test_a_tiny_autoencoder_beats_the_mean_image(tmp_path: Path, options: AutoencoderTraining) -> None:
    stages: list[str] = []
    report = train_autoencoder(
        faces(), out=tmp_path / "ae", options=options, progress=lambda stage, done, total: stages.append(stage)
    )

    middle = "components" if options.architecture == "components" else "train"
    assert list(dict.fromkeys(stages)) == ["decode", middle, "measure"]
    assert report.psnr > report.psnr_mean_image + 2
    assert (report.train, report.held_out) == (108, 12)
    assert report.steps == (0 if options.architecture == "components" else 200)
    assert report.seconds >= 0
    assert not report.already_finished
    assert sorted(p.name for p in (tmp_path / "ae").iterdir()) == [
        "autoencoder.safetensors",
        "measurement.json",
        "training.json",
    ]


@pytest.mark.parametrize("options", [COMPONENTS, replace(TINY, steps=20)], ids=lambda o: o.architecture)
def test_the_weights_are_those_that_were_measured(tmp_path: Path, options: AutoencoderTraining) -> None:
    images = faces()
    split = ["train"] * 100 + ["val"] * 20
    report = train_autoencoder(
        images, labels=labels_for(is_red(images), split=split), out=tmp_path / "ae", options=options
    )
    network = reopened(report)
    seen = (images[100:] * 255).round() / 255
    with torch.no_grad():
        errors = (network(seen) - seen).square().flatten(1).mean(1).double().numpy()

    assert read_weights(report.weights, kind="autoencoder")[1]["name"] == "ae"
    assert psnr(errors).mean() == pytest.approx(report.psnr, abs=1e-3)
    content = json.loads(report.measurement.read_text())
    assert content["psnr"]["n"] == 20
    assert content["psnr"]["sd"] == pytest.approx(report.psnr_sd) == pytest.approx(psnr(errors).std(ddof=1), abs=1e-3)
    assert content["latent"] == content["options"]["latent"] == options.latent
    learnt = sum(p.numel() for p in network.parameters())
    assert content["parameters"] == (learnt or 3 * SIZE**2 * 13 + 2 * 12)
    assert content["split"] == "column split"


def test_latents_have_unit_variance(tmp_path: Path) -> None:
    images = faces(300)
    report = train_autoencoder(images, out=tmp_path / "ae", options=replace(TINY, steps=120))
    network = reopened(report)
    with torch.no_grad():
        deviation = network.encode(images).std(0)
    assert ((deviation > 0.7) & (deviation < 1.4)).all()


def trained_rows(images: Tensor) -> tuple[Tensor, Labels]:
    """The bytes [90, pixel] that are trained on, in [0, 1], and the table that says so."""
    split = ["train"] * 90 + ["val"] * (len(images) - 90)
    return (images[:90] * 255).round().double().flatten(1) / 255, labels_for(is_red(images), split=split)


@pytest.mark.parametrize("flip", [False, True])
def test_components_are_those_of_the_singular_value_decomposition(tmp_path: Path, flip: bool) -> None:
    images = faces()
    rows, table = trained_rows(images)
    options = replace(COMPONENTS, horizontal_flip=flip)
    network = reopened(train_autoencoder(images, labels=table, out=tmp_path / "ae", options=options))
    assert isinstance(network, ComponentAutoencoder)

    if flip:
        rows = torch.cat([rows, rows.view(-1, 3, SIZE, SIZE).flip(3).flatten(1)])
    mean = rows.mean(0)
    _, strength, right = torch.linalg.svd(rows - mean, full_matrices=False)
    projector = right[:12].T @ right[:12]
    basis = network.basis.double()
    torch.testing.assert_close(network.mean.double(), mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(basis.T @ basis, torch.eye(12).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(basis @ basis.T, projector, atol=5e-3, rtol=0)
    torch.testing.assert_close(network(images), _projected(images, mean, projector), atol=5e-3, rtol=0)
    capped = (strength[:12] / len(rows) ** 0.5).clamp_max(float(strength[4] / len(rows) ** 0.5))
    torch.testing.assert_close(network.scale.double(), capped, atol=0, rtol=2e-3)


def _projected(images: Tensor, mean: Tensor, projector: Tensor) -> Tensor:
    again = (images.double().flatten(1) - mean) @ projector + mean
    return again.clamp(0, 1).view_as(images).float()


def test_whitening_is_capped(tmp_path: Path) -> None:
    images = faces()
    rows, table = trained_rows(images)
    training = rows.float().view(-1, 3, SIZE, SIZE)
    deviations = {}
    for cap in (0, 4, 500):
        options = replace(COMPONENTS, whiten_from=cap, horizontal_flip=False)
        report = train_autoencoder(images, labels=table, out=tmp_path / str(cap), options=options)
        deviations[cap] = reopened(report).encode(training).std(0, correction=0)
    torch.testing.assert_close(deviations[0], torch.ones(12), atol=0.01, rtol=0)
    assert (deviations[4][:4] > 1.02).all()
    torch.testing.assert_close(deviations[4][4:], torch.ones(8), atol=0.01, rtol=0)
    assert deviations[500][-1] == pytest.approx(1, abs=0.01)
    assert (deviations[500].diff() < 0).all()


def test_without_a_latent_the_components_are_an_eighth_of_the_images(tmp_path: Path) -> None:
    report = train_autoencoder(faces(), out=tmp_path / "ae", options=AutoencoderTraining(size=SIZE))
    assert json.loads(report.measurement.read_text())["latent"] == 108 // 8
    assert reopened(report).encode(faces(2)).shape == (2, 13)
    assert AutoencoderTraining().latent_length(100_000) == 192
    assert AutoencoderTraining().known_components(100_000) == 512
    assert AutoencoderTraining(size=4).latent_length(100_000) == 47
    assert AutoencoderTraining(architecture="convolutional").latent_length(100) == 256


def test_images_that_are_all_the_same_are_their_mean(tmp_path: Path) -> None:
    report = train_autoencoder(faces(1).expand(120, -1, -1, -1), out=tmp_path / "ae", options=COMPONENTS)
    network = reopened(report)
    assert report.psnr > 60
    assert torch.isfinite(network.encode(faces(3))).all()


@pytest.mark.parametrize("widths", [(8,), (3, 6), (4, 8, 8)])
def test_every_halving_but_the_first_has_a_residual_block(widths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = AttributeNetwork(("a", "b"), size=SIZE, widths=widths, hidden=4, residual=True, dropout=0.5).eval()
    blocks = [module for module in network.modules() if isinstance(module, Residual)]
    assert len(blocks) == len(widths) - 1
    assert network(faces(3)).shape == (3, 2)
    assert isinstance(network.head[-2], torch.nn.Dropout), "what the heads read is dropped"
    for width, block in zip(widths[1:], blocks, strict=True):
        x = torch.randn(2, width, 5, 5)
        torch.testing.assert_close(block(x), torch.nn.functional.silu(x + block.inner(x)))


def test_a_residual_classifier_learns_and_is_reopened(tmp_path: Path) -> None:
    images = faces(200)
    options = replace(HEADS, hidden=0, residual=True, dropout=0.2, steps=40)
    report = train_classifier(images, labels_for(is_red(images)), out=tmp_path / "clf", options=options)
    state, config = read_weights(report.weights, kind="classifier")
    assert (config["residual"], config["hidden"], config["dropout"]) == (True, 0, 0.2)
    network = build_classifier(config)
    load_into(network, state, report.weights)
    assert torch.equal(network(images), network(images)), "nothing is dropped after training"
    assert auroc(network(images)[:, 0].double().numpy(), is_red(images).double().numpy()) > 0.95
    assert report.targets[0].auroc > 0.9


def test_a_planted_colour_is_learnt(tmp_path: Path) -> None:
    images = faces(240)
    hidden = torch.rand(240, generator=torch.Generator().manual_seed(3)) < 0.3
    red = is_red(images).masked_fill(hidden, torch.nan)
    bright = (images.mean((1, 2, 3)) > 0.5).float()
    options = replace(HEADS, label_smoothing=0.05, contrast=0.05, brightness=0.02, blur=0.2, pixel_noise=0.02)
    report = train_classifier(
        images, labels_for(torch.stack([red, bright], 1), ("red", "bright")), out=tmp_path / "clf", options=options
    )

    first = report.targets[0]
    assert first.target == "red"
    assert first.auroc > 0.95
    assert first.positives + first.negatives < 24  # those without a label do not count
    assert report.ci_low <= report.auroc <= report.ci_high
    state, config = read_weights(report.weights, kind="classifier")
    network = build_classifier(config)
    load_into(network, state, report.weights)
    with torch.no_grad():
        scores = network(images).sigmoid()[:, 0].double().numpy()
    assert auroc(scores, is_red(images).double().numpy()) > 0.95


def test_an_autoencoder_can_supply_reconstructions(tmp_path: Path) -> None:
    images = faces()
    calls = []

    class Darkening:
        def encode(self, batch: Tensor) -> Tensor:
            calls.append(len(batch))
            return batch

        def decode(self, latents: Tensor) -> Tensor:
            return latents * 0.8

    options = replace(HEADS, steps=10, reconstructed=0.5)
    with pytest.raises(BadInput, match="Expected an autoencoder, because"):
        train_classifier(images, labels_for(is_red(images)), out=tmp_path / "clf", options=options)
    train_classifier(images, labels_for(is_red(images)), out=tmp_path / "clf", options=options, autoencoder=Darkening())
    assert 0 < sum(calls) < 320


def test_attributes_of_one_kind_are_left_out_or_refused(tmp_path: Path) -> None:
    images = faces()
    values = torch.stack([is_red(images), torch.ones(120)], 1)
    table = labels_for(values, ("red", "always"))
    report = train_classifier(images, table, out=tmp_path / "clf", options=replace(HEADS, steps=5))
    assert [t.target for t in report.targets] == ["red"]
    assert report.left_out == {"always": "no negative among the training images"}

    with pytest.raises(BadInput, match='"always" cannot be learnt: no negative among the training images'):
        train_classifier(images, table, out=tmp_path / "other", options=replace(HEADS, targets=("always", "red")))
    with pytest.raises(BadInput, match="no attribute 'rad'; nearest valid: red"):
        train_classifier(images, table, out=tmp_path / "other", options=replace(HEADS, targets=("rad",)))
    assert not (tmp_path / "other").exists()


def test_a_class_missing_in_the_measurement_is_null_with_its_reason(tmp_path: Path) -> None:
    images = faces()
    rare = torch.zeros(120)
    rare[:5] = 1
    split = ["train"] * 100 + ["val"] * 20
    table = labels_for(torch.stack([is_red(images), rare], 1), ("red", "rare"), split=split)
    report = train_classifier(images, table, out=tmp_path / "clf", options=replace(HEADS, steps=5))

    missing = json.loads(report.measurement.read_text())["auroc"]["targets"][1]
    reason = "no positive among the held-out images"
    assert missing == {"target": "rare", "auroc": None, "positives": 0, "negatives": 20, "reason": reason}
    assert np.isnan(report.targets[1].auroc)
    assert report.auroc == pytest.approx(report.targets[0].auroc)


# --- it stops and goes on --------------------------------------------------------------------------------------------


def train_until_killed(kind: str, out: Path, at: int) -> None:
    """In a process of its own, which ends in the middle of a step."""

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "train" and done == at:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    images = faces()
    if kind == "autoencoder":
        options = replace(TINY, checkpoint_every=0.0)
        train_autoencoder(images, out=out, options=options, progress=progress)
    else:
        heads = replace(HEADS, checkpoint_every=0.0)
        train_classifier(images, labels_for(is_red(images)), out=out, options=heads, progress=progress)


@pytest.mark.parametrize("kind", ["autoencoder", "classifier"])
def test_a_killed_training_goes_on_and_ends_like_one_that_was_not(tmp_path: Path, kind: str) -> None:
    assert worlds.apart(train_until_killed, kind, tmp_path / "killed", 33) == -signal.SIGKILL
    assert (tmp_path / "killed" / "checkpoint.pt").is_file()
    assert not (tmp_path / "killed" / "measurement.json").exists()
    torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)

    images = faces()
    reports: list[AutoencoderReport | ClassifierReport] = []
    started = []
    for name in ("killed", "straight"):
        steps: list[int] = []

        def progress(stage: str, done: int, total: int, steps: list[int] = steps) -> None:
            if stage == "train":
                steps.append(done)

        out = tmp_path / name
        if kind == "autoencoder":
            reports.append(train_autoencoder(images, out=out, options=TINY, progress=progress))
        else:
            reports.append(
                train_classifier(images, labels_for(is_red(images)), out=out, options=HEADS, progress=progress)
            )
        started.append(steps[0])
        assert steps == list(range(steps[0], reports[-1].steps + 1))

    killed, straight = reports
    assert started == [32, 0]
    assert killed.steps == straight.steps
    assert not killed.already_finished
    first, second = (read_weights(r.weights, kind=kind)[0] for r in reports)
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=0)


def test_jobs_are_done_side_by_side_and_the_first_error_is_raised(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    jobs = [(tmp_path / str(i),) for i in range(3)]
    in_processes(
        os.mkdir,
        jobs,
        workers=2,
        stage="folders",
        done=1,
        progress=lambda stage, done, total: told.append((stage, done, total)),
    )
    assert told == [("folders", done, 4) for done in range(1, 5)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1", "2"]
    for workers in (1, 2):
        with pytest.raises(FileExistsError):
            in_processes(os.mkdir, jobs, workers=workers, stage="folders")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as a terminal gives it: a shell that starts a command in the background lets it ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _interrupting_at(step: int) -> Progress:
    """A progress that presses Ctrl-C after this step."""

    def interrupting(stage: str, done: int, total: int) -> None:
        if stage == "train" and done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return interrupting


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves_first(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(faces(), out=tmp_path / "ae", options=TINY, progress=_interrupting_at(7))
    assert torch.load(tmp_path / "ae" / "checkpoint.pt", weights_only=True)["step"] in (7, 8)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    images = faces()
    table = labels_for(is_red(images))
    first = train_classifier(images, table, out=tmp_path / "clf", options=replace(HEADS, steps=5))
    stages: list[str] = []
    again = train_classifier(
        images,
        table,
        out=tmp_path / "clf",
        options=replace(HEADS, steps=5, checkpoint_every=3.0),
        progress=lambda stage, done, total: stages.append(stage),
    )
    assert again == replace(first, already_finished=True)
    assert stages == []


def test_other_settings_or_data_are_refused(tmp_path: Path) -> None:
    images = faces()
    out = tmp_path / "ae"
    train_autoencoder(images, out=out, options=replace(TINY, steps=3))
    with pytest.raises(RunMismatch, match=r"options\.noise was 0\.1, now 0\.2; options\.steps was 3, now 4"):
        train_autoencoder(images, out=out, options=replace(TINY, steps=4, noise=0.2))
    with pytest.raises(RunMismatch, match=r"data\.hash was"):
        train_autoencoder(faces(seed=1), out=out, options=replace(TINY, steps=3))
    with pytest.raises(RunMismatch, match='kind was "autoencoder", now "classifier"'):
        train_classifier(images, labels_for(is_red(images)), out=out, options=HEADS)
    flipped = labels_for(1 - is_red(images))
    train_classifier(images, labels_for(is_red(images)), out=tmp_path / "clf", options=replace(HEADS, steps=3))
    with pytest.raises(RunMismatch, match=r"data\.labels was"):
        train_classifier(images, flipped, out=tmp_path / "clf", options=replace(HEADS, steps=3))


def test_divergence_is_told_and_the_last_good_checkpoint_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cfalign.training import autoencoder

    plain, calls = autoencoder.reconstruction_loss, []

    def failing(found: Tensor, images: Tensor) -> Tensor:
        calls.append(1)
        return plain(found, images) * (torch.nan if len(calls) > 10 else 1)

    monkeypatch.setattr(autoencoder, "reconstruction_loss", failing)
    with pytest.raises(
        BadInput, match=r"diverged: the loss is not finite at step 10 of 80\. Give a smaller learning_rate"
    ):
        train_autoencoder(faces(), out=tmp_path / "ae", options=replace(TINY, checkpoint_every=0.0))
    kept = torch.load(tmp_path / "ae" / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 10
    assert all(torch.isfinite(t).all() for t in kept["network"].values())


def test_components_that_were_interrupted_begin_anew(tmp_path: Path) -> None:
    def interrupting(stage: str, done: int, total: int) -> None:
        if stage == "components" and done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(faces(), out=tmp_path / "a", options=COMPONENTS, progress=interrupting)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["training.json"]
    again, straight = (train_autoencoder(faces(), out=tmp_path / name, options=COMPONENTS) for name in "ab")
    assert torch.equal(reopened(again).basis, reopened(straight).basis)
    stages: list[str] = []
    third = train_autoencoder(
        faces(), out=tmp_path / "a", options=COMPONENTS, progress=lambda stage, done, total: stages.append(stage)
    )
    assert third == replace(again, already_finished=True)
    assert stages == []


@pytest.mark.parametrize("at", ["checkpoint", "weights"])
def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    if at == "weights":
        monkeypatch.setattr("cfalign.training.loop.save_checkpoint", lambda path, content: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    options = replace(TINY, encoder=(8, 64), decoder=(64, 8), steps=4)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageFailed, match="make room"):
            train_autoencoder(faces(), out=tmp_path / "ae", options=options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in (tmp_path / "ae").iterdir()] == ["training.json"]
    assert train_autoencoder(faces(), out=tmp_path / "ae", options=options).steps == 4


@pytest.mark.parametrize("options", [COMPONENTS, replace(TINY, steps=5)], ids=lambda o: o.architecture)
def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state(
    tmp_path: Path, options: AutoencoderTraining
) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    states = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        report = train_autoencoder(faces(), out=tmp_path / name, options=replace(options, seed=seed))
        assert torch.equal(torch.random.get_rng_state(), before)
        states.append(read_weights(report.weights, kind="autoencoder")[0])
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


# --- images, labels, split -------------------------------------------------------------------------------------------


def test_a_folder_with_a_table_and_a_broken_file(tmp_path: Path) -> None:
    images = faces()
    folder = write_folder(tmp_path / "images", images)
    (folder / "0003.png").write_bytes(b"no image")
    with (tmp_path / "labels.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["image", "split", "red"])
        for i, value in enumerate(is_red(images).int().tolist()):
            writer.writerow([f"{i:04d}.png", ("train", "val", "test")[(i > 79) + (i > 99)], value])
    report = train_classifier(folder, tmp_path / "labels.csv", out=tmp_path / "clf", options=HEADS)

    assert (report.train, report.held_out) == (79, 20)
    assert [s.image_id for s in report.skipped] == ["0003.png"]
    content = json.loads(report.measurement.read_text())
    assert content["images"] == {"train": 79, "held_out": 20, "kept_out": 20, "skipped": 1}
    assert content["skipped"][0]["image_id"] == "0003.png"
    assert content["skipped"][0]["reason"]
    assert report.targets[0].auroc > 0.9


def test_the_split_column_decides() -> None:
    split = ["train"] * 5 + ["val"] * 3 + ["test"] * 2 + [None]
    found = split_images(range(11), labels=labels_for(torch.zeros(11), split=split), share=0.5, seed=0)
    assert (found.train, found.held_out, found.kept_out) == ((0, 1, 2, 3, 4), (5, 6, 7), 3)

    without = ["train"] * 10 + ["test"] * 5
    found = split_images(range(15), labels=labels_for(torch.zeros(15), split=without), share=0.2, seed=0)
    assert sorted(found.train + found.held_out) == list(range(10))
    assert (len(found.held_out), found.kept_out) == (2, 5)

    with pytest.raises(BadInput, match='no image to "train"; it holds a, b'):
        split_images(range(4), labels=labels_for(torch.zeros(4), split=["a", "b", "a", None]), share=0.2, seed=0)


def test_persons_are_never_on_both_sides() -> None:
    persons = tuple(str(i // 4) for i in range(400))
    table = labels_for(torch.zeros(400), extra={"identity": persons})
    found = split_images(range(400), labels=table, share=0.1, seed=1)
    assert {persons[i] for i in found.train}.isdisjoint(persons[i] for i in found.held_out)
    assert len(found.held_out) == 40
    assert found.how == "random, by identity"


@given(count=st.integers(20, 200), share=st.floats(0.05, 0.9), seed=st.integers(0, 5))
def test_a_random_split_parts_all(count: int, share: float, seed: int) -> None:
    found = split_images(range(count), labels=None, share=share, seed=seed)
    assert sorted(found.train + found.held_out) == list(range(count))
    assert found == split_images(range(count), labels=None, share=share, seed=seed)
    assert abs(len(found.held_out) - share * count) <= 1


def test_large_sets_are_decoded_to_disk_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", faces(20))
    (folder / "0004.png").write_bytes(b"")
    source = ImageFolder(folder, size=SIZE)
    stages: list[str] = []

    def decoded(limit: int) -> DecodedImages:
        return decode_all(
            source, range(1, 20), folder=tmp_path / "out", limit=limit, progress=lambda s, d, t: stages.append(s)
        )

    memory = decoded(10**9)
    assert not (tmp_path / "out").exists()
    disk = decoded(0)
    stages.clear()
    again = decoded(0)
    assert stages == []
    for other in (disk, again):
        assert torch.equal(memory.values, other.values)
        assert (memory.indices, memory.skipped) == (other.indices, other.skipped)
    assert memory.rows([0, 1, 4, 5]).tolist() == [0, 3]


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"batch": 1}, "batch: expected a whole number at least 2, got 1"),
        ({"steps": 0}, "steps: expected a whole number at least 1, or none, got 0"),
        ({"epochs": -1.0}, "epochs: expected a number above 0, got -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number above 0, got nan"),
        ({"held_out": 1.0}, "held_out: expected a number above 0 and below 1, got 1.0"),
        ({"average": 1.0}, "average: expected a number at least 0 and below 1, got 1.0"),
        ({"encoder": ()}, "encoder: expected a list of one or more whole numbers at least 1"),
        ({"latent": 0}, "latent: expected a whole number at least 1, or none, got 0"),
        ({"whiten_from": -1}, "whiten_from: expected a whole number at least 0, got -1"),
        ({"device": "warp"}, "device: expected cpu.* or auto, got 'warp': "),
    ],
)
def test_options_that_cannot_work(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        AutoencoderTraining(**fields)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"dropout": 1.0}, "dropout: expected a number at least 0 and below 1, got 1.0"),
        ({"hidden": -1}, "hidden: expected a whole number at least 0, got -1"),
        ({"targets": ()}, "targets: expected a list of one or more texts, or none, got"),
    ],
)
def test_options_of_a_classifier_that_cannot_work(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        ClassifierTraining(**fields)


def test_too_little_or_foreign_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInput, match=r"Training needs at least 64 images, got 63; give more"):
        train_autoencoder(faces(70), out=out, options=TINY)
    with pytest.raises(BadInput, match=r"at least 8 held-out images, got 7"):
        train_autoencoder(faces(72), out=out, options=TINY)
    with pytest.raises(BadInput, match="batch is 128, but there are only 108 training images"):
        train_autoencoder(faces(), out=out, options=replace(TINY, batch=128))
    with pytest.raises(BadInput, match="multiple of 8"):
        train_autoencoder(faces(), out=out, options=replace(TINY, size=20, encoder=(8, 8, 8), decoder=(8, 8, 8)))
    many = replace(COMPONENTS, latent=108, horizontal_flip=False)
    with pytest.raises(
        BadInput, match=r"108 components were asked for, but there are only 108 images of 768 values .* below 108"
    ):
        train_autoencoder(faces(), out=out, options=many)
    with pytest.raises(BadInput, match=r"only 216 images and mirror images .* below 216"):
        train_autoencoder(faces(), out=out, options=replace(COMPONENTS, latent=300))
    with pytest.raises(BadInput, match=r"The labels belong to other images: 10 ids"):
        train_classifier(faces(), labels_for(torch.zeros(10)), out=out, options=HEADS)
    assert not out.exists()


def test_an_output_folder_with_other_things_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds files of something other than a training"):
        train_autoencoder(faces(), out=tmp_path, options=TINY)
    with pytest.raises(BadInput, match=r"notes\.txt is a file"):
        train_autoencoder(faces(), out=tmp_path / "notes.txt", options=TINY)


# --- parts -----------------------------------------------------------------------------------------------------------


def test_the_interval_of_the_mean_covers() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 3)) < 0.4).astype(np.float64)
    scores = labels + rng.normal(size=labels.shape)
    found = mean_auroc(scores, labels, seed=0, resamples=300)
    assert found.ci_low < found.mean < found.ci_high
    assert found.ci_low < 0.760 < found.ci_high  # Φ(1/√2)
    assert found.ci_high - found.ci_low < 0.08
    assert np.isnan(mean_auroc(scores, np.zeros_like(labels), seed=0).mean)


def test_principal_components_are_those_of_the_exact_decomposition() -> None:
    generator = torch.Generator().manual_seed(0)
    images = (0.5 + 0.1 * torch.randn(200, 5, generator=generator) @ torch.randn(5, 3 * 64, generator=generator)).clamp(
        0, 1
    )
    values = images.view(200, 3, 8, 8).mul(255).round().byte()
    pixels = DecodedImages(values, tuple(range(200)), ())
    found = components_of(pixels, torch.arange(200), count=4, mirrored=False, progress=lambda *_: None)
    exact = values.flatten(1).double() / 255
    _, strength, right = torch.linalg.svd(exact - exact.mean(0), full_matrices=False)
    torch.testing.assert_close(found.mean.double(), exact.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.deviations.double(), strength[:4] / 200**0.5, atol=1e-3, rtol=1e-3)
    overlap = (found.directions.double() * right[:4].T).sum(0).abs()
    assert (overlap > 0.99).all()


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.1), (7, 0.3), (3, 0.34), (10, 0.0), (10, 0.99)])
def test_the_learning_rate_rises_along_a_line_and_falls_along_a_cosine(steps: int, warmup: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    rates, following = [], schedule(optimizer, steps=steps, warmup=warmup)
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"] / 0.2)
        optimizer.step()
        following.step()
    rising = round(warmup * steps)
    line = [(i + 1) / rising for i in range(rising)]
    cosine = [(1 + math.cos(math.pi * i / (steps - rising))) / 2 for i in range(steps - rising)]
    assert rates == pytest.approx([*line, *cosine])


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.998])
def test_the_result_is_the_moving_average_of_weights_and_buffers(decay: float) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = TrainingState(network, replace(HEADS, average=decay), steps=20)
    expected: dict[str, Tensor] = {}
    for step in range(20):
        state.advance(network(torch.randn(8, 2, generator=torch.Generator().manual_seed(step))).square().mean())
        share = min(decay, (2 + step) / (11 + step)) if step else 0.0  # the first step is taken as it is
        for name, new in network.state_dict().items():
            kept = expected.get(name, new)
            expected[name] = kept * share + new * (1 - share) if new.is_floating_point() else new.clone()
    torch.testing.assert_close(dict(state.result.state_dict()), expected, rtol=1e-5, atol=1e-7)
    assert not any(module.training for module in state.result.modules())


@pytest.mark.usefixtures("ctrl_c")
def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    options = replace(TINY, steps=3)
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(faces(), out=tmp_path, options=options, progress=_interrupting_at(2))
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({name: part for name, part in content.items() if name != "schedule"}, tmp_path / "checkpoint.pt")
    with pytest.raises(BadInput, match=r"checkpoint\.pt was written by another version of cfalign; remove it"):
        train_autoencoder(faces(), out=tmp_path, options=options)


def test_augmentation_keeps_range_and_can_be_nothing() -> None:
    images = faces(30)
    none = replace(HEADS, horizontal_flip=False, zoom=0.0, rotation=0.0, shift=0.0)
    assert torch.equal(augmented(images, none), images)
    moves = replace(none, horizontal_flip=True, zoom=0.1, rotation=9.0, shift=0.1)
    everything = replace(moves, contrast=0.5, brightness=0.5, blur=1.0, pixel_noise=0.2)
    changed = augmented(images, everything)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    torch.testing.assert_close(moved(images, zoom=0.0, degrees=0.0, shift=0.0), images, atol=1e-4, rtol=0)


def test_read_labels_meets_tensor_ids(tmp_path: Path) -> None:
    images = faces()
    rows = "\n".join(f"{i:06d},{int(v)}" for i, v in enumerate(is_red(images)))
    (tmp_path / "table.csv").write_text(f"image,red\n{rows}\n")
    source = TensorImages(images)
    table = read_labels(tmp_path / "table.csv", ids=source.ids)
    options = replace(HEADS, steps=2)
    by_table = train_classifier(source, table, out=tmp_path / "a", options=options)
    by_path = train_classifier(images, tmp_path / "table.csv", out=tmp_path / "b", options=options)
    assert by_table.targets == by_path.targets
