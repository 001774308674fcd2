"""Synthetic faces: images whose every attribute is a known cause, for ground truth without data.

    faces = sample(1000, seed=0, correlations={("smiling", "eyeglasses"): 0.9})
    images = render(faces)                                  # [1000, 3, 64, 64] in [0, 1]
    labels = faces.labels()                                 # [1000, len(ATTRIBUTES)]
    off, on = switched(faces, "eyeglasses")                 # the same faces without and with glasses
    truth = effect(model, faces[:50])                       # [len(INTERVENABLE), heads]

Modules: `factors` (names, derived labels), `sampling` (faces, correlations), `drawing` (anti-aliased shapes),
`person`, `facial_features`, `accessories` (the layers), `renderer` (their order), `interventions` (ground truth).
"""

from cfalign.synthetic.factors import ATTRIBUTES, DERIVED, FACTORS, HAIR_COLOURS, INTERVENABLE, NON_CELEBA, OFF, ON
from cfalign.synthetic.interventions import effect, intervene, switched
from cfalign.synthetic.renderer import render
from cfalign.synthetic.sampling import NUISANCE, Faces, concatenate, sample

__all__ = [
    "ATTRIBUTES",
    "DERIVED",
    "FACTORS",
    "HAIR_COLOURS",
    "INTERVENABLE",
    "NON_CELEBA",
    "NUISANCE",
    "OFF",
    "ON",
    "Faces",
    "concatenate",
    "effect",
    "intervene",
    "render",
    "sample",
    "switched",
]
