"""What a black box returns, whatever its form, as one array of numbers with a column per target.

Arrays, lists, tensors, sparse matrices, tables of pandas and polars, dicts, and the lists of scikit-learn's
multi-output estimators are read. Columns with names are taken by name, never by position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import gt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfalign._errors import BadInput, BadModel
from cfalign._heads.names import matching
from cfalign.classifiers.answers import PROBABILITIES

Array = NDArray[Any]


def as_tensor(
    out: Any,
    *,
    name: str,
    targets: Sequence[str],
    classes: Sequence[str] | None = None,
    outputs: Sequence[int] | None = None,
) -> Tensor:
    """The answer as float32 without its gradient, in the shape that it came in.

    ``classes``: the names of the columns of an array, see ``columns_of``; those of the targets are picked.
    ``outputs``: the column of every target where there is an array each, see ``classes_of_outputs``.
    Raises BadModel for what holds no numbers, and for columns whose names are not the targets.
    """
    if isinstance(out, Tensor):
        answer = out.detach().float()
    elif (named := _named_columns(out)) is None:
        answer = torch.from_numpy(_array(_of_outputs(out, len(targets), outputs), name=name))
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
    owner, classes = _owner(function)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or not len(classes):
        return None  # none, or one list for each of several outputs
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


def classes_of_outputs(function: Callable[..., Any], targets: Sequence[str]) -> tuple[int, ...] | None:
    """The column of every target among the classes of its output, where a method of a fitted scikit-learn estimator has
    several outputs: the class that is called as the target, else the second of two. None where it has not.

    Raises BadInput for more than two classes, none of which is called as the target.
    """
    owner, outputs = _owner(function)
    if not isinstance(outputs, list) or len(outputs) != len(targets):
        return None
    columns = []
    for target, classes in zip(targets, outputs, strict=True):
        names = tuple(map(str, np.asarray(classes).tolist()))
        called = matching(target, names)
        if called is None and len(names) != 2:
            raise BadInput(
                f"The classes of an output of {type(owner).__name__} are {', '.join(map(repr, names[:6]))}, without "
                f"{target!r}; expected a target that is called as the class that it means."
            )
        columns.append(1 if called is None else names.index(called))
    return tuple(columns)


def guessed(function: Callable[..., Any], targets: Sequence[str], columns: Sequence[int]) -> list[str]:
    """A sentence for every target that is no class of its output, where the classes are texts: which of them it is."""
    _, outputs = _owner(function)
    read = [
        (t, str(classes[c]))
        for t, classes, c in zip(targets, outputs, columns, strict=True)
        if isinstance(classes[0], str)
    ]
    return [f"Target {t!r} is read as the class {c!r} of its output." for t, c in read if matching(t, [c]) is None]


def _owner(function: Callable[..., Any]) -> tuple[Any, Any]:
    """The estimator that a method belongs to, and its ``classes_``; None for what there is not."""
    owner = getattr(function, "__self__", None)
    try:
        return owner, getattr(owner, "classes_", None)
    except Exception:  # a property of an estimator that is not fitted, of whatever library
        return owner, None


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


def _of_outputs(out: Any, targets: int, outputs: Sequence[int] | None) -> Any:
    """The probabilities of one class of every output, where there is an array [image, class] for each.

    ``outputs``: the class of each; by default the second of two.
    """
    several = isinstance(out, list | tuple) and len(out) == targets
    if not several or not all(isinstance(each, np.ndarray) and each.ndim == 2 for each in out):
        return out
    columns = outputs or [1] * targets
    widths = [each.shape[1] for each in out]
    known = all(width == 2 for width in widths) if outputs is None else all(map(gt, widths, columns))
    return np.stack([each[:, column] for each, column in zip(out, columns, strict=True)], axis=1) if known else out


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
