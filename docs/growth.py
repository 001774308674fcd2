"""Measures how time and memory of an audit grow, and writes growth.json into docs/measurements/.

    python docs/growth.py                 # all of it, about ten minutes
    python docs/growth.py images bases    # only these

Every audit runs in a process of its own with one thread. Time is that of the processor, so that other programs disturb
it little. ``python docs/measurements.py`` makes the page.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

import cfalign as cfa
from cfalign._audit.options import AuditOptions
from cfalign.autoencoders.convolutional import VectorAutoencoder
from cfalign.benchmarks.speed.apart import peak_memory
from cfalign.classifiers.attribute_network import AttributeNetwork

RECORD = Path(__file__).resolve().parent / "measurements" / "growth.json"
FOUR = ("eyeglasses", "smiling", "bangs", "male")
IMAGES, BASES, SIDES = (100, 400, 1600, 6400), (1, 4, 13, 38), (64, 128, 256)
MANY = (1000, 20_000)
FEW, REPEATS = 200, 5


@dataclass(frozen=True)
class Cost:
    """What one audit took."""

    seconds: float
    """Of the processor."""
    megabytes: float
    """The peak of the process."""
    counterfactuals: int


def main(parts: Sequence[str]) -> None:
    """Measure some parts, or all, and write the record."""
    known: dict[str, Callable[[], dict[str, float]]] = {
        "images": images,
        "many": many,
        "bases": bases,
        "side": sides,
    }
    if unknown := [part for part in parts if part not in known]:
        raise SystemExit(f"There is no part {unknown[0]!r}; expected some of {', '.join(known)}.")
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    for part in parts or list(known):
        record["numbers"] |= known[part]()
        RECORD.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def images() -> dict[str, float]:
    """Audits of more and more images; every base walks all that it predicts positive, or at most 200."""
    every = [apart(count, FOUR, limit=count) for count in IMAGES]
    capped = [apart(count, FOUR, limit=200) for count in IMAGES]
    numbers = {f"images_{count}_seconds": cost.seconds for count, cost in zip(IMAGES, every, strict=True)}
    numbers |= {f"images_{count}_megabytes": cost.megabytes for count, cost in zip(IMAGES, every, strict=True)}
    numbers |= {f"capped_{count}_seconds": cost.seconds for count, cost in zip(IMAGES, capped, strict=True)}
    numbers |= {f"capped_{count}_megabytes": cost.megabytes for count, cost in zip(IMAGES, capped, strict=True)}
    walked = [cost.counterfactuals for cost in every]
    return numbers | {
        "images_exponent": exponent(IMAGES[1:], [cost.seconds for cost in every[1:]]),
        "images_memory_exponent": exponent(IMAGES, [cost.megabytes for cost in every]),
        "counterfactuals": walked[-1],
        "milliseconds_per_counterfactual": 1e3 * (every[-1].seconds - every[0].seconds) / (walked[-1] - walked[0]),
    }


def many() -> dict[str, float]:
    """Peak memory with many images and the default limit."""
    return {f"many_{count}_megabytes": apart(count, FOUR, limit=200).megabytes for count in MANY}


def bases() -> dict[str, float]:
    """Audits of 200 images with more and more bases."""
    heads = cfa.classifiers.load("embedded").targets
    costs = [apart(FEW, heads[:count], limit=FEW) for count in BASES]
    numbers = {f"bases_{count}_seconds": cost.seconds for count, cost in zip(BASES, costs, strict=True)}
    numbers |= {f"bases_{count}_megabytes": cost.megabytes for count, cost in zip(BASES, costs, strict=True)}
    return numbers | {"bases_exponent": exponent(BASES[1:], [cost.seconds for cost in costs[1:]])}


def sides() -> dict[str, float]:
    """Single passes of untrained networks of more and more pixels; passes per counterfactual do not depend on them."""
    found = {side: pass_of(side) for side in SIDES}
    numbers = {f"side_{side}_milliseconds": milliseconds for side, milliseconds in found.items()}
    return numbers | {"side_exponent": exponent(SIDES, list(found.values()))}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """k of the power law cost ~ sizeᵏ, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def pass_of(side: int) -> float:
    """Milliseconds of an image's decoder forward, classifier forward, and backward through both, on one thread."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    decoder = VectorAutoencoder(size=side).eval()
    classifier = AttributeNetwork(["a"], size=side).eval()
    z = torch.randn(16, 128, requires_grad=True)
    taken = []
    for _ in range(REPEATS):
        began = time.process_time()
        torch.autograd.grad(classifier(decoder.decode(z)).sum(), z)
        taken.append((time.process_time() - began) / len(z))
    return 1e3 * median(taken)


def apart(count: int, heads: Sequence[str], *, limit: int) -> Cost:
    """``one_audit`` in a fresh process of one thread."""
    given = json.dumps({"count": count, "heads": list(heads), "limit": limit})
    command = [sys.executable, "-W", "ignore", __file__, "--one", given]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Cost(**json.loads(said.splitlines()[-1]))


def one_audit(count: int, heads: Sequence[str], limit: int) -> Cost:
    """An audit of the embedded classifier on drawn faces, which are files."""
    torch.set_num_threads(1)
    classifier, autoencoder = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    options = AuditOptions(limit=limit)
    with TemporaryDirectory() as folder:
        faces = write_faces(count, Path(folder) / "faces")
        began, out = time.process_time(), Path(folder) / "run"
        run = cfa.audit(faces, classifier, autoencoder=autoencoder, bases=heads, options=options, out=out)
        seconds = time.process_time() - began
        return Cost(seconds, peak_memory(), run.counterfactuals().height)


def write_faces(count: int, folder: Path) -> Path:
    """Drawn faces as PNG files, some at a time, so that memory holds few of them."""
    folder.mkdir()
    drawn = cfa.synthetic.sample(count, seed=50_000)
    for rows in torch.arange(count).split(FEW):
        pixels = (cfa.synthetic.render(drawn[rows]) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for row, face in zip(rows.tolist(), pixels, strict=True):
            Image.fromarray(face).save(folder / f"{row:06d}.png")
    return folder


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--one", given]:
            print(json.dumps(vars(one_audit(**json.loads(given)))))
        case parts:
            main(parts)
