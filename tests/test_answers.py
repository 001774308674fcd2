"""What networks and black boxes return in the field: which part of it is taken, and what is refused in one sentence."""

from __future__ import annotations

import copy
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

import cfalign as cfa
from cfalign._errors import BadInput, BadModel, ModelWarning
from cfalign._heads.scoring import respond
from cfalign.classifiers import black_box, wrap

NAMES = ["red", "green", "blue"]


def images(count: int = 5, side: int = 8) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def means(x: Any) -> Any:
    """The right answer, [image, 3]."""
    return x.mean((2, 3))


class Returns(nn.Module):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


# -- auxiliary heads --------------------------------------------------------------------------------------------------

Outputs = namedtuple("Outputs", ["logits", "aux_logits"])
Unusual = namedtuple("Unusual", ["main", "extra"])


@dataclass
class Answer:
    loss: Tensor | None
    logits: Tensor


class Held:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.hidden = -logits


ANSWERS: dict[str, Callable[[Tensor], Any]] = {
    "plain": means,
    "a pair, auxiliary last": lambda x: (means(x), -means(x)),
    "a list of one": lambda x: [means(x)],
    "features and heads": lambda x: (x.flatten(1), means(x)),
    "loss and heads": lambda x: (torch.tensor(0.3), means(x)),
    "named tuple": lambda x: Outputs(means(x), -means(x)),
    "named tuple of other names": lambda x: Unusual(means(x), -means(x)),
    "dict": lambda x: OrderedDict(out=means(x), aux=-means(x)),
    "dict, auxiliary first": lambda x: {"aux": -means(x), "main": means(x)},
    "dict, one fits": lambda x: {"embedding": x.flatten(1), "classes": means(x)},
    "logits and probabilities": lambda x: {"probs": means(x).sigmoid(), "logits": means(x)},
    "probabilities before logits": lambda x: (means(x).sigmoid(), means(x)),
    "logits before softmax": lambda x: (means(x), means(x).softmax(1)),
    "dataclass": lambda x: Answer(None, means(x)),
    "object": lambda x: Held(means(x)),
    "object in a tuple": lambda x: (Outputs(means(x), None), x),
    "one part per target": lambda x: list(means(x).T),
    "one column per target": lambda x: tuple(means(x)[:, i, None] for i in range(3)),
    "by target": lambda x: dict(zip(["blue", "red", "green"], means(x)[:, [2, 0, 1]].T, strict=True)),
    "by target as written": lambda x: {n.upper(): means(x)[:, [i]] for i, n in reversed(list(enumerate(NAMES)))},
    "convolution": lambda x: x.mean((2, 3), keepdim=True),
    "squeezed": lambda x: means(x).squeeze(),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_heads_are_found_in_whatever_a_network_returns(answer: Callable[[Tensor], Any], count: int) -> None:
    x = images(count).requires_grad_(True)
    logits = wrap(Returns(answer), NAMES).logits(x)
    torch.testing.assert_close(logits, means(x))
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
    assert (gradient[:, 1] > 0).all()
    assert not gradient[:, [0, 2]].any()


@pytest.mark.parametrize("answer", ["plain", "squeezed", "a pair, auxiliary last", "by target", "one part per target"])
def test_a_last_batch_of_one_is_read_as_the_others(answer: str) -> None:
    clf = wrap(Returns(ANSWERS[answer]), NAMES)
    x = images(5)
    torch.testing.assert_close(respond(x, [clf], batch=4), means(x))


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 1, 1, 1), ()])
def test_one_head_of_one_image_in_every_shape(shape: tuple[int, ...]) -> None:
    clf = wrap(Returns(lambda x: x.mean().reshape(shape)), ["bright"])
    assert clf.logits(images(1)).shape == (1, 1)
    box = black_box(lambda x: x.mean().reshape(shape), ["bright"], numpy=True)
    assert box.logits(images(1)).shape == (1, 1)


def test_the_link_chooses_between_logits_and_their_probabilities() -> None:
    for answer in (
        lambda x: (means(x), means(x).sigmoid()),
        lambda x: {"logits": means(x), "probs": means(x).sigmoid()},
    ):
        for link in ("sigmoid", "probability"):
            torch.testing.assert_close(wrap(Returns(answer), NAMES, link=link).logits(images()), means(images()))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: (x, x), r"returned tuple of \[5, 3, 8, 8\], \[5, 3, 8, 8\] for 5 images; expected \[5, 3\]"),
        (lambda x: {"a": means(x), "b": means(x)}, r"returned dict with 'a' \[5, 3\], 'b' \[5, 3\]"),
        (lambda x: {"out": x}, r"returned dict with 'out' \[5, 3, 8, 8\]"),
        (lambda x: None, "returned NoneType"),
        (lambda x: means(x).round().long(), r"numbers of type torch.int64; expected logits, .* before argmax"),
        (lambda x: means(x) > 0.5, "numbers of type torch.bool"),
        (lambda x: means(x).to(torch.complex64), "numbers of type torch.complex64"),
    ],
)
def test_answers_without_one_part_that_fits(answer: Callable[[Tensor], Any], sentence: str) -> None:
    with pytest.raises(BadModel, match=sentence):
        wrap(Returns(answer), NAMES).logits(images())


