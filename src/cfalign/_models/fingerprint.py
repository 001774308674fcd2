"""The identity of a model: a hash of everything that decides its answers."""

from __future__ import annotations

import copyreg
import enum
import functools
import gc
import hashlib
import logging
import os
import re
import struct
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from types import (
    BuiltinMethodType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cfalign._models.own_code import attributes, closure, is_own, named_globals, package_of
from cfalign._models.script_content import script_content

UNKNOWN = "unknown"
"""Start of the hash of a model that holds something that cannot be compared; no two such hashes are equal."""

_PLAIN = (bool, int, float, complex, str, bytes, bytearray, type(None), type(Ellipsis), type(NotImplemented))
_NEUTRAL = (
    *(type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event, threading.Thread),
    *(logging.Logger, logging.Handler, logging.LoggerAdapter, Executor, torch.device),
)
"""Objects that decide no answer."""
_BUILT_IN = (
    *(BuiltinMethodType, MethodWrapperType, WrapperDescriptorType, GetSetDescriptorType, MemberDescriptorType),
    *(type(str.join), type(dict.__dict__["fromkeys"])),
)
_FOUNDATIONS = ("torch", "numpy", "cfalign", *sys.stdlib_module_names)
"""Packages whose versions are not part of a model's identity."""
_MODULE_STATE = frozenset(vars(nn.Module()))  # how torch keeps its books; parameters, buffers, modules, hooks count
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_LOWEST, _LONG = 2**24, re.compile(r"\b[1-9]\d{8,18}(?!\d)")  # of addresses: no object lies lower
_OF_A_CLASS = frozenset({"_abc_impl", "_is_protocol", "_is_runtime_protocol"})
_STOOD_FOR = ("module", "function")  # what the `version` of a classifier speaks for


def fingerprint(model: Any) -> str:
    """SHA-256 (16 hex digits) of everything that decides a model's answers.

    That is: weights and buffers; attributes, also in containers and under names that begin with an underscore; code
    of the user's classes and functions, with defaults, closures, arguments of ``partial``, and the globals that the
    code names; hooks. Of installed packages only name, code and version count. The same in every process and wherever
    files lie; order of assignment and addresses in memory do not matter.

    Where something cannot be compared (an open file, a session of a runtime), the hash is ``unknown-…`` and random, so
    that it equals no other, and names what it was. A ``version`` given to ``wrap`` or ``black_box`` stands for the
    module or function.
    """
    found = _Hasher()
    try:
        digest = found.digest(model)
    except RecursionError:
        found.not_comparable(model)
    if found.unknown:
        return f"{UNKNOWN}-{os.urandom(8).hex()} ({found.unknown[0]})"
    return digest.hex()[:16]


class _Hasher:
    """Hashes objects by content, each once; an object inside itself is hashed as its distance from itself."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        """Types of the objects that cannot be compared."""
        self._known: dict[int, bytes] = {}
        self._path: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no address is used twice

    def digest(self, thing: Any) -> bytes:
        """32 bytes that say what the object is."""
        if type(thing) in _PLAIN:
            return _mixed(type(thing).__name__, _plain(self._placeless(thing)))
        key = id(thing)
        if key in self._known:
            return self._known[key]
        if key in self._path:
            return _mixed("loop", str(len(self._path) - self._path[key]))
        self._path[key] = len(self._path)
        try:
            digest = self._content(thing)
        finally:
            del self._path[key]
        self._kept.append(thing)
        self._known[key] = digest
        return digest

    def _placeless(self, thing: Any) -> Any:
        """A number or text without the addresses of objects, by which libraries remember what they know."""
        if type(thing) is int:
            return "address" if thing > _LOWEST and thing in self._addresses else thing
        if type(thing) is str and _LONG.search(thing):
            return _LONG.sub(lambda found: str(self._placeless(int(found[0]))), thing)
        return thing

    @functools.cached_property
    def _addresses(self) -> frozenset[int]:
        """Where the objects of this process lie."""
        return frozenset(map(id, gc.get_objects()))

    def not_comparable(self, thing: Any) -> bytes:
        """Random bytes; remembers the type of the object."""
        kind = type(thing)
        self.unknown.append(
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        )
        return os.urandom(32)

    def _content(self, thing: Any) -> bytes:
        if isinstance(thing, _NEUTRAL):
            return _mixed("neutral")
        hashed = next((hashed for kind, hashed in _KINDS if isinstance(thing, kind)), _Hasher._object)
        return hashed(self, thing)

    # -- containers and values

    def _in_order(self, items: Iterable[Any]) -> bytes:
        return _mixed(*(self.digest(item) for item in items))

    def _by_name(self, named: Mapping[str, Any]) -> bytes:
        return _mixed(*(part for name in sorted(named) for part in (name, self.digest(named[name]))))

    def _subclassed(self, thing: Any, plain: type, content: bytes) -> bytes:
        """The content of a built-in container, and what a class of the user's or a library's adds to it."""
        kind = type(thing)
        if kind is plain:
            return _mixed(plain.__name__, content)
        return _mixed(plain.__name__, content, self.digest(kind), self._by_name(attributes(thing)))

    def _mapping(self, thing: Any) -> bytes:
        content = _mixed(*(self.digest(part) for pair in dict(thing).items() for part in pair))
        factory = getattr(thing, "default_factory", None)
        return self._subclassed(thing, dict, _mixed(content, self.digest(factory)))

    def _sequence(self, thing: Any) -> bytes:
        plain = next(kind for kind in (list, tuple, deque) if isinstance(thing, kind))
        return self._subclassed(thing, plain, self._in_order(thing))

    def _set(self, thing: Any) -> bytes:
        return self._subclassed(thing, type(thing), _mixed(*sorted(self.digest(item) for item in thing)))

    def _plain_subclass(self, thing: Any) -> bytes:
        plain: Any = next(kind for kind in _PLAIN if isinstance(thing, kind))
        return self._subclassed(thing, plain, _mixed(_plain(plain(thing))))

    def _member(self, thing: enum.Enum) -> bytes:
        return _mixed("member", type(thing).__qualname__, str(thing.name), self.digest(thing.value))

    def _number(self, thing: np.generic) -> bytes:
        return self._array(np.asarray(thing))

    def _array(self, thing: np.ndarray[Any, Any]) -> bytes:
        shape = f"{thing.shape}"
        if thing.dtype.names:  # one field after the other: what lies between them is arbitrary
            return _mixed(shape, *(part for n in thing.dtype.names for part in (n, self.digest(thing[n]))))
        if thing.dtype.hasobject:
            return _mixed("objects", shape, self._in_order(thing.ravel().tolist()))
        return _mixed("array", shape, thing.dtype.str, np.ascontiguousarray(thing).reshape(-1).view(np.uint8))

    def _tensor(self, thing: Tensor) -> bytes:
        if is_lazy(thing):
            return _mixed("no values yet", type(thing).__name__)
        facts = (str(tuple(thing.shape)), str(thing.dtype), str(thing.layout))
        if thing.is_meta:
            return _mixed("tensor", *facts)
        if hasattr(type(thing), "__tensor_flatten__"):  # tensors within a tensor, as quantised ones of torchao
            names, others = thing.__tensor_flatten__()  # type: ignore[attr-defined]
            parts = (self._by_name({name: getattr(thing, name) for name in names}), self.digest(others))
            return _mixed("tensors", *facts, self.digest(type(thing)), *parts)
        try:
            values = thing.detach()
            values = values.to_dense() if values.layout != torch.strided else values
            values = values.dequantize() if values.is_quantized else values
            flat = values.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
            return _mixed("tensor", *facts, flat.view(torch.uint8).numpy())
        except Exception:  # a subclass of a library may raise anything
            return self.not_comparable(thing)

    def _generator(self, thing: torch.Generator) -> bytes:
        return self.digest(thing.get_state())

    def _reference(self, thing: weakref.ref[Any]) -> bytes:
        return self.digest(thing())

    # -- code

    def _code(self, code: CodeType) -> bytes:
        told = (code.co_code, code.co_exceptiontable, repr((code.co_flags, code.co_argcount, code.co_kwonlyargcount)))
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        return _mixed("code", *told, repr(names), self._in_order(code.co_consts))

    def _function(self, function: FunctionType) -> bytes:
        original = vars(function).get("_torchdynamo_orig_callable")
        if original is not None:  # torch.compile
            return self.digest(original)
        held = (closure(function), function.__kwdefaults__ or {}, vars(function))
        values = (self._in_order(function.__defaults__ or ()), *(self._by_name(part) for part in held))
        if is_own(function):
            return _mixed("function", self.digest(function.__code__), *values, self._by_name(named_globals(function)))
        name = f"{_package(function)} {function.__code__.co_qualname}"
        if not _is_foundation(function):
            return _mixed("function", name, self.digest(function.__code__), *values)
        return _mixed("function", name, *(values if "<locals>" in name else ()))

    def _method(self, method: MethodType) -> bytes:
        return _mixed("method", self.digest(method.__func__), self.digest(method.__self__))

    def _built_in(self, thing: Any) -> bytes:
        owner = getattr(thing, "__self__", None)
        name = f"{getattr(thing, '__module__', None)} {getattr(thing, '__qualname__', thing.__name__)}"
        return _mixed("built-in", name, b"" if owner is None or isinstance(owner, ModuleType) else self.digest(owner))

    def _partial(self, thing: functools.partial[Any]) -> bytes:
        held = (self.digest(thing.func), self._in_order(thing.args), self._by_name(thing.keywords))
        return _mixed("partial", *held, self._by_name(vars(thing)))

    def _property(self, thing: property) -> bytes:
        return self._in_order((thing.fget, thing.fset, thing.fdel))

    def _wrapper(self, thing: Any) -> bytes:
        """``staticmethod``, ``classmethod``, what ``lru_cache`` makes."""
        return _mixed(type(thing).__name__, self.digest(thing.__wrapped__))

    def _python_module(self, module: ModuleType) -> bytes:
        if not is_own(module):
            return _mixed("module", _package(module))
        return _mixed("module", self._by_name({n: v for n, v in vars(module).items() if not n.startswith("__")}))

    def _class(self, kind: type) -> bytes:
        own = is_own(kind)
        if not own and _is_foundation(kind):
            return _mixed("class", _package(kind), kind.__qualname__)
        members = {name: value for name, value in vars(kind).items() if _counts(name, value)}
        if not own:
            members = {n: v.__code__ for n, v in members.items() if isinstance(v, FunctionType)}
        name = kind.__qualname__ if own else f"{_package(kind)} {kind.__qualname__}"
        return _mixed("class", name, self._in_order(kind.__bases__), self._by_name(members))

    # -- objects

    def _torch_module(self, module: nn.Module) -> bytes:
        if isinstance(module, torch.jit.ScriptModule):
            return self._script(module)
        compiled = module._modules.get("_orig_mod")
        if compiled is not None:  # torch.compile
            return self.digest(compiled)
        held = attributes(module)
        parts = [self.digest(type(module))]
        parts += [self._by_name(held[name]) for name in ("_parameters", "_buffers")]
        parts += [part for name, child in module._modules.items() for part in (name.encode(), self.digest(child))]
        parts += [self._in_order(held.get(name, {}).values()) for name in _HOOKS]
        skipped = _MODULE_STATE
        if isinstance(module, torch.fx.GraphModule):
            skipped |= {"_graph", "_code", "meta"}
            parts.append(self.digest(type(module).__dict__.get("forward", module.code)))
        parts.append(self._by_name(self._visible(module, {n: v for n, v in held.items() if n not in skipped})))
        return _mixed("torch module", *parts)

    def _script(self, thing: Any) -> bytes:
        content = script_content(thing)
        if content is None:
            return self.not_comparable(thing)
        code, values, tensors = content
        return _mixed("script", self._in_order(code), self._by_name(values), self._by_name(tensors))

    def _object(self, thing: Any) -> bytes:
        kind = type(thing)
        if kind.__module__ == "torch._ops":
            return _mixed("operator", str(thing))
        held = self._by_name(self._visible(thing, attributes(thing))) if is_own(kind) or _is_plain(kind) else b""
        reduced = b"" if _is_plain(kind) else self._reduced(thing)
        return _mixed("object", self.digest(kind), held, reduced)

    def _visible(self, thing: Any, held: dict[str, Any]) -> dict[str, Any]:
        """The attributes that decide an answer. cfalign's own classes keep others under names with an underscore."""
        if not type(thing).__module__.startswith("cfalign."):
            return held
        left_out = {"spec", *(_STOOD_FOR if held.get("version") else ())}
        return {n: v for n, v in held.items() if not n.startswith("_") and n not in left_out}

    def _reduced(self, thing: Any) -> bytes:
        """What the object would be pickled as, hashed part by part."""
        try:
            reduce = copyreg.dispatch_table.get(type(thing))
            found = reduce(thing) if reduce else thing.__reduce_ex__(4)
        except Exception:  # C objects, open files, sockets; and users' classes may raise anything
            return self.not_comparable(thing)
        if isinstance(found, str):
            return _mixed("global", found)
        make, arguments, state, items, pairs = (*found, None, None, None)[:5]
        if isinstance(state, dict):
            held = self._by_name({str(name): value for name, value in state.items()})
        else:
            held = self.digest(state)
        rest = [self._in_order(part or ()) for part in (items, pairs)]
        return _mixed("reduced", self.digest(make), self._in_order(arguments), held, *rest)


def _plain(thing: Any) -> bytes:
    if type(thing) is float:
        return struct.pack("<d", thing)
    return bytes(thing) if isinstance(thing, bytes | bytearray) else repr(thing).encode("utf-8", "surrogatepass")


def _mixed(*parts: Any) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()


def _package(code: FunctionType | type | ModuleType) -> str:
    """The module of an installed package and that package's version; cfalign's modules may move."""
    name = package_of(code)
    root = name.partition(".")[0]
    if root == "cfalign":
        return root
    version = "" if root in _FOUNDATIONS else getattr(sys.modules.get(root), "__version__", "")
    return f"{name} {version}" if isinstance(version, str) else name


def _is_foundation(code: FunctionType | type) -> bool:
    return package_of(code).partition(".")[0] in _FOUNDATIONS


def _is_plain(kind: type) -> bool:
    """Whether the attributes of an object say all, as no library and no C code stands behind its class."""
    bases = (base for base in kind.__mro__ if base is not object)
    return all(is_own(base) or package_of(base).partition(".")[0] in ("abc", "typing", "cfalign") for base in bases)


def _counts(name: str, value: Any) -> bool:
    """Whether an entry of a class decides what its objects do."""
    if isinstance(value, GetSetDescriptorType | MemberDescriptorType) or name in _OF_A_CLASS:
        return False
    generated = isinstance(value, FunctionType) and value.__code__.co_filename == "<string>"  # by dataclass
    if name.startswith("__") and name.endswith("__"):
        return isinstance(value, FunctionType | staticmethod | classmethod | property) and not generated
    return True


_KINDS: tuple[tuple[Any, Callable[[_Hasher, Any], bytes]], ...] = (
    (Tensor, _Hasher._tensor),
    (np.ndarray, _Hasher._array),
    (np.generic, _Hasher._number),
    (enum.Enum, _Hasher._member),
    (type, _Hasher._class),
    (torch.jit.ScriptFunction, _Hasher._script),
    (nn.Module, _Hasher._torch_module),
    (FunctionType, _Hasher._function),
    (CodeType, _Hasher._code),
    (MethodType, _Hasher._method),
    (functools.partial, _Hasher._partial),
    (_BUILT_IN, _Hasher._built_in),
    (property, _Hasher._property),
    ((staticmethod, classmethod, functools._lru_cache_wrapper), _Hasher._wrapper),
    (ModuleType, _Hasher._python_module),
    (torch.Generator, _Hasher._generator),
    (weakref.ref, _Hasher._reference),
    ((dict, MappingProxyType), _Hasher._mapping),
    ((list, tuple, deque), _Hasher._sequence),
    ((set, frozenset), _Hasher._set),
    (_PLAIN, _Hasher._plain_subclass),
)
"""How objects of these types are hashed; the first that fits."""
