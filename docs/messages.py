"""Writes messages.md: every sentence with which cfalign refuses what a user brings, by the part that says it.

Run it after a message has changed: python docs/messages.py. A test compares the file with what it would write.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT.parent / "src" / "cfalign"
ERRORS = ("BadInput", "BadModel", "RunMismatch", "StorageFailed", "Unreadable", "ImageWarning", "ModelWarning")
SECTIONS = {
    "classifiers": ("Classifiers", "own-models.md#a-classifier"),
    "autoencoders": ("Autoencoders", "own-autoencoder.md"),
    "datasets": ("Images and labels", "own-images.md"),
    "_heads": ("Heads, compositions, references", "own-models.md#names-of-heads"),
    "_audit": ("Audits and banks", "own-models.md#reference-heads-and-a-judge"),
    "_models": ("Model files, code and downloads", "exported-models.md"),
    "_runs": ("Runs", "own-models.md#a-run-that-is-given-again"),
}
LEAST = 12
"""Letters that a sentence has beside its gaps."""


def text_of(node: ast.expr) -> str:
    """A text expression with … for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return "…"


def sentences(file: Path) -> Iterator[str]:
    """The texts of the errors that a module makes, in the order of its lines."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in ERRORS and isinstance(node, ast.Call) and node.args:
            text = re.sub("…+", "…", " ".join(text_of(node.args[0]).split()))
            if len(re.sub(r"\W", "", text)) >= LEAST:
                yield text


def escaped(text: str) -> str:
    """Text whose marks are shown in Markdown."""
    return re.sub(r"([\\*_<>\[\]|])", r"\\\1", text)


def page() -> str:
    """The whole file."""
    parts = [
        "# What cfalign says when it refuses something\n",
        "Search this page for words of the message; … stands for names and numbers. Each part links to what is read "
        "and how.\n",
    ]
    for folder, (title, page_of_it) in SECTIONS.items():
        found = [text for file in sorted((SOURCE / folder).rglob("*.py")) for text in sentences(file)]
        parts.append(f"## {title}\n\n[What is read, and how]({page_of_it})\n")
        parts += [f"- {escaped(text)}" for text in sorted(dict.fromkeys(found), key=str.lower)]
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "messages.md").write_text(page(), encoding="utf-8")
