"""The identity of a model sees everything that decides its answer, and nothing else."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

import cfalign as cfa
import worlds
from cfalign import autoencoders
from cfalign._errors import BadInput, RunMismatch
from cfalign._models.fingerprint import UNKNOWN, fingerprint
from cfalign.classifiers import Preprocessing, black_box, wrap

Box = Callable[[Any], Any]


class Projection:
    """A user's autoencoder without torch modules."""

    def __init__(self, scale: float = 1.0) -> None:
        self.basis, self.scale, self._offset = np.eye(3), scale, 0.0

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, latents: Tensor) -> Tensor:
        return latents


def _net(seed: int = 0, dropout: float = 0.1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Dropout(dropout))


# -- every way in which a number may decide an answer: each maker puts its argument somewhere else ---------------------


def in_a_closure(number: float) -> Box:
    return lambda x: x * number


def in_a_tensor_of_a_closure(number: float) -> Box:
    scale = torch.tensor([number])
    return lambda x: x * scale


def in_a_nested_function(number: float) -> Box:
    def outer(x: Any) -> Any:
        def inner(y: Any) -> Any:
            return y * number

        return inner(x)

    return outer


def in_the_code(number: float) -> Box:
    found: dict[str, Any] = {}
    exec(f"def box(x):\n    return (lambda y: y * {number})(x)", found)
    return found["box"]  # type: ignore[no-any-return]


def in_a_default(number: float) -> Box:
    def box(x: Any, scale: float = number) -> Any:
        return x * scale

    return box


def in_a_keyword_default(number: float) -> Box:
    def box(x: Any, *, scale: float = number) -> Any:
        return x * scale

    return box


def _scaled(x: Any, scale: Any, *, shift: float = 0.0) -> Any:
    return x * scale + shift


def in_a_partial(number: float) -> Box:
    return partial(lambda scale, x: x * scale, number)


def in_a_keyword_of_a_partial(number: float) -> Box:
    return partial(_scaled, scale=number)


def in_a_partial_of_a_partial(number: float) -> Box:
    return partial(partial(_scaled, scale=np.float64(number)), shift=0.5)


def in_an_attribute_of_a_function(number: float) -> Box:
    def box(x: Any) -> Any:
        return x * box.scale  # type: ignore[attr-defined]

    box.scale = number  # type: ignore[attr-defined]
    return box


class Scorer:
    """An object whose state is whatever it is given."""

    def __init__(self, **state: Any) -> None:
        vars(self).update(state)

    def __call__(self, x: Any) -> Any:
        return x

    def score(self, x: Any) -> Any:
        return x


def in_a_bound_method(number: float) -> Box:
    return Scorer(scale=number).score


def in_a_hidden_attribute(number: float) -> Box:
    return Scorer(_scale=number)


def in_a_dict(number: float) -> Box:
    return Scorer(scales={"smiling": {"low": number}})


def in_a_key_of_a_dict(number: float) -> Box:
    return Scorer(scales={number: "smiling"})


def in_a_list_in_a_tuple(number: float) -> Box:
    return Scorer(scales=(1.0, [number, "a"]))


def in_a_set(number: float) -> Box:
    return Scorer(scales={0.1, number})


def in_an_array_of_objects(number: float) -> Box:
    return Scorer(parts=np.array([None, {"scale": number}], dtype=object))


def in_an_array_of_records(number: float) -> Box:
    return Scorer(parts=np.array([(1, number)], dtype=[("at", "i1"), ("scale", "f8")]))


class Slotted:
    __slots__ = ("__hidden", "scale")

    def __init__(self, scale: float, hidden: float = 1.0) -> None:
        self.scale, self.__hidden = scale, hidden

    def __call__(self, x: Any) -> Any:
        return x * self.scale * self.__hidden


def in_a_slot(number: float) -> Box:
    return Slotted(number)


def in_a_private_slot(number: float) -> Box:
    return Slotted(1.0, number)


@dataclass(frozen=True)
class Settings:
    scale: float
    names: list[str] = field(default_factory=list)


def in_a_dataclass(number: float) -> Box:
    return Scorer(settings=Settings(number))


def in_a_class(number: float) -> Box:
    class WithScale:
        scale: ClassVar[float] = number

        def __call__(self, x: Any) -> Any:
            return x * self.scale

    return WithScale()


