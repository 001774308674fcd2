"""A file of weights for a network of a library: names and tensors, perhaps wrapped in a training state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cfalign._errors import BadInput, nearest
from cfalign._models.weights import read_checkpoint

STATES = ("state_dict", "model_state_dict", "model")
NAMES = ("classes", "class_names", "targets")
WRAPPERS = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class Checkpoint:
    """Content of a weight file."""

    path: Path
    state: dict[str, Tensor]
    names: tuple[str, ...] | None
    """Names of its classes, from the key ``classes``, ``class_names`` or ``targets``; None without one."""

    def rows(self, key: str) -> int:
        """Length of a tensor's first axis: the number of classes, when ``key`` is the last layer's.

        Raises BadInput when it is not there.
        """
        tensor = self.state.get(key)
        if tensor is None or not tensor.ndim:
            raise BadInput(f"{self.path} lacks {key!r}, expected among its weights; {nearest(key, self.state)}.")
        return len(tensor)


def read(path: str | Path, *, trust: bool = False) -> Checkpoint:
    """The tensors of a checkpoint, without the prefixes that trainers and parallel modules put before their names.

    Raises BadInput when the file cannot be read (see ``weights.read_checkpoint``) or holds no tensors.
    """
    file = Path(path).expanduser()
    content = read_checkpoint(file, trust=trust)
    found = next((content[k] for k in STATES if isinstance(content.get(k), Mapping)), content)
    state = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    if not state or (found is not content and len(state) < len(found)):
        raise BadInput(f"{file} holds no names and tensors; expected them at its top or under {' or '.join(STATES)}.")
    for wrapper in WRAPPERS:
        if all(k.startswith(wrapper) for k in state):
            state = {k.removeprefix(wrapper): v for k, v in state.items()}
    return Checkpoint(file, state, _names(content))


def refuse_code(folder: Path) -> None:
    """Raises BadInput when a library's pickle in the folder (``.bin``) would run code, or cannot be read at all."""
    for file in sorted(folder.glob("*.bin")):
        read_checkpoint(file)


def _names(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    for key in NAMES:
        names = content.get(key)
        if isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names):
            return tuple(names)
    return None
