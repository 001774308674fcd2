"""The run of the benchmark: every method on the same faces and heads, judged by an oracle, true edits, and cost.

Two ends of every search are measured, as in an audit: the counterfactual, and the point further on where the attribute
is switched off.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file
from torch import Tensor

from cfalign._audit.measurement import off_search
from cfalign._counterfactuals.batch import Batch, Models, pairs_of
from cfalign._counterfactuals.methods import Walks, walk
from cfalign._counterfactuals.options import Method
from cfalign._counterfactuals.ray import Ends
from cfalign._heads.composition import head
from cfalign._models.guard import undisturbed
from cfalign._results import Floats
from cfalign._runs.codec import read_parquet, write_parquet, write_tensors
from cfalign._runs.progress import Progress, ShowProgress, told_to, with_bars
from cfalign._types import Classifier
from cfalign.benchmarks.counterfactuals.criteria import along_edit, cout, flips
from cfalign.benchmarks.counterfactuals.estimates import Part, SeenByOracle, compare
from cfalign.benchmarks.counterfactuals.models_and_faces import ModelsAndFaces, features, probabilities
from cfalign.benchmarks.counterfactuals.options import BenchmarkOptions
from cfalign.benchmarks.counterfactuals.result import Comparison
from cfalign.benchmarks.ledger import claim, workplace

ADVERSARIAL = 0.25
"""A flip is adversarial where the oracle's probability falls by less than this share of the base's drop."""
ROUNDS = (1, 2, 5)
"""Numbers of encode–decode rounds after which the autoencoder's drift is measured."""
OF_BOTH_ENDS = ("landed", "drop", "oracle_drop", "removed", "edit_cosine", "forwards", "backwards", "l1")
"""Columns that are reported for the second end too, as ``off_…``."""


@with_bars
def counterfactuals(
    *, options: BenchmarkOptions | None = None, out: str | Path | None = None, progress: ShowProgress = None
) -> Comparison:
    """Compare the methods on embedded heads and fresh independent faces.

    Args:
        options: heads, methods, numbers of images.
        out: folder that keeps every finished part (a method on a head), so that a stopped run can be resumed; a
            temporary one by default.
        progress: True shows bars; a function is called with (stage, done, total).

    Raises BadInput for an unknown head and if ``out`` is a file or holds something else; RunMismatch if it holds parts
    of other settings.
    """
    progress = told_to(progress)
    options = options or BenchmarkOptions()
    with workplace(out) as folder:
        claim(folder, {"benchmark": "counterfactuals", "rounds": ROUNDS, **asdict(options)}, file="settings.json")
        common = ModelsAndFaces(options)
        with undisturbed(common.reference, common.oracle, common.autoencoder):
            parts = _parts(common, folder, progress)
            faces = SeenByOracle(
                images=features(common.images, common.oracle),
                reconstructions=features(common.reconstructions, common.oracle),
            )
            drift = common.drift(ROUNDS)
        seed, resamples = options.seed, options.resamples
        return compare(parts, common.correlations, faces, drift, seed=seed, resamples=resamples)


def _parts(common: ModelsAndFaces, folder: Path, progress: Progress) -> dict[str, list[Part]]:
    """By method, one part per head; parts that the folder lacks are measured."""
    methods = common.options.methods
    parts: dict[str, list[Part]] = {method: [] for method in methods}
    total, done = len(common.factors) * len(methods), 0
    for name in common.factors:
        for method in methods:
            progress("counterfactuals", done, total)
            parts[method].append(_part(common, name, method, folder))
            done += 1
    progress("counterfactuals", total, total)
    return parts


def _part(common: ModelsAndFaces, name: str, method: Method, folder: Path) -> Part:
    table = folder / "parts" / method / f"{name}.parquet"
    tensors = folder / "features" / method / f"{name}.safetensors"
    if not (table.is_file() and tensors.is_file()):
        rows, read = _measured(common, name, method)
        write_tensors(tensors, {"features": torch.from_numpy(read).float()})
        write_parquet(table, rows)
    return Part(name, read_parquet(table), load_file(tensors)["features"].double().numpy())


