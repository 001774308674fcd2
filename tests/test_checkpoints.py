"""A network is found in a checkpoint, whatever its trainer put around it, and nothing of it is guessed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfalign._errors import BadInput
from cfalign.classifiers.families.checkpoint import file_of, read

State = dict[str, Tensor]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


NAMES = list(network().state_dict())
PREFIXES = ("", "module.", "_orig_mod.", "model.", "net.", "backbone.", "classifier.model.", "_fsdp_wrapped_module.")
CONTAINERS: dict[str, Callable[[State], Any]] = {
    "alone": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "args": {"lr": 0.1}},
    "any key": lambda state: {"my_net": state, "step": 3},
    "nested": lambda state: {"trainer": {"network": state}},
    "with optimiser": lambda state: {
        "model_state_dict": state,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    },
    "Lightning": lambda state: {
        "state_dict": {**state, "criterion.pos_weight": torch.ones(2), "val_acc.correct": torch.zeros(1)},
        "pytorch-lightning_version": "2.5",
    },
}


def saved(folder: Path, content: Any) -> Path:
    file = folder / "c.pt"
    torch.save(content, file)
    return file


@pytest.mark.parametrize(("outer", "inner", "container"), list(product(PREFIXES, PREFIXES, CONTAINERS)))
def test_every_wrapper_in_every_container(tmp_path: Path, outer: str, inner: str, container: str) -> None:
    state = network().state_dict()
    wrapped = {outer + inner + name: tensor for name, tensor in state.items()}
    found = read(saved(tmp_path, CONTAINERS[container](wrapped))).state_of(NAMES)
    assert {name: found[name].tolist() for name in NAMES} == {name: t.tolist() for name, t in state.items()}


def test_what_is_set_aside_is_told(tmp_path: Path) -> None:
    state = {f"model.{k}": v for k, v in network().state_dict().items()} | {"criterion.pos_weight": torch.ones(2)}
    checkpoint = read(saved(tmp_path, {"state_dict": state}))
    assert set(checkpoint.state_of(NAMES)) == set(NAMES)
    assert checkpoint.remarks == ["c.pt: tensors of losses and metrics were set aside: 'criterion.pos_weight'."]


def test_weights_that_no_network_needs_are_no_guess(tmp_path: Path) -> None:
    state = {f"backbone.{k}": v for k, v in network().state_dict().items()} | {"head.weight": torch.ones(2, 2)}
    with pytest.raises(
        BadInput, match=r"holds other weights, 'head\.weight', beside .* 'backbone'; save the network alone"
    ):
        read(saved(tmp_path, state)).state_of(NAMES)
    assert set(read(f"{saved(tmp_path, state)}#weights=backbone").state_of(NAMES)) == set(NAMES)


def test_a_network_that_lacks_a_tensor_is_refused_by_its_name(tmp_path: Path) -> None:
    state = {f"net.{k}": v for k, v in network().state_dict().items() if k != "2.bias"}
    with pytest.raises(BadInput, match=r"lacks '2\.bias', expected among its weights under 'net'"):
        read(saved(tmp_path, state)).state_of(NAMES)


def test_two_networks_that_differ_are_chosen_by_name(tmp_path: Path) -> None:
    student, teacher = network(1).state_dict(), network(2).state_dict()
    file = saved(tmp_path, {"student": student, "teacher": teacher})
    with pytest.raises(BadInput, match="holds 2 different networks that fit, 'student' and 'teacher'; say which"):
        read(file).state_of(NAMES)
    for name, state in (("student", student), ("teacher", teacher)):
        assert torch.equal(read(f"{file}#weights={name}").state_of(NAMES)["0.weight"], state["0.weight"])
    with pytest.raises(BadInput, match="has no network 'pupil'; expected #weights= one of student, teacher"):
        read(f"{file}#weights=pupil").state_of(NAMES)
    same = saved(tmp_path, {"student": student, "teacher": dict(student)})
    assert torch.equal(read(same).state_of(NAMES)["0.weight"], student["0.weight"])


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("model", "ema"), ("state_dict", "swa.state_dict")],
)
def test_averaged_weights_are_taken_and_the_others_on_request(tmp_path: Path, plain: str, averaged: str) -> None:
    one, mean = network(1).state_dict(), network(2).state_dict()
    held = {f"module.{k}": v for k, v in mean.items()} | {"n_averaged": torch.tensor(7)}
    outer, _, inner = averaged.partition(".")
    file = saved(tmp_path, {plain: one, outer: {inner: held} if inner else held})
    checkpoint = read(file)
    assert torch.equal(checkpoint.state_of(NAMES)["0.weight"], mean["0.weight"])
    assert f"the averaged weights, '{averaged}.module', are taken; #weights=plain" in checkpoint.remarks[0]
    chosen = read(f"{file}#weights=plain")
    assert torch.equal(chosen.state_of(NAMES)["0.weight"], one["0.weight"])
    assert not any("averaged" in remark for remark in chosen.remarks)


PAIRS: dict[str, Callable[[State, State], Any]] = {
    "Lightning, WeightAveraging": lambda one, mean: {
        "state_dict": {f"model.{k}": v for k, v in mean.items()},
        "current_model_state": {f"model.{k}": v for k, v in one.items()},
        "averaging_state": {"n_averaged": torch.tensor(3)},
    },
    "Lightning, a module with an average": lambda one, mean: {
        "state_dict": {
            **{f"net.{k}": v for k, v in one.items()},
            **{f"net_ema.module.{k}": v for k, v in mean.items()},
            "net_ema.n_averaged": torch.tensor(3),
        }
    },
    "a name in camel case": lambda one, mean: {"model": one, "modelEMA": mean},
    "a moving average with its rate": lambda one, mean: {"model": one, "ema": {"decay": 0.99, "module": mean}},
    "the average first": lambda one, mean: {"avg_model": mean, "model": one},
}


@pytest.mark.parametrize("kind", PAIRS)
def test_averaged_weights_of_every_trainer(tmp_path: Path, kind: str) -> None:
    one, mean = network(1).state_dict(), network(2).state_dict()
    file = saved(tmp_path, PAIRS[kind](one, mean))
    for choice, wanted in (("", mean), ("#weights=averaged", mean), ("#weights=plain", one)):
        checkpoint = read(f"{file}{choice}")
        assert torch.equal(checkpoint.state_of(NAMES)["0.weight"], wanted["0.weight"])
        assert len(checkpoint.remarks) == (not choice)


def test_an_average_alone(tmp_path: Path) -> None:
    mean = network(2).state_dict()
    file = saved(tmp_path, {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in mean.items()}})
    checkpoint = read(file)
    assert torch.equal(checkpoint.state_of(NAMES)["0.weight"], mean["0.weight"])
    assert not checkpoint.remarks
    alone = saved(tmp_path, {"state_dict_ema": mean})
    with pytest.raises(BadInput, match=r"averaged weights alone, 'state_dict_ema'"):
        read(f"{alone}#weights=plain").state_of(NAMES)


def test_the_file_of_a_spec(tmp_path: Path) -> None:
    assert file_of(f"{tmp_path}/c.pt#weights=plain") == file_of(tmp_path / "c.pt") == tmp_path / "c.pt"


def test_a_file_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no names and tensors"):
        read(saved(tmp_path, {"epoch": 3}))
