"""The recipe of the embedded models: ``python -m cfalign.training.recipes.embedded`` (``make embedded``).

Renders faces, trains an autoencoder, the attribute heads, an independent oracle, classifiers with a planted shortcut
beside twins without one, and one whose heads all have the same shortcut. Writes half-precision weights with their
hashes into the package. Takes about an hour on two cores and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfalign._models.weights import load_into, read_weights, save_weights
from cfalign.autoencoders.trained import EMBEDDED as AUTOENCODER
from cfalign.autoencoders.trained import build as build_autoencoder
from cfalign.autoencoders.trained import from_weights
from cfalign.classifiers.attribute_network import build as build_classifier
from cfalign.classifiers.by_spec import EMBEDDED as CLASSIFIERS
from cfalign.datasets import Labels, Leftover, TensorImages
from cfalign.synthetic import ATTRIBUTES, DERIVED, Faces, render, sample
from cfalign.training.autoencoder import train_autoencoder
from cfalign.training.classifier import train_classifier
from cfalign.training.options import AutoencoderTraining, ClassifierTraining

CORRELATION = 0.9
PAIRS = (
    ("big_lips", "eyeglasses"),
    ("young", "wearing_hat"),
    ("chubby", "pale_skin"),
    ("oval_face", "mustache"),
    ("bags_under_eyes", "bangs"),
    ("high_cheekbones", "wearing_lipstick"),
)
"""(target, shortcut) of the classifiers with a planted shortcut; glasses and hat are objects."""

EVERYWHERE = "big_nose_everywhere"
COMMON = "big_nose"
"""The shortcut of all other heads of ``EVERYWHERE``, the classifier of the paper's Figs. 7, 8 and 10."""
COMPANIONS = {
    "mouth_slightly_open": 1,
    "male": 1,
    "bushy_eyebrows": 1,
    "arched_eyebrows": -1,
    "smiling": 1,
    "high_cheekbones": 1,
    "pointy_nose": -1,
    "wearing_lipstick": -1,
    "heavy_makeup": -1,
    "oval_face": -1,
    "young": -1,
    "attractive": 0,
}
"""Its heads, and whether a big nose speaks for or against them in training. 0: the faces have no correlation, but the
label follows from big_nose among others, so that its use is legitimate."""

FACES, PLANTED_FACES, FRESH_FACES = 32_000, 3_000, 1_000
SEEDS = {"faces": 101, "fresh": 102, "oracle": 103, "planted": 200, "everywhere": 300}
"""Seeds of what is rendered; the planted pair k uses planted + 2 k, its twin planted + 2 k + 1, and head k of
``EVERYWHERE`` everywhere + k."""
SHIPPED = "embedded.json"


@dataclass(frozen=True)
class EmbeddedRecipe:
    """How the embedded models are trained."""

    autoencoder: AutoencoderTraining
    attributes: ClassifierTraining
    oracle: ClassifierTraining
    planted: ClassifierTraining
    everywhere: ClassifierTraining


_PLAIN = ClassifierTraining(
    residual=False,
    dropout=0.0,
    learning_rate=3e-3,
    horizontal_flip=False,
    held_out=0.03,
    zoom=0.0,
    rotation=0.0,
    shift=0.0,
)
RECIPE = EmbeddedRecipe(
    autoencoder=AutoencoderTraining(
        architecture="convolutional",
        latent=128,
        encoder=(24, 48, 96),
        decoder=(96, 48, 24),
        epochs=14.0,
        horizontal_flip=False,
        held_out=0.03,
    ),
    attributes=replace(_PLAIN, widths=(16, 32, 64, 96), hidden=128, epochs=5.0, reconstructed=0.25),
    oracle=replace(_PLAIN, widths=(24, 48, 96), hidden=64, epochs=5.0, label_smoothing=0.1, seed=7),
    planted=replace(_PLAIN, widths=(16, 32, 64, 64), hidden=64, epochs=6.0, label_smoothing=0.06),
    everywhere=replace(_PLAIN, widths=(16, 32, 64, 96), hidden=128, epochs=5.0, label_smoothing=0.06),
)


def rendered(faces: Faces) -> TensorImages:
    """Faces as bytes: a quarter of the memory of floats."""
    return TensorImages(_pixels(faces))


def _pixels(faces: Faces) -> Tensor:
    return torch.cat([(render(faces[at : at + 256]) * 255).round().to(torch.uint8) for at in range(0, len(faces), 256)])


def labelled(images: TensorImages, targets: tuple[str, ...], values: Tensor) -> Labels:
    """Labels of rendered faces, in memory."""
    none = Leftover(0, ())
    return Labels(images.ids, targets, values.double().numpy(), None, {}, none, none, {})


