"""A bank: counterfactuals of reference heads, kept as images, so that any further classifier costs forward passes only.

They depend on the reference heads, the autoencoder and the images, never on the classifier that is audited, which may
be any callable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cfalign._audit.chunk import pixels
from cfalign._audit.options import AuditOptions, differing_from_bank
from cfalign._audit.pictures import Strip
from cfalign._audit.plan import Plan
from cfalign._audit.preparation import prepared
from cfalign._audit.reference import reference_of
from cfalign._audit.subject import refuse_many
from cfalign._audit.sweep import sweep
from cfalign._audit.witness import Watched
from cfalign._counterfactuals.origins import settled
from cfalign._errors import BadInput
from cfalign._heads.composition import head
from cfalign._heads.panel import panel
from cfalign._heads.reference import Reference, judged
from cfalign._models.device import on_device
from cfalign._models.guard import undisturbed
from cfalign._runs.codec import read_parquet
from cfalign._runs.columns import Column
from cfalign._runs.probes import REAL, first_images
from cfalign._runs.progress import ShowProgress, told_to, with_bars
from cfalign._runs.record import opened, record
from cfalign._runs.run import Run
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import open_images
from cfalign.engines import current

COLUMNS = {
    Column.AFTER: "counterfactual.images",
    Column.NULL: "off.controls",
    Column.OFF: "off.images",
    Column.OFF_NULL: "off.controls",
}
"""Which of a bank's tensors the columns of ``responses`` are scored on."""
OF_A_BANK = "name the heads that a bank is made of by --attributes (attributes=)"


@dataclass(frozen=True)
class Bank:
    """A bank's directory."""

    run: Run

    @property
    def heads(self) -> tuple[str, ...]:
        """The reference heads whose responses it holds."""
        return tuple(self.run.record()["heads"])

    @property
    def attributes(self) -> tuple[str, ...]:
        """The reference heads whose counterfactuals it holds."""
        return tuple(self.run.record()["bases"])

    @property
    def judges(self) -> dict[str, str]:
        """Columns of the judge by attribute; empty without one."""
        return dict(self.run.record()["judges"])

    @property
    def watched(self) -> list[Watched]:
        """Its attributes as witnesses of what is audited."""
        role = {m["role"]: m["hash"] for m in self.run.record()["models"]["classifiers"]}
        return [Watched(a, role["reference"], role["judge"] if a in self.judges else None) for a in self.attributes]

    @property
    def start(self) -> str:
        """Which of its tensors x0 are, where the walks start: ``originals`` or ``reconstructions``."""
        return f"{self.run.start.picture}s"

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that it holds, each kind of image once."""
        return tuple(dict.fromkeys(("originals", self.start, *COLUMNS.values())))

    def first_images(self) -> Tensor:
        """Up to four of its images, [n, c, h, w] in [0, 1]."""
        for shard in self.run.shards("tensors"):
            stored = self.run.first_rows(shard, "originals", REAL)
            if len(stored):
                return pixels(stored)
        return torch.zeros(0, 3, 1, 1)

    def inventory(self) -> dict[str, Any]:
        """What was found where its images came from, as a part of a record; empty where nothing is known."""
        content = self.run.record()
        return {name: content[name] for name in ("inventory",) if name in content}

    def groups(self) -> dict[str, Any]:
        """What is known of the groups of its images, as a part of a record's ``data``; empty where there are none."""
        data = self.run.record()["data"]
        return {name: data[name] for name in ("groups",) if name in data}

    def made_from(self) -> dict[str, Any]:
        """Its models and images, for the record of an audit of it."""
        content = self.run.record()
        return {name: content[name] for name in ("models", "data")}

    def identity(self) -> str:
        """A hash (16 hex digits) of what the bank was made from."""
        content = self.run.record()
        parts = repr([content[key] for key in ("settings", "models", "data")])
        return sha256(parts.encode()).hexdigest()[:16]