def _measured(common: ModelsAndFaces, name: str, method: Method) -> tuple[pl.DataFrame, Floats]:
    """One row per pair; features of the counterfactuals."""
    made = _made(common, name, method)
    first, second = (_end(common, made, ends) for ends in made.walks.ends)
    first["forwards"] = first["forwards"] + 1  # the forward at z0, which belongs to the first backward pass
    for spent in ("forwards", "backwards"):
        second[spent] = first[spent] + second[spent]
    after = made.walks.ends[0].images
    columns = {
        **first,
        "face": made.chosen.numpy(),
        "seconds": np.full(len(made.chosen), made.seconds / max(1, len(made.chosen))),
        **_seen_by_oracle(common, made, after, first["drop"]),
        "encoded_distance": _encoded_distance(common, made.x0, after),
        **{f"off_{key}": second[key] for key in OF_BOTH_ENDS},
        "cout": _cout(common, made, after, common.reference),
        "cout_oracle": _cout(common, made, after, common.oracle),
    }
    return pl.DataFrame(columns), features(after, common.oracle)


@dataclass(frozen=True)
class _HeadCounterfactuals:
    """The counterfactuals of one head by one method."""

    name: str
    chosen: Tensor
    """Their faces."""
    x0: Tensor
    edit: Tensor
    walks: Walks
    seconds: float
    """Processor time of all walks."""


def _made(common: ModelsAndFaces, name: str, method: Method) -> _HeadCounterfactuals:
    chosen = common.chosen(name)
    base = head(common.reference, name)
    start = common.origins[chosen]
    batch = Batch(start, pairs_of(base, count=len(chosen)), Models(common.autoencoder, base.classifiers))
    search = replace(common.options.search, method=method)
    began = time.process_time()
    walks = walk(batch, search, off_search(search))
    seconds = time.process_time() - began
    return _HeadCounterfactuals(name, chosen, start.images, common.edit(name, chosen), walks, seconds)


def _end(common: ModelsAndFaces, made: _HeadCounterfactuals, ends: Ends) -> dict[str, Floats]:
    """Costs and changes at one end of the searches, each [pair]."""
    after, x0, name = ends.images, made.x0, made.name
    moved = (after - x0).flatten(1).double()
    removed, cosine = along_edit(after - x0, made.edit)
    own = probabilities(after, common.reference)[:, common.reference.targets.index(name)]
    column = common.oracle.targets.index(name)
    seen_before, seen_after = (probabilities(x, common.oracle)[:, column] for x in (x0, after))
    in_pixels = made.walks.batch.latents is made.walks.batch.origins.images
    return {
        "landed": ends.landed.astype(float),
        "drop": common.score_of(name)[made.chosen.numpy()] - own,
        "oracle_drop": seen_before - seen_after,
        "l1": moved.abs().mean(dim=1).numpy(),
        "l2": moved.square().mean(dim=1).sqrt().numpy(),
        "latent_distance": np.full(len(moved), np.nan) if in_pixels else ends.distances,
        "removed": removed,
        "edit_cosine": cosine,
        "forwards": ends.evaluations.astype(float),
        "backwards": ends.backwards.astype(float),
    }


def _seen_by_oracle(
    common: ModelsAndFaces, made: _HeadCounterfactuals, after: Tensor, drop: Floats
) -> dict[str, Floats]:
    """Changes that the oracle sees: of every attribute, and how many besides the head's own flipped."""
    targets = common.oracle.targets
    before, seen = (probabilities(x, common.oracle) for x in (made.x0, after))
    change, flipped = seen - before, flips(before, seen)
    own = targets.index(made.name)
    others = [i for i in range(len(targets)) if i != own]
    return {
        "mnac": np.abs(flipped).sum(axis=1),
        "others_changed": np.abs(flipped[:, others]).sum(axis=1),
        "adversarial": (-change[:, own] < ADVERSARIAL * drop).astype(float),
        **{f"change.{target}": change[:, i] for i, target in enumerate(targets)},
        **{f"flip.{target}": flipped[:, i] for i, target in enumerate(targets)},
    }


def _encoded_distance(common: ModelsAndFaces, x0: Tensor, after: Tensor) -> Floats:
    """‖E(x_λ) − E(x0)‖, [pair]."""
    encode = common.autoencoder.encode
    distance: Floats = (encode(after) - encode(x0)).norm(dim=1).numpy()
    return distance


def _cout(common: ModelsAndFaces, made: _HeadCounterfactuals, after: Tensor, judge: Classifier) -> Floats:
    column = judge.targets.index(made.name)

    def score(images: Tensor) -> Tensor:
        return torch.from_numpy(probabilities(images, judge)[:, column])

    values: Floats = cout(made.x0, after, score, steps=common.options.cout_steps).numpy()
    return values