def in_a_base_class(number: float) -> Box:
    class Base:
        scale: ClassVar[dict[str, float]] = {"scale": number}

    class Derived(Base):
        def __call__(self, x: Any) -> Any:
            return x * self.scale["scale"]

    return Derived()


def in_a_static_method_and_a_property(number: float) -> Box:
    class WithParts:
        @staticmethod
        def scaled(x: Any) -> Any:
            return x * number

        @property
        def shift(self) -> float:
            return number + 1

        def __call__(self, x: Any) -> Any:
            return self.scaled(x) + self.shift

    return WithParts()


class Numbers(list[float]):
    """A list with a little more."""


def in_a_subclass_of_list(number: float) -> Box:
    numbers = Numbers([1.0])
    numbers.scale = number  # type: ignore[attr-defined]
    return Scorer(numbers=numbers)


def behind_a_decorator(number: float) -> Box:
    @functools.lru_cache
    def scale() -> float:
        return number

    @torch.no_grad()
    def box(x: Any) -> Any:
        return x * scale()

    return box


SCALES = {"half": 0.5}


def _by_global_name(x: Any) -> Any:
    return x * SCALES["half"]


def in_a_global(number: float) -> Box:
    """Called by a function that is itself a global of another's."""
    copy = types.FunctionType(_by_global_name.__code__, {"SCALES": {"half": number}})
    return types.FunctionType(in_a_global_.__code__, {"_by_global_name": copy})


def in_a_global_(x: Any) -> Any:
    return [_by_global_name(part) for part in x]


def in_a_module_of_the_user(number: float) -> Box:
    module = types.ModuleType("of_the_user")
    module.scale = number  # type: ignore[attr-defined]
    sys.modules["of_the_user"] = module
    module.__file__ = __file__
    return types.FunctionType(in_a_module_.__code__, {"of_the_user": module})


def in_a_module_(x: Any) -> Any:
    return x * of_the_user.scale  # type: ignore[name-defined]


def in_a_module_imported_when_called(number: float) -> Box:
    module = types.ModuleType("imported_late")
    module.scale, module.__file__ = number, __file__  # type: ignore[attr-defined]
    sys.modules["imported_late"] = module

    def box(x: Any) -> Any:
        from imported_late import scale  # type: ignore[import-not-found]

        return x * scale

    return box


class Estimator:
    """As scikit-learn keeps what it has learned."""

    def __init__(self, coefficients: Any) -> None:
        self.coef_, self._n_features = coefficients, 3

    def predict(self, x: Any) -> Any:
        return x @ self.coef_


def in_an_estimator(number: float) -> Box:
    return Estimator(np.array([[number, 1.0, 2.0]])).predict


