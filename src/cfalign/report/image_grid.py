"""Images in the order of an audited head's score, and why a run has none."""

from __future__ import annotations

from cfalign._findings import SortedImages
from cfalign.report.content import ReportData
from cfalign.report.words import Mark

ROWS = {"highest": "highest scores", "middle": "scores in the middle", "lowest": "lowest scores"}
"""The rows of a grid from top to bottom: a field of ``SortedImages`` → what it holds."""
WORDS = (
    "The images as they are, sorted by the score that the head gives them; nothing is redrawn. In studies, people "
    "who saw nothing but such a grid told what a model uses about as well as people who saw explanations."
)


def absent(data: ReportData) -> str:
    """Why there is no grid, with the remedy; empty where there is one."""
    if data.sorted_images or not data.audited:
        return ""
    if data.settings.get("shown") == 0:
        return "This run was told to keep no image (shown = 0): audit again with `--set shown=3` to see them."
    return (
        "This run keeps no images sorted by score, since an older version wrote it: give its command again, and they "
        "are added without measuring anything anew."
    )


def sentence(one: SortedImages, mark: Mark) -> str:
    """What a grid shows, with the number of images behind it."""
    return f"{one.n} images by the score of {mark(one.audited)}"


def rest(data: ReportData, mark: Mark) -> str:
    """That not all audited heads have a grid; empty where they have."""
    lacking = len(data.audited) - len(data.sorted_images)
    if not data.sorted_images or not lacking:
        return ""
    return f"{lacking} more audited heads have none: a run keeps those of at most {len(data.sorted_images)} heads."
