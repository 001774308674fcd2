"""Does the effect see confounding where nobody can intervene? Classifiers trained on photographs, measured by labels.

For a target and a confounder, images are chosen from the training split so that the two are correlated at several
doses, and a small classifier is trained on each choice. On images of another split two things are measured that know
nothing of each other: the estimated effect of the confounder on the classifier (reference heads, autoencoder, no
label), and the classifier's worst-group gap (labels, no counterfactual). If the effect is what it says, it rises with
the dose and ranks the classifiers as their gaps do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfalign._analysis.statistics import generator
from cfalign._audit.audit import audit
from cfalign._audit.bank import bank
from cfalign._audit.options import AuditOptions
from cfalign._audit.reference import Reference, reference_of
from cfalign._errors import BadInput
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._results import Floats
from cfalign._runs.codec import as_json, write_json
from cfalign._runs.progress import Progress, silent
from cfalign._runs.record import refuse_other
from cfalign._runs.run import Run
from cfalign._types import Autoencoder, Classifier
from cfalign.benchmarks.photographs.result import Measured, Photographs, read
from cfalign.benchmarks.photographs.worst_group import Gaps, gaps
from cfalign.benchmarks.scoring import spearman
from cfalign.datasets import ImageSource, Labels
from cfalign.datasets.image_source import in_batches
from cfalign.training import ClassifierTraining
from cfalign.training.recipes.confounded_subsets import (
    GROUPS,
    MEASURED_PER_GROUP,
    RECIPE,
    Confounded,
    Positions,
    Task,
    chosen,
    groups,
    load_confounded,
    sizes,
    train_all,
)

PAIRS = (
    ("smiling", "eyeglasses"),
    ("blond_hair", "male"),
    ("young", "wearing_hat"),
    ("smiling", "male"),
    ("mouth_slightly_open", "heavy_makeup"),
    ("young", "wearing_lipstick"),
    ("arched_eyebrows", "smiling"),
)
"""(target, confounder), attributes of CelebA."""
DOSES = (0.0, 0.5, 0.8, 0.95, 1.0)
LEAST_GROUP = 16
"""Measured images that each group needs: below it the standard error of its accuracy can exceed 0.125."""
_BATCH = 256


@dataclass(frozen=True)
class PhotographsOptions:
    """What is trained and measured."""

    pairs: tuple[tuple[str, str], ...] = PAIRS
    doses: tuple[float, ...] = DOSES
    seeds: tuple[int, ...] = (0, 1)
    limit: int = 150
    """Counterfactuals per reference head."""
    least: int = 200
    """Training images; a dose with fewer is left out."""
    most: int = 2500
    per_group: int = 500
    """Images per group that the gaps are measured on."""
    train_split: str = "train"
    split: str = "val"
    """What is measured on."""
    seed: int = 0
    recipe: ClassifierTraining = field(default=RECIPE)

    def __post_init__(self) -> None:
        if not self.pairs or not self.seeds or any(t == c for t, c in self.pairs):
            raise BadInput("The benchmark needs at least one pair TARGET:CONFOUNDER of two attributes, and one seed.")
        if len(set(self.doses)) < 2 or not all(0 <= dose <= 1 for dose in self.doses):
            raise BadInput(f"Doses are two or more different correlations from 0 to 1, got {list(self.doses)}.")
        if self.split == self.train_split:
            raise BadInput(f"Measured images must not be trained on: both splits are {self.split!r}.")
        for name in ("limit", "least", "most", "per_group"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1, got {getattr(self, name)!r}.")


@dataclass(frozen=True)
class _Plan:
    """All that follows from labels and options alone."""

    tasks: tuple[Task, ...]
    images: dict[tuple[str, str], int]
    """Training images per classifier, of every pair that takes part."""
    measured: dict[tuple[str, str], tuple[tuple[str, ...], ...]]
    """Ids per group."""
    left_out: tuple[str, ...]


def photographs(
    images: ImageSource,
    labels: Labels,
    *,
    reference: Classifier | Reference,
    autoencoder: Autoencoder,
    out: str | Path,
    options: PhotographsOptions | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> Photographs:
    """Train classifiers on confounded subsets of ``images``, and compare effects with gaps on held-out images.

    ``images`` come in the size that the autoencoder works on; ``labels`` have a column ``split``. ``reference`` has a
    head for every confounder; it may have been trained on the training split. ``out`` keeps the classifiers, the bank
    and its audit; a stopped benchmark goes on there. ``workers`` classifiers are trained at a time, in one thread each.

    BadInput: labels without the attributes or splits, a confounder that the reference does not know, or no pair with
    enough images; RunMismatch: ``out`` belongs to other settings, images or labels.
    """
    options, folder = options or PhotographsOptions(), Path(out).expanduser()
    known = reference_of(reference).classifier
    unknown = [c for _, c in options.pairs if c not in known.targets]
    if unknown:
        raise BadInput(f"The reference {known.name!r} has no head for the confounder {unknown[0]!r}.")
    plan = _planned(labels, options)
    _claim(folder, {"options": as_json(asdict(options)), "images": images.fingerprint(), "labels": _known(plan)})
    place = folder / "classifiers"
    train_all(plan.tasks, images, labels, place, recipe=options.recipe, workers=workers, progress=progress)
    classifiers = [load_confounded(task.one, place) for task in plan.tasks]
    held_out = images.subset(labels.in_split(options.split))
    settings = AuditOptions(limit=options.limit, seed=options.seed, shown=0)
    made = bank(
        held_out, reference, autoencoder=autoencoder, out=folder / "bank", options=settings, progress=progress
    )  # fmt: skip
    run = audit(made, classifiers, out=folder / "audit", options=settings, progress=progress)
    found = {pair: _gaps(pair, plan, images, classifiers, options.seed) for pair in plan.images}
    result = read(
        {pair: (plan.images[pair], tuple(map(len, plan.measured[pair]))) for pair in plan.images},
        _measured(run, plan, found),
        left_out=plan.left_out, gap_repeats=_repeated(list(found.values())), seed=options.seed,
    )  # fmt: skip
    write_json(folder / "summary.json", result.as_dict())
    return result


def _planned(labels: Labels, options: PhotographsOptions) -> _Plan:
    labels.require(dict.fromkeys(name for pair in options.pairs for name in pair))
    train = labels.subset(labels.in_split(options.train_split))
    held_out = labels.subset(labels.in_split(options.split))
    tasks: list[Task] = []
    plan = _Plan((), {}, {}, ())
    left_out: list[str] = []
    for pair in dict.fromkeys(options.pairs):
        measured = tuple(
            _some(held_out, group, options, pair, k) for k, group in enumerate(groups(held_out, *pair))
        )  # fmt: skip
        members = groups(train, *pair)
        size = sizes(list(map(len, members)), options.doses, least=options.least, most=options.most, pair=pair)
        left_out += size.left_out.values()
        reason = _why_not(pair, measured, size.doses, options.split)
        if reason is not None:
            left_out.append(reason)
            continue
        plan.images[pair], plan.measured[pair] = size.images, measured
        own = tuple(i for group in measured for i in group[:MEASURED_PER_GROUP])
        for one in (Confounded(*pair, dose, seed) for dose in size.doses for seed in options.seeds):
            rows = chosen(members, one, images=size.images)
            tasks.append(Task(one, tuple(train.ids[i] for i in rows), own))
    if not tasks:
        raise BadInput("No pair has enough images for the benchmark. " + " ".join(left_out))
    return _Plan(tuple(tasks), plan.images, plan.measured, tuple(left_out))


def _some(
    labels: Labels, group: Positions, options: PhotographsOptions, pair: tuple[str, str], k: int
) -> tuple[str, ...]:
    order = generator(options.seed, "measured", *pair, str(k)).permutation(len(group))[: options.per_group]
    return tuple(labels.ids[i] for i in group[order])


def _why_not(
    pair: tuple[str, str], measured: Sequence[Sequence[str]], doses: Sequence[float], split: str
) -> str | None:
    """One sentence when a pair cannot take part."""
    if len(doses) < 2:
        return f"{pair[0]} from {pair[1]}: {len(doses)} dose(s) with enough training images, at least 2 are needed."
    k = int(np.argmin([len(group) for group in measured]))
    if len(measured[k]) < LEAST_GROUP:
        (t, c), count = GROUPS[k], len(measured[k])
        return (
            f"{pair[0]} from {pair[1]}: {count} images of {split!r} have {pair[0]}={t} and {pair[1]}={c}, "
            f"{LEAST_GROUP} are needed to know a group's accuracy."
        )
    return None


def _known(plan: _Plan) -> str:
    """A hash (16 hex digits) of what the labels have led to."""
    parts = repr([(task.one.name, task.train, task.held_out) for task in plan.tasks]) + repr(plan.measured)
    return sha256(parts.encode()).hexdigest()[:16]


def _claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make the folder this benchmark's own, or find that it is; see ``photographs`` for the errors."""
    file = folder / "benchmark.json"
    if file.is_file():
        try:
            earlier = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadInput(f"{file} cannot be read: {error}.") from error
        refuse_other(earlier, identity, folder)
    elif folder.is_dir() and any(folder.iterdir()):
        raise BadInput(f"--out {folder} holds files of something else; give an empty or new folder.")
    else:
        write_json(file, identity)