# -- number types -----------------------------------------------------------------------------------------------------


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 4, 3)
        self.heads = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(self.features(x).mean((2, 3)).to(self.heads.weight.dtype))


def tuned(change: Callable[[nn.Module], Any]) -> nn.Module:
    network = Network()
    change(network)
    return network


TYPES: dict[str, Callable[[nn.Module], Any]] = {
    "half": nn.Module.half,
    "bfloat16": nn.Module.bfloat16,
    "double": nn.Module.double,
    "half stem, single heads": lambda n: n.features.half(),
    "single stem, half heads": lambda n: n.heads.half(),
    "double heads": lambda n: n.heads.double(),
    "channels last": lambda n: n.to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("change", TYPES.values(), ids=TYPES)
def test_images_are_cast_to_the_type_of_the_parameters(change: Callable[[nn.Module], Any]) -> None:
    x = images().requires_grad_(True)
    network = tuned(change)
    types = [p.dtype for p in network.parameters()]
    logits = wrap(network, NAMES).logits(x)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, wrap(Network(), NAMES).logits(x), atol=0.02, rtol=0.02)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert gradient.dtype == torch.float32
    assert gradient.any()
    assert [p.dtype for p in network.parameters()] == types, "the network is left as it came"


def test_autocast_inside_a_network() -> None:
    class Cast(Network):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x)

    assert wrap(Cast(), NAMES).logits(images()).dtype == torch.float32


# -- black boxes ------------------------------------------------------------------------------------------------------


def frame(x: Any, order: tuple[int, ...] = (2, 0, 1)) -> pl.DataFrame:
    return pl.DataFrame({NAMES[i]: means(x)[:, i] for i in order})


def fields(x: Any) -> Any:
    """A structured array."""
    filled = np.zeros(len(x), dtype=[(NAMES[i], "f8") for i in (1, 2, 0)])
    for i, name in enumerate(NAMES):
        filled[name] = means(x)[:, i]
    return filled


def masked(x: Any) -> Any:
    answer = np.ma.masked_array(means(x).astype(np.float64), mask=False)
    answer[0, 1] = np.ma.masked
    return answer


BOXES: dict[str, Callable[[Any], Any]] = {
    "float64": lambda x: means(x).astype(np.float64),
    "lists": lambda x: means(x).tolist(),
    "objects": lambda x: means(x).astype(object),
    "sparse": lambda x: csr_matrix(means(x)),
    "columns in another order": frame,
    "more columns": lambda x: frame(x).with_columns(image=pl.Series(range(len(x)))),
    "fields": fields,
    "dict of lists": lambda x: {n: means(x)[:, i].tolist() for i, n in reversed(list(enumerate(NAMES)))},
    "dict of arrays [n, 1]": lambda x: {n: means(x)[:, [i]] for i, n in reversed(list(enumerate(NAMES)))},
    "probs": lambda x: {"logits": -means(x), "probs": means(x)},
    "several outputs": lambda x: [np.stack([1 - c, c], axis=1) for c in means(x).T],
    "half": lambda x: torch.from_numpy(means(x)).half(),
}


