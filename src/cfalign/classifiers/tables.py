"""What a black box returns, whatever its form, as one array of numbers with a column per target.

Arrays, lists, tensors, sparse matrices, tables of pandas and polars, dicts, and the lists of scikit-learn's
multi-output estimators are read. Columns with names are taken by name, never by position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfalign._errors import BadInput, BadModel
from cfalign._heads.names import matching
from cfalign.classifiers.answers import PROBABILITIES

Array = NDArray[Any]


def as_tensor(out: Any, *, name: str, targets: Sequence[str], classes: Sequence[str] | None = None) -> Tensor:
    """The answer as float32 without its gradient, in the shape that it came in.

    ``classes``: the names of the columns of an array, see ``columns_of``; those of the targets are picked.
    Raises BadModel for what holds no numbers, and for columns whose names are not the targets.
    """
    if isinstance(out, Tensor):
        answer = out.detach().float()
    elif (named := _named_columns(out)) is None:
        answer = torch.from_numpy(_array(_positive(out, len(targets)), name=name))
    elif isinstance(out, Mapping) and (usual := next((key for key in PROBABILITIES if key in named), None)):
        answer = as_tensor(named[usual], name=name, targets=targets)
    else:
        return _by_name(named, name=name, targets=targets)
    return answer if classes is None else _picked(answer, classes, targets)


def columns_of(function: Callable[..., Any], targets: Sequence[str]) -> tuple[str, ...] | None:
    """The names that a method of a fitted scikit-learn estimator has for its columns (``classes_``), if those of the
    targets are among them; None where it has none, or where none of the targets is among them.

    Raises BadInput where only some are.
    """
    owner = getattr(function, "__self__", None)
    try:
        found = getattr(owner, "classes_", None)
    except Exception:  # a property of an estimator that is not fitted, of whatever library
        return None
    if not isinstance(found, np.ndarray) or found.ndim != 1 or not len(found):
        return None  # none, or one list for each of several outputs
    classes = found
    names = tuple(map(str, classes.tolist()))
    lacking = [target for target in targets if matching(target, names) is None]
    if not lacking:
        return names
    if len(lacking) < len(targets):
        raise BadInput(
            f"The classes of {type(owner).__name__} are {', '.join(map(repr, names[:6]))}, without {lacking[0]!r}; "
            "expected targets that are called as its classes, or none that is."
        )
    return None


def _picked(answer: Tensor, classes: Sequence[str], targets: Sequence[str]) -> Tensor:
    """The columns of the targets, where the answer has one per class."""
    if answer.ndim != 2 or answer.shape[1] != len(classes):
        return answer
    return answer[:, [classes.index(str(matching(target, classes))) for target in targets]]


def _named_columns(out: Any) -> dict[str, Any] | None:
    """The columns of a table, a dict or a structured array by name; None where columns have no names."""
    if isinstance(out, Mapping):
        return {str(key): value for key, value in out.items()}
    if isinstance(out, np.ndarray):
        return {key: out[key] for key in out.dtype.names} if out.dtype.names else None
    columns = getattr(out, "columns", None)
    if columns is None or not hasattr(out, "to_numpy"):
        return None
    names = list(columns)
    if names == list(range(len(names))):
        return None  # pandas counts columns that have no names
    return {str(key): out[key] for key in names}


def _by_name(named: Mapping[str, Any], *, name: str, targets: Sequence[str]) -> Tensor:
    keys = [matching(target, list(named)) for target in targets]
    lacking = next((target for target, key in zip(targets, keys, strict=True) if key is None), None)
    if lacking is not None:
        raise BadModel(
            f"Classifier {name!r} returned the columns {', '.join(map(repr, list(named)[:6]))}, without {lacking!r}; "
            "expected a column called as each target, or an array without names."
        )
    columns = [_array(named[str(key)], name=name) for key in keys]
    return torch.from_numpy(np.stack([column.reshape(len(column), -1)[:, 0] for column in columns], axis=1))


def _positive(out: Any, targets: int) -> Any:
    """The probabilities of the second class of every output, where there is an array [image, 2] for each."""
    several = isinstance(out, list | tuple) and len(out) == targets
    if several and all(isinstance(each, np.ndarray) and each.ndim == 2 and each.shape[1] == 2 for each in out):
        return np.stack([each[:, 1] for each in out], axis=1)
    return out


def _array(values: Any, *, name: str) -> Array:
    """Numbers in float32; NaN for what is masked or missing. Raises BadModel for text and other things."""
    if hasattr(values, "toarray"):  # sparse
        values = values.toarray()
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float32), np.nan)
    if isinstance(values, Tensor):
        values = values.detach().float().cpu().numpy()
    plain = np.array(values)
    if plain.dtype.kind == "O":
        known = [np.nan if value is None or type(value).__name__ == "NAType" else value for value in plain.ravel()]
        plain = np.array(known).reshape(plain.shape)
    if plain.dtype.kind not in "fiubUSO":
        raise BadModel(f"Classifier {name!r} returned values of type {plain.dtype}; expected probabilities.")
    try:
        return plain.astype(np.float32)
    except ValueError as error:
        if plain.dtype.kind not in "US" or not plain.ndim:
            raise
        raise BadModel(
            f"Classifier {name!r} returned text ({str(plain.ravel()[0])!r}, …); expected probabilities: call "
            "predict_proba rather than predict."
        ) from error
