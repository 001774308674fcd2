"""A run and its findings in the cell of a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cfalign._errors import CfalignError
from cfalign._notebook import Cell, Html, card, facts, heat, line, number, png_picture, table
from cfalign._results import Cell as MatrixCell

_FINDINGS, _EFFECTS, _BASES, _HEADS = 12, 10, 16, 24
"""At most so many are shown."""
_PICTURES = 2_000_000
"""Bytes of pictures in one table."""


class Readable(Protocol):
    """What is read of a run."""

    path: Path

    def record(self) -> dict[str, Any]:
        """``run.json``."""

    def cells(self) -> list[MatrixCell]:
        """The cells of the matrix."""

    def findings(self) -> list[dict[str, Any]]:
        """The findings."""

    def effects(self, audited: str | None = None) -> Any:
        """The effects as a table."""


class ShownRun:
    """A run that notebooks show: findings with pictures, the strongest effects, the matrix in colours."""

    def _repr_html_(self: Readable) -> str | None:
        """None where there is no run that could be read, so that the ``repr`` is shown."""
        try:
            return run_html(self)
        except (CfalignError, KeyError, TypeError):
            return None


class ShownFindings(list[dict[str, Any]]):
    """A list of findings that notebooks show as a table, with an image of each from the folder of the run."""

    def __init__(self, findings: Iterable[dict[str, Any]], folder: Path) -> None:
        super().__init__(findings)
        self._folder = folder

    def _repr_html_(self) -> str:
        return findings_html(self, self._folder)


def run_html(run: Readable) -> str:
    """A run as HTML; of a bank and of an unfinished run only what it is. Raises as the run does when it is read."""
    record = run.record()
    kind, status = record["settings"]["kind"], record["status"]
    what: dict[str, Cell] = {"status": str(status), "folder": str(run.path)}
    if (images := record.get("images", record["data"].get("images"))) is not None:
        what |= {"images": int(images)}
    if kind != "audit" or status != "complete":
        return card(f"cfalign {kind}", facts(what))
    findings = run.findings()
    what |= {"findings": len(findings), "bases": len(record["bases"]), "heads": len(record["heads"])}
    return card(
        "cfalign audit",
        facts(what),
        findings_html(findings, run.path) if findings else line("No findings."),
        _effects_html(run.effects().head(_EFFECTS).to_dicts()),
        _matrix_html(run.cells(), record["audited"]),
        line(f"The whole of it: cfalign report {run.path}"),
        line(f"In the browser: cfalign explore {run.path}"),
    )


def findings_html(findings: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Findings as a table, best first, each with the first image behind it before and after the walk."""
    left = [_PICTURES]
    rows: list[list[Cell]] = []
    for finding in findings[:_FINDINGS]:
        size = finding["effect"] if finding["effect"] is not None else finding.get("change")
        low, high = (finding[key] for key in ("ci_low", "ci_high"))
        interval = f"[{number(_float(low))}, {number(_float(high))}]"
        what: list[Cell] = [
            int(finding["rank"]),
            str(finding["audited"]),
            str(finding["attribute"]),
            heat(_float(size)),
            interval,
        ]
        rows.append([*what, int(finding["n"]), _pictures(finding, folder, left)])
    more = len(findings) - len(rows)
    rest = line(f"… and {more} more.") if more > 0 else ""
    columns = ("", "audited head", "attribute", "effect", "95 % interval", "n", "an image before → after")
    return table(columns, rows) + rest


def _pictures(finding: Mapping[str, Any], folder: Path, left: list[int]) -> Html:
    """The pictures of a finding's first image, as long as there is room for them and they lie in the folder."""
    samples = finding.get("samples") or []
    found: list[str] = []
    for name in ("original", "counterfactual") if samples else ():
        file = samples[0]["files"].get(name)
        path = None if file is None else (folder / file).resolve()
        if path is None or not path.is_relative_to(folder.resolve()) or not path.is_file():
            continue
        data = path.read_bytes()
        left[0] -= len(data)
        found += [png_picture(data)] if left[0] >= 0 else []
    return Html(" ".join(found))


def _effects_html(effects: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[Cell]] = [
        [
            str(row["audited"]),
            str(row["attribute"]),
            heat(_float(row["effect"])),
            f"[{number(_float(row['ci_low']))}, {number(_float(row['ci_high']))}]",
            heat(_float(row["incoming"])),
            heat(_float(row["outgoing"])),
            int(row["n"]),
        ]
        for row in effects
    ]
    if not rows:
        return ""
    columns = ("audited head", "attribute", "effect", "95 % interval", "incoming", "outgoing", "n")
    return line("The strongest effects of attributes on audited heads:") + table(columns, rows)


def _matrix_html(cells: Sequence[MatrixCell], audited: Sequence[str]) -> str:
    """Audited heads come first."""
    walked = dict.fromkeys(cell.base for cell in cells if cell.n)
    bases = sorted(walked, key=lambda base: base not in audited)
    heads = sorted(dict.fromkeys(cell.downstream for cell in cells), key=lambda head: head not in audited)
    psi = {(cell.base, cell.downstream): cell.psi for cell in cells}
    rows: list[list[Cell]] = [
        [base, *(heat(psi.get((base, h), float("nan"))) for h in heads[:_HEADS])] for base in bases[:_BASES]
    ]
    if not rows:
        return ""
    hidden = len(bases) > _BASES or len(heads) > _HEADS
    rest = line(f"{min(len(bases), _BASES)} of {len(bases)} bases and {min(len(heads), _HEADS)} of {len(heads)} heads.")
    title = "Alignment matrix, mean relative change ψ of each head (column) over the counterfactuals of a base (row):"
    return line(title) + table(("base", *heads[:_HEADS]), rows) + (rest if hidden else "")


def _float(value: float | None) -> float:
    return float("nan") if value is None else float(value)
