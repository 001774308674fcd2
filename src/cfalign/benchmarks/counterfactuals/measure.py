"""Which method makes the better counterfactuals? Every method on the same faces and heads, judged by an oracle, by the
true edits of the renderer, and by its cost.

Two ends are looked at, as an audit does: the counterfactual, and further on, where the attribute is switched off.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cfalign import autoencoders, classifiers
from cfalign._audit.measurement import off_search
from cfalign._counterfactuals.batch import Pairs, Scene, reconstruct
from cfalign._counterfactuals.methods import Made, make
from cfalign._counterfactuals.options import Method, SearchOptions
from cfalign._counterfactuals.ray import Found
from cfalign._errors import BadInput
from cfalign._heads.composition import head
from cfalign._heads.panel import weights
from cfalign._heads.scoring import respond
from cfalign._models.guard import modules_of, undisturbed
from cfalign._results import Floats
from cfalign._runs.codec import as_json, read_parquet, write_json, write_parquet, write_tensors
from cfalign._runs.progress import Progress, silent
from cfalign._runs.record import refuse_other
from cfalign._types import Autoencoder, Classifier
from cfalign.benchmarks.counterfactuals.measures import along_edit, cout, flips
from cfalign.benchmarks.counterfactuals.result import Comparison, Part, compare
from cfalign.synthetic import DERIVED, INTERVENABLE, Faces, intervene, render, sample
from cfalign.synthetic.factors import ATTRIBUTES, OFF

METHODS: tuple[Method, ...] = get_args(Method)
ADVERSARIAL = 0.25
"""A flip is adversarial where the oracle's probability falls by less than this share of the base's drop."""
ROUNDS = (1, 2, 5)
"""Encode–decode rounds after which the autoencoder's drift is looked at."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """Size of the benchmark."""

    seed: int = 0
    images: int = 40
    """Counterfactuals per head and method, at most; nine times as many faces are drawn."""
    cout_steps: int = 20
    resamples: int = 1000
    heads: tuple[str, ...] | None = None
    """Every head that stands for one factor by default."""
    methods: tuple[Method, ...] = METHODS
    search: SearchOptions = field(default_factory=SearchOptions)
    """But for the method."""

    def __post_init__(self) -> None:
        if self.images < 2 or self.resamples < 10 or self.cout_steps < 1:
            raise BadInput("images must be at least 2, resamples at least 10 and cout_steps at least 1.")


def counterfactuals(
    *, options: BenchmarkOptions | None = None, out: str | Path | None = None, progress: Progress = silent
) -> Comparison:
    """Compare the methods on embedded heads and fresh independent faces.

    ``out``: a folder in which every finished part (a method on a head) is kept, so that a run that was stopped goes on.
    BadInput when it holds parts of other settings, or when no face is predicted positive.
    """
    options = options or BenchmarkOptions()
    with TemporaryDirectory() as scratch:
        folder = Path(out or scratch)
        _settle(folder, options)
        stage = _Stage(options)
        with undisturbed(stage.reference, stage.oracle, stage.autoencoder):
            _measure_all(stage, folder, progress)
            parts: dict[str, list[Part]] = {
                method: [_read(folder, method, name) for name in stage.factors] for method in options.methods
            }  # fmt: skip
            return compare(
                parts, stage.correlations, _half_features(stage), _drift(stage), seed=options.seed,
                resamples=options.resamples,
            )  # fmt: skip


def _settle(folder: Path, options: BenchmarkOptions) -> None:
    settings = as_json({"benchmark": "counterfactuals", "rounds": ROUNDS, **asdict(options)})
    file = folder / "settings.json"
    if file.is_file():
        refuse_other(json.loads(file.read_text(encoding="utf-8")), settings, folder)
    else:
        write_json(file, settings)


