"""Tiny models in the files that users have, and a server of one, for tests of what is read and what is refused."""

from __future__ import annotations

import base64
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import worlds

PIXELS = (3, worlds.SIZE, worlds.SIZE)


class Colours(nn.Module):
    """Logits [n, outputs] of the mean of every channel; for images of any size."""

    def __init__(self, outputs: int = 3, channels: int = 3) -> None:
        super().__init__()
        drawn = np.random.default_rng(3).standard_normal((channels, outputs))
        self.weight = nn.Parameter(torch.from_numpy(drawn).float())

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) @ self.weight


def say(file: Path, **content: Any) -> Path:
    """The JSON beside a file."""
    place = file.with_name(f"{file.name}.json")
    place.write_text(json.dumps(content))
    return place


def script(file: Path, module: nn.Module, *example: Tensor) -> Path:
    """TorchScript, traced with an example, or compiled without one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript itself is deprecated, its files are there
        compiled = torch.jit.trace(module, example) if example else torch.jit.script(module)  # type: ignore[no-untyped-call]
        torch.jit.save(compiled, str(file))  # type: ignore[no-untyped-call]
    return file


def program(file: Path, module: nn.Module, *example: Tensor, batch: bool = True) -> Path:
    """A file of ``torch.export``; ``batch``: of any size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("images")},) if batch else None
        torch.export.save(torch.export.export(module.eval(), example, dynamic_shapes=shapes), file)
    return file


def onnx_linear(
    file: Path,
    read: Tensor,
    *,
    batch: int | str = "n",
    last: bool = False,
    pixels: tuple[int | str, ...] = PIXELS,
    flat: bool = False,
    end: str | None = None,
    kind: str = "FLOAT",
    **changes: Any,
) -> Path:
    """(images − 0.5) · read [pixel, head], as ONNX; ``last``: channels last; ``end``: an operator at the end."""
    import onnx
    from onnx import helper, numpy_helper

    def constant(name: str, values: Any) -> Any:
        return numpy_helper.from_array(np.asarray(values), name)

    number = getattr(onnx.TensorProto, kind)
    dtype = {"FLOAT": np.float32, "FLOAT16": np.float16, "DOUBLE": np.float64}.get(kind, np.float32)
    shape = [batch, *((*pixels[1:], pixels[0]) if last else pixels)]
    made = [helper.make_node("Transpose", ["images"], ["first"], perm=[0, 3, 1, 2])] if last else []
    made += [
        helper.make_node("Reshape", ["first" if last else "images", "shape"], ["flat"]),
        helper.make_node("Sub", ["flat", "half"], ["centred"]),
        helper.make_node("MatMul", ["centred", "read"], ["product"]),
        helper.make_node(
            end or "Identity", ["product"], ["raw" if flat else "scores"], domain=changes.get("domain", "")
        ),
    ]
    constants = [
        constant("shape", np.array([batch if isinstance(batch, int) else -1, len(read)], dtype=np.int64)),
        constant("half", np.array(0.5, dtype=dtype)),
        constant("read", read.detach().numpy().astype(dtype)),
    ]
    if flat:
        made.append(helper.make_node("Squeeze", ["raw", "axis"], ["scores"]))
        constants.append(constant("axis", np.array([1], dtype=np.int64)))
    answer = helper.make_tensor_value_info("scores", number, [batch] if flat else [batch, read.shape[1]])
    asked = [helper.make_tensor_value_info("images", number, shape)]
    graph = helper.make_graph(made, "heads", asked, [answer], constants)
    opsets = [helper.make_opsetid("", 17)]
    file.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return file


def onnx_node(file: Path, operator: str, shape: list[Any], out: list[Any], *, kind: str = "FLOAT", **more: Any) -> Path:
    """A model of one operator, ``inputs`` times the same input."""
    import onnx
    from onnx import helper

    number, names = getattr(onnx.TensorProto, kind), [f"x{i}" for i in range(more.pop("inputs", 1))]
    asked = [helper.make_tensor_value_info(name, number, shape) for name in names]
    answered = more.pop("answers", ["y"])
    given = [helper.make_tensor_value_info(name, number, out) for name in answered]
    graph = helper.make_graph([helper.make_node(operator, names, answered, **more)], "one", asked, given)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(made.SerializeToString())
    return file


# -- a server ---------------------------------------------------------------------------------------------------------

Answer = Callable[[Tensor], Any]
DESCRIBED = {"targets": ["friendly"], "size": None, "channels": 3, "batch": 16}


class Server:
    """A server of one model: what it was asked, and what it does before it answers."""

    def __init__(self, answer: Answer, described: Any) -> None:
        self.answer, self.described = answer, described
        self.asked: list[tuple[str, Any]] = []
        self.failures: list[Any] = []
        """What goes wrong first, one per request: a code, "reset", or "stall" for an answer that never comes."""
        self.stopped = threading.Event()
        self.address = ""

    def respond(self, method: str, content: Any) -> bytes | int:
        """The body of an answer, or the code of a failure."""
        self.asked.append((method, content))
        trouble = self.failures.pop(0) if self.failures else None
        if trouble == "stall":
            self.stopped.wait()
        elif trouble is not None:
            return -1 if trouble == "reset" else int(trouble)
        if method == "GET":
            return self.described if isinstance(self.described, bytes) else json.dumps(self.described).encode()
        images = content["images"]
        data = np.frombuffer(base64.b64decode(images["data"]), dtype="<f4").reshape(images["shape"])
        answer = self.answer(torch.from_numpy(data.copy()))
        return answer if isinstance(answer, bytes) else json.dumps({"scores": answer}).encode()


@contextmanager
def serving(answer: Answer, described: Any = DESCRIBED) -> Iterator[Server]:
    """A server on a free port of this machine, while the block runs."""
    server = Server(answer, described)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(server.respond("GET", None))

        def do_POST(self) -> None:
            self._send(server.respond("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def _send(self, found: bytes | int) -> None:
            if found == -1:
                self.close_connection = True
                return
            body = found if isinstance(found, bytes) else b"<html>busy</html>"
            self.send_response(200 if isinstance(found, bytes) else found)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                return  # whoever asked has gone

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{listening.server_port}/heads"
    try:
        yield server
    finally:
        server.stopped.set()
        listening.shutdown()
        listening.server_close()
        thread.join()


def shortcut(images: Tensor) -> list[list[float]]:
    """What ``worlds.audited`` says of images, as probabilities."""
    with torch.no_grad():
        found: list[list[float]] = torch.sigmoid(worlds.LinearHeads(worlds.SHORTCUT)(images)).tolist()
    return found
