"""Classifiers behind an address: the contract, batches, retries, and answers that break it; a real server each time."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import cfalign as cfa
import worlds
from cfalign._errors import BadInput, BadModel
from cfalign._models.fingerprint import fingerprint
from cfalign.classifiers import load
from cfalign.classifiers.exported.endpoint import load as endpoint
from model_files import DESCRIBED, serving, shortcut

X = worlds.images(9)
EXPECTED = torch.sigmoid(worlds.LinearHeads(worlds.SHORTCUT)(X)).detach()


def posts(asked: list[tuple[str, Any]]) -> list[list[int]]:
    return [content["images"]["shape"] for method, content in asked if method == "POST"]


def test_the_contract() -> None:
    with serving(shortcut, {**DESCRIBED, "batch": 4}) as server:
        read = load(server.address)
        assert (read.name, read.targets, read.differentiable) == ("heads", ("friendly",), False)
        torch.testing.assert_close(torch.sigmoid(read.logits(X)), EXPECTED)
        assert posts(server.asked) == [[4, 3, 16, 16], [4, 3, 16, 16], [1, 3, 16, 16]]
        assert [method for method, _ in server.asked] == ["GET", "POST", "POST", "POST"]
        content = server.asked[1][1]["images"]
        assert set(content) == {"shape", "dtype", "data"}
        assert content["dtype"] == "float32"


def test_sizes_channels_and_what_may_be_left_out() -> None:
    seen: list[Tensor] = []

    def look(images: Tensor) -> list[list[float]]:
        seen.append(images)
        return [[0.25, 0.75]] * len(images)

    with serving(look, {"targets": ["a", "b"], "size": 8, "channels": 1}) as server:
        read = load(server.address)
        logits = read.logits(torch.cat([X, X, X]) * 1.001)
        torch.testing.assert_close(torch.sigmoid(logits)[0], torch.tensor([0.25, 0.75]))
    assert [tuple(images.shape) for images in seen] == [(16, 1, 8, 8), (11, 1, 8, 8)]
    assert all(images.min() >= 0 and images.max() <= 1 for images in seen)
    with serving(look, {"targets": ["a", "b"]}) as server:
        assert load(server.address).logits(X).shape == (9, 2)


@pytest.mark.parametrize("trouble", [503, 500, 502, "reset"])
def test_a_flaky_server_is_asked_again(trouble: Any) -> None:
    with serving(shortcut) as server:
        server.failures = [trouble, trouble]
        read = endpoint(server.address, pause=0.01)
        assert len(server.asked) == 3
        server.failures = [trouble, trouble]
        torch.testing.assert_close(torch.sigmoid(read.logits(X)), EXPECTED)
        assert len(server.asked) == 6
        server.failures = [trouble] * 4
        with pytest.raises(BadInput, match=r"127\.0\.0\.1.* 4 times; start the server"):
            read.logits(X)


def test_pauses_grow() -> None:
    """The second attempt follows at once, the third after 0.2 s, the fourth after 0.4 s."""
    with serving(shortcut) as server:
        server.failures = [503] * 3
        began = time.monotonic()
        endpoint(server.address, pause=0.1)
        assert time.monotonic() - began >= 0.6
        assert len(server.asked) == 4


@pytest.mark.parametrize("code", [400, 401, 404, 422])
def test_a_refusal_is_not_repeated(code: int) -> None:
    with serving(shortcut) as server:
        server.failures = [code]
        with pytest.raises(BadInput, match=f"answered {code} "):
            endpoint(server.address, pause=0.01)
        assert len(server.asked) == 1


def test_a_slow_server() -> None:
    with serving(shortcut) as server:
        server.failures = ["stall"]
        read = endpoint(server.address, timeout=1.5, pause=0.01)
        assert len(server.asked) == 2, "a timeout is asked again"
        server.failures = ["stall"] * 2
        with pytest.raises(BadInput, match=r"gave no answer in 1\.5 s, 2 times"):
            endpoint(server.address, timeout=1.5, pause=0.01, attempts=2)
        server.failures = []
        assert read.logits(X).shape == (9, 1)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(BadInput, match=r"cannot be reached \(connection refused\), 2 times; start the server"):
            endpoint(address, attempts=2, pause=0.01)
    for wrong in ("http://", "http:///heads", "http://127.0.0.1:port/"):
        with pytest.raises(BadInput, match="is no address"):
            load(wrong)


@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", r"did not answer JSON; its answer begins with b'<!DOCTYPE html>"),
        (b"", "did not answer JSON"),
        (b"\xff\xfe\x00", "did not answer JSON"),
        (["friendly"], "does not describe a classifier; expected"),
        ({"classes": ["a"]}, "does not describe a classifier"),
        ({"targets": "friendly"}, "does not describe a classifier"),
        ({"targets": []}, "at least one name"),
        ({"targets": ["a", "A"]}, "Two targets are called 'a'"),
        ({"targets": ["a"], "size": "large"}, "says size 'large'; expected a whole number"),
        ({"targets": ["a"], "batch": 0}, "says batch 0"),
        ({"targets": ["a"], "channels": 4}, "says channels 4; expected 1 or 3"),
    ],
)
def test_descriptions_that_are_none(described: Any, sentence: str) -> None:
    with serving(shortcut, described) as server, pytest.raises(BadModel, match=sentence) as caught:
        load(server.address)
    assert server.address in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: b"<html>", "did not answer JSON"),
        (lambda x: b"[[0.5]]", "without scores"),
        (lambda x: b'{"error": "no"}', "without scores"),
        (lambda x: [0.5] * len(x), r"shape \[9\]; expected \[9, 1\]"),
        (lambda x: [[0.5]] * 3, r"shape \[3, 1\]; expected \[9, 1\]"),
        (lambda x: [[0.5, 0.5]] * len(x), r"shape \[9, 2\]; expected \[9, 1\]"),
        (lambda x: [[0.5]] * 8 + [[]], "no table of numbers"),
        (lambda x: [["high"]] * 9, "no table of numbers"),
        (lambda x: None, "no table of numbers"),
        (lambda x: [[None]] * 9, "no table of numbers"),
        (lambda x: [[float("nan")]] + [[0.5]] * 8, "NaN or infinity"),
        (lambda x: [[3.5]] + [[0.5]] * 8, r"between 0\.5 and 3\.5; expected probabilities"),
        (lambda x: [[-0.01]] + [[0.5]] * 8, r"between -0\.01 and"),
    ],
)
def test_answers_that_break_the_contract(answer: Any, sentence: str) -> None:
    with serving(answer) as server:
        read = load(server.address)
        with pytest.raises(BadModel, match=sentence) as caught:
            read.logits(X)
        assert len(server.asked) == 2, "such an answer is not asked for again"
    assert server.address in str(caught.value)


def test_an_answer_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfalign.classifiers.exported.endpoint.LARGEST", 1000)
    with serving(shortcut, b" " * 2000) as server, pytest.raises(BadModel, match="answered more than"):
        load(server.address)


def test_a_whole_audit_through_a_bank(tmp_path: Path) -> None:
    made = {"autoencoder": worlds.autoencoder(), "out": tmp_path / "bank"}
    bank = cfa.bank(worlds.images(8), worlds.heads(), **made)
    with serving(shortcut) as server:
        run = cfa.audit(bank, load(server.address), out=tmp_path / "run")
    same = cfa.audit(bank, worlds.torch_box(), out=tmp_path / "same")
    ours, theirs = run.effects("friendly"), same.effects("friendly")
    assert ours["attribute"].to_list() == theirs["attribute"].to_list()
    assert ours["effect"].to_list() == pytest.approx(theirs["effect"].to_list(), abs=1e-4, nan_ok=True)


def test_an_endpoint_is_told_apart_by_address_and_description() -> None:
    with serving(shortcut) as server:
        first = fingerprint(load(server.address))
        assert fingerprint(endpoint(server.address, timeout=3.0)) == first
        server.described = {**DESCRIBED, "size": 16}
        assert fingerprint(load(server.address)) != first


def test_the_server_of_the_documentation() -> None:
    text = (Path(__file__).parent.parent / "docs" / "http.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    last = 'HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()'
    assert last in code
    names: dict[str, Any] = {}
    exec(code.replace(last, 'server = HTTPServer(("127.0.0.1", 0), Handler)'), names)
    names["Handler"].log_message = lambda *_: None
    thread = threading.Thread(target=names["server"].serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        read = load(f"http://127.0.0.1:{names['server'].server_port}")
        x = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert (read.name, read.targets) == ("127.0.0.1", ("bright",))
        torch.testing.assert_close(torch.sigmoid(read.logits(x))[:, 0], x.mean(dim=(1, 2, 3)))
    finally:
        names["server"].shutdown()
        names["server"].server_close()
        thread.join()
