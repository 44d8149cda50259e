"""Which upsampler was it? A name, and a fingerprint of its code, settings and weights where one can be taken."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vfm_isbench.upsamplers.base import Upsampler
from vfm_isbench.upsamplers.freezing import closed_over, find_module, used_globals
from vfm_isbench.upsamplers.loaded import LoadedUpsampler

_PLAIN = (type(None), bool, int, float, complex, str, bytes, enum.Enum, torch.dtype, torch.device, torch.Size)
_LIBRARIES = frozenset({"torch", "torchvision", "numpy", "scipy", "timm", "vfm_isbench"}) | sys.stdlib_module_names - {
    "__main__"
}
"""Code of these is recorded by name: a run's environment holds the versions."""
_NO_SETTINGS = ("training", "upsampler_name")
"""Plain attributes of a module that do not change what it computes."""


@dataclass(frozen=True, slots=True)
class UpsamplerIdentity:
    """What a result says about its upsampler.

    Attributes:
        name: Declared or registered name, otherwise module:qualname.
        kind: "module" if it is or wraps an ``nn.Module``; "function" or "object" (a callable instance) if not.
        sha256: Hexadecimal fingerprint; None where it cannot be established, as for code that cannot be read.
        source: Where code and weights came from, as the upsampler declares (``upsampler_source``); None if it does not.
    """

    name: str
    kind: Literal["module", "function", "object"]
    sha256: str | None
    source: Mapping[str, Any] | None = None


def identity_of(upsampler: Upsampler | LoadedUpsampler) -> UpsamplerIdentity:
    """Establish the identity of an upsampler.

    The fingerprint of a module covers its parameters and buffers, structure, settings (``extra_repr`` and plain public
    attributes) and the text of its classes. That of a function covers its text, defaults, the values it closes over and
    the globals it reads; functions of its own package are followed, those of others count by name. Equal fingerprints
    mean the same upsampler under equal versions of the libraries; different ones may differ in a comment only.
    Device, eval mode and gradient flags do not count.
    """
    loaded = LoadedUpsampler.of(upsampler)
    kind: Literal["module", "function", "object"] = "object"
    if find_module(loaded.call) is not None:
        kind = "module"
    elif isinstance(loaded.call, (FunctionType, BuiltinFunctionType, MethodType, functools.partial)):
        kind = "function"
    return UpsamplerIdentity(loaded.name, kind, fingerprint_of(loaded.call), loaded.source)


def fingerprint_of(value: Any) -> str | None:
    """Fingerprint of any callable or module, see :func:`identity_of`; None if it cannot be established."""
    fingerprint = _Fingerprint()
    try:
        fingerprint.add(value)
    except _UnreadableError:
        return None
    return fingerprint.hexdigest()


class _UnreadableError(Exception):
    """Some part of the upsampler can be told neither by its text nor by its value."""


