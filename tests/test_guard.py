"""The user's models: found wherever they are held, left as they came, and named when their code fails."""

from __future__ import annotations

import random
import warnings
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cfalign._errors import BadInput, BadModel
from cfalign._models.guard import device_of, modules_of, undisturbed, user_code
from cfalign.classifiers import black_box


class Holder:
    """Keeps its modules in the ways that people do."""

    def __init__(self) -> None:
        self.members = {"ensemble": [nn.Linear(1, 1), nn.Linear(1, 1)]}
        self.loop = self

    def predict(self, x: Any) -> Any:
        return x


def test_modules_are_found_wherever_they_are_held() -> None:
    holder, net = Holder(), nn.Linear(2, 2)
    assert modules_of(holder) == holder.members["ensemble"]
    assert modules_of(black_box(holder.predict, ["a"])) == holder.members["ensemble"]
    assert modules_of(black_box(partial(lambda model, x: x, net), ["a"])) == [net]
    assert modules_of(black_box(lambda x: net(x), ["a"])) == [net]
    assert modules_of(black_box(net, ["a"])) == [net]
    assert modules_of(black_box(lambda x, model=net: model(x), ["a"])) == [net]
    assert modules_of(print) == []
    assert device_of(holder) == torch.device("cpu")


def _by_its_name(x: Any) -> Any:
    return _called(x)


def _called(x: Any) -> Any:
    return NET(x)  # type: ignore[name-defined]


class ByItsName:
    """Its code names a module that stands beside it in the user's file."""

    def predict(self, x: Any) -> Any:
        return _called(x)


def test_modules_that_code_names_are_found() -> None:
    net = nn.Linear(2, 2)
    called = FunctionType(_called.__code__, {"NET": net})
    assert modules_of(black_box(called, ["a"])) == [net]
    assert modules_of(black_box(FunctionType(_by_its_name.__code__, {"_called": called}), ["a"])) == [net]
    globals()["NET"] = net
    try:
        assert modules_of(black_box(ByItsName().predict, ["a"])) == [net]
        with undisturbed(ByItsName()):
            assert not net.training
        assert net.training
    finally:
        del globals()["NET"]


def test_undisturbed_restores_every_generator() -> None:
    def drawn() -> tuple[float, float, float]:
        return torch.rand(1).item(), random.random(), float(np.random.rand())  # noqa: NPY002

    def seeded() -> None:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002

    net = nn.Linear(1, 1)
    seeded()
    first = drawn()
    seeded()
    with undisturbed(net):
        assert drawn() == first
    assert drawn() == first


def test_undisturbed_restores_after_an_error() -> None:
    holder = Holder()
    one, two = holder.members["ensemble"]
    two.eval()
    two.weight.requires_grad_(False)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()

    def fail() -> None:
        with undisturbed(holder):
            assert not one.training
            assert not one.weight.requires_grad
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (one.training, two.training) == (True, False)
    assert (one.weight.requires_grad, two.weight.requires_grad) == (True, False)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_has_no_mode_or_no_values_is_left_alone() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        frozen = torch.jit.freeze(torch.jit.script(nn.Linear(2, 2).eval()))
    lazy = nn.Sequential(frozen, nn.LazyLinear(2))
    with undisturbed(lazy):
        assert not lazy.training
    assert lazy.training


def test_what_users_code_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with user_code("The autoencoder"):
        print("epoch 1")
    assert capsys.readouterr() == ("", "epoch 1\n")


def test_errors_of_the_users_code_say_whose_they_are() -> None:
    expected = r"^The autoencoder raised ValueError: two lines\.$"
    with pytest.raises(BadModel, match=expected) as caught, user_code("The autoencoder"):
        raise ValueError("two\n  lines.")
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(MemoryError), user_code("x"):
        raise MemoryError
    with pytest.raises(BadInput, match=r"^ours$"), user_code("x"):
        raise BadInput("ours")
