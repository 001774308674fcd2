"""The images and models of a run, by the names that a command gives or that the run was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfalign import autoencoders, classifiers
from cfalign._audit.demo import demo_at_hand
from cfalign._audit.remade import AtHand
from cfalign._runs.run import Run
from cfalign._types import Autoencoder
from cfalign.datasets import ImageFolder, ImageSource, open_images

DISPLAYED = 128
"""Side of originals where no autoencoder says at which size they are walked."""


@dataclass(frozen=True)
class NamedInputs:
    """By which names the rows of a run are made again."""

    images: str | None = None
    autoencoder: str | None = None
    classifier: tuple[str, ...] = ()
    reference: str | Sequence[str] | None = None
    """One, or several whose heads stand side by side."""
    bank: Path | None = None
    size: int | None = None
    demo: tuple[int, int] | None = None
    """Of a run of ``cfalign demo``: how many faces, by which seed."""

    def completed(self, run: Run) -> NamedInputs:
        """With what the run was given, but for files of Python, which run only when a person names them."""
        safe = {k: v for k, v in _recorded(run).items() if not _runs_code(v)}
        bank, demo = safe.get("bank"), safe.get("demo")
        return NamedInputs(
            images=self.images or safe.get("images"),
            autoencoder=self.autoencoder or safe.get("autoencoder"),
            classifier=self.classifier or tuple(safe.get("classifier") or ()),
            reference=self.reference or safe.get("reference"),
            bank=self.bank or (Path(bank) if bank and Path(bank).is_dir() else None),
            size=self.size or safe.get("size"),
            demo=None if demo is None else (int(demo["faces"]), int(demo["seed"])),
        )

    def lacking(self, run: Run) -> list[str]:
        """The options that must be given too, with their values where the run knows them."""
        if self.demo is not None:
            return []
        record, recorded = run.record(), _recorded(run)
        if "bank" in record["data"]:
            return ["--bank FOLDER"]
        missing = [] if self.images is not None or _folder_of(run) else ["--images FOLDER"]
        if self.autoencoder is None:
            missing.append(f"--autoencoder {recorded.get('autoencoder') or 'AUTOENCODER'}")
        if not self.classifier:
            audited = [c["name"] for c in record["models"]["classifiers"] if c["role"] == "audited"]
            missing += [f"--classifier {spec}" for spec in recorded.get("classifier") or [n.upper() for n in audited]]
        if self.reference is None and any(c["role"] == "reference" for c in record["models"]["classifiers"]):
            missing.append(f"--reference {recorded.get('reference') or 'HEADS'}")
        return missing

    def loaded(self, run: Run, *, trust: bool) -> AtHand:
        """All of them, opened. Raises BadInput for what cannot be."""
        if self.demo is not None:
            faces, seed = self.demo
            return demo_at_hand(faces, seed=seed)
        references = [self.reference] if isinstance(self.reference, str) else list(self.reference or ())
        encoder = autoencoders.load(self.autoencoder or "", trust=trust)
        heads = [classifiers.load(spec, trust=trust) for spec in (*references, *self.classifier)]
        return AtHand(source_of(run, self, encoder), encoder, heads)


def _recorded(run: Run) -> dict[str, Any]:
    return run.record().get("given") or {}


def _runs_code(spec: object) -> bool:
    return any(".py" in str(one) for one in (spec if isinstance(spec, list) else [spec]))


def source_of(run: Run, named: NamedInputs, encoder: Autoencoder | None) -> ImageSource | None:
    """The images given, or the folder that the run names where it is found from here."""
    size = (named.size if encoder is None else autoencoders.side_of(encoder, asked=named.size)) or DISPLAYED
    bit_depth = run.record().get("inventory", {}).get("bit_depth")
    if named.images is not None:
        return open_images(named.images, size=size, bit_depth=bit_depth)
    folder = _folder_of(run)
    if folder is None:
        return None
    found = ImageFolder(folder, size=size, bit_depth=bit_depth)
    return found if len(found) == run.record()["data"].get("images") else None  # another folder of that name


def _folder_of(run: Run) -> str | None:
    """The folder of images that the run names, where it is found from here."""
    name = run.record()["data"].get("source")
    return str(name) if name and Path(name).is_dir() else None
