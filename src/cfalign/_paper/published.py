"""Numbers that the paper prints, to set beside ours."""

from __future__ import annotations

from collections.abc import Mapping

ALIGNMENT: Mapping[str, Mapping[str, float]] = {
    "mouth_slightly_open": {
        "big_nose": -0.2, "male": 0, "bushy_eyebrows": -0.04, "arched_eyebrows": -0.16, "high_cheekbones": 0.21,
        "pointy_nose": 0.04, "wearing_lipstick": 0.03, "heavy_makeup": 0.03, "oval_face": 0.24, "attractive": 0.04,
        "young": -0.07,
    },
    "big_nose": {
        "mouth_slightly_open": 0.08, "male": 0, "bushy_eyebrows": 0.82, "arched_eyebrows": -0.01,
        "pointy_nose": -0.42, "wearing_lipstick": -0.06, "heavy_makeup": -0.34, "oval_face": -0.36, "young": -0.02,
    },
    "male": {
        "mouth_slightly_open": -0.01, "big_nose": 0.24, "bushy_eyebrows": 0.11, "arched_eyebrows": -0.02,
        "smiling": -0.02, "high_cheekbones": -0.09, "pointy_nose": -0.09, "wearing_lipstick": -0.39,
        "heavy_makeup": -0.2, "oval_face": -0.03, "attractive": -0.2, "young": -0.01,
    },
    "bushy_eyebrows": {
        "mouth_slightly_open": 0.07, "big_nose": -0.05, "male": 0, "arched_eyebrows": 0.18, "smiling": -0.01,
        "high_cheekbones": -0.06, "pointy_nose": 0.06, "wearing_lipstick": 0, "heavy_makeup": 0, "oval_face": -0.03,
        "attractive": 0.12, "young": 0.19,
    },
    "arched_eyebrows": {
        "mouth_slightly_open": -0.01, "big_nose": 0.25, "male": 0, "bushy_eyebrows": 0.02, "smiling": 0,
        "high_cheekbones": 0, "pointy_nose": 0.24, "wearing_lipstick": 0, "heavy_makeup": 0.02, "oval_face": -0.33,
        "attractive": -0.06, "young": -0.01,
    },
    "smiling": {
        "mouth_slightly_open": 0.33, "big_nose": 0.25, "male": 0, "bushy_eyebrows": 0, "arched_eyebrows": 0.05,
        "high_cheekbones": 0.9, "pointy_nose": 0.02, "wearing_lipstick": 0, "heavy_makeup": 0.01, "oval_face": 0.12,
        "attractive": 0.13, "young": -0.27,
    },
    "high_cheekbones": {
        "mouth_slightly_open": 0.02, "big_nose": 0.05, "male": -0.01, "bushy_eyebrows": -0.1,
        "arched_eyebrows": 0.38, "smiling": 0.04, "pointy_nose": 0.2, "wearing_lipstick": 0.03, "heavy_makeup": 0.11,
        "oval_face": -0.06, "attractive": -0.01, "young": -0.16,
    },
    "pointy_nose": {
        "mouth_slightly_open": -0.05, "big_nose": -0.86, "male": 0, "bushy_eyebrows": 0.08, "arched_eyebrows": -0.01,
        "smiling": 0.29, "high_cheekbones": 0.28, "wearing_lipstick": 0, "heavy_makeup": 0.03, "oval_face": 0.1,
        "young": 0,
    },
    "wearing_lipstick": {
        "mouth_slightly_open": -0.05, "big_nose": -0.06, "male": -0.41, "bushy_eyebrows": -0.02,
        "arched_eyebrows": 0.41, "smiling": -0.01, "high_cheekbones": 0.02, "pointy_nose": 0.14,
        "heavy_makeup": 1.26, "oval_face": 0.06, "attractive": 0.52, "young": -0.03,
    },
    "heavy_makeup": {
        "mouth_slightly_open": 0.27, "big_nose": -0.03, "male": -0.01, "bushy_eyebrows": 0.05,
        "arched_eyebrows": 0.14, "smiling": 0.03, "high_cheekbones": 0.24, "pointy_nose": 0.11,
        "wearing_lipstick": 0.39, "oval_face": 0.31, "attractive": 0.12, "young": 0,
    },
    "oval_face": {
        "mouth_slightly_open": 0.11, "big_nose": -0.41, "male": 0, "bushy_eyebrows": 0.16, "arched_eyebrows": -0.2,
        "smiling": 0.36, "high_cheekbones": 0.22, "pointy_nose": 0.24, "wearing_lipstick": 0, "heavy_makeup": 0.01,
        "attractive": 0.56, "young": 0.01,
    },
    "attractive": {
        "mouth_slightly_open": -0.04, "big_nose": -0.49, "male": -0.08, "bushy_eyebrows": 0.2,
        "arched_eyebrows": 0.08, "smiling": 0.09, "high_cheekbones": -0.09, "pointy_nose": 0.22,
        "wearing_lipstick": 0.29, "heavy_makeup": 1.04, "oval_face": 0.67, "young": 0.24,
    },
    "young": {
        "mouth_slightly_open": -0.02, "big_nose": -0.18, "male": 0.38, "bushy_eyebrows": 0.01,
        "arched_eyebrows": -0.02, "smiling": -0.02, "high_cheekbones": -0.19, "pointy_nose": -0.03,
        "wearing_lipstick": -0.25, "heavy_makeup": -0.05, "oval_face": 0.05,
    },
}  # fmt: skip
"""Fig. 8 A: mean relative change ψ[base][downstream] before rectification, on held-out images; cells that
cannot be read are left out."""