@torch.no_grad()
def _gaps(
    pair: tuple[str, str], plan: _Plan, images: ImageSource, classifiers: Sequence[Classifier], seed: int
) -> Gaps:
    """Gaps of the pair's classifiers, in the order of the tasks. Images that cannot be read do not count."""
    mine = [
        c for c, task in zip(classifiers, plan.tasks, strict=True) if (task.one.target, task.one.confounder) == pair
    ]
    scores: list[Floats] = []
    with undisturbed(*mine):
        for k, group in enumerate(plan.measured[pair]):
            parts = [
                torch.sigmoid(respond(loaded.images, mine)).double()
                for loaded in in_batches(images.subset(list(group)), batch=_BATCH)
                if len(loaded)
            ]
            if not parts:
                raise BadInput(
                    f"None of the images with {pair[0]}={GROUPS[k][0]} and {pair[1]}={GROUPS[k][1]} can be read."
                )
            scores.append(torch.cat(parts).numpy())
    return gaps(scores, seed=seed, name=" ".join(pair))


def _measured(run: Run, plan: _Plan, found: Mapping[tuple[str, str], Gaps]) -> list[Measured]:
    audited = run.record()["audited"]
    effects = {(r["audited"], r["attribute"]): r for r in run.effects().iter_rows(named=True)}
    apart = {(r["audited"], r["attribute"]): r for r in run.gaps().iter_rows(named=True)}
    cells = {(r["base"], r["downstream"]): r for r in run.matrix().iter_rows(named=True)}
    done = dict.fromkeys(found, 0)
    result = []
    for task, label in zip(plan.tasks, audited, strict=True):
        one, pair = task.one, (task.one.target, task.one.confounder)
        effect, cell = effects[label, one.confounder], cells[one.confounder, label]
        others = [
            abs(r["effect"]) for (a, b), r in effects.items()
            if a == label and b != one.target and np.isfinite(r["effect"])
        ]  # fmt: skip
        known = bool(np.isfinite(effect["effect"]))
        result.append(
            Measured(
                target=one.target, confounder=one.confounder, dose=one.dose, seed=one.seed,
                **{name: effect[name] for name in ("effect", "ci_low", "ci_high", "q", "n")},
                **_group_of(apart[label, one.confounder]),
                incoming=cell["psi"], incoming_low=cell["ci_low"], incoming_high=cell["ci_high"],
                incoming_logit=cell["psi_logit"],
                rank=1 + sum(o > abs(effect["effect"]) for o in others) if known else 0, attributes=len(others),
                **_gap_of(found[pair], done[pair]),
            )
        )  # fmt: skip
        done[pair] += 1
    return result


def _group_of(row: Mapping[str, Any]) -> dict[str, Any]:
    names = {"gap": "group_gap", "ci_low": "group_gap_low", "ci_high": "group_gap_high"}
    return {name: float("nan") if row[column] is None else row[column] for column, name in names.items()}


def _gap_of(found: Gaps, k: int) -> dict[str, Any]:
    (low, high), (prediction_low, prediction_high) = found.interval("worst"), found.interval("prediction")
    return {
        "accuracies": tuple(found.accuracies[:, k].tolist()),
        "gap": float(found.worst[k]), "gap_low": float(low[k]), "gap_high": float(high[k]),
        "gap_error": float(found.worst_drawn[:, k].std(ddof=1)),
        "prediction_gap": float(found.prediction[k]), "prediction_gap_low": float(prediction_low[k]),
        "prediction_gap_high": float(prediction_high[k]),
    }  # fmt: skip


def _repeated(found: Sequence[Gaps]) -> float:
    """Mean rank correlation, over resamples of the images, of the gaps drawn with those measured."""
    measured, drawn = (np.concatenate([getattr(g, n) for g in found], axis=-1) for n in ("worst", "worst_drawn"))
    return float(np.nanmean(spearman(np.broadcast_to(measured, drawn.shape), drawn)))
