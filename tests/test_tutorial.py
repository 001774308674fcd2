"""The tutorial, docs/tutorial.md: its blocks run one after the other, and print what the page says that they print."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))

import tutorial  # noqa: E402

pytestmark = pytest.mark.docs

TEXT = (DOCS / "tutorial.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
NEAR = 0.15
"""Other processors sum in other orders, and a small training carries that on. Counts may differ by this share."""


def words(text: str) -> list[str]:
    """A text without its numbers, and without the rulers and blanks of tables."""
    return re.sub(r"[-|]{2,}", " ", NUMBER.sub("", text)).split()


def test_the_blocks_run_and_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: tutorial.Names = {"__name__": "tutorial"}
    for printed, told in tutorial.executed(TEXT, names):
        assert words(printed) == words(told or "")
        measured, shown = ([float(n) for n in NUMBER.findall(text)] for text in (printed, told or ""))
        np.testing.assert_allclose(measured, shown, rtol=NEAR, atol=NEAR, err_msg=printed)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    tutorial.draw(names, pictures)
    for drawn in sorted(pictures.iterdir()):
        shipped = DOCS / "images" / drawn.name
        with Image.open(drawn) as new, Image.open(shipped) as old:
            assert new.size == old.size
        assert f"images/{drawn.name}" in TEXT


def test_every_block_that_prints_shows_what_it_printed() -> None:
    blocks = tutorial.PAIR.findall(TEXT)
    assert len(blocks) >= 9
    for _, code, _, output in blocks:
        assert bool(output.strip()) == ("print(" in code)


def test_outputs_are_written_behind_their_blocks() -> None:
    page = "a\n\n```python\nprint(1)\n```\n\nb\n\n```python\nx = 2\n```\n\n```text\nold\n```\n"
    written = tutorial.with_outputs(page, ["1\n", ""])
    assert written == "a\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\nb\n\n```python\nx = 2\n```\n"
    assert tutorial.with_outputs(written, ["1\n", ""]) == written
