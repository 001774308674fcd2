"""The run of the benchmark: count first, each contestant in a process of its own; then time all of them in rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfalign._analysis.statistics import generator
from cfalign._errors import BadInput
from cfalign._results import Floats
from cfalign._runs.codec import built
from cfalign._runs.progress import Progress, ShowProgress, told_to, with_bars
from cfalign.benchmarks.ledger import fingerprints, measured_once, workplace
from cfalign.benchmarks.speed import large
from cfalign.benchmarks.speed.agreement import Agreement, agreement
from cfalign.benchmarks.speed.apart import AUTHORS, BARE, CONTESTANTS, Counted, Make, counted_apart
from cfalign.benchmarks.speed.authors import AuthorsPackage, authors_package, by_authors
from cfalign.benchmarks.speed.contestants import Answers, Strategy, bare, default_audit
from cfalign.benchmarks.speed.floor import PassTimes, best_batch, pass_times
from cfalign.benchmarks.speed.options import SpeedOptions
from cfalign.benchmarks.speed.result import EmbeddedPart, LargePart, Round, Speed
from cfalign.benchmarks.speed.setting import Pair, Setting, embedded_setting

STRATEGIES: tuple[Strategy, ...] = ("schedule", "refined")
WARM = 8
"""Images and pairs of the calls before the first round."""
NOT_ASKED = "--large measures them, which takes minutes."
LARGE: tuple[tuple[str, Make], ...] = ((BARE, large.one_image), (BARE, large.four_images), (AUTHORS, large.one_image))
"""Who is counted on the large networks."""


@with_bars
def speed(
    *, options: SpeedOptions | None = None, out: str | Path | None = None, progress: ShowProgress = None
) -> Speed:
    """What a counterfactual costs: by ``latent_shift``, by a default ``audit``, by the authors' package, at the least.

    Args:
        options: numbers of images and rounds, bases, seed, and whether the large networks are measured too.
        out: folder that keeps the two finished parts, which a later call reads; a temporary one by default.
        progress: True shows bars; a function is called with (stage, done, total).

    Where the authors' package or the extra ``diffusers`` is not installed, that part is left out and the result says
    why. Raises BadInput for an unknown base, for faces of which no base predicts any positive, and if ``out`` is a
    file; RunMismatch if it holds measurements of other options.
    """
    progress = told_to(progress)
    options = options or SpeedOptions()
    setting = embedded_setting(options)
    known: dict[str, Any] = {**asdict(options), **fingerprints({"classifier": setting.classifier})}
    known |= {"threads": torch.get_num_threads()}
    with workplace(out) as folder:
        small = {name: value for name, value in known.items() if name != "large"}
        part = _kept(folder / "embedded.json", small, EmbeddedPart, lambda: _embedded(setting, options, progress))
        found, skipped = None, NOT_ASKED
        if options.large:
            try:
                found = _kept(folder / "large.json", known, LargePart, lambda: _large(options, progress))
                skipped = ""
            except BadInput as error:
                skipped = str(error)
    return Speed(part, found, skipped, options.seed)


def _kept(file: Path, settings: dict[str, Any], kind: Any, measure: Callable[[], Any]) -> Any:
    return built(kind, measured_once(file, settings, "measured", measure))


def _embedded(setting: Setting, options: SpeedOptions, progress: Progress) -> EmbeddedPart:
    pairs = setting.pairs()
    if not pairs:
        raise BadInput(f"No base predicts one of {options.images} faces positive: take more faces (--images) or bases.")
    package, skipped = _package()
    names = [name for name in CONTESTANTS if package is not None or name != AUTHORS]
    counted = []
    for number, name in enumerate(names):
        progress("counts", number, len(names))
        counted.append(counted_apart(name, embedded_setting, options))
    progress("counts", len(names), len(names))
    rounds, audited, theirs = _rounds(setting, pairs, package, options, progress)
    return EmbeddedPart(
        images=len(setting.images),
        bases=len(setting.bases),
        heads=len(setting.classifier.targets),
        threads=torch.get_num_threads(),
        pairs=len(pairs),
        audited=audited,
        rounds=rounds,
        counted=tuple(counted),
        agreements=_agreements(setting, theirs),
        skipped=skipped,
    )


def _package() -> tuple[AuthorsPackage | None, str]:
    try:
        return authors_package(), ""
    except BadInput as error:
        return None, str(error)


Theirs = Sequence[tuple[Answers, Floats]]
"""What the authors' package answered, round by round, with its own ψ."""


def _rounds(
    setting: Setting,
    pairs: Sequence[Pair],
    package: AuthorsPackage | None,
    options: SpeedOptions,
    progress: Progress,
) -> tuple[tuple[Round, ...], int, Theirs]:
    """All rounds, the counterfactuals of an audit, and the answers of the authors' package."""
    _warm(setting, pairs)
    batch = best_batch(setting)
    parts = _shares(pairs, options)
    rounds: list[Round] = []
    theirs: list[tuple[Answers, Floats]] = []
    audited = 0
    for number, part in enumerate(parts):
        progress("rounds", number, len(parts))
        floor = pass_times(setting, batch=batch)
        _, of_bare = _timed(lambda: bare(setting, pairs))
        audited, of_audit = _timed(lambda: default_audit(setting))
        of_authors = float("nan")
        if package is not None and part:
            found, of_authors = _timed(lambda part=part: by_authors(setting, part, package))  # type: ignore[misc]
            theirs.append(found)
        rounds.append(Round(floor, of_bare / len(pairs), of_audit / max(1, audited), of_authors / max(1, len(part))))
    progress("rounds", len(parts), len(parts))
    return tuple(rounds), audited, theirs


def _warm(setting: Setting, pairs: Sequence[Pair]) -> None:
    """A first call is slower: it imports, loads the judge, and finds out how outputs are to be read."""
    few = replace(setting, images=setting.images[:WARM])
    default_audit(few)
    bare(setting, pairs[:WARM])


def _shares(pairs: Sequence[Pair], options: SpeedOptions) -> list[list[Pair]]:
    """The pairs of the authors' package in every round: others in each, drawn from all bases alike."""
    order = generator(options.seed, "speed").permutation(len(pairs))
    shares = np.array_split(order, options.rounds)
    return [[pairs[i] for i in share[: options.authors_pairs].tolist()] for share in shares]


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def _agreements(setting: Setting, theirs: Theirs) -> tuple[Agreement, ...]:
    if not theirs:
        return ()
    pairs = tuple(pair for answers, _ in theirs for pair in answers.pairs)
    own, before, after = (np.concatenate([getattr(a, name) for a, _ in theirs]) for name in ("own", "before", "after"))
    psi = np.concatenate([one for _, one in theirs])
    every = Answers(pairs, own, before, after)
    return tuple(
        agreement(every, psi, bare(setting, pairs, strategy=strategy), strategy=strategy) for strategy in STRATEGIES
    )


def _large(options: SpeedOptions, progress: Progress) -> LargePart:
    makers: tuple[Make, ...] = (large.one_image, large.four_images)
    able = [(name, make) for name, make in LARGE if name != AUTHORS or _package()[0] is not None]
    total = len(makers) + len(able)
    times: list[PassTimes] = []
    counted: list[Counted] = []
    for make in makers:
        progress("large networks", len(times), total)
        setting = make(options)
        times.append(pass_times(setting, batch=len(setting.images), repeats=1))
    for name, make in able:
        progress("large networks", len(times) + len(counted), total)
        counted.append(counted_apart(name, make, options))
    progress("large networks", total, total)
    return LargePart(torch.get_num_threads(), tuple(times), tuple(counted))