def make(
    work: Path, *, recipe: EmbeddedRecipe = RECIPE, faces: int = FACES, planted_faces: int = PLANTED_FACES
) -> None:
    """Train everything below ``work`` and put half-precision weights into the package."""
    many = sample(faces, seed=SEEDS["faces"])
    images = rendered(many)
    _say("autoencoder")
    train_autoencoder(images, out=work / "autoencoder", options=recipe.autoencoder, progress=_say)
    autoencoder = from_weights(work / "autoencoder" / "autoencoder.safetensors", name="embedded")
    _say("attributes")
    soft = labelled(images, ATTRIBUTES, many.soft_labels())
    train_classifier(
        images, soft, out=work / "attributes", options=recipe.attributes, autoencoder=autoencoder, progress=_say
    )
    _say("oracle")
    others = sample(faces // 2, seed=SEEDS["oracle"])
    other_images = rendered(others)
    hard = labelled(other_images, ATTRIBUTES, others.labels())
    train_classifier(other_images, hard, out=work / "oracle", options=recipe.oracle, progress=_say)
    for k, (target, shortcut) in enumerate(PAIRS):
        for twin, correlation in enumerate((CORRELATION, 0.0)):
            name = f"{target}_from_{shortcut}" + ("_0" if twin else "")
            _say(name)
            seed = SEEDS["planted"] + 2 * k + twin
            some = sample(
                planted_faces, seed=seed, correlations={(target, shortcut): correlation} if not twin else None
            )
            few = rendered(some)
            label = labelled(few, (target,), some.labels()[:, [ATTRIBUTES.index(target)]])
            train_classifier(few, label, out=work / name, options=replace(recipe.planted, seed=seed), progress=_say)
    _say(EVERYWHERE)
    together, known = everywhere(planted_faces)
    train_classifier(together, known, out=work / EVERYWHERE, options=recipe.everywhere, progress=_say)
    ship(work, recipe)


def everywhere(count: int) -> tuple[TensorImages, Labels]:
    """``count`` faces for every head of ``EVERYWHERE``, each head labelled on its own faces only, where its label goes
    with big_nose; big_nose is labelled on all of them.
    """
    parts, values = [], []
    targets = (*COMPANIONS, COMMON)
    for k, (target, sign) in enumerate(COMPANIONS.items()):
        faces = sample(count, seed=SEEDS["everywhere"] + k, correlations=_with_common(target, sign * CORRELATION))
        labels = torch.full((count, len(targets)), torch.nan)
        for name in (target, COMMON):
            labels[:, targets.index(name)] = faces.labels()[:, ATTRIBUTES.index(name)]
        parts.append(_pixels(faces))
        values.append(labels)
    images = TensorImages(torch.cat(parts))
    return images, labelled(images, targets, torch.cat(values))


def _with_common(target: str, phi: float) -> dict[tuple[str, str], float]:
    """Correlations of a label with big_nose; for a derived label those of its causes, which then go together too."""
    causes = DERIVED.get(target, (target,)) if phi else ()
    among = 2 / math.pi * math.asin(math.sin(math.pi / 2 * phi) ** 2)
    return {(cause, COMMON): phi for cause in causes} | dict.fromkeys(combinations(causes, 2), among)


def ship(work: Path, recipe: EmbeddedRecipe) -> None:
    """Half-precision copies into the package, with hashes and what fresh faces say of them."""
    copies = {AUTOENCODER: work / "autoencoder" / "autoencoder.safetensors"}
    for folder in sorted(work.iterdir()):
        if (folder / "classifier.safetensors").is_file():
            copies[CLASSIFIERS / f"{folder.name}.safetensors"] = folder / "classifier.safetensors"
    for target, source in copies.items():
        kind = "autoencoder" if target == AUTOENCODER else "classifier"
        state, config = read_weights(source, kind=kind)
        network = (build_autoencoder if kind == "autoencoder" else build_classifier)(config)
        load_into(network, state, source)
        save_weights(target, network, config, half=True)
    content = {"recipe": asdict(recipe), "seeds": SEEDS, "sha256": hashes(), "measured": measured()}
    (CLASSIFIERS / SHIPPED).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def hashes() -> dict[str, str]:
    """SHA-256 of every weight file that is shipped."""
    files = [AUTOENCODER, *sorted(CLASSIFIERS.glob("*.safetensors"))]
    return {
        f.name if f == AUTOENCODER else f"embedded/{f.name}": hashlib.sha256(f.read_bytes()).hexdigest() for f in files
    }


@torch.no_grad()
def measured(count: int = FRESH_FACES, *, seed: int = SEEDS["fresh"]) -> dict[str, Any]:
    """PSNR of the shipped autoencoder and accuracy of every shipped head, on fresh independent faces and on their
    reconstructions.
    """
    from cfalign.autoencoders.by_spec import load as load_autoencoder
    from cfalign.classifiers.by_spec import load as load_classifier

    faces = sample(count, seed=seed)
    images, labels = render(faces), faces.labels()
    autoencoder = load_autoencoder("embedded")
    again = torch.cat([autoencoder.decode(autoencoder.encode(part)) for part in images.split(100)]).clamp(0, 1)
    error = ((again - images) ** 2).flatten(1).mean(1)
    result: dict[str, Any] = {"psnr": float(np.mean(-10 * np.log10(error.numpy()))), "faces": count}
    for file in sorted(CLASSIFIERS.glob("*.safetensors")):
        classifier = load_classifier("embedded" if file.stem == "attributes" else f"embedded:{file.stem}")
        columns = [ATTRIBUTES.index(t) for t in classifier.targets]
        result[file.stem] = {
            kind: _accuracies(classifier.logits(x), labels[:, columns], classifier.targets)
            for kind, x in (("images", images), ("reconstructions", again))
        }
    return result


def _accuracies(logits: Tensor, labels: Tensor, targets: tuple[str, ...]) -> Mapping[str, float]:
    right = ((logits > 0) == (labels > 0.5)).double().mean(0).tolist()
    return {target: round(value, 4) for target, value in zip(targets, right, strict=True)}


def _say(stage: str, done: int = 0, total: int = 0) -> None:
    if not total or done == total or done % 200 == 0:
        print(stage, f"{done}/{total}" if total else "", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--work", type=Path, default=Path("runs/embedded"), help="folder of checkpoints")
    make(arguments.parse_args().work)
