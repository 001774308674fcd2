"""Train an autoencoder on the user's images."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cfalign._models.device import on_device
from cfalign._models.weights import parameters
from cfalign._results import Floats
from cfalign._runs.progress import Progress, ShowProgress, told_to, with_bars
from cfalign._types import Images
from cfalign.autoencoders.components import ComponentAutoencoder
from cfalign.autoencoders.convolutional import VectorAutoencoder
from cfalign.datasets import Skipped, open_images
from cfalign.datasets.opening import Openable
from cfalign.training.augmentation import mirrored
from cfalign.training.decoded_images import DecodedImages
from cfalign.training.held_out import psnr
from cfalign.training.loop import TrainingState, fit, seeded
from cfalign.training.options import AutoencoderTraining
from cfalign.training.output_folder import OutputFolder
from cfalign.training.preparation import LabelsGiven, TrainingImages, aligned, described, planned, prepared
from cfalign.training.principal_components import components_of
from cfalign.training.splitting import split_images

Network = ComponentAutoencoder | VectorAutoencoder

_SQUARED, _EDGES = 4.0, 0.5
_BATCH = 128


@dataclass(frozen=True)
class AutoencoderReport:
    """Files and quality of a trained autoencoder; the file ``measurement`` says the same in JSON."""

    weights: Path
    """``autoencoder.safetensors``"""
    measurement: Path
    """``measurement.json``"""
    psnr: float
    """Mean over the held-out images, in dB."""
    psnr_sd: float
    """Standard deviation over the held-out images."""
    psnr_mean_image: float
    """Mean PSNR of the mean training image: the least that an autoencoder must beat, in dB."""
    train: int
    """Images trained on."""
    held_out: int
    """Images measured on."""
    skipped: tuple[Skipped, ...] = field(repr=False)
    """Images that could not be read."""
    steps: int
    """Batches trained on; 0 for components."""
    seconds: float
    """Time of training or of finding the components, over all sittings; without decoding and measuring."""
    already_finished: bool
    """Whether the folder held this training, finished, so that nothing was trained."""


@with_bars
def train_autoencoder(
    images: Openable,
    *,
    out: str | os.PathLike[str],
    options: AutoencoderTraining | None = None,
    labels: LabelsGiven | None = None,
    progress: ShowProgress = None,
) -> AutoencoderReport:
    """Train an autoencoder on ``images`` (all that ``open_images`` takes) and measure it on held-out ones.

    ``labels`` serve the split alone, through a column ``split`` or one that names persons. ``out`` receives
    ``autoencoder.safetensors`` and ``measurement.json``. A training that was stopped there goes on (components, which
    take minutes at most, begin anew), and one that is finished is not repeated. Stages of ``progress``: decode,
    components or train, measure.

    Raises BadInput for images, a table or options that cannot be used and for a loss that is no longer finite,
    RunMismatch where ``out`` belongs to another training, and StorageFailed where the disk refuses.
    """
    progress = told_to(progress)
    options = AutoencoderTraining() if options is None else options
    source = open_images(images, size=options.size)
    table = None if labels is None else aligned(labels, source)
    with on_device(str(options.place)), seeded(options.seed):
        convolutional = _convolutional(options)  # before the folder is claimed, because it refuses some sizes
        split = split_images(range(len(source.ids)), labels=table, share=options.held_out, seed=options.seed)
        plan = planned(source, table, split, out=out, kind="autoencoder", options=options, extra={})
        if (found := plan.folder.finished()) is not None:
            plan.folder.clean()
            return _report(found, plan.folder, already_finished=True)
        material = prepared(plan, options, progress=progress)
        if convolutional is None:
            made = _components(material, options, progress=progress)
        else:
            made = _trained(convolutional, material, options, checkpoint=plan.folder.checkpoint, progress=progress)
        scores = _measured(made.network, material, device=options.place, progress=progress)
    content = {**described(plan, material), **made.described(), "psnr": scores}
    plan.folder.end(made.network, made.network.config, content)
    return _report(content, plan.folder, already_finished=False)


def reconstruction_loss(reconstructions: Images, images: Images) -> Tensor:
    """Absolute error + 4 × squared error + half the absolute error of differences between neighbouring pixels."""
    difference = reconstructions - images
    edges = (difference.diff(dim=3)).abs().mean() + (difference.diff(dim=2)).abs().mean()
    return difference.abs().mean() + _SQUARED * difference.square().mean() + _EDGES * edges


@dataclass(frozen=True)
class _Made:
    network: Network
    steps: int
    seconds: float

    def described(self) -> dict[str, Any]:
        """What the measurement says about the network."""
        return {
            "latent": self.network.config["latent"],
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "parameters": _learnt(self.network),
        }


def _convolutional(options: AutoencoderTraining) -> VectorAutoencoder | None:
    if options.architecture != "convolutional":
        return None
    latent = options.latent_length(0)  # which does not depend on the images
    return VectorAutoencoder(size=options.size, latent=latent, encoder=options.encoder, decoder=options.decoder)


def _trained(
    network: VectorAutoencoder,
    material: TrainingImages,
    options: AutoencoderTraining,
    *,
    checkpoint: Path,
    progress: Progress,
) -> _Made:
    state = TrainingState(network, options, steps=options.total_steps(len(material.train)))

    def loss(rows: Tensor) -> Tensor:
        return _loss(network, material.pixels.images(rows, device=options.place), options)

    fit(state, loss, rows=material.train, options=options, checkpoint=checkpoint, progress=progress)
    result = state.result
    assert isinstance(result, VectorAutoencoder)
    return _Made(result, state.step, state.seconds)


@torch.no_grad()
def _components(material: TrainingImages, options: AutoencoderTraining, *, progress: Progress) -> _Made:
    began = time.perf_counter()
    images = len(material.train)
    latent, known = options.latent_length(images), options.known_components(images)
    found = components_of(
        material.pixels, material.train, count=known, mirrored=options.horizontal_flip, progress=progress
    )
    network = ComponentAutoencoder(size=options.size, latent=latent, components=known)
    network.take(found, whiten_from=options.whiten_from)
    return _Made(network.eval().to(options.place), 0, time.perf_counter() - began)


def _learnt(network: Network) -> int:
    """Number of scalars that the images decided."""
    if isinstance(network, ComponentAutoencoder):
        return sum(values.numel() for values in network.buffers())
    return parameters(network)


def _loss(network: VectorAutoencoder, images: Images, options: AutoencoderTraining) -> Tensor:
    network.train()
    if options.horizontal_flip:
        images = mirrored(images)
    latents = network.encode(images)
    if options.noise:
        latents = latents + options.noise * torch.randn(latents.shape).to(latents.device)
    return reconstruction_loss(network.decode(latents), images)


@torch.no_grad()
def _measured(
    network: Network, material: TrainingImages, *, device: torch.device, progress: Progress
) -> dict[str, Any]:
    mean = _mean_image(material.pixels, material.train)
    parts: list[tuple[Floats, Floats]] = []
    progress("measure", 0, len(material.held_out))
    for rows in material.held_out.split(_BATCH):
        images = material.pixels.images(rows)
        found = network(images.to(device)).cpu()
        parts.append((_squared_errors(found, images), _squared_errors(mean.expand_as(images), images)))
        progress("measure", sum(len(errors) for errors, _ in parts), len(material.held_out))
    ours, plain = (psnr(np.concatenate(errors)) for errors in zip(*parts, strict=True))
    return {
        "mean": float(ours.mean()),
        "sd": float(ours.std(ddof=1)),
        "n": len(ours),
        "mean_image": float(plain.mean()),
    }


def _mean_image(pixels: DecodedImages, rows: Tensor) -> Tensor:
    return torch.stack([pixels.images(part).sum(0) for part in rows.split(_BATCH)]).sum(0)[None] / len(rows)


def _squared_errors(found: Tensor, images: Tensor) -> Floats:
    return functional.mse_loss(found, images, reduction="none").flatten(1).double().mean(1).numpy()


def _report(content: Mapping[str, Any], folder: OutputFolder, *, already_finished: bool) -> AutoencoderReport:
    return AutoencoderReport(
        weights=folder.weights,
        measurement=folder.measurement,
        psnr=content["psnr"]["mean"],
        psnr_sd=content["psnr"]["sd"],
        psnr_mean_image=content["psnr"]["mean_image"],
        train=content["images"]["train"],
        held_out=content["images"]["held_out"],
        skipped=tuple(Skipped(s["image_id"], s["reason"]) for s in content["skipped"]),
        steps=content["steps"],
        seconds=content["seconds"],
        already_finished=already_finished,
    )
