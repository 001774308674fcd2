"""Two sets of weights in one checkpoint: those of the last step, and their average over the training (EMA, SWA).

The averaged ones are taken, as the loaders of the libraries that write them do (timm's ``state_dict_ema``,
torchvision's ``model_ema``, Lightning's ``WeightAveraging``, ``torch.optim.swa_utils.AveragedModel`` inside a module).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

PLAIN, AVERAGED = "plain", "averaged"
"""The words by which a person chooses: ``FILE#weights=plain``."""
BEFORE_AVERAGING = "current_model_state"
"""Where Lightning's WeightAveraging puts the plain weights; it saves the averaged ones as ``state_dict``."""
_WORDS = frozenset({"ema", "swa", "averaged", "average", "averaging", "avg", "polyak", "shadow", "lerp"})


def is_averaged(place: str) -> bool:
    """Whether the keys and prefix of a set of weights say that they are an average.

    >>> is_averaged("state_dict_ema"), is_averaged("model"), is_averaged("state_dict.ema_model.module")
    (True, False, True)
    """
    return any(word in _WORDS for word in re.findall(r"[a-z]+|[A-Z][a-z]*", place.lower()))


def split(places: Sequence[str]) -> tuple[list[int], list[int]]:
    """The numbers of the places with averaged weights and of those with plain ones."""
    lightning = [BEFORE_AVERAGING in place.split(".") for place in places]
    averaged = [not one for one in lightning] if any(lightning) else [is_averaged(place) for place in places]
    return [i for i, one in enumerate(averaged) if one], [i for i, one in enumerate(averaged) if not one]


def remark(file: str, *, averaged: str, plain: str, taken: str) -> str:
    """The sentence that tells which of the two sets was taken; ``taken``: ``averaged`` or ``plain``."""
    one, other = (averaged, plain) if taken == AVERAGED else (plain, averaged)
    which = AVERAGED if taken == PLAIN else PLAIN
    return (
        f"{file} holds two sets of weights: the {taken} ones ({one!r}) are taken; for the {which} ones ({other!r}) "
        f"give {file}#weights={which}."
    )
