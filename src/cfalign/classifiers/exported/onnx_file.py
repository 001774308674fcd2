"""What an ONNX file says that onnxruntime does not tell: where its weights lie, and which operation it ends in.

The file is a message of protocol buffers. Its fields are walked by their numbers; nothing in it is run.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cfalign._errors import BadInput
from cfalign.classifiers.link import Origin, first_of

MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 11: "input", 12: "output", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""Messages of ``onnx.proto`` and their fields that are messages in turn; what is not here is skipped."""
NAMES: Mapping[str, int] = {"input": 1, "output": 1, "tensor": 8}
"""The field that holds the name of a value."""
BOUNDED = frozenset({"Sigmoid", "Softmax", "HardSigmoid"})
FREE = re.compile(r"Gemm|\w*MatMul\w*|\w*Conv\w*|\w*Normalization|LSTM|GRU|RNN|Einsum|FusedGemm|QGemm")
PASSING = re.compile(
    r"Identity|Cast|Squeeze|Unsqueeze|Flatten|Reshape|Transpose|Expand|Concat|Slice|Gather\w*|Split|Tile|Pad|Where|Add|Sub"
    r"|Mul|Div|Neg|Abs|Mean|Sum|Max|Min|Relu|LeakyRelu|Gelu|Reduce(Mean|Sum|Max|Min)|\w*Pool|Dropout|\w*QuantizeLinear"
)
_DEEPEST = 64
_MAIN = 2  # depth of the parts of the main graph

Span = tuple[int, int]
"""Where a message begins and ends in the file."""


@dataclass
class OnnxFacts:
    """What a walk through the file has found."""

    locations: set[str] = field(default_factory=set)
    """Files of external data, as the model names them."""
    makers: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """Operation and inputs by the name of each value of the main graph."""
    named: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in NAMES})
    """Names of its inputs, outputs and constant tensors."""


def facts_of(file: Path) -> OnnxFacts:
    """What the file says. Raises BadInput where it is damaged."""
    found = OnnxFacts()
    try:
        with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _walk(content, (0, len(content)), "model", found, 0)
    except (ValueError, IndexError, OSError) as error:
        raise BadInput(f"{file} cannot be loaded as ONNX: it is damaged, or no ONNX model.") from error
    return found


def external_data(file: Path) -> list[Path]:
    """The files beside an ONNX file that hold its weights, in the order of their names.

    Raises BadInput where one is missing or lies outside the folder of the file.
    """
    places = []
    for location in sorted(facts_of(file).locations):
        parts = PurePosixPath(location.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
            raise BadInput(
                f"{file} names {location!r}, outside of its own folder, as the place of its weights, and is refused: "
                "save it with its weights beside it."
            )
        place = file.parent / parts
        if not place.is_file():
            raise BadInput(f"{file} keeps its weights in {location!r}, which is not beside it; copy it there too.")
        places.append(place)
    return places


def origin_in(file: Path) -> Origin:
    """What makes the output of the model: a sigmoid or softmax, an operation without bounds, or neither; see
    ``link.origin_of``.
    """
    facts = facts_of(file)
    found: set[Origin] = set()
    seen: set[str] = set()
    waiting = list(facts.named["output"])
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        operation, inputs = facts.makers.get(name, ("", []))
        if operation in BOUNDED:
            found.add("bounded")
        elif FREE.fullmatch(operation) or name in facts.named["input"] - facts.named["tensor"]:
            found.add("free")
        elif PASSING.fullmatch(operation):
            waiting += inputs
        elif operation not in ("", "Constant"):
            found.add("unknown")
    return first_of(found)


def _walk(content: mmap.mmap, span: Span, message: str, found: OnnxFacts, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    if message == "entry":
        key, value = _texts(content, span, 1), _texts(content, span, 2)
        if key[-1:] == ["location"] and value:
            found.locations.add(value[-1])
        return
    if depth == _MAIN and message == "node":
        operation = (_texts(content, span, 4) or [""])[-1]
        found.makers |= {name: (operation, _texts(content, span, 1)) for name in _texts(content, span, 2)}
    if depth == _MAIN and message in NAMES:
        found.named[message].update(_texts(content, span, NAMES[message]))
    for number, start, stop in _parts(content, span):
        inner = MESSAGES.get(message, {}).get(number)
        if inner is not None:
            _walk(content, (start, stop), inner, found, depth + 1)


def _texts(content: mmap.mmap, span: Span, number: int) -> list[str]:
    spans = ((start, stop) for found, start, stop in _parts(content, span) if found == number)
    return [content[start:stop].decode("utf-8", errors="replace") for start, stop in spans]


def _parts(content: mmap.mmap, span: Span) -> Iterator[tuple[int, int, int]]:
    """Number, start and stop of every field of a message that has a length: texts, bytes, messages."""
    at, end = span
    while at < end:
        tag, at = _whole(content, at)
        kind, start = tag & 7, at
        if kind == 0:
            _, at = _whole(content, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, start = _whole(content, at)
            at = start + length
        else:
            raise ValueError("no protocol buffer")
        if at > end:
            raise ValueError("cut short")
        if kind == 2:
            yield tag >> 3, start, at


def _whole(content: mmap.mmap, at: int) -> tuple[int, int]:
    """A whole number of variable length, and where it ends."""
    number = shift = 0
    while shift <= 63:
        byte = content[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
    raise ValueError("no number")