class _Stage:
    """Faces and models, shared by all methods."""

    def __init__(self, options: BenchmarkOptions) -> None:
        self.options = options
        self.reference, self.oracle = classifiers.load("embedded"), classifiers.load("embedded:oracle")
        self.autoencoder: Autoencoder = autoencoders.load("embedded")
        known = [name for name in self.reference.targets if name in INTERVENABLE and name not in DERIVED]
        self.factors = list(options.heads or known)
        if unknown := [name for name in self.factors if name not in known]:
            raise BadInput(f"No embedded head {unknown[0]!r} stands for one factor; expected some of {known}.")
        self.faces: Faces = sample(9 * options.images, seed=options.seed + 40_000)

    @cached_property
    def images(self) -> Tensor:
        """x [face, 3, 64, 64]."""
        return render(self.faces)

    @cached_property
    def seen(self) -> tuple[Tensor, Tensor]:
        """z0 and x0."""
        parts = [reconstruct(part, self.autoencoder) for part in self.images.split(64)]
        z, x0 = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        return z, x0

    @cached_property
    def scores(self) -> Floats:
        """Probabilities of the embedded heads on x0, [face, head]."""
        return probabilities(self.seen[1], self.reference)

    @property
    def correlations(self) -> dict[str, Floats]:
        """Of the labels of the faces with those of every head, in the order of the oracle's targets."""
        labels = self.faces.labels().double().numpy()[:, [ATTRIBUTES.index(t) for t in self.oracle.targets]]
        with np.errstate(divide="ignore", invalid="ignore"):
            table = np.nan_to_num(np.corrcoef(labels, rowvar=False))
        return {name: table[self.oracle.targets.index(name)] for name in self.factors}

    def chosen(self, name: str) -> Tensor:
        """Faces whose counterfactuals are made: the first ones that the head predicts positive."""
        positive = self.scores[:, self.reference.targets.index(name)] >= self.options.search.eligible
        return torch.from_numpy(np.flatnonzero(positive)[: self.options.images])

    def edit(self, name: str, chosen: Tensor) -> Tensor:
        """What switching the factor off changes in x0, seen through the autoencoder; 0 where the label is off."""
        off = reconstruct(render(intervene(self.faces[chosen], name, OFF)), self.autoencoder)[1]
        on = self.faces.labels()[chosen, ATTRIBUTES.index(name)]
        return (off - self.seen[1][chosen]) * on.view(-1, 1, 1, 1)


def probabilities(images: Tensor, classifier: Classifier) -> Floats:
    """Of every head, [n, head]."""
    answers: Floats = torch.sigmoid(respond(images, [classifier]).double()).numpy()
    return answers


def features(images: Tensor, classifier: Classifier) -> Floats:
    """What the last linear layer of a network reads, [n, feature]."""
    last = [m for top in modules_of(classifier) for m in top.modules() if isinstance(m, nn.Linear)][-1]
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    try:
        respond(images, [classifier])
    finally:
        hook.remove()
    read: Floats = torch.cat(seen).double().numpy()
    return read


def _files(folder: Path, method: str, name: str) -> tuple[Path, Path]:
    return folder / "parts" / method / f"{name}.parquet", folder / "features" / method / f"{name}.safetensors"


def _measure_all(stage: _Stage, folder: Path, progress: Progress) -> None:
    todo = [(name, method) for name in stage.factors for method in stage.options.methods]
    for done, (name, method) in enumerate(todo):
        progress("counterfactuals", done, len(todo))
        table, tensors = _files(folder, method, name)
        if table.is_file() and tensors.is_file():
            continue
        rows, read = _measure(stage, name, method)
        write_tensors(tensors, {"features": torch.from_numpy(read).float()})
        write_parquet(table, rows)
    progress("counterfactuals", len(todo), len(todo))


def _read(folder: Path, method: str, name: str) -> Part:
    table, tensors = _files(folder, method, name)
    return Part(name, read_parquet(table), load_file(tensors)["features"].double().numpy())


