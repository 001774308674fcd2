"""An explained image in the cell of a notebook."""

from __future__ import annotations

import math

from cfalign._explanation.explained import ExplainedBase, ExplainedImage
from cfalign._notebook import Cell, Html, card, heat, named, picture, table

_HEADS = 5


def explanation_html(explanation: ExplainedImage) -> str:
    """Per base: x0, the counterfactual, where they differ, and the heads that moved most."""
    columns = ("base", "x0", "counterfactual", "difference", "score", "outcome", "heads that moved most, ψ")
    return card(f"Explanation of {explanation.name}", table(columns, map(_row, explanation.bases)))


def _row(base: ExplainedBase) -> list[Cell]:
    strongest = float(base.difference.max())
    moved = sorted((h for h, v in base.psi.items() if math.isfinite(v)), key=lambda head: -abs(base.psi[head]))[:_HEADS]
    heads = table(("", "ψ"), [[head, heat(base.psi[head])] for head in moved])
    return [
        named(base.base),
        picture(base.frames[0]),
        picture(base.frames[-1]),
        picture((base.difference / strongest if strongest > 0 else base.difference)[None]),
        Html(f"{base.base_scores[0]:.2f} → {base.base_scores[-1]:.2f}"),
        str(base.outcome),
        Html(heads if moved else "none: the base moved too little"),
    ]
