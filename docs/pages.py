"""What mkdocs adds to the pages of docs/ when it builds the site; mkdocs.yml names this file as its hook.

- The reference: a page per public room, with every name of its ``__all__``. Nobody lists them by hand.
- Equations: a block ```` ```math ```` becomes MathML, so that no script draws them. GitHub shows the same block.
- The sample report: ``report.html`` of the run that CFALIGN_SAMPLE names, by default runs/demo; with ``explorer.html``
  beside it, that too.
"""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "cfalign": "The main functions, and what they return.",
    "classifiers": "Named heads over one batch of images: loaded by spec, wrapped, composed.",
    "autoencoders": "Counterfactuals are made in their latent space.",
    "datasets": "Images and labels of yours, as tensors.",
    "engines": "Where an audit runs: in this process, on a Ray cluster, or in parts.",
    "training": "An autoencoder and a classifier from a folder of images.",
    "report": "A run as HTML, Markdown and JSON.",
    "synthetic": "Drawn faces whose attributes are known causes.",
    "benchmarks": "The claims about the method, measured.",
}
"""Public rooms and the sentence at the head of their page."""
SAMPLES = {"report.html": "Open the sample report", "explorer.html": "Open the sample explorer"}
"""Files of a run that the site shows, and what the link to each says; only the first one must be there."""
MARK = "<!-- sample -->"
"""Where the page of the sample links to them."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Blocks of equations are converted by this file."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "equation", "format": equation})
    return config


def equation(source: str, *_: Any, **__: Any) -> str:
    """The MathML of a block of LaTeX."""
    return f'<div class="equation">{convert(source, display="block")}</div>'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the reference and the sample."""
    for room, sentence in ROOMS.items():
        files.append(File.generated(config, f"reference/{room}.md", content=reference(room, sentence)))
    folder = sample()
    for name in SAMPLES:
        if (folder / name).is_file():
            files.append(File.generated(config, f"sample/{name}", abs_src_path=str(folder / name)))
    return files


def reference(room: str, sentence: str) -> str:
    """The page of a room: a heading, and a directive for each public name that is no room itself."""
    module = "cfalign" if room == "cfalign" else f"cfalign.{room}"
    names = [name for name in importlib.import_module(module).__all__ if name not in ROOMS and name[0] != "_"]
    names.sort(key=lambda name: (name[0].isupper(), name))  # functions first
    return "\n".join([f"# {module}\n\n{sentence}\n", *(f"::: {path_of(module, name)}\n" for name in names)])


def path_of(module: str, name: str) -> str:
    """Where griffe finds a public name: a function that is called as its file is found by its own module alone."""
    if module == "cfalign" or find_spec(f"{module}.{name}") is None:
        return f"{module}.{name}"
    return f"{getattr(importlib.import_module(module), name).__module__}.{name}"


def sample() -> Path:
    """The folder of the sample report. Raises PluginError where there is none."""
    folder = ROOT / os.environ.get("CFALIGN_SAMPLE", "runs/demo")
    if not (folder / "report.html").is_file():
        raise PluginError(
            f"The site shows the report of a run, but there is no {folder / 'report.html'}: run `cfalign demo` first, "
            "or name the folder of a finished run in CFALIGN_SAMPLE."
        )
    return folder


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page of the sample links to the files of the run."""
    there = [name for name in SAMPLES if (sample() / name).is_file()]
    buttons = [f"[{SAMPLES[name]}](sample/{name}){{ .md-button .md-button--primary }}" for name in there]
    return markdown.replace(MARK, "\n".join(buttons))
