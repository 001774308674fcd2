"""The report as Markdown (GitHub flavour), for a pull request or a terminal; images by relative path."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from cfalign._figures import style
from cfalign._figures.svg import by_size, matrix_order
from cfalign._findings import Finding, Sample
from cfalign._results import ALPHA, Cell, Effect, Outcome, StartsAt
from cfalign.report import basis, cautions, image_grid, unnamed, verdict, where, wording
from cfalign.report.answer import answer
from cfalign.report.content import ReportData
from cfalign.report.correlations import disagreements
from cfalign.report.next_steps import next_steps
from cfalign.report.three_matrices import LEAST

_WIDEST = 14
"""Columns up to which the matrix is printed as a matrix; beyond, its largest cells as a list."""
_TOP = 15
_CELLS = 25


def markdown(data: ReportData) -> str:
    """The whole report; the same numbers and sentences as the page, without its figures."""
    parts = [f"# {escape(wording.headline(data))}", f"**{answer(data, code)}**", wording.introduction(data, code)]
    if left_out := cautions.left_out(data, code):
        parts.append(left_out)
    parts += _findings(data)
    parts += _unnamed(data)
    if data.where:
        told = "\n".join(f"- {where.sentence(split, code)}" for split in data.where)
        parts += ["## Where in the image", told, "All regions and intervals: `regions.csv`."]
    if doubts := cautions.cautions(data, code):
        parts += ["**Before you rely on this**", "\n".join(f"- {doubt}" for doubt in doubts)]
    parts += _grids(data)
    for audited, effects in wording.by_head(data):
        parts += [f"## Effects on {code(audited)}", _effects(effects)]
        parts += [f"- {sentence}" for sentence in verdict.joint_sentences(data, audited, code)]
    for audited in verdict.heads_with_responses(data):
        parts += [f"## Responses of {code(audited)}", _responses(verdict.responses(data, audited, most=_TOP))]
    parts += _relations(data)
    parts += _gaps(data)
    parts += _correlation(data)
    parts += ["## Alignment matrix", *_matrix(data)]
    parts += ["## What the numbers rest on", *_basis(data)]
    parts += ["## Controls", _controls(data)]
    parts += ["## Cost, settings, versions", *_facts(data)]
    parts += ["## How to read this", *_guide(data)]
    parts += _next(data)
    return "\n\n".join(parts) + "\n"


def _grids(data: ReportData) -> list[str]:
    """The images of the lowest, middle and highest scores of each audited head."""
    if not data.audited:
        return []
    parts = ["## Images sorted by score", image_grid.absent(data) or image_grid.WORDS]
    for grid in data.sorted_images:
        parts.append(f"{image_grid.sentence(grid, code)}:")
        for name, title in image_grid.ROWS.items():
            row = getattr(grid, name)
            if row:
                pictures = [f"![{title}]({quote(one.file, safe='/')})" for one in row]
                scores = [style.number(one.score) for one in row]
                parts.append(_table([title] + [" "] * (len(row) - 1), [pictures, scores], numbers_from=len(row)))
    return parts


def _correlation(data: ReportData) -> list[str]:
    """Where alignment and correlation disagree."""
    if len(data.correlations.names) < LEAST:
        return []
    found = disagreements(data.correlations, data.conclusions.cells, data.apart, code)
    return ["## Alignment beside correlation", "\n".join(f"- {sentence}" for sentence in found)]


def _next(data: ReportData) -> list[str]:
    steps = [f"{step.why}\n\n```sh\n{step.command}\n```" for step in next_steps(data)]
    return ["## What to do next", *steps]


def code(name: str) -> str:
    """A name as a code span that survives whatever is in it, also inside a table."""
    flat = re.sub(r"\s+", " ", name).replace("|", "\\|") or " "
    runs = re.findall(r"`+", flat)
    fence = "`" * (max(map(len, runs), default=0) + 1)
    pad = " " if runs else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def escape(words: str) -> str:
    """Text whose marks are shown, not obeyed."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", re.sub(r"\s+", " ", words))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1) -> str:
    rule = ["---" if i < numbers_from else "---:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def _findings(data: ReportData) -> list[str]:
    if not data.conclusions.findings:
        return ["## Findings", verdict.no_finding(data)]
    parts = [
        "## Findings",
        "\n".join(f"{rank}. {told}" for rank, told in enumerate(verdict.sentences(data, code), start=1)),
    ]
    for finding in data.conclusions.findings:
        strips = [_strip(data, s) for s in finding.samples[:1] if s.files]
        if strips:
            parts += [f"Finding {finding.rank}: {_readings(finding)}.", *strips]
    return parts


def _unnamed(data: ReportData) -> list[str]:
    if not data.unnamed:
        return []
    parts = ["## Unnamed features: what is this?"]
    for feature in data.unnamed:
        if not feature.found:
            continue
        parts.append(f"{unnamed.headline(feature, code)}. {unnamed.explanation(feature, code)}")
        for name, shown in (("high end", feature.highest), ("low end", feature.lowest)):
            files = [s.files["original"] for s in shown if "original" in s.files]
            cells = [f"![{name}]({quote(file, safe='/')})" for file in files]
            parts.append(_table([name] + [" "] * (len(cells) - 1), [cells], numbers_from=len(cells)) if cells else "")
        parts.append(f"Give it a name: {code(unnamed.naming(data.run_dir, feature))}")
    rejected = unnamed.rejected(data.unnamed, code)
    if rejected:
        parts += ["Sought, and not counted:", "\n".join(f"- {sentence}" for sentence in rejected)]
    return [part for part in parts if part]


def _readings(finding: Finding) -> str:
    null = f" (random steps {style.signed(finding.null)})" if math.isfinite(finding.null) else ""
    return f"incoming {style.signed(finding.incoming)}{null}, outgoing {style.signed(finding.outgoing)}"


def _strip(data: ReportData, sample: Sample) -> str:
    kinds = [k for k in data.start.pictures if k in sample.files]
    cells = [f"![{k}]({quote(sample.files[k], safe='/')})" for k in kinds]
    scores = (sample.base_before, sample.base_after, sample.downstream_before, sample.downstream_after)
    words = wording.sample_sentence(sample.base, sample.downstream, scores, sample.psi, code)
    believed = wording.believed(data, sample.base, code)
    told = f"Image {code(sample.image_id)}: {words}." + (f" {believed}" if believed else "")
    return _table(kinds, [cells], numbers_from=len(kinds)) + f"\n\n{told}"


def _effects(effects: Sequence[Effect]) -> str:
    ordered = by_size(effects)
    rows = [
        (
            code(e.attribute) + (" (own)" if e.own else ""),
            f"**{style.signed(e.effect)}**" if e.clear else style.signed(e.effect),
            style.interval(e.ci_low, e.ci_high),
            style.signed(e.incoming),
            style.signed(e.outgoing),
            str(e.n),
            style.bare(e.q),
        )
        for e in ordered[:_TOP]
    ]
    table = _table(("attribute", "effect", "95 % interval", "incoming", "outgoing", "n", "q"), rows)
    rest = len(ordered) - _TOP
    note = f"\n\n{rest} smaller ones are in `effects.csv`." if rest > 0 else ""
    return table + note + f"\n\nBold: q < {ALPHA} and an interval that excludes zero."


def _responses(responses: Sequence[verdict.Response]) -> str:
    rows = [
        (
            code(r.attribute),
            f"**{r.incoming}**" if r.clear else r.incoming,
            r.incoming_interval,
            r.outgoing,
            r.outgoing_interval,
            r.n,
            r.q,
        )
        for r in responses
    ]
    header = ("attribute", "incoming ψ", "95 % interval", "outgoing ψ", "95 % interval", "n", "q")
    return _table(header, rows) + f"\n\nBold: q < {ALPHA} and an interval that excludes zero."


def _matrix(data: ReportData) -> list[str]:
    rows, columns = matrix_order(data.conclusions.cells, apart=data.apart)
    if not rows:
        return ["The matrix is empty: no base had a counterfactual that counts."]
    at = {(c.base, c.downstream): c for c in data.conclusions.cells}
    first = "Relative change ψ (Eq. 3), mean over images; rows: base, columns: downstream."
    if len(columns) <= _WIDEST:
        body = [(code(b), *(_cell(at.get((b, d))) for d in columns)) for b in rows]
        return [first, _table(("base", *map(code, columns)), body)]
    ranked = sorted(
        (c for c in data.conclusions.cells if c.base != c.downstream and math.isfinite(c.psi)),
        key=lambda c: (-abs(c.psi), c.base, c.downstream),
    )[:_CELLS]
    body = [
        (
            code(c.base),
            code(c.downstream),
            style.signed(c.psi),
            style.interval(c.ci_low, c.ci_high),
            str(c.n),
            style.bare(c.q),
        )
        for c in ranked
    ]
    return [
        f"{first} The {len(ranked)} largest cells of {len(data.conclusions.cells)}, the rest in `matrix.csv`:",
        _table(("base", "downstream", "ψ", "95 % interval", "n", "q"), body, numbers_from=2),
    ]


def _cell(cell: Cell | None) -> str:
    return style.DASH if cell is None else style.number(cell.psi)


def _basis(data: ReportData) -> list[str]:
    kinds = [o.value for o in Outcome if any(o.value in row for row in data.counts.outcomes.values())]
    rows = [
        (
            code(b),
            *(str(data.counts.outcomes.get(b, {}).get(k, 0)) for k in kinds),
            basis.used(data.conclusions.cells, b),
            escape(basis.exclusion_reasons(data.counts.exclusions.get(b, {}))) or "none",
        )
        for b in data.shown_bases
    ]
    names = [k.replace("_", " ") for k in kinds]
    parts = [basis.basis(data), _table(("base", *names, "count in the matrix", "excluded there"), rows)]
    parts.append("\n".join(f"- *{k.replace('_', ' ')}*: {basis.MEANINGS[k]}" for k in kinds))
    if data.counts.skipped:
        parts.append("Skipped image files:")
        parts.append("\n".join(f"- {code(s.image_id)}: {escape(s.reason)}" for s in data.counts.skipped))
    return parts


def _controls(data: ReportData) -> str:
    drifts = data.start is StartsAt.RECONSTRUCTION
    rows = [
        (
            code(c.head),
            *(style.number(v, digits=3) for v in (*([c.drift] if drifts else []), c.random, c.random_high, c.response)),
            str(c.n),
        )
        for c in data.controls
    ]
    words = (
        f"Mean absolute change of each head's score: {'by the autoencoder alone (drift), ' if drifts else ''}by a "
        "random latent step as long as the counterfactual's, and by the counterfactuals of other heads."
    )
    words += "" if drifts else f" {wording.drift_words(data)}"
    header = ("head", *(["drift"] if drifts else []), "random step", "its 95th percentile", "counterfactuals", "n")
    text = f"{words}\n\n{_table(header, rows)}"
    if not data.followed:
        return text
    judged = [
        (code(attribute), style.number(f.judge_share), style.interval(f.ci_low, f.ci_high), str(f.n))
        for attribute, f in data.followed
    ]
    table = _table(("attribute", "followed", "95 % interval", "counterfactuals"), judged)
    return f"{text}\n\n{wording.followed_words()}\n\n{table}"


def _relations(data: ReportData) -> list[str]:
    parts = []
    for kind, title in wording.RELATIONS.items():
        rows = [wording.relation_sentence(r, code) for r in data.conclusions.relations if r.kind is kind]
        if rows:
            parts += [f"### {title}", "\n".join(f"- {row}" for row in rows)]
    return ["## Correlation and use", *parts] if parts else []


def _gaps(data: ReportData) -> list[str]:
    gaps = wording.remarkable_gaps(data)
    if not gaps:
        return []
    rows = "\n".join(f"- {wording.gap_sentence(g, code)}" for g in gaps[:_TOP])
    rest = f"\n\n{len(gaps) - _TOP} smaller ones are in `gaps.csv`." if len(gaps) > _TOP else ""
    return ["## Groups that get other scores, and through what", wording.gap_words(), rows + rest]


def _facts(data: ReportData) -> list[str]:
    rows = [(escape(wording.label(k)), wording.quantity(k, v)) for k, v in data.counts.cost.items()]
    rows += [(f"time: {escape(wording.label(k))}", f"{style.number(v, digits=1)} s") for k, v in data.timing.items()]
    rows += [(f"{escape(m.role)} {code(m.name)}", code(m.hash) if m.hash else style.DASH) for m in data.models]
    rows += [("images", f"{data.counts.images} from {code(data.source)}")]
    if data.images_hash:
        rows += [("hash of the images", code(data.images_hash))]
    rows += [("seed", str(data.seed))]
    rows += [(code(k), code(v)) for k, v in wording.flat(data.settings)]
    rows += [(k, v) for k, v in data.versions.items()]
    return [_table(("what", "value"), rows)]


def _guide(data: ReportData) -> list[str]:
    x0 = "an image" if data.start is StartsAt.IMAGE else "the reconstruction of an image"
    return [
        f"ψ = (f_downstream(x_λ) − f_downstream(x0)) / (f_base(x_λ) − f_base(x0)), where x0 is {x0} and x_λ its "
        "counterfactual. ψ = 1: moves as much as the base; 0: does not care; below 0: moves "
        "the other way.",
        "\n".join(f"- *{name}*: {meaning}" for name, meaning in wording.READINGS.items()),
        "\n".join(f"- {limit}" for limit in wording.LIMITS),
    ]
