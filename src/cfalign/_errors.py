"""The error tree.

::

    CfalignError                   anything cfalign raises on purpose; the command line prints it and exits with 2
    ├── BadInput (ValueError)      what the user gave cannot be used: what was expected, what came, where, what to do
    │   └── RunMismatch            a run directory belongs to other settings, models or images, or another schema
    ├── BadModel (RuntimeError)    a model broke its contract while it ran: shape, range, NaN, an error of its own
    └── StorageFailed (OSError)    the disk refused (full, read-only); what was written before is whole
    ModelWarning (UserWarning)     nothing is refused, but the person should know how a model is read
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches


class CfalignError(Exception):
    """Anything that cfalign raises on purpose. ``str(error)`` is a sentence for the user.

    >>> import cfalign as cfa
    >>> try:
    ...     cfa.classifiers.load("embeded")
    ... except cfa.CfalignError as error:
    ...     print(error)
    Unknown classifier 'embeded'; expected embedded, ...
    """


class BadInput(CfalignError, ValueError):
    """What the user gave cannot be used. The message says what was expected, what came, where, and what to do.

    >>> import cfalign as cfa
    >>> cfa.classifiers.load("embedded")["smilin"]
    Traceback (most recent call last):
    cfalign._errors.BadInput: Classifier 'embedded' has no target 'smilin'; nearest valid: smiling, ...
    """


class RunMismatch(BadInput):
    """A run directory belongs to other settings, models or images, or was written in another schema version.

    The message names the first differences. Nothing in the directory was changed.
    """


class BadModel(CfalignError, RuntimeError):
    """A model broke its contract while it ran: another shape, values out of range, NaN for all, or an error of its own.

    It is no ``BadInput``: what was given could be used, what the model did with it could not.

    >>> import torch
    >>> import cfalign as cfa
    >>> box = cfa.classifiers.black_box(lambda x: 2 + x.mean(dim=(1, 2, 3)), ["bright"])
    >>> box.logits(torch.zeros(1, 3, 8, 8))
    Traceback (most recent call last):
    cfalign._errors.BadModel: Classifier 'black_box' returned values between 2 and 2; expected probabilities in ...
    """


class ModelWarning(UserWarning):
    """Something about a model that a person should know: how its outputs are read, that its answers are not steady, or
    that memory does not hold its passes.

    The command line prints it; ``run.json`` keeps the first two.
    """


class StorageFailed(CfalignError, OSError):
    """The disk refused: full, read-only, not permitted. Everything that was written before is whole."""


_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@contextmanager
def heard(listener: Callable[[str], None]) -> Iterator[None]:
    """Inside, ``warn`` calls the listener, whatever filters of warnings a user's library sets when it is imported."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def warn(sentence: str, kind: type[Warning], *, stacklevel: int) -> None:
    """Tell a person something odd: a warning of Python, or where somebody listens (``heard``), a call of the listener.

    It is logged too. ``stacklevel``: whose line is shown, 1 that of the caller.
    """
    logging.getLogger(__name__).warning(sentence)
    listener = _LISTENER.get()
    if listener is None:
        warnings.warn(sentence, kind, stacklevel=stacklevel + 1)
    else:
        listener(sentence)


def nearest(name: str, valid: Iterable[str], *, most: int = 3) -> str:
    """The valid names closest to ``name``, ready to be put at the end of a sentence."""
    names = list(valid)
    close = get_close_matches(name, names, n=most, cutoff=0.4)
    if close:
        return "nearest valid: " + ", ".join(close)
    return "valid: " + ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