@pytest.mark.parametrize("answer", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("count", [1, 3, 5])
def test_columns_of_black_boxes(answer: Callable[[Any], Any], count: int) -> None:
    x = images(count)
    p = torch.sigmoid(black_box(answer, NAMES, numpy=True).logits(x))
    torch.testing.assert_close(p, means(x), atol=1e-3, rtol=1e-3)


def test_what_is_masked_or_missing_is_nan() -> None:
    x = images()
    for answer in (masked, lambda x: [[None if i == 1 else v for i, v in enumerate(r)] for r in means(x).tolist()]):
        logits = black_box(answer, NAMES, numpy=True).logits(x)
        assert torch.isnan(logits[0, 1])
        assert torch.isfinite(logits[:, [0, 2]]).all()


def test_decisions_are_certain_probabilities() -> None:
    for kind in (bool, np.int64, np.uint8):
        logits = black_box(lambda x, kind=kind: (means(x) > 0.5).astype(kind), NAMES, numpy=True).logits(images())
        assert (logits.abs() > 15).all()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: np.array(["smile"] * len(x)), r"returned text \('smile', …\); .* predict_proba rather than predict"),
        (
            lambda x: frame(x).rename({"red": "crimson"}),
            "returned the columns 'blue', 'crimson', 'green', without 'red'",
        ),
        (lambda x: {"a": means(x)}, "returned the columns 'a', without 'red'"),
        (lambda x: means(x) * np.inf, "values between inf and inf"),
        (lambda x: means(x).astype(complex), "values of type complex128"),
        (lambda x: np.zeros((len(x), 3), "datetime64[s]"), "values of type datetime64"),
        (lambda x: list(means(x).T), r"shape \[3, 5\]"),
    ],
)
def test_what_is_no_table_of_probabilities(answer: Callable[[Any], Any], sentence: str) -> None:
    with pytest.raises(BadModel, match=sentence):
        black_box(answer, NAMES, numpy=True).logits(images())


class Estimator:
    """Like one of scikit-learn: the columns of `predict_proba` are in the order of `classes_`."""

    def __init__(self, classes: Any) -> None:
        self.classes_ = np.array(classes)

    def predict_proba(self, x: Any) -> Any:
        return means(x)[:, : len(self.classes_)].astype(np.float64)


def test_columns_of_an_estimator_are_taken_by_the_names_of_its_classes() -> None:
    x = images()
    columns = {name: means(x)[:, i] for i, name in enumerate(["blue", "green", "red"])}
    for targets in (["red", "green", "blue"], ["Red"], ["blue", "red"]):
        box = black_box(Estimator(["blue", "green", "red"]).predict_proba, targets, numpy=True)
        wanted = torch.stack([columns[t.lower()] for t in targets], dim=1)
        torch.testing.assert_close(torch.sigmoid(box.logits(x)), wanted)
    box = black_box(Estimator([0, 1]).predict_proba, ["1"], numpy=True)
    torch.testing.assert_close(torch.sigmoid(box.logits(x)), means(x)[:, [1]])
    other = black_box(Estimator([0, 1, 2]).predict_proba, NAMES, numpy=True)
    torch.testing.assert_close(torch.sigmoid(other.logits(x)), means(x))
    with pytest.raises(BadInput, match="The classes of Estimator are 'blue', 'red', without 'green'"):
        black_box(Estimator(["blue", "red"]).predict_proba, ["red", "green"], numpy=True)


class Several:
    """A fitted estimator of several outputs, as scikit-learn's k nearest neighbours answer for a table of labels."""

    def __init__(self, *classes: list[Any]) -> None:
        self.classes_ = [np.array(each) for each in classes]

    def predict_proba(self, x: Any) -> Any:
        def shares(column: Any, count: int) -> Any:
            rest = (1 - column) / (count - 1)
            return np.stack([column, *[rest] * (count - 1)], axis=1).astype(np.float64)

        return [shares(means(x)[:, i], len(each)) for i, each in enumerate(self.classes_)]


def test_the_class_of_an_output_is_the_one_called_as_the_target() -> None:
    x = images()
    first, second, third = means(x).T
    model = Several(["hat", "no hat"], [0, 1], ["brown", "grey", "red"])
    box = black_box(model.predict_proba, ["hat", "smiling", "brown"], numpy=True)
    wanted = torch.stack([first, 1 - second, third], dim=1)
    torch.testing.assert_close(torch.sigmoid(box.logits(x)), wanted)
    with pytest.raises(BadInput, match=r"The classes of an output of Several are 'brown', .* without 'hair'"):
        black_box(model.predict_proba, ["hat", "smiling", "hair"], numpy=True)
    with pytest.warns(ModelWarning, match="Target 'sex' is read as the class 'male' of its output"):
        told = black_box(Several(["female", "male"]).predict_proba, ["sex"], numpy=True)
    torch.testing.assert_close(torch.sigmoid(told.logits(x)), 1 - first[:, None])
    assert told.notes


def test_an_embedded_network_of_another_type_is_audited_as_the_same(tmp_path: Any) -> None:
    embedded = cfa.classifiers.load("embedded")
    x = cfa.synthetic.render(cfa.synthetic.sample(4, seed=3))
    half = wrap(copy.deepcopy(embedded.module).half(), embedded.targets)
    torch.testing.assert_close(half.logits(x), embedded.logits(x), atol=0.1, rtol=0.05)
