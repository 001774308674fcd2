"""Runs docs/tutorial.md, and writes its pictures and what its blocks print: `python docs/tutorial.py`, a minute.

A block of text after a block of Python is what that block printed. A test runs the page the same way and compares.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from walks import GREY, RED, draw_pairs, draw_sheet, opened, save, scores

import cfalign as cfa

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "tutorial.md"
PAIR = re.compile(r"(^```python\n(.*?)^```\n)(\n^```text\n(.*?)^```\n)?", flags=re.DOTALL | re.MULTILINE)
"""A block of Python, and what it prints, if anything."""
FACES = 6

Names = dict[str, Any]


def executed(text: str, names: Names) -> Iterator[tuple[str, str | None]]:
    """Runs the blocks of a page, one after the other: what each printed, and what the page says that it prints."""
    for number, block in enumerate(PAIR.finditer(text), start=1):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block[2], f"<block {number} of the tutorial>", "exec"), names)
        yield printed.getvalue(), block[4]


def with_outputs(text: str, printed: list[str]) -> str:
    """The page with what its blocks printed."""
    outputs = iter(printed)

    def renewed(block: re.Match[str]) -> str:
        output = next(outputs)
        return block[1] + (f"\n```text\n{output}```\n" if output else "")

    return PAIR.sub(renewed, text)


def draw(names: Names, folder: Path) -> None:
    """The pictures of the page, from what its blocks have left."""
    images = names["images"]
    draw_sheet([("", list(images[:12]))], folder / "tutorial-faces.webp", side=72)
    with Image.open("explained/explain.png") as explained:
        save(explained, folder / "explained.webp")
    draw_unnamed(Path("young"), names["feature"], folder / "unnamed.webp")
    draw_rectified(names, folder / "rectified.webp")


def draw_unnamed(run: Path, feature: cfa.UnnamedFeature, target: Path) -> None:
    """Both ends of the feature, and walked faces at their low and their high end."""
    rows = [(name, [opened(run / shown.files["original"]) for shown in ends])
            for name, ends in (("low end", feature.lowest), ("high end", feature.highest))]  # fmt: skip
    rows += [(f"walked {to}", [opened(run / shown.files[end]) for shown in feature.walked])
             for to, end in (("down", "low"), ("up", "high"))]  # fmt: skip
    draw_sheet(rows, target, side=120)


def draw_rectified(names: Names, target: Path) -> None:
    """The first faces without and with glasses, and the scores for big lips before and after the rectification."""
    off, on = names["off"][:FACES], names["on"][:FACES]
    fixed = names["fixed"].classifier
    each = {"as it came": (RED, names["lips"], "big_lips"), "rectified": (GREY, fixed, fixed.targets[0])}
    draw_pairs(
        (off, on),
        {label: (colour, scores(c, head, off), scores(c, head, on)) for label, (colour, c, head) in each.items()},
        title="Before, glasses gave a face big lips. Now they matter little.",
        target=target,
    )


def main() -> None:
    """Runs the page in a folder of its own, then writes outputs and pictures."""
    text, names, here = PAGE.read_text(encoding="utf-8"), {"__name__": "tutorial"}, Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            printed = [output for output, _ in executed(text, names)]
            draw(names, DOCS / "images")
        finally:
            os.chdir(here)
    PAGE.write_text(with_outputs(text, printed), encoding="utf-8")


if __name__ == "__main__":
    main()
