"""Which tensors of a state belong to a network: those under the one prefix before all of its names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|_ddp_module)\.")
"""What compile, FSDP, activation checkpoints and Fabric put anywhere into a name; no one calls a layer so."""
_ASIDE = re.compile(
    r"(?:^|[._])(?:criteri\w*|\w*loss(?:es)?(?:_f\w*)?|\w*metrics?|\w*accuracy|\w*acc|\w*auroc|\w*auc|\w*f1|\w*precision"
    r"|\w*recall|\w*confusion\w*|\w*confmat|class_weights?|pos_weight|loss_weights?|optimi[sz]er\w*|scheduler\w*"
    r"|n_averaged)(?:\d*)(?:$|\.)",
    re.IGNORECASE,
)
_AVERAGED = frozenset({"ema", "swa", "averaged", "average", "avg", "polyak"})
BEFORE_AVERAGING = "current_model_state"
"""Where Lightning's WeightAveraging puts the plain weights; it saves the averaged ones as ``state_dict``."""


@dataclass(frozen=True)
class Found:
    """A network inside a state."""

    where: str
    """The keys under which the state lies in the file, joined by dots."""
    prefix: str
    """What stands before all names of the network, up to its dot."""
    state: Mapping[str, Tensor]
    """Everything under the prefix, without it."""

    @property
    def place(self) -> str:
        """Keys and prefix, as a person names the network; empty at the top of the file."""
        return ".".join(part for part in (self.where, self.prefix.rstrip(".")) if part)

    @property
    def called(self) -> set[str]:
        """The names that a person may use for it."""
        return {self.place or "top", self.where, self.prefix.rstrip("."), self.prefix} - {""}


def plain_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without the marks of wrappers inside its names; as it is where two names would be alike then."""
    plain = {WRAPPERS.sub("", key): tensor for key, tensor in state.items()}
    return plain if len(plain) == len(state) else dict(state)


def fitting(where: str, state: Mapping[str, Tensor], network: Collection[str]) -> Iterator[Found]:
    """Every network in the state that has all the names, the one with the shortest prefix first."""
    for prefix in _prefixes(state, network):
        if all(prefix + name in state for name in network):
            yield _under(where, prefix, state)


def best(states: Mapping[str, Mapping[str, Tensor]], network: Collection[str]) -> Found:
    """The part of the file that has most of the names."""
    parts = [_under(w, p, state) for w, state in states.items() for p in ["", *_all_prefixes(state, network)]]
    return max(parts, key=lambda part: sum(name in part.state for name in network))


def _under(where: str, prefix: str, state: Mapping[str, Tensor]) -> Found:
    return Found(where, prefix, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def _prefixes(state: Collection[str], network: Collection[str]) -> list[str]:
    """What stands before the first name of the network wherever it occurs."""
    name = next(iter(network))
    found = [key.removesuffix(name) for key in state if key == name or key.endswith(f".{name}")]
    return sorted(found, key=len)


def _all_prefixes(state: Collection[str], network: Collection[str]) -> list[str]:
    return list(dict.fromkeys(prefix for name in network for prefix in _prefixes(state, [name])))


def same_weights(one: Found, other: Found) -> bool:
    """Whether two networks have the same tensors, as where a trainer keeps a network under two names."""
    if one.state.keys() != other.state.keys():
        return False
    return all(t.shape == other.state[k].shape and torch.equal(t, other.state[k]) for k, t in one.state.items())


def averaged(found: Sequence[Found]) -> list[Found]:
    """Those of the networks that are averages over a training (EMA, SWA), by the keys under which they lie."""
    before = [BEFORE_AVERAGING in each.place.split(".") for each in found]
    if any(before):
        return [each for each, plain in zip(found, before, strict=True) if not plain]
    return [each for each in found if _words(each.place) & _AVERAGED]


def _words(place: str) -> set[str]:
    """``state_dict.modelEMA`` → state, dict, model, ema."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", place)}


def set_aside(key: str) -> bool:
    """Whether a tensor belongs to a loss, a metric or an optimiser by its name, so that no network needs it."""
    return _ASIDE.search(key) is not None
