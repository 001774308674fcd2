"""What a report is made of: a complete run, gathered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cfalign._errors import BadInput
from cfalign._figures.svg import Control, Walk
from cfalign._findings import Finding, SortedImages, UnnamedFeature
from cfalign._results import Conclusions, Counts, Followed, StartsAt
from cfalign._runs.codec import built
from cfalign._runs.run import SCHEMA, Run, residual_of
from cfalign._runs.sorted_images import read_sorted
from cfalign.report.correlations import Correlations, correlations_of
from cfalign.report.evidence import Region, behind, controls, regions, walks
from cfalign.report.page_images import Pixels, read_small
from cfalign.report.shown import shown_heads
from cfalign.report.unnamed import paths_of
from cfalign.report.where import Split, pictures_of, splits


@dataclass(frozen=True)
class Model:
    """One model that took part."""

    name: str
    role: str
    """``autoencoder``, ``audited``, ``reference`` or ``judge``."""
    targets: tuple[str, ...]
    hash: str


@dataclass(frozen=True)
class ReportData:
    """Everything that the three renderings need; nothing is read after this."""

    run_dir: Path
    versions: Mapping[str, str]
    """``cfalign`` and ``torch``."""
    seed: int | None
    settings: Mapping[str, object]
    """As the audit recorded them, possibly nested."""
    models: tuple[Model, ...]
    source: str
    images_hash: str
    timing: Mapping[str, float]
    """Seconds per stage."""
    heads: tuple[str, ...]
    shown: frozenset[str]
    """The heads in its matrix, plots and lists: all, or of very many those that matter most."""
    bases: tuple[str, ...]
    audited: tuple[str, ...]
    attributes: tuple[str, ...]
    conclusions: Conclusions
    """Of the cells, those between shown heads."""
    controls: tuple[Control, ...]
    """Per shown head, in the order of ``heads``."""
    walks: Mapping[tuple[str, str], Walk]
    """Per (image_id, base) behind a finding: scores along the ray, or of its two ends."""
    pictures: Mapping[str, Pixels]
    """Per path relative to the run, [height, width, 3], at most 256 px a side; unreadable and absent files are not in
    it.
    """
    methods: Mapping[str, str] = field(default_factory=dict)
    """Why each base has the method that it has, in sentences; empty where all have the one of the settings."""
    regions: Mapping[tuple[str, str], Region] = field(default_factory=dict)
    """The completed region of (image_id, base) behind a finding, where it was made by completion."""
    unnamed: tuple[UnnamedFeature, ...] = ()
    """Features that no reference head names, found or not; empty where none were sought."""
    where: tuple[Split, ...] = ()
    """In which regions effects lie; empty where none were named."""
    image_warnings: tuple[str, ...] = ()
    """What was odd about the images when they were opened, in sentences."""
    sorted_images: tuple[SortedImages, ...] = ()
    """Of audited heads, some images by their score; empty where the run keeps none."""
    correlations: Correlations = field(default_factory=Correlations)
    """Of the heads that matter most."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """By which names a command was given its images and models, and that command; empty where none was recorded."""

    def __repr__(self) -> str:
        found = len(self.conclusions.findings)
        return f"ReportData({str(self.run_dir)!r}, {len(self.audited)} audited heads, {found} findings)"

    @property
    def residual(self) -> str:
        """What became of the part of an image that the autoencoder cannot draw; see ``SearchOptions.residual``."""
        return residual_of(self.settings)

    @property
    def start(self) -> StartsAt:
        """What x0 is, where walks start and from which every change is measured."""
        return StartsAt.of(self.residual)

    @property
    def counts(self) -> Counts:
        """What was looked at, left out and spent."""
        return self.conclusions.counts

    @property
    def shown_bases(self) -> tuple[str, ...]:
        """The bases among the shown heads, in their order."""
        return tuple(base for base in self.bases if base in self.shown)

    @property
    def shown_audited(self) -> tuple[str, ...]:
        """The audited heads among the shown ones, in their order."""
        return tuple(head for head in self.audited if head in self.shown)

    @property
    def ratios(self) -> dict[tuple[str, str], float]:
        """(base, downstream) → ΣΔdownstream / ΣΔbase."""
        return {(c.base, c.downstream): c.ratio_of_means for c in self.conclusions.cells}

    @property
    def followed(self) -> list[tuple[str, Followed]]:
        """How far the judge follows the counterfactuals of each attribute, least first; empty without a judge."""
        rows = self.counts.controls.items()
        return sorted(rows, key=lambda row: (not math.isfinite(row[1].judge_share), row[1].judge_share))

    @property
    def apart(self) -> tuple[str, ...]:
        """The heads that stand apart in the matrix: the audited ones, unless all are audited."""
        return self.shown_audited if len(self.audited) < len(self.heads) else ()


def load(run: Run | str | Path) -> ReportData:
    """Gather what a report needs of a run: an object, or the path of its directory.

    Raises:
        RunMismatch: it was written with another schema version.
        BadInput: it is not a run directory, the run is not complete, or a file in it is missing or damaged.
    """
    run = run if isinstance(run, Run) else Run(run)
    record = run.finished()
    findings = run.found().findings
    try:
        return _gathered(run, record, findings)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        what = f"key {error}" if isinstance(error, KeyError) else str(error)
        raise BadInput(
            f"{run.path / 'run.json'} lacks something that schema {SCHEMA} promises, or has it in another form "
            f"({what}): it was changed or damaged; run the audit again."
        ) from error


def _gathered(run: Run, record: Mapping[str, Any], findings: Sequence[Finding]) -> ReportData:
    heads, bases, audited, attributes = (
        built(tuple[str, ...], record[name], name) for name in ("heads", "bases", "audited", "attributes")
    )
    shown = shown_heads(run.matrix(), heads=heads, attributes=attributes, findings=findings)
    conclusions = run.conclusions(among=shown)
    curves = run.table("curves") if run.shards("curves") else None
    pairs = {(s.image_id, s.base) for f in findings for s in f.samples}
    responses = behind(run, pairs)
    unnamed = run.unnamed()
    where = splits(run.regions())
    ordered = tuple(one for one in read_sorted(run.path) if one.audited in audited)
    first = [*(f.audited for f in findings), *audited]
    return ReportData(
        run_dir=run.path,
        versions={"cfalign": str(record["cfalign"]), "torch": str(record["torch"])},
        seed=record["seed"],
        settings=record["settings"],
        models=_models(record["models"]),
        source=_source(record["data"]),
        images_hash=str(record["data"].get("hash", "")),
        timing=_seconds(record),
        heads=heads,
        shown=frozenset(shown),
        bases=bases,
        audited=audited,
        attributes=attributes,
        conclusions=conclusions,
        controls=controls(run, heads=shown, drift=conclusions.counts.drift),
        walks=walks(curves, responses, pairs=pairs, heads=frozenset(shown)),
        pictures={**_pictures(run, conclusions.findings, unnamed, ordered), **pictures_of(run.path, where)},
        unnamed=unnamed,
        where=tuple(where),
        methods={str(label): str(one["why"]) for label, one in (record.get("methods") or {}).items()},
        regions=regions(responses, pairs=pairs),
        image_warnings=built(tuple[str, ...], (record.get("inventory") or {}).get("warnings", [])),
        sorted_images=ordered,
        correlations=correlations_of(run, conclusions.cells, shown=shown, audited=list(dict.fromkeys(first))),
        given=record.get("given") or {},
    )


def _models(models: Mapping[str, Any]) -> tuple[Model, ...]:
    """The autoencoder first; an audit of a bank has none."""
    classifiers: tuple[Model, ...] = built(tuple[Model, ...], models["classifiers"], "models.classifiers")
    if "autoencoder" not in models:
        return classifiers
    autoencoder = models["autoencoder"]
    return (Model(autoencoder["name"], "autoencoder", (), autoencoder["hash"]), *classifiers)


def _seconds(record: Mapping[str, Any]) -> dict[str, float]:
    """By stage where the run says, with what interrupted sessions before it took."""
    timing = record["timing"]
    stages = (record.get("spent") or {}).get("stages")
    before = {"seconds_before": timing["seconds_before"]} if timing.get("seconds_before") else {}
    return {str(name): float(value) for name, value in ({**stages, **before} if stages else timing).items()}


def _source(data: Mapping[str, Any]) -> str:
    return str(data["source"]) if "source" in data else f"bank {data['bank']}"


def _pictures(
    run: Run, findings: Sequence[Finding], unnamed: Sequence[UnnamedFeature], ordered: Sequence[SortedImages]
) -> dict[str, Pixels]:
    """Only files inside the run directory: a path in its JSON files cannot pull anything else into a page that is
    passed on.
    """
    root, kinds = run.path.resolve(), run.start.pictures
    names = [s.files[kind] for f in findings for s in f.samples for kind in kinds if kind in s.files]
    names += [path for feature in unnamed if feature.found for path in paths_of(feature)]
    names += [one.file for grid in ordered for one in (*grid.lowest, *grid.middle, *grid.highest)]
    inside = [name for name in dict.fromkeys(names) if (root / name).resolve().is_relative_to(root)]
    read = {name: read_small(root / name) for name in inside}
    return {name: pixels for name, pixels in read.items() if pixels is not None}
