"""What decides the answers of a TorchScript program, from the files that it would be saved as."""

from __future__ import annotations

import io
import pickletools
import re
import warnings
from itertools import groupby
from typing import Any
from zipfile import ZipFile

import torch

_PICKLES, _TENSORS = ("/data.pkl", "/constants.pkl"), re.compile(r"/(data|constants)/\d+$")
_NUMBERED = re.compile(rb"\.___torch_mangle_\d+|(?<=\b_cfalign_user)_\w+?_[0-9a-f]{8}\b")
"""What tells classes of one name apart: a number of TorchScript's, or where a factory's file lies."""
_CONSTANT = b" : Final["


def script_content(program: Any) -> tuple[list[bytes], dict[str, list[bytes]], dict[str, bytes]] | None:
    """Its code, its values and its tensors, without what its files are called and where its lines come from.

    None for a program that cannot be saved.
    """
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript itself is deprecated
            torch.jit.save(program, buffer)
    except RuntimeError:
        return None
    with ZipFile(buffer) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    code = sorted(_in_one_order(content) for name, content in files.items() if name.endswith(".py"))
    values = {name: _steps(content) for name, content in files.items() if name.endswith(_PICKLES)}
    return code, values, {name: content for name, content in files.items() if _TENSORS.search(name)}


def _in_one_order(code: bytes) -> bytes:
    """Code whose constants are sorted: their order in a class is another in every process."""
    groups = groupby(_NUMBERED.sub(b"", code).split(b"\n"), key=lambda line: _CONSTANT in line)
    return b"\n".join(line for constant, group in groups for line in (sorted(group) if constant else group))


def _steps(pickled: bytes) -> list[bytes]:
    """What a pickle builds."""
    steps = pickletools.genops(pickled)
    return [_NUMBERED.sub(b"", f"{step.name} {argument!r}".encode()) for step, argument, _ in steps]