@with_bars
def bank(
    images: Any,
    reference: Classifier | Reference,
    *,
    autoencoder: Autoencoder,
    out: str | Path,
    attributes: Sequence[str] | None = None,
    options: AuditOptions | None = None,
    progress: ShowProgress = None,
) -> Bank:
    """Make (or resume) a bank of counterfactuals of the reference heads.

    ``images``: as for ``audit``: a folder, a data set, a torch data set or loader, a tensor [n, c, h, w] in [0, 1], or
    an image source. ``attributes``: the heads that get counterfactuals, all by default. The work runs in this process,
    or where ``engines.using`` says. Images are kept in 8 bits, three per counterfactual.
    """
    progress = told_to(progress)
    options = options or AuditOptions()
    source = open_images(images, size=getattr(autoencoder, "size", None))
    known = reference_of(reference)
    reference, judge = known.classifier, known.judge
    heads = [head(reference, target) for target in reference.targets]
    bases = tuple(head(reference, target).name for target in dict.fromkeys(attributes or reference.targets))
    if not (reference.differentiable or options.without_gradients):
        raise BadInput(
            f"Classifier {reference.name!r} is a black box: no gradient flows through it, so a bank cannot be made of "
            "its heads; give a differentiable reference."
        )
    refuse_many(bases, instead=OF_A_BANK)
    table, judges = judged(panel(heads, []), bases, judge)
    options = replace(options, search=settled(options.search, autoencoder))
    plan = Plan(source, table, bases, bases, autoencoder, options, keep_images=True)
    start = record(
        settings={"kind": "bank", **plan.settings(), "judges": judges},
        classifiers=[(reference, "reference"), *([(judge, "judge")] if judge else [])],
        autoencoder=autoencoder,
        source=source,
        images=first_images(source),
        batch=options.batch,
    )
    models = (autoencoder, *table.classifiers)
    with on_device(options.device), opened(out, start) as (run, finish), undisturbed(*models):
        plan, chosen = prepared(plan, run, judges, progress=progress)
        engine = current()
        sweep(plan, run, engine=engine, progress=progress)
        if not engine.part.whole:
            return Bank(run)
        finish({"heads": [h.name for h in heads], "bases": list(bases), "judges": judges, **chosen})
    return Bank(run)


def load_bank(path: str | Path) -> Bank:
    """A finished bank; BadInput when the folder is none or the bank is not finished."""
    run = Run(path)
    content = run.record()
    if content["settings"].get("kind") != "bank":
        raise BadInput(f"{path} is an audit's directory, not a bank's; make one with `cfalign bank`.")
    if content["status"] != "complete":
        raise BadInput(f"The bank {path} is not finished; give its `cfalign bank` command again to resume it.")
    return Bank(run)


def decided_by_bank(made: Mapping[str, Any], options: AuditOptions) -> AuditOptions:
    """The options of an audit with those that the bank has decided; ``made``: the settings of the bank.

    Raises BadInput for an option that differs from the bank's, because it would have no effect.
    """
    if idle := differing_from_bank(options, made):
        raise BadInput(
            f"{', '.join(idle)}: no effect on an audit of a bank, whose counterfactuals are made already: expected the "
            "bank's own value or none; leave it out, or make another bank."
        )
    search = replace(options.search, eligible=made["search"]["eligible"])
    return replace(options, both_ways=made["both_ways"], search=search)


def kept_strips(
    bank: Bank, pairs: Sequence[tuple[str, str]], run: Run, *, labels: Sequence[str]
) -> dict[tuple[str, str], Strip]:
    """Strips of (image id, base) pairs from the images that the bank keeps; the ray has its two ends only."""
    wanted, strips = set(pairs), {}
    for shard in run.shards("responses"):
        rows = read_parquet(shard).with_row_index("row")
        hits = [r for r in rows.iter_rows(named=True) if (r["image_id"], r["base"]) in wanted]
        if not hits:
            continue
        tensors = bank.run.tensors(bank.run.path / "tensors" / f"{shard.stem}.safetensors")
        scores = read_parquet(run.path / "scores" / shard.name).filter(pl.col("skipped").is_null())
        place = {image_id: i for i, image_id in enumerate(scores["image_id"].to_list())}
        for row in hits:
            seen = {name: tensors[name][place[row["image_id"]]] for name in ("originals", bank.start)}
            walked = tensors["counterfactual.images"][row["row"]]
            strips[row["image_id"], row["base"]] = _strip(seen, walked, row, labels)
    return {pair: strips[pair] for pair in pairs if pair in strips}


def seen_in_bank(bank: Bank, ids: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    """Of some images those that the bank keeps, with their pixels [c, h, w] in [0, 1]."""
    wanted = set(ids)
    for shard in bank.run.shards("scores"):
        scores = read_parquet(shard, ["image_id", "skipped"]).filter(pl.col("skipped").is_null())
        hits = [(i, name) for i, name in enumerate(scores["image_id"].to_list()) if name in wanted]
        file = bank.run.path / "tensors" / f"{shard.stem}.safetensors"
        if hits and file.is_file():
            originals = bank.run.tensors(file)["originals"]
            yield from ((name, pixels(originals[i])) for i, name in hits)


def _strip(seen: Mapping[str, Tensor], walked: Tensor, row: Mapping[str, Any], labels: Sequence[str]) -> Strip:
    ends = [[row[kind.of(label)] for label in labels] for kind in (Column.BEFORE, Column.AFTER)]
    return Strip(
        original=pixels(seen["originals"]),
        reconstruction=pixels(seen["reconstructions"]) if "reconstructions" in seen else None,
        counterfactual=pixels(walked),
        scores=np.array(ends, dtype=np.float64),
        lambdas=np.array([0.0, row["lambda"]]),
    )