class _Fingerprint:
    """Hash of a tree of values, in which functions and objects count by their code and content."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        # Kept, not only their ids: the id of a temporary value may be given out again.
        self._seen: list[object] = []

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def add(self, value: Any) -> None:
        if isinstance(value, _PLAIN):
            return self._text(type(value).__name__, repr(value))
        for index, earlier in enumerate(self._seen):
            if earlier is value:
                return self._text("again", str(index))
        if not isinstance(value, tuple):  # whether equal constant tuples are one object is up to the compiler
            self._seen.append(value)
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self._text("array", str(value.dtype), str(value.shape))
            self._bytes(value.tobytes())
        elif isinstance(value, Mapping):
            self._items("mapping", [part for item in value.items() for part in item])
        elif isinstance(value, (list, tuple)):
            self._items(type(value).__name__, value)
        elif isinstance(value, functools.partial):
            self._items("partial", [value.func, value.args, value.keywords])
        elif isinstance(value, nn.Module):
            self._module(value)
        elif isinstance(value, MethodType):
            self._items("method", [value.__name__, value.__self__])
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, ModuleType):
            self._text("python module", value.__name__)
        elif isinstance(value, BuiltinFunctionType):
            self._text("built-in", str(value.__module__), value.__qualname__)
        elif isinstance(value, type):
            self._class(value)
        else:
            self._object(value)

    def _bytes(self, data: bytes) -> None:
        # With the length in front, no two different sequences of parts run together to the same bytes.
        self._hash.update(len(data).to_bytes(8, "little") + data)

    def _text(self, *parts: str) -> None:
        for part in parts:
            self._bytes(part.encode())

    def _items(self, kind: str, values: Any) -> None:
        self._text(kind, str(len(values)))
        for value in values:
            self.add(value)

    def _tensor(self, tensor: Tensor) -> None:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise _UnreadableError
        self._text("tensor", str(tensor.dtype), str(tuple(tensor.shape)))
        self._bytes(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())

    def _module(self, module: nn.Module) -> None:
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors.values()):
            raise _UnreadableError
        for path, part in module.named_modules():
            self._text("module", path, part.extra_repr())
            for name, value in sorted(vars(part).items()):
                if _is_plain(value) and not name.startswith("_") and name not in _NO_SETTINGS:
                    self._text(name, repr(value))
            try:
                self._class(type(part))
            except _UnreadableError:
                # Weights tell modules apart without the text of their class; without either, nothing does.
                if not tensors:
                    raise
        for name in sorted(tensors):
            self._text(name)
            self._tensor(tensors[name])

    def _function(self, function: FunctionType) -> None:
        package = _package(function)
        self.add(closed_over(function))
        if package in _LIBRARIES:
            return self._text("library", package, function.__qualname__)
        self._text("function", _source(function))
        self._items("defaults", [function.__defaults__, function.__kwdefaults__])
        for name, value in used_globals(function).items():
            self._text(name)
            if isinstance(value, (FunctionType, type)) and _package(value) != package:
                self._text(str(value.__module__), value.__qualname__)
            else:
                self.add(value)

    def _class(self, cls: type) -> None:
        for base in cls.__mro__:
            self._text("class", base.__qualname__)
            if _package(base) in _LIBRARIES:
                continue
            for name, member in sorted(vars(base).items()):
                function = _plain_function(member)
                if function is not None and not (dataclasses.is_dataclass(base) and _is_generated(function)):
                    self._text(name, _source(function))
                elif _is_plain(member) and not name.startswith("__"):
                    self._text(name, repr(member))

    def _object(self, value: object) -> None:
        slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
        if not hasattr(value, "__dict__") and not slots:
            raise _UnreadableError
        self._class(type(value))
        content = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        content |= getattr(value, "__dict__", {})
        self.add({name: content[name] for name in sorted(content)})


def _package(value: FunctionType | type) -> str:
    # A decorated function claims the module of what it wraps; its globals tell where its own code stands.
    module = value.__globals__.get("__name__", "") if isinstance(value, FunctionType) else value.__module__
    return str(module).partition(".")[0]


def _is_plain(value: object) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(map(_is_plain, value)))


def _plain_function(member: object) -> FunctionType | None:
    if isinstance(member, (staticmethod, classmethod)):
        member = member.__func__
    elif isinstance(member, property):
        member = member.fget
    return member if isinstance(member, FunctionType) else None


def _is_generated(function: FunctionType) -> bool:
    return function.__code__.co_filename == "<string>" or _package(function) == "dataclasses"


def _source(function: FunctionType) -> str:
    """Text of a function, without unwrapping decorators.

    Raises:
        _UnreadableError: if there is none, or if it does not tell one lambda from another beside it.
    """
    code = function.__code__
    try:
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError) as error:
        raise _UnreadableError from error
    text = "".join(lines)
    last = max((line for *_, line in code.co_lines() if line is not None), default=first)
    cut_short = last >= first + len(lines)
    if cut_short or (code.co_name == "<lambda>" and len(re.findall(r"\blambda\b", text)) != 1):
        raise _UnreadableError
    return text
