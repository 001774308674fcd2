"""Whether a file of ``torch.export`` can be loaded without running code of its own.

``torch.export.load`` falls back to full pickles, loads native libraries, evaluates expressions, and writes names from
the file into Python code that it then runs. So it is called only for files of the plain form, in which everything is
on a list: tensors, ATen operators, arithmetic on sizes, identifiers.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from cfalign._errors import BadInput

ENTRIES = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version|\.storage_alignment"
    r"|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
)
PLAIN = re.compile(r"[\w.]*")
ARITHMETIC = "add|sub|mul|floordiv|truediv|mod|neg|pos|pow|lt|le|gt|ge|eq|ne|and_|or_|not_|getitem"
OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.(?!__)\w+\.(?!__)\w+"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
    rf"|_operator\.({ARITHMETIC})|torch\.sym_(int|float|max|min|not|sqrt|ite|sum)|math\.(ceil|floor|trunc|sqrt)"
)
WORDS = {
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv"),
    *("CleanDiv", "CeilDiv", "IntTrueDiv", "FloatTrueDiv", "PowByNatural", "ToFloat", "TruncToInt", "CeilToInt"),
    *("FloorToInt", "Eq", "Ne", "Ge", "Gt", "Le", "Lt", "Equality", "Unequality", "GreaterThan", "LessThan"),
    *("StrictGreaterThan", "StrictLessThan", "And", "Or", "Not", "true", "false", "True", "False", "oo", "int_oo"),
    *("positive", "integer", "nonnegative", "nonzero", "zero", "real", "precision"),
}
NAME, QUOTED = re.compile(r"[A-Za-z_]\w*"), re.compile(r"'[\w.]*'")
LEFT_OUT = ("metadata", "as_string", "as_strings", "guards_code")
"""Keys whose text is shown to people, passed to an ATen operator as text, or dropped."""


def vet(file: Path) -> str | None:
    """The first part of the file that is not of the plain form, in a few words; None without one.

    Raises BadInput when it is damaged, or of the format before PyTorch 2.8.
    """
    try:
        with ZipFile(file) as archive:
            names = [entry.filename.partition("/")[2] for entry in archive.infolist()]
            if "models/model.json" not in names:
                raise BadInput(
                    f"{file} is no archive of torch.export.save as PyTorch 2.8 or newer writes it; export it again."
                )
            if len({name.lower() for name in names}) < len(names) or archive.comment:
                return "its table of contents is ambiguous"
            odd = next((name for name in names if not ENTRIES.fullmatch(name)), None)
            if odd is not None:
                return f"it holds {odd[:80]!r}"
            root = archive.infolist()[0].filename.partition("/")[0]
            return next(_odd_parts(archive, root, names), None)
    except (BadZipFile, NotImplementedError, ValueError, KeyError, RecursionError, EOFError, OSError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{file} is damaged: {str(error).rstrip('.') or 'it ends too early'}; copy it again.") from error


def copied(file: Path) -> io.BytesIO:
    """A copy of the archive as ``vet`` has read it, without guards, which are Python code.

    A malicious file may show torch's own reader another table of contents; the copy has only one.
    """
    copy = io.BytesIO()
    with ZipFile(file) as archive, ZipFile(copy, "w") as anew:
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename.endswith("/models/model.json"):
                content = json.dumps({**json.loads(content), "guards_code": []}).encode()
            anew.writestr(entry.filename, content)
    copy.seek(0)
    return copy


def _odd_parts(archive: ZipFile, root: str, names: list[str]) -> Iterator[str]:
    for name in names:
        if name.endswith(".json"):
            yield from _odd(json.loads(archive.read(f"{root}/{name}")), key="")
        if name.endswith(".pt"):
            content = archive.read(f"{root}/{name}")
            try:
                if content:
                    torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except Exception:  # the same call decides inside torch.export.load whether it takes the pickle in full
                yield "its sample inputs are a pickle that runs code"


def _odd(part: Any, *, key: str) -> Iterator[str]:
    """Everything below ``part`` that is not of the plain form."""
    if isinstance(part, dict):
        for name, value in part.items():
            if not PLAIN.fullmatch(name):
                yield f"{name[:40]!r} is no name"
            elif name == "use_pickle" and value:
                yield "it holds pickled tensors"
            elif name not in LEFT_OUT:
                yield from _odd(value, key=name)
    elif isinstance(part, list):
        for value in part:
            yield from _odd(value, key=key)
    elif isinstance(part, str) and not _plain(part, key):
        yield f"{key} is {part[:60]!r}"


def _plain(text: str, key: str) -> bool:
    if key in ("target", "as_operator"):
        return OPERATORS.fullmatch(text) is not None
    if key == "expr_str":
        bare = QUOTED.sub("", text)
        known = all(word in WORDS or re.fullmatch(r"[suz][a-z]{0,2}\d+", word) for word in NAME.findall(bare))
        return (
            known and re.fullmatch(r"[\w\s(),=<>*/+.-]*", bare) is not None and not re.search(r"\.\s*[A-Za-z_]", bare)
        )
    if key in ("in_spec", "out_spec"):
        return next(_odd(json.loads(text), key="spec"), None) is None
    if key == "context":
        return re.fullmatch(r'null|\[("\w+"(, *"\w+")*)?\]', text) is not None
    return PLAIN.fullmatch(text.replace("+", "") if key == "torch_version" else text) is not None
