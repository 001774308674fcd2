"""The alignment matrix that the paper prints in its Fig. 8 A, for comparison."""

from __future__ import annotations

_PRINTED = """
mouth_slightly_open      –  -0.2     0 -0.04 -0.16     –  0.21  0.04  0.03  0.03  0.24  0.04 -0.07
big_nose              0.08     –     0  0.82 -0.01     –     – -0.42 -0.06 -0.34 -0.36     – -0.02
male                 -0.01  0.24     –  0.11 -0.02 -0.02 -0.09 -0.09 -0.39  -0.2 -0.03  -0.2 -0.01
bushy_eyebrows        0.07 -0.05     0     –  0.18 -0.01 -0.06  0.06     0     0 -0.03  0.12  0.19
arched_eyebrows      -0.01  0.25     0  0.02     –     0     0  0.24     0  0.02 -0.33 -0.06 -0.01
smiling               0.33  0.25     0     0  0.05     –   0.9  0.02     0  0.01  0.12  0.13 -0.27
high_cheekbones       0.02  0.05 -0.01  -0.1  0.38  0.04     –   0.2  0.03  0.11 -0.06 -0.01 -0.16
pointy_nose          -0.05 -0.86     0  0.08 -0.01  0.29  0.28     –     0  0.03   0.1     –     0
wearing_lipstick     -0.05 -0.06 -0.41 -0.02  0.41 -0.01  0.02  0.14     –  1.26  0.06  0.52 -0.03
heavy_makeup          0.27 -0.03 -0.01  0.05  0.14  0.03  0.24  0.11  0.39     –  0.31  0.12     0
oval_face             0.11 -0.41     0  0.16  -0.2  0.36  0.22  0.24     0  0.01     –  0.56  0.01
attractive           -0.04 -0.49 -0.08   0.2  0.08  0.09 -0.09  0.22  0.29  1.04  0.67     –  0.24
young                -0.02 -0.18  0.38  0.01 -0.02 -0.02 -0.19 -0.03 -0.25 -0.05  0.05     –     –
"""


def _read(printed: str) -> dict[str, dict[str, float]]:
    rows = [line.split() for line in printed.strip().splitlines()]
    classes = [row[0] for row in rows]
    return {
        base: {name: float(cell) for name, cell in zip(classes, cells, strict=True) if cell != "–"}
        for base, *cells in rows
    }


ALIGNMENT = _read(_PRINTED)
"""ψ[base][downstream]: mean relative change before rectification, on held-out images. Unreadable cells, and those of a
class with itself, are left out."""
