"""Weights on disk: cfalign's own, one safetensors file whose metadata say how to build the network, and checkpoints of
other software, read without running code.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, TypeVar
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.serialization import safe_globals

from cfalign._errors import BadInput
from cfalign._models.guard import described

KEY = "cfalign"
EXPANSION, SLACK = 20, 2**24  # an archive of torch may unpack to 20 times its size and 16 MiB: its code is compressed


def _emptied(*_: object) -> dict[Any, Any]:
    """In place of a ``defaultdict``, which torch does not fill."""
    return OrderedDict()


_PATHS = {PurePosixPath: ("PosixPath", "PurePosixPath"), PureWindowsPath: ("WindowsPath", "PureWindowsPath")}
_HARMLESS: tuple[Any, ...] = (
    *(argparse.Namespace, frozenset, dict, list, set, int, float, str),
    *(datetime.datetime, datetime.date, datetime.timedelta, datetime.timezone),
    (_emptied, "collections.defaultdict"),
    *((k, f"{room}.{n}") for k, names in _PATHS.items() for n in names for room in ("pathlib", "pathlib._local")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((np.zeros(0).__reduce__()[0], f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *(np.ndarray, np.dtype, *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd")),
)
"""What training scripts put beside weights (settings, paths, best scores): classes that hold values and run nothing."""
_WANTED = re.compile(r"(?:Unsupported global: GLOBAL|unsupported GLOBAL|Unsupported class) ([\w.]+)")
Network = TypeVar("Network", bound=nn.Module)


def save_weights(path: Path, module: nn.Module, config: Mapping[str, Any], *, half: bool = False) -> None:
    """Write the module's state and its ``config``; ``half`` stores floating tensors in 16 bits."""
    state = {k: _stored(v, half) for k, v in module.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    save_file(state, temporary, metadata={KEY: json.dumps(config)})
    temporary.chmod(0o644)  # safetensors writes for the owner only
    temporary.replace(path)


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if half and tensor.is_floating_point() else tensor


def read_weights(path: str | Path, *, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State (floating tensors as float32) and config of a file that holds a ``kind`` (``autoencoder``, ``classifier``).

    Raises BadInput when the file is missing, damaged, of another origin or of another kind.
    """
    file = Path(path)
    if not file.is_file():
        raise BadInput(f"There is no weight file {str(path)!r}.")
    try:
        with safe_open(file, framework="pt") as handle:
            text = (handle.metadata() or {}).get(KEY)
            state = {k: handle.get_tensor(k) for k in handle.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} cannot be read as safetensors: {str(error).rstrip('.')}.") from error
    if text is None:
        raise BadInput(
            f"{path} holds weights but no cfalign description; expected a file from `cfalign train {kind}`, or name a "
            "factory as path/to/file.py:factory."
        )
    try:
        config: dict[str, Any] = dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise BadInput(f"The description in {path} is damaged: {error}.") from error
    if config.get("kind") != kind:
        raise BadInput(f"{path} holds a {config.get('kind')!r}, expected a {kind!r}.")
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, config


def read_checkpoint(path: str | Path, *, trust: bool = False) -> dict[str, Any]:
    """What a checkpoint of other software holds, on the CPU: names → tensors, or objects of a training state.

    Reads safetensors and what ``torch.save`` wrote (``.pt``, ``.pth``, ``.ckpt``, ``.bin``), by content and not by
    suffix. No code is run: a pickle that needs more than tensors and plain values is refused, unless ``trust`` is set;
    then the file may run any code it likes, and classes that are not installed are read as empty placeholders.

    Raises BadInput when the file is missing, empty, cut short, of another kind, or needs ``trust``.
    """
    content = read_object(path, trust=trust)
    if isinstance(content, nn.Module):
        raise BadInput(
            f"{path} holds a whole module ({type(content).__name__}), expected a checkpoint: names and tensors, as "
            "torch.save(module.state_dict(), …) writes them."
        )
    if not isinstance(content, Mapping) or not all(isinstance(k, str) for k in content):
        raise BadInput(f"{path} holds a {type(content).__name__}, expected a checkpoint: names and their tensors.")
    return dict(content)


def read_object(path: str | Path, *, trust: bool = False) -> Any:
    """Like ``read_checkpoint``, but whatever object the file holds."""
    file = Path(path)
    with _opened(file) as handle:
        start = handle.read(16)
    if file.suffix == ".safetensors" or start[8:9] == b"{":  # eight bytes of length, then JSON
        try:
            with safe_open(file, framework="pt") as tensors:
                return {k: tensors.get_tensor(k) for k in tensors.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{path} cannot be read as safetensors: {str(error).rstrip('.')}.") from error
    if start[:2] == b"PK":
        names = checked_archive(file)
        if any(name.endswith("/constants.pkl") for name in names):
            raise BadInput(f"{path} is a TorchScript program, expected a checkpoint: names and tensors.")
        if not any(name.endswith("/data.pkl") for name in names):
            raise BadInput(f"{path} is a ZIP archive that torch.save has not written; expected a checkpoint.")
    elif start[:1] != b"\x80":
        raise BadInput(f"{path} is neither safetensors nor a checkpoint of torch.save; it begins with {start[:8]!r}.")
    return _unpickled(file, trust=trust)


def _opened(file: Path) -> BinaryIO:
    """The opened file. Raises BadInput when it is missing, empty or cannot be read."""
    if file.is_dir():
        raise BadInput(f"{file} is a folder, expected a file of weights.")
    try:
        if not file.stat().st_size:
            raise BadInput(f"{file} is an empty file, expected weights: the copy or download may have failed.")
        return file.open("rb")
    except FileNotFoundError:
        raise BadInput(f"There is no weight file {str(file)!r}.") from None
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {(error.strerror or str(error)).lower()}.") from error


def checked_archive(file: Path) -> list[str]:
    """Names of the entries of a ZIP archive as torch writes it.

    Raises BadInput when it is missing, empty, no archive, cut short, or would unpack to far more than its size.
    """
    with _opened(file) as handle:
        if handle.read(2) != b"PK":
            raise BadInput(f"{file} is no archive as torch writes it; it may be something else under that name.")
    size = file.stat().st_size
    try:
        with ZipFile(file) as archive:
            entries = archive.infolist()
    except (BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise BadInput(f"{file} is cut short or damaged: {str(error).rstrip('.').lower()}; copy it again.") from error
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > EXPANSION * size + SLACK:
        raise BadInput(
            f"{file} has {size} bytes, but would unpack to {unpacked}; torch stores weights uncompressed, so this is "
            "no file of torch."
        )
    return [entry.filename for entry in entries]


def _unpickled(file: Path, *, trust: bool) -> Any:
    more: dict[str, Any] = {"pickle_module": _Lenient} if trust else {}
    try:
        with warnings.catch_warnings(), safe_globals(list(_HARMLESS)):
            warnings.simplefilter("ignore")  # of pickle protocols; what cannot be read is said below
            return torch.load(file, map_location="cpu", weights_only=not trust, **more)
    except pickle.UnpicklingError as error:
        if wanted := _WANTED.search(str(error)):
            raise BadInput(
                f"{file} is a pickle that runs code when it is read (it asks for {wanted.group(1)}) and is refused; "
                "save the state_dict or safetensors instead, or, if you trust where it comes from, give --trust "
                "(trust=True)."
            ) from error
        if "Unsupported operand" in str(error):
            raise BadInput(f"{file} is a pickle that torch.save has not written and is refused.") from error
        raise BadInput(f"{file} is damaged, or no checkpoint of torch.save: {_reason(error)}.") from error
    except MemoryError:
        raise
    except EOFError as error:
        raise BadInput(f"{file} is cut short; copy it again.") from error
    except Exception as error:  # a pickle, or the code in a trusted one, may raise anything
        raise BadInput(f"{file} cannot be read as a checkpoint of torch.save: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    """The part of torch's message that tells what is wrong, without its advice."""
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    text = text.strip().split("\n")[0].partition(". This is an internal")[0].rstrip(".")[:300]
    plain = isinstance(error, pickle.UnpicklingError | RuntimeError)
    return text if plain and text else described(error)


class _Placeholder:
    """Stands for an object whose class is not installed; keeps nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def append(self, _: object) -> None:
        """Items of a list."""


class _LenientUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):  # callbacks and settings of a training library
            return type(name.rpartition(".")[2], (_Placeholder,), {"__module__": module})


class _Lenient:
    """The parts of ``pickle`` that ``torch.load`` uses, for files that are trusted."""

    __name__ = "pickle"
    Unpickler = _LenientUnpickler
    load = staticmethod(lambda file, **more: _LenientUnpickler(file, **more).load())


def built(build: Callable[[dict[str, Any]], Network], config: dict[str, Any], path: str | Path) -> Network:
    """The network that a weight file describes. Raises BadInput when this version cannot build it."""
    try:
        return build(config)
    except (KeyError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise BadInput(f"{path} describes a network that this cfalign cannot build: {what}.") from error


def load_into(module: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Load all weights and put the module in evaluation mode, without parameter gradients.

    Convolutions work on channels last, in which they are faster: by a third on a CPU.
    Raises BadInput, with the first keys, for weights that are missing, unexpected or of another shape.
    """
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        lines = [line.strip().rstrip(".") for line in str(error).splitlines()[1:4]]
        reason = "; ".join(line if len(line) <= 200 else f"{line[:199]}…" for line in lines)
        raise BadInput(f"The weights in {path} do not fit the network they describe: {reason}.") from error
    module.eval()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs do not know it
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def parameters(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters() if isinstance(p, torch.nn.Parameter))