class Table(nn.Module):
    """A buffer that is no part of its state."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(number), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale  # type: ignore[operator]


def in_a_buffer_that_is_not_saved(number: float) -> Box:
    return Table(number)


def in_an_attribute_of_a_module(number: float) -> Box:
    module = _net()
    module._temperature = {"scale": number}  # type: ignore[assignment]
    return module


def in_a_hook(number: float) -> Box:
    module = _net()
    module[1].register_forward_hook(lambda module, args, out: out * number)  # type: ignore[index]
    return module


def in_a_module_of_a_list(number: float) -> Box:
    return Scorer(members=[_net(), Table(number)])


def in_a_generator(number: float) -> Box:
    return Scorer(noise=torch.Generator().manual_seed(int(number * 10)), other=np.random.default_rng(int(number * 10)))


def in_bfloat16(number: float) -> Box:
    return Scorer(scale=torch.tensor(number, dtype=torch.bfloat16))


def in_a_sparse_tensor(number: float) -> Box:
    return Scorer(scale=torch.tensor([[0.0, number]]).to_sparse())


MAKERS = [
    value for name, value in list(globals().items()) if name.startswith(("in_", "behind_")) and not name.endswith("_")
]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_number_counts_wherever_it_is(make: Callable[[float], Box]) -> None:
    low, again, high = (fingerprint(black_box(make(number), ["a"], name="box")) for number in (0.3, 0.3, 1.5))
    assert low == again
    assert not low.startswith(UNKNOWN)
    assert low != high
    assert fingerprint(make(0.3)) != fingerprint(make(1.5)), "also outside of a wrapper"


def test_a_fingerprint_stays_when_nothing_that_matters_changes() -> None:
    net = _net()
    first = fingerprint(wrap(net, ["a", "b"]))
    net.eval()
    net.requires_grad_(False)
    assert fingerprint(wrap(net, ["a", "b"])) == first
    net[1].weight.grad = torch.ones(2, 4)  # type: ignore[index, union-attr]
    assert fingerprint(wrap(net, ["a", "b"])) == first
    wrapped = wrap(net, ["a", "b"])
    wrapped.spec = "somewhere/else.py:make"
    wrapped.logits(torch.rand(2, 1, 2, 2))
    assert fingerprint(wrapped) == first
    assert fingerprint(Projection()) == fingerprint(Projection())


def test_the_order_of_attributes_and_keywords_decides_nothing() -> None:
    assert fingerprint(Scorer(a=1, b=[2])) == fingerprint(Scorer(b=[2], a=1))
    assert fingerprint(partial(_scaled, scale=1, shift=2)) == fingerprint(partial(_scaled, shift=2, scale=1))
    assert fingerprint(Scorer(a={"x", "y", "z"})) == fingerprint(Scorer(a={"z", "y", "x"}))
    assert fingerprint(Scorer(a={"x": 1, "y": 2})) != fingerprint(Scorer(a={"y": 2, "x": 1})), "code may iterate it"
    tied, copied = nn.Linear(2, 2), [nn.Linear(2, 2), nn.Linear(2, 2)]
    for one in copied:
        one.load_state_dict(tied.state_dict())
    assert fingerprint(Scorer(parts=[tied, tied])) == fingerprint(Scorer(parts=copied))


def test_objects_that_hold_themselves_are_hashed_once() -> None:
    def loop(scale: float) -> Scorer:
        made = Scorer(scale=scale)
        vars(made).update(me=made, children=[Scorer(parent=made)])
        return made

    assert fingerprint(loop(1.0)) == fingerprint(loop(1.0)) != fingerprint(loop(2.0))


def test_a_fingerprint_changes_with_everything_that_decides_the_answers() -> None:
    net = _net()
    moved, shifted = Projection(), Projection()
    moved.basis = np.eye(3) * 2
    shifted._offset = 0.1
    other = _net(dropout=0.2)
    other.load_state_dict(net.state_dict())
    threshold = 0.5
    models = [
        wrap(net, ["a", "b"]),
        wrap(_net(1), ["a", "b"]),
        wrap(net, ["b", "a"]),
        wrap(net, ["a", "b"], link="softmax"),
        wrap(net, ["a", "b"], size=2),
        wrap(net, ["a", "b"], normalize=([0.5], [0.5])),
        wrap(net, ["a", "b"], normalize=([0.4], [0.5])),
        wrap(net, ["a", "b"], prepare=Preprocessing(resize=2)),
        wrap(net, ["a", "b"], prepare=Preprocessing(resize=2, antialias=False)),
        wrap(net, ["a", "b"], prepare=Preprocessing(resize=2, crop=(2, 2))),
        wrap(net, ["a", "b"], prepare=lambda x: x),
        wrap(net, ["a", "b"], prepare=lambda x: x * threshold),
        wrap(other, ["a", "b"]),
        Projection(),
        Projection(2.0),
        moved,
        shifted,
        black_box(lambda x: x.mean(dim=(1, 2, 3)), ["a"]),
        black_box(lambda x: x.amax(dim=(1, 2, 3)), ["a"]),
        black_box(lambda x: x.amax(dim=(1, 2, 3)) * threshold, ["a"]),
        black_box(lambda x: net(x), ["a"]),
        black_box(partial(torch.mean, dim=(1, 2, 3)), ["a"], numpy=True),
        black_box(partial(torch.amax, dim=(1, 2, 3)), ["a"], numpy=True),
        black_box(np.tanh, ["a"]),
        black_box(np.cosh, ["a"]),
        *(black_box(f, ["a"]) for f in (lambda x: x * 0.3, lambda x: x * 1.5)),  # two on one line
    ]
    prints = [fingerprint(m) for m in models]
    assert len(set(prints)) == len(prints)
    assert not any(found.startswith(UNKNOWN) for found in prints)


def iter_of_three() -> Iterator[int]:
    yield from range(3)


def test_what_cannot_be_compared_is_never_taken_for_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (tmp_path / "file").open() as file:
        for held, named in (
            (file, "TextIOWrapper"),
            (iter_of_three(), "generator"),
            (threading.local(), "local"),
        ):
            box = black_box(Scorer(parts=[held]), ["a"])
            one, other = fingerprint(box), fingerprint(box)
            assert one.startswith(UNKNOWN)
            assert named in one
            assert one != other
        versioned = [fingerprint(black_box(Scorer(parts=[file]), ["a"], version=v)) for v in ("1", "1", "2")]
    assert versioned[0] == versioned[1] != versioned[2]


def test_locks_and_loggers_decide_nothing() -> None:
    import logging

    log = logging.getLogger("a model's")

    def make(scale: float) -> Any:
        lock, held = threading.Lock(), Scorer(scale=scale)

        def box(x: Any) -> Any:
            with lock:
                log.info("called")
                return held(x)

        return black_box(box, ["a"])

    assert fingerprint(make(0.3)) == fingerprint(make(0.3)) != fingerprint(make(1.5))


def test_a_version_stands_for_the_module() -> None:
    one, other = (wrap(_net(seed), ["a", "b"], version="2024-05") for seed in (0, 1))
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint(wrap(_net(), ["a", "b"], version="2024-06"))
    assert fingerprint(one) != fingerprint(wrap(_net(), ["a", "b"], version="2024-05", link="softmax"))
    for wrong in ("", "  "):
        with pytest.raises(BadInput, match="version must be a text"):
            wrap(_net(), ["a", "b"], version=wrong)


def test_torchscript_counts_by_code_and_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripts = [torch.jit.trace(Table(n), torch.ones(1)) for n in (0.3, 0.3, 1.5)]  # type: ignore[no-untyped-call]
        traced = [torch.jit.trace(f, torch.ones(1)) for f in (torch.sin, torch.cos)]  # type: ignore[no-untyped-call]
    one, same, other = (fingerprint(black_box(s, ["a"])) for s in scripts)
    assert one == same != other
    assert len({fingerprint(t) for t in traced}) == 2
    assert not one.startswith(UNKNOWN)


def test_tensors_within_a_tensor_count() -> None:
    """As quantised weights of libraries are made."""

    def net(scale: float) -> nn.Module:
        held = _net()
        held.codes = TwoTensor(torch.arange(6.0), torch.full((6,), scale))
        return held

    one, same, other = (fingerprint(wrap(net(scale), ["a", "b"])) for scale in (0.5, 0.5, 0.25))
    assert one == same != other
    assert not one.startswith(UNKNOWN)


def test_tensors_without_values_have_a_fingerprint() -> None:
    assert not fingerprint(nn.Sequential(nn.LazyLinear(2))).startswith(UNKNOWN)


def test_a_compiled_module_is_its_module() -> None:
    net = _net().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(net, backend="eager")
    assert fingerprint(compiled) == fingerprint(net)


def test_embedded_models_are_known() -> None:
    for model in (cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")):
        assert not fingerprint(model).startswith(UNKNOWN)


def test_a_fingerprint_is_the_same_in_every_process_and_place(tmp_path: Path) -> None:
    text = (
        "import math, pathlib, numpy as np, torch\nfrom torch import nn\nfrom cfalign.classifiers import black_box\n"
        "import neighbour\nHERE = pathlib.Path(__file__).parent / 'weights'\nNAMES = {'a', 'b', 'c', 'd'}\n"
        "class Coder(nn.Module):\n"
        "    def encode(self, x): return x\n"
        "    def decode(self, z): return z if HERE else neighbour.factor\n"
        "class Plain:\n    def __init__(self):\n        self.me, self.f, self.table = self, math.sin, np.arange(3.0)\n"
        "        self.known, self.label = {id(self)}, f'{id(self)}_node'  # as Keras remembers its layers\n"
        "PLAIN = Plain()\n"
        "def box(): return black_box(lambda x: x.mean((1, 2, 3)) * len(NAMES) + bool(PLAIN), ['a'], name='box')\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__(); torch.manual_seed(0); self.layer = nn.Conv2d(3, 1, 2, stride=2)\n"
        "    def forward(self, x): return self.layer(x).flatten(1)[:, :1]\n"
        "def script(): return black_box(torch.jit.script(Net()), ['a'], name='script')\n"
    )
    found = set()
    for i, folder in enumerate((tmp_path / "one", tmp_path / "two")):
        folder.mkdir()
        (folder / "own.py").write_text(text)
        (folder / "neighbour.py").write_text("factor = 1.0\n")
        code = (
            "from cfalign._models.fingerprint import fingerprint; from cfalign import autoencoders, classifiers;"
            f"print(fingerprint(autoencoders.load({str(folder / 'own.py')!r} + ':Coder')),"
            f"fingerprint(classifiers.load({str(folder / 'own.py')!r} + ':box')),"
            f"fingerprint(classifiers.load({str(folder / 'own.py')!r} + ':script')))"
        )
        environment = {**os.environ, "PYTHONHASHSEED": str(i), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
        )
        found.add(ended.stdout)
    assert len(found) == 1, found
    assert UNKNOWN not in found.pop()
    (tmp_path / "two" / "own.py").write_text(text.replace("return z", "return -z"))
    prints = {fingerprint(autoencoders.load(f"{tmp_path / f / 'own.py'}:Coder")) for f in ("one", "two")}
    assert len(prints) == 2, "the code of a model counts"


# -- what it is for ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bank")
    return cfa.bank(worlds.images(12), worlds.heads(), autoencoder=worlds.autoencoder(), out=folder / "bank")


def test_another_model_never_gets_the_results_of_the_first(bank: Any, tmp_path: Path) -> None:
    module = worlds.LinearHeads(worlds.SHORTCUT)

    def make(scale: float) -> Any:
        return black_box(lambda x: torch.sigmoid(scale * module(x)), ["friendly"], name="box")

    first = cfa.audit(bank, make(0.3), out=tmp_path / "run")
    before = (first.path / "matrix.csv").read_bytes()
    with pytest.raises(RunMismatch, match=r"models\.classifiers"):
        cfa.audit(bank, make(1.5), out=tmp_path / "run")
    assert (first.path / "matrix.csv").read_bytes() == before
    other = cfa.audit(bank, make(1.5), out=tmp_path / "other")
    assert other.effects("friendly")["effect"].to_list() != first.effects("friendly")["effect"].to_list()
    again = cfa.audit(bank, make(0.3), out=tmp_path / "run")
    assert (again.path / "matrix.csv").read_bytes() == before, "the same model resumes"


def test_a_helper_of_the_users_file_counts(bank: Any, tmp_path: Path) -> None:
    text = (
        "import torch, worlds, cfalign as cfa\nNET, MEAN = worlds.LinearHeads(worlds.SHORTCUT), 0.0\n"
        "def prepare(x): return x - MEAN\n"
        "class Net(torch.nn.Module):\n    def forward(self, x): return NET(prepare(x))\n"
        "def make(): return cfa.classifiers.wrap(Net(), ['friendly'], name='net')\n"
    )
    file = tmp_path / "model.py"
    for number, mean in enumerate(("0.0", "0.3")):
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        file.write_text(text.replace("0.0", mean))
        model = cfa.classifiers.load(f"{file}:make")
        if number == 0:
            cfa.audit(bank, model, out=tmp_path / "run")
        else:
            with pytest.raises(RunMismatch):
                cfa.audit(bank, model, out=tmp_path / "run")


def test_a_model_that_cannot_be_compared_is_audited_but_not_resumed(bank: Any, tmp_path: Path) -> None:
    module, pool = worlds.LinearHeads(worlds.SHORTCUT), iter_of_three()
    box = black_box(lambda x: torch.sigmoid(module(x)) + 0 * bool(pool), ["friendly"], name="box")
    cfa.audit(bank, box, out=tmp_path / "run")
    with pytest.raises(RunMismatch, match=r"generator.*version"):
        cfa.audit(bank, box, out=tmp_path / "run")
    told = black_box(lambda x: torch.sigmoid(module(x)) + 0 * bool(pool), ["friendly"], name="box", version="1")
    for _ in range(2):
        cfa.audit(bank, told, out=tmp_path / "told")
