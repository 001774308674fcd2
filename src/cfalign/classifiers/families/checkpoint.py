"""A file of weights for a network of a library: names and tensors, perhaps inside the state of a training.

Which of its tensors are the network's is decided by the names that the network has: wrappers (DataParallel, compile,
FSDP, Lightning, a module around the network) put a prefix before all of them, and trainers put them into containers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cfalign._errors import BadInput, nearest
from cfalign._models.weights import read_checkpoint
from cfalign.classifiers.families.network_state import (
    Found,
    averaged,
    best,
    fitting,
    plain_keys,
    same_weights,
    set_aside,
)

NAMES = ("classes", "class_names", "targets")
CHOICE = "#weights="
PLAIN, AVERAGED = "plain", "averaged"  # of a file that holds both; the averaged ones are taken by default
COUNT = "n_averaged"  # how many steps an average is over
DEPTH = 3  # a training state, a network in it, its state
NO_TENSORS = "state_dict or model_state_dict or model"


@dataclass
class Checkpoint:
    """Content of a weight file."""

    path: Path
    states: dict[str, dict[str, Tensor]]
    """Names and tensors by the keys under which they lie, joined by dots; the empty text is the top of the file."""
    names: tuple[str, ...] | None
    """Names of its classes, from the key ``classes``, ``class_names`` or ``targets``; None without one."""
    choice: str | None = None
    """Which of several networks is meant: the keys under which it lies, or the prefix of its names."""
    remarks: list[str] = field(default_factory=list)
    """What was decided and is worth a person's attention, one sentence each."""

    def state_of(self, network: Collection[str]) -> dict[str, Tensor]:
        """The tensors of the one network in it, under the network's own names.

        ``network``: names of parameters and buffers that it must have. Tensors that share its prefix come along,
        whether the network knows them or not. Raises BadInput where no network fits, where several do, and where other
        weights stand beside it than those of losses and metrics.
        """
        found = [each for where, state in self.states.items() for each in fitting(where, state, network)]
        if not found:
            raise self._lacking(network)
        one = self._one_of(found)
        self._look_aside(one, found)
        return dict(one.state)

    def holds(self, names: Collection[str]) -> bool:
        """Whether some network in it has all these names."""
        return any(True for where, state in self.states.items() for _ in fitting(where, state, names))

    def _lacking(self, network: Collection[str]) -> BadInput:
        """The error of a file that does not hold the network, with the first name that is lacking."""
        closest = best(self.states, network)
        lacking = next(name for name in network if name not in closest.state)
        where = f" under {closest.place!r}" if closest.place else ""
        short = sum(name not in closest.state for name in network)
        many = f" and {short - 1} more" if short > 1 else ""
        return BadInput(
            f"{self.path} lacks {lacking!r}{many}, expected among its weights{where}; "
            f"{nearest(lacking, closest.state)}."
        )

    def _one_of(self, found: list[Found]) -> Found:
        means = averaged(found)
        if self.choice == PLAIN:
            found = [each for each in found if each not in means]
            if not found:
                raise BadInput(
                    f"{self.path} holds averaged weights alone, {means[0].place!r}; leave out {CHOICE}{PLAIN}."
                )
        elif self.choice == AVERAGED and means:
            found = means
        elif self.choice is not None:
            chosen = [each for each in found if self.choice in each.called]
            if len(chosen) != 1:
                raise BadInput(
                    f"{self.path} has no network {self.choice!r}; expected {CHOICE} one of "
                    f"{', '.join(each.place or 'top' for each in found)}."
                )
            return chosen[0]
        if all(same_weights(found[0], other) for other in found[1:]):
            return found[0]
        if means and self.choice != PLAIN and all(same_weights(means[0], other) for other in means[1:]):
            self.remarks.append(
                f"{self.path.name}: the averaged weights, {means[0].place!r}, are taken; {CHOICE}{PLAIN} at the end of "
                "the file's name takes the others."
            )
            return means[0]
        places = [each.place or "top" for each in found]
        raise BadInput(
            f"{self.path} holds {len(found)} different networks that fit, {' and '.join(map(repr, places))}; say which "
            f"one is meant by {CHOICE}{places[0]} at the end of the file's name."
        )

    def _look_aside(self, one: Found, found: list[Found]) -> None:
        """Remarks on what is left beside the network. Raises BadInput where it may belong to the network."""
        taken = {id(tensor) for each in found for tensor in each.state.values()}
        state = self.states[one.where].items()
        rest = [key for key, tensor in state if id(tensor) not in taken and not key.endswith(COUNT)]
        known = [key for key in rest if set_aside(key)]
        other = [key for key in rest if not set_aside(key)]
        if other and self.choice is None:
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            raise BadInput(
                f"{self.path} holds other weights, {other[0]!r}{more}, beside those of the network {one.place!r}; "
                f"save the network alone, name a factory that builds the whole, or, where the network does without "
                f"them, say so by {CHOICE}{one.place} at the end of the file's name."
            )
        if rest:
            listed = ", ".join(map(repr, rest[:3])) + (f" and {len(rest) - 3} more" if len(rest) > 3 else "")
            what = "of losses and metrics" if known and not other else "beside the network"
            self.remarks.append(f"{self.path.name}: tensors {what} were set aside: {listed}.")


def read(path: str | Path, *, trust: bool = False) -> Checkpoint:
    """The tensors of a checkpoint; ``path`` may end in ``#weights=NAME``, see ``Checkpoint.choice``.

    Raises BadInput when the file cannot be read (see ``weights.read_checkpoint``) or holds no tensors.
    """
    _, mark, choice = str(path).rpartition(CHOICE)
    file = file_of(path)
    content = read_checkpoint(file, trust=trust)
    states = {where: plain_keys(state) for where, state in _states(content, file)}
    if not states:
        raise BadInput(f"{file} holds no names and tensors; expected them at its top or under {NO_TENSORS}.")
    return Checkpoint(file, states, _names(content), choice if mark else None)


def file_of(path: str | Path) -> Path:
    """The file of a spec, without the choice at its end."""
    text, mark, _ = str(path).rpartition(CHOICE)
    return Path(text if mark else path).expanduser()


def _states(content: Any, file: Path, where: str = "", depth: int = DEPTH) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Names and tensors in the content, with the keys under which they lie."""
    held = content.state_dict() if isinstance(content, nn.Module) else content
    if not isinstance(held, Mapping) or depth < 0 or not all(isinstance(key, str) for key in held):
        return
    tensors = {key: value for key, value in held.items() if isinstance(value, Tensor)}
    others = [key for key in held if key not in tensors and not key.endswith("_extra_state")]
    mixed = bool(where and tensors and others)
    if mixed and any(not isinstance(held[key], Mapping) for key in others):
        return  # no state of a network, which holds tensors alone
    if tensors:
        yield where, tensors
    for key in others:
        yield from _states(held[key], file, f"{where}.{key}".removeprefix("."), depth - 1)


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
