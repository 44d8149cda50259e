"""Reads PyTorch checkpoints that hold objects of unknown classes, without importing or running anything they name.

A pickle is a program for a small stack machine, and Python's unpickler imports and calls whatever the program names.
Here :func:`pickletools.genops` only decodes the program, and a machine of our own interprets it. In that machine a name
stays a name: nothing found in the file is imported, looked up or called. Two alternatives are less safe: an
``Unpickler`` with a custom ``find_class`` keeps live functions on its stack, which opcodes can alter or call in other
ways, and ``torch.load`` around it has further entry points (TorchScript, registered extensions, ``__setstate__``).
"""

from __future__ import annotations

import math
import pickletools  # nosec B403 # it decodes opcodes and runs none
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vfm_isbench.errors import WeightsError


@dataclass(eq=False, slots=True, repr=False)
class Placeholder:
    """Stands for a class or function that the file names and this library does not know, or for an object it made.

    Attributes:
        path: Module and name, such as ``core.utils.model_builder.ModelBuilder``.
        args: Arguments it was called with; None for the bare name.
        state: State the object was given, usually its attributes by name.
        items: Items, if the object is a dictionary such as ``easydict.EasyDict``.
        values: Elements, if the object is a list or a set.
    """

    path: str
    args: Any = None
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    values: list[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<Placeholder of {self.path}>"


def read_torch_file(path: Path) -> Any:
    """Read what ``torch.save`` wrote (``.pth``, ``.ckpt``, ``.bin``), with inert placeholders for foreign objects.

    Args:
        path: The file, a zip archive as written by PyTorch since version 1.6.

    Returns:
        The saved object: tensors on the CPU without gradients, plain Python values, plain dictionaries in place of
        ordered ones (without their attributes), and a :class:`Placeholder` for everything else.

    Raises:
        WeightsError: if the file is missing, broken, or of another kind.
    """
    if not path.is_file():
        raise WeightsError(f"no file at {path}; expected a checkpoint written by torch.save")
    try:
        with zipfile.ZipFile(path) as archive:
            folder = _folder(archive, path)
            return _Machine(_Storages(archive, folder)).run(archive.read(f"{folder}/data.pkl"))
    except WeightsError:
        raise
    except zipfile.BadZipFile as error:
        raise WeightsError(
            f"{path} could not be read as a checkpoint: {error}. Expected a zip archive as written by PyTorch since "
            "version 1.6; if you trust a file from an older version, load it with PyTorch and save it again"
        ) from error
    except Exception as error:  # a broken program can fail in any instruction, in many ways
        raise WeightsError(
            f"{path} could not be read as a checkpoint because it is broken: {type(error).__name__}: {error}"
        ) from error


def _folder(archive: zipfile.ZipFile, path: Path) -> str:
    """Name of the only folder in the archive; raises an error if the archive is not a checkpoint."""
    names = archive.namelist()
    folders = {name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1}
    if len(folders) != 1:
        raise WeightsError(f"{path} could not be read as a checkpoint: it holds {len(folders)} records data.pkl, not 1")
    (folder,) = folders
    if f"{folder}/constants.pkl" in names:
        raise WeightsError(f"{path} is a TorchScript program, which is never loaded; give a state dict instead")
    # PyTorch does not compress; an archive that unpacks to more than its size was built to exhaust the memory.
    if sum(record.file_size for record in archive.infolist()) > path.stat().st_size:
        raise WeightsError(f"{path} could not be read as a checkpoint: its records are compressed, or overlap")
    order = archive.read(f"{folder}/byteorder").decode() if f"{folder}/byteorder" in names else "little"
    if order != sys.byteorder:
        raise WeightsError(f"{path} was written on a machine with another byte order ({order}); convert it there")
    return folder


class _Storages:
    """The archive's number records, each read only once so that views of one storage share it."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self._archive = archive
        self._folder = folder
        self._read: dict[tuple[str, torch.dtype], Tensor] = {}

    def get(self, dtype: torch.dtype, key: str, count: int) -> Tensor:
        if (key, dtype) not in self._read:
            content = bytearray(self._archive.read(f"{self._folder}/data/{key}"))
            self._read[key, dtype] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        numbers = self._read[key, dtype]
        _require(type(count) is int and count == numbers.numel(), f"storage {key} is not of the declared size")
        return numbers


@dataclass(frozen=True, slots=True)
class _Storage:
    numbers: Tensor


_DTYPES: dict[str, torch.dtype] = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_ignored: Any) -> Tensor:
    """A view of a storage; hooks and the gradient flag are ignored."""
    _require(isinstance(storage, _Storage) and type(size) is tuple and type(stride) is tuple, "a malformed tensor")
    numbers = (offset, *size, *stride)
    _require(len(size) == len(stride) and all(type(n) is int and n >= 0 for n in numbers), "a malformed tensor")
    # Views may overlap, even with strides of 0: without this check, a single number could become a tensor of any size.
    _require(math.prod(size) <= storage.numbers.numel(), "a tensor with more elements than its storage has")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    _require(0 in size or last < storage.numbers.numel(), "a tensor that reaches beyond its storage")
    view: Tensor = storage.numbers.as_strided(size, stride, offset)
    return view


def _parameter(data: Any, *_ignored: Any) -> Tensor:
    _require(isinstance(data, Tensor), "a parameter that is not a tensor")
    tensor: Tensor = data
    return tensor


def _typed(function: Any, _type: Any, arguments: Any, _state: Any) -> Any:
    """A tensor of a subclass or with attributes: what the function makes, without its type and attributes."""
    return _call(function, arguments)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    filled: dict[Any, Any] = {}
    for key, value in pairs:
        filled[_hashable(key)] = value
    return filled


_KNOWN: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _typed,
    "collections.OrderedDict": _ordered,
}
"""The only names whose calls have an effect: each is handled by a function of this module."""


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _hashable(key: Any) -> Any:
    # Python hashes nested tuples by unlimited recursion: deeply nested ones would crash the process.
    _require(not isinstance(key, tuple) or not any(isinstance(part, tuple) for part in key), "a nested tuple as a key")
    return key


_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_PUSH_ARGUMENT = _NUMBERS | _TEXTS | _BYTES
_PUSH_CONSTANT: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
_FROM_TOP = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class _Machine:
    """Interprets the instructions of one pickle, and stops with an error at any that it does not know."""

    def __init__(self, storages: _Storages) -> None:
        self._storages = storages
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(program):
            self._step(opcode.name, argument)
        (result,) = self._stack
        return result

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _PUSH_ARGUMENT:
            stack.append(argument)
        elif name in _PUSH_CONSTANT:
            stack.append(_PUSH_CONSTANT[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._pop_to_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in ("PROTO", "FRAME", "STOP"):
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _FROM_TOP:
            stack[-_FROM_TOP[name] :] = [tuple(stack[-_FROM_TOP[name] :])]
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name == "LIST":
            stack.append(self._pop_to_mark())
        elif name == "FROZENSET":
            stack.append(frozenset(map(_hashable, self._pop_to_mark())))
        elif name == "DICT":
            stack.append(_ordered(_pairs(self._pop_to_mark())))
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            values = [stack.pop()] if name == "APPEND" else self._pop_to_mark()
            _add_values(stack[-1], values)
        elif name in ("SETITEM", "SETITEMS"):
            values = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._pop_to_mark()
            _add_items(stack[-1], _ordered(_pairs(values)))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        else:
            self._make(name, argument)

    def _make(self, name: str, argument: Any) -> None:
        """Handle names, the objects made by calling them, and their state."""
        stack = self._stack
        if name == "GLOBAL":
            stack.append(Placeholder(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            _require(isinstance(attribute, str) and isinstance(module, str), "a name that is not text")
            stack.append(Placeholder(f"{module}.{attribute}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            stack.append(_call(stack.pop(), arguments))
        elif name == "NEWOBJ_EX":
            keywords, arguments = stack.pop(), stack.pop()
            stack.append(_call(stack.pop(), (*arguments, keywords)))
        elif name == "INST":
            stack.append(_call(Placeholder(argument.replace(" ", ".", 1)), tuple(self._pop_to_mark())))
        elif name == "OBJ":
            called, *arguments = self._pop_to_mark()
            stack.append(_call(called, tuple(arguments)))
        elif name == "BUILD":
            state = stack.pop()
            # Attributes of known objects, such as a state dict's _metadata, are not data.
            if isinstance(stack[-1], Placeholder):
                stack[-1].state = state
        else:
            raise ValueError(f"instruction {name}, which no checkpoint needs")

    def _pop_to_mark(self) -> list[Any]:
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _storage(self, identifier: Any) -> _Storage:
        kind, storage_type, key, _, count = identifier
        _require(kind == "storage" and isinstance(storage_type, Placeholder) and isinstance(key, str), "no storage")
        _require(storage_type.path in _DTYPES, f"numbers of unknown type {storage_type.path}")
        return _Storage(self._storages.get(_DTYPES[storage_type.path], key, count))


def _call(called: Any, arguments: Any) -> Any:
    """Result of a call: computed for a known name, a placeholder for anything else."""
    _require(isinstance(called, Placeholder) and isinstance(arguments, tuple), "a call of something not callable")
    if called.args is None and called.path in _KNOWN:
        return _KNOWN[called.path](*arguments)
    return Placeholder(called.path, arguments)


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _add_values(target: Any, values: list[Any]) -> None:
    if isinstance(target, set):
        target.update(map(_hashable, values))
    else:
        container = target.values if isinstance(target, Placeholder) else target
        _require(isinstance(container, list), "elements for something other than a list")
        container.extend(values)


def _add_items(target: Any, items: dict[Any, Any]) -> None:
    container = target.items if isinstance(target, Placeholder) else target
    _require(isinstance(container, dict), "items for something other than a dictionary")
    container.update(items)