def _measure(stage: _Stage, name: str, method: Method) -> tuple[pl.DataFrame, Floats]:
    """One row per pair; features of the counterfactuals."""
    chosen = stage.chosen(name)
    base = head(stage.reference, name)
    z, x0 = (part[chosen] for part in stage.seen)
    pairs = Pairs(torch.arange(len(chosen)), weights([base], base.classifiers)[torch.zeros(len(chosen)).long()])
    search = replace(stage.options.search, method=method)
    began = time.process_time()
    made = make(Scene(z, x0, pairs, stage.autoencoder, base.classifiers), search, off_search(search))
    seconds = time.process_time() - began
    edit = stage.edit(name, chosen)
    columns = _end(stage, name, made, made.ends[0], x0, edit)
    off = _end(stage, name, made, made.ends[1], x0, edit)
    kept = ("landed", "drop", "oracle_drop", "removed", "edit_cosine", "forwards", "backwards", "l1")
    after = made.ends[0].kept[0]
    columns["forwards"] = columns["forwards"] + 1  # that at z0, with the first backward pass
    off |= {key: columns[key] + off[key] for key in ("forwards", "backwards")}
    before, seen = (probabilities(x, stage.oracle) for x in (x0, after))
    change, flipped = seen - before, flips(before, seen)
    others = [i for i, target in enumerate(stage.oracle.targets) if target != name]
    columns |= {
        "face": chosen.numpy(),
        "seconds": np.full(len(chosen), seconds / max(1, len(chosen))),
        "mnac": np.abs(flipped).sum(axis=1),
        "others_changed": np.abs(flipped[:, others]).sum(axis=1),
        "adversarial": (-change[:, stage.oracle.targets.index(name)] < ADVERSARIAL * columns["drop"]).astype(float),
        "encoded_distance": (stage.autoencoder.encode(after) - stage.autoencoder.encode(x0)).norm(dim=1).numpy(),
        **{f"off_{key}": off[key] for key in kept},
        **{f"change.{target}": change[:, i] for i, target in enumerate(stage.oracle.targets)},
        **{f"flip.{target}": flipped[:, i] for i, target in enumerate(stage.oracle.targets)},
    }
    for key, judge in (("cout", stage.reference), ("cout_oracle", stage.oracle)):
        columns[key] = _cout(stage, x0, after, judge, name)
    return pl.DataFrame(columns), features(after, stage.oracle)


def _end(stage: _Stage, name: str, made: Made, found: Found, x0: Tensor, edit: Tensor) -> dict[str, Floats]:
    """What one end of the searches cost and changed, [pair]."""
    after, column = found.kept[0], stage.oracle.targets.index(name)
    moved = (after - x0).flatten(1).double()
    removed, cosine = along_edit(after - x0, edit)
    before = stage.scores[:, stage.reference.targets.index(name)][stage.chosen(name).numpy()]
    own = probabilities(after, stage.reference)[:, stage.reference.targets.index(name)]
    drop = [probabilities(x, stage.oracle)[:, column] for x in (x0, after)]
    in_pixels = made.scene.latents is made.scene.reconstructions
    return {
        "landed": np.array([o.landed for o in found.outcomes], dtype=float),
        "drop": before - own,
        "oracle_drop": drop[0] - drop[1],
        "l1": moved.abs().mean(dim=1).numpy(),
        "l2": moved.square().mean(dim=1).sqrt().numpy(),
        "latent_distance": np.full(len(moved), np.nan) if in_pixels else found.distance,
        "removed": removed,
        "edit_cosine": cosine,
        "forwards": found.evaluations.astype(float),
        "backwards": found.backwards.astype(float),
    }


def _cout(stage: _Stage, x0: Tensor, after: Tensor, judge: Classifier, name: str) -> Floats:
    def score(images: Tensor) -> Tensor:
        return torch.from_numpy(probabilities(images, judge)[:, judge.targets.index(name)])

    values: Floats = cout(x0, after, score, steps=stage.options.cout_steps).numpy()
    return values


def _half_features(stage: _Stage) -> dict[str, Floats]:
    """Features of every face and of its reconstruction, [face, feature]."""
    return {
        "real": features(stage.images, stage.oracle),
        "reconstruction": features(stage.seen[1], stage.oracle),
    }


def _drift(stage: _Stage) -> dict[str, Floats]:
    """After k encode–decode rounds: mean absolute change per pixel from x, and mean change of the oracle's
    probabilities, [face].
    """
    drift: dict[str, Floats] = {}
    start, x = probabilities(stage.images, stage.oracle), stage.images
    for k in range(1, max(ROUNDS) + 1):
        x = torch.cat([reconstruct(part, stage.autoencoder)[1] for part in x.split(64)])
        if k in ROUNDS:
            drift[f"drift_l1_{k}"] = (x - stage.images).abs().flatten(1).mean(dim=1).double().numpy()
            drift[f"drift_oracle_{k}"] = np.abs(probabilities(x, stage.oracle) - start).mean(axis=1)
    return drift


def named(methods: Sequence[str]) -> tuple[Method, ...]:
    """The methods of these names; BadInput names those there are for an unknown one."""
    for name in methods:
        if name not in METHODS:
            raise BadInput(f"No method {name!r}; expected some of {', '.join(METHODS)}.")
    return tuple(method for method in METHODS if method in methods)
