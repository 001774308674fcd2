"""A composition of heads as a JSON file, which ``cfalign rectify`` writes and ``load`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from cfalign._errors import BadInput
from cfalign._heads.composition import Composition, Head, Scale, head
from cfalign._types import Classifier
from cfalign.classifiers.composed_classifier import ComposedClassifier

KIND = "cfalign composition"


@dataclass(frozen=True)
class SavedTerm:
    """One head of a saved composition."""

    coefficient: float
    classifier: str
    """Spec of the classifier."""
    target: str


@dataclass(frozen=True)
class SavedComposition:
    """A composition as ``rectified.json`` holds it."""

    name: str
    on: Scale
    constant: float
    terms: tuple[SavedTerm, ...]

    @property
    def specs(self) -> tuple[str, ...]:
        """The classifiers it needs, each once."""
        return tuple(dict.fromkeys(t.classifier for t in self.terms))

    def as_dict(self) -> dict[str, Any]:
        """The content of the JSON file."""
        return {"kind": KIND, **asdict(self)}


def saved(composition: Composition, *, name: str, specs: Mapping[str, str] | None = None) -> SavedComposition:
    """A composition with the specs of its classifiers, to be written as JSON.

    ``specs``: classifier name → spec, for classifiers that ``classifiers.load`` has not made. Raises BadInput when a
    classifier has no spec.
    """
    terms = []
    for coefficient, term in composition.terms:
        owner = term.classifier
        spec = (specs or {}).get(owner.name) or getattr(owner, "spec", None)
        if spec is None:
            raise BadInput(
                f"Classifier {owner.name!r} was not made by cfalign.classifiers.load, so a file cannot name it; give "
                f"specs={{{owner.name!r}: 'path/to/file.py:factory'}}."
            )
        terms.append(SavedTerm(coefficient, spec, term.target))
    return SavedComposition(name, composition.on, composition.constant, tuple(terms))


def read_composition(path: Path) -> SavedComposition:
    """A saved composition. Raises BadInput when the file is missing, damaged or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("kind") != KIND or content["on"] not in get_args(Scale):
            raise KeyError("kind")
        terms = tuple(
            SavedTerm(float(t["coefficient"]), str(t["classifier"]), str(t["target"])) for t in content["terms"]
        )
        return SavedComposition(str(content["name"]), content["on"], float(content["constant"]), terms)
    except FileNotFoundError:
        raise BadInput(f"There is no file {str(path)!r}; expected a composition such as rectified.json.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} does not hold a composition; expected rectified.json from `cfalign rectify` or Rectified.save()."
        ) from error


def compose(content: SavedComposition, known: Mapping[str, Classifier]) -> ComposedClassifier:
    """The saved composition as a classifier; ``known``: spec → classifier. Raises BadInput for an unknown target."""
    terms = []
    for term in content.terms:
        owner = known[term.classifier]
        head(owner, term.target)  # complains of an unknown target
        terms.append((term.coefficient, Head(owner, term.target)))
    return ComposedClassifier(Composition(tuple(terms), on=content.on, constant=content.constant), name=content.name)
