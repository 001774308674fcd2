"""The files of an explanation: one for each base, whatever the bases are called."""

from __future__ import annotations

from pathlib import Path

import worlds
from cfalign._explanation.explanation import explain
from cfalign._explanation.options import ExplainOptions
from cfalign._explanation.writing import write_explanation
from cfalign._heads.composition import head

NAMES = ("a:smiling", "a_smiling", "a/smiling", "../smiling")


def test_bases_of_like_names_have_files_of_their_own(tmp_path: Path) -> None:
    heads = worlds.heads()
    heads.targets = NAMES  # a user's own classifier may call its heads what it likes
    bases = [head(heads, name) for name in NAMES]
    options = ExplainOptions(increase=True, saliency=False)
    found = explain(worlds.images(1)[0], bases, autoencoder=worlds.autoencoder(), options=options)
    files = write_explanation(found, tmp_path / "out")
    plots = [files[f"alignment of {name}"] for name in NAMES]
    assert {file.parent for file in plots} == {tmp_path / "out"}
    assert len(set(plots)) == len(NAMES)
    for name, file in zip(NAMES, plots, strict=True):
        assert f"Alignment plot of {name}" in file.read_text(), "the plot of its own base"
