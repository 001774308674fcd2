"""One page about the audited model, to stand beside it: a fragment of Markdown for a model card or a pull request."""

from __future__ import annotations

import shlex

from cfalign._findings import Witness
from cfalign.report import basis, unnamed, verdict, wording
from cfalign.report.answer import answer
from cfalign.report.content import Model, ReportData
from cfalign.report.markdown_text import code, escape
from cfalign.report.words import list_of, plural

_FINDINGS = 10


def model_card(data: ReportData) -> str:
    """The card: model, data, method, findings with their intervals, what was not measured, limits, how to repeat it."""
    audited = [m for m in data.models if m.role == "audited"]
    parts = [
        "## Which features it uses: counterfactual alignment audit",
        f"**{answer(data, code)}**",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {told} |" for name, told in _facts(data, audited))]),
        "### Method",
        _method(data),
        "### Findings",
        _findings(data),
    ]
    if data.unnamed:
        parts += ["### Features without a name", _unnamed(data)]
    parts += ["### What was not measured", "\n".join(f"- {sentence}" for sentence in _not_measured(data))]
    parts += ["### Limits", "\n".join(f"- {limit}" for limit in wording.LIMITS)]
    parts += ["### Repeat it", _repeat(data)]
    return "\n\n".join(parts) + "\n"


def _facts(data: ReportData, audited: list[Model]) -> list[tuple[str, str]]:
    """Name and content of each row."""

    def named(model: Model) -> str:
        return code(model.name) + (f" (hash {code(model.hash)})" if model.hash else "")

    rows = [("audited", "; ".join(map(named, audited)) or "none")]
    rows += [("its heads", list_of(data.audited, code, most=12) or "none")]
    for role in ("reference", "judge", "autoencoder"):
        some = [named(model) for model in data.models if model.role == role]
        rows += [(role, "; ".join(some))] if some else []
    hashed = f", hash {code(data.images_hash)}" if data.images_hash else ""
    rows += [("data", f"{plural(data.counts.images, 'image')} from {code(data.source)}{hashed}")]
    rows += [("attributes", f"{len(data.attributes)}: {list_of(data.attributes, code, most=12)}")]
    rows += [("versions", ", ".join(f"{name} {version}" for name, version in data.versions.items()))]
    rows += [("seed", str(data.seed))]
    return rows


def _method(data: ReportData) -> str:
    return (
        "Images were redrawn by an autoencoder until one attribute faded and little else changed, and every audited "
        "head scored both versions. An effect is the change of a head's score when an attribute is switched on and "
        "everything else stays; brackets hold 95 % bootstrap intervals over images, q is the false discovery rate."
    )


def _findings(data: ReportData) -> str:
    told = verdict.sentences(data, code)
    if not told:
        return verdict.no_finding(data)
    rest = f"\n\n{len(told) - _FINDINGS} more stand in `findings.json`." if len(told) > _FINDINGS else ""
    return "\n".join(f"- {sentence}" for sentence in told[:_FINDINGS]) + rest


def _unnamed(data: ReportData) -> str:
    found = [unnamed.headline(feature, code) for feature in data.unnamed if feature.found]
    sought = f"{plural(len(data.unnamed), 'feature was', 'features were')} sought."
    return "\n".join([*(f"- {sentence}." for sentence in found), *([] if found else [f"None counts; {sought}"])])


def _not_measured(data: ReportData) -> list[str]:
    """What a reader may take for measured and is not."""
    said = []
    without = [a for a, one in data.counts.standings.items() if one.witness is Witness.NONE]
    if without:
        said.append(f"Effects on {list_of(without, code, most=6)}: there is no witness of what they are meant to see.")
    if idle := basis.without_counterfactual(data, code):
        said.append(idle)
    if skipped := len(data.counts.skipped):
        said.append(f"{plural(skipped, 'image file')} could not be used.")
    if not data.unnamed:
        said.append("Features that no reference head names: none were sought (`--discover`).")
    if not data.where:
        said.append("Where in the image effects lie (`--regions`).")
    said.append("Accuracy, calibration and robustness: an audit says nothing of them.")
    return said


def _repeat(data: ReportData) -> str:
    words = data.given.get("command")
    if isinstance(words, list) and words:
        again = shlex.join([*map(str, words), "--out", f"{data.run_dir}-again"])
        return f"```sh\n{again}\n```"
    return (
        f"The command was not recorded; settings, seed and hashes stand in {code(str(data.run_dir / 'run.json'))}. "
        f"Version: {escape(', '.join(f'{k} {v}' for k, v in data.versions.items()))}."
    )
