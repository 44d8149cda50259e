"""Fingerprint of a callable: a hash over all the code, settings and weights that it reaches.

Followed are the values that functions close over, have as defaults and read as globals, the attributes of objects and
modules (hooks, a replaced ``forward`` and private ones included), parameters and buffers, and what a getter without
arguments has cached. Code counts as follows:

* code of the user (neither the standard library's nor installed): the whole text of every file that is reached, and of
  the files that these import, so that an edited helper is noticed;
* installed packages: name and version;
* this library, PyTorch and the other packages that every run depends on: by name, because results and run folders keep
  their versions.

Anything that can be read neither as text nor as a value makes the fingerprint impossible, rather than incomplete.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import hashlib
import inspect
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vfm_isbench.upsamplers.backbone_access import BackboneAccess
from vfm_isbench.upsamplers.freezing import closed_over, used_globals

_PLAIN = (type(None), bool, int, float, complex, str, bytes, enum.Enum, torch.dtype, torch.device, torch.Size)
_BY_REPR = (range, slice, type(...), np.dtype, np.generic, Path, re.Pattern)
_IGNORED = (logging.Logger, BackboneAccess)
"""Values that count by their kind alone."""
_LIBRARIES = frozenset({"torch", "torchvision", "numpy", "scipy", "timm", "vfm_isbench"}) | sys.stdlib_module_names - {
    "__main__"
}
_NO_SETTINGS = ("training", "upsampler_name", "upsampler_source", "plugin_origin")
"""Attributes of a module that do not change what it computes."""
_MODULE_STATE = frozenset(vars(nn.Module()))
"""Attributes that every module has; parameters, buffers and submodules count by themselves."""


class UnreadableError(Exception):
    """Some part can be told neither by its text nor by its value; the message names it."""


def fingerprint(value: Any) -> str:
    """Hash of a callable, an object or a module.

    Raises:
        UnreadableError: if a part of it cannot be read.
    """
    found = _Fingerprint()
    found.add(value)
    found.add_files()
    return found.hexdigest()


class _Fingerprint:
    """Hash of a tree of values, in which functions and objects count by their code and content."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        # With the values themselves, because the id of a temporary value may be given out again.
        self._seen: dict[int, tuple[int, object]] = {}
        self._classes: set[type] = set()
        self._files: set[str] = set()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def add(self, value: Any) -> None:
        if isinstance(value, _PLAIN):
            return self._text(type(value).__name__, repr(value))
        if isinstance(value, _BY_REPR):
            return self._text(type(value).__qualname__, repr(value))
        if isinstance(value, _IGNORED):
            return self._text(type(value).__qualname__)
        if id(value) in self._seen:
            return self._text("again", str(self._seen[id(value)][0]))
        if not isinstance(value, tuple):  # whether equal constant tuples are one object is up to the compiler
            self._seen[id(value)] = (len(self._seen), value)
        self._add_compound(value)

    def _add_compound(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self._text("array", str(value.dtype), str(value.shape))
            self._bytes(value.tobytes())
        elif isinstance(value, Mapping):
            self._items("mapping", [part for item in value.items() for part in item])
        elif isinstance(value, (list, tuple)):
            self._items(type(value).__name__, value)
        elif isinstance(value, (set, frozenset)) and all(map(_is_plain, value)):
            self._text(type(value).__name__, *sorted(map(repr, value)))
        elif isinstance(value, functools.partial):
            self._items("partial", [value.func, value.args, value.keywords])
        elif isinstance(value, nn.Module):
            self._module(value)
        elif isinstance(value, MethodType):
            self._items("method", [value.__name__, value.__self__])
        elif isinstance(value, functools._lru_cache_wrapper):
            self._items("cached", [value.__wrapped__, cached_value(value)])
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, ModuleType):
            self._text("python module", value.__name__)
            self._module_code(value.__name__)
        elif isinstance(value, BuiltinFunctionType):
            self._text("built-in", str(value.__module__), value.__qualname__)
            self._module_code(str(value.__module__))
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
            raise UnreadableError(f"a tensor of layout {tensor.layout} on {tensor.device} cannot be read")
        self._text("tensor", str(tensor.dtype), str(tuple(tensor.shape)))
        self._bytes(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())

    def _module(self, module: nn.Module) -> None:
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors.values()):
            raise UnreadableError(f"{type(module).__name__} has lazy weights that no call has created yet")
        for path, part in module.named_modules():
            self._text("module", path, part.extra_repr())
            for name, value in sorted(vars(part).items()):
                if name not in _NO_SETTINGS:
                    self._attribute(part, name, value)
            self._class(type(part))
        for name in sorted(tensors):
            self._text(name)
            self._tensor(tensors[name])

    def _attribute(self, part: nn.Module, name: str, value: Any) -> None:
        if name in _MODULE_STATE:
            if name.endswith("hooks") and value:
                self._text(name)
                self._items("hooks", list(value.values()))
            return
        if isinstance(part, torch.jit.ScriptModule):
            return  # its graph has all of it
        if _package(type(part)) in _LIBRARIES and name.startswith("_"):
            return  # derived from the public ones
        self._text(name)
        if _is_plain(value):
            self._text(repr(value))
        else:
            self.add(value)

    def _function(self, function: FunctionType) -> None:
        package = _package(function)
        self.add(closed_over(function))
        if package in _LIBRARIES:
            return self._text("library", package, function.__qualname__)
        module = str(function.__globals__.get("__name__", ""))
        if self._module_code(module):
            return self._text("installed", function.__qualname__)
        self._text("function", _source(function))
        self._items("defaults", [function.__defaults__, function.__kwdefaults__])
        names = _attribute_names(function.__code__)
        for name, value in used_globals(function).items():
            self._text(name)
            self.add(value)
            if isinstance(value, ModuleType) and _package_of(value.__name__) not in _LIBRARIES:
                used = sorted(names & vars(value).keys())
                self._items("of module", [part for used_name in used for part in (used_name, vars(value)[used_name])])

    def _class(self, cls: type) -> None:
        for base in cls.__mro__:
            self._text("class", base.__qualname__)
            if _package(base) in _LIBRARIES:
                continue
            if base in self._classes or self._module_code(str(base.__module__)):
                continue
            self._classes.add(base)
            for name, member in sorted(vars(base).items()):
                function = _plain_function(member)
                if function is not None and not (dataclasses.is_dataclass(base) and _is_generated(function)):
                    self._text(name)
                    self.add(function)
                elif not (name.startswith("__") or name == "_abc_impl" or inspect.isdatadescriptor(member)):
                    self._text(name)
                    self.add(member)

    def _object(self, value: object) -> None:
        if isinstance(value, torch.jit.ScriptFunction):
            return self._text("script", str(value.graph))
        slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
        if not hasattr(value, "__dict__") and not slots:
            raise UnreadableError(f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be read")
        self._class(type(value))
        content = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        content |= getattr(value, "__dict__", {})
        content.pop("plugin_origin", None)
        self.add({name: content[name] for name in sorted(content)})

    def _module_code(self, name: str) -> bool:
        """Note the code of a Python module; True if it is that of an installed package, whose version says it all."""
        top = _package_of(name)
        if top in _LIBRARIES:
            return True
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if file is None:
            if name != "__main__" and module is not None and not hasattr(module, "__path__"):
                self._text("compiled", name)
            return False
        if _is_installed(file):
            self._text("package", top, installed_version(top))
            return True
        if name != "__main__":  # what it holds besides upsamplers, such as an output folder, does not count
            self._files.add(name)
        return False

    def add_files(self) -> None:
        """Add the text of all files of the user that were reached, and of those that they import."""
        done: set[str] = set()
        while waiting := sorted(self._files - done):
            for name in waiting:
                done.add(name)
                for imported in _imports(name, Path(str(sys.modules[name].__file__))):
                    if imported in sys.modules:
                        self._module_code(imported)
        texts = sorted((name, _read(Path(str(sys.modules[name].__file__)))) for name in done)
        for name, text in texts:
            self._text("file", name, text)


def cached_value(wrapper: Any) -> Any:
    """What a function without arguments under ``functools.cache`` holds; None if it holds nothing.

    Raises:
        UnreadableError: if it holds values by argument.
    """
    if wrapper.cache_info().currsize == 0:
        return None
    if inspect.signature(wrapper).parameters:
        raise UnreadableError(f"{wrapper.__qualname__} caches values by argument, which cannot be read")
    return wrapper()


@functools.cache
def installed_version(top: str) -> str:
    """Version of the distribution that a top-level package belongs to; "unknown" if no metadata say so."""
    try:
        return version(top)
    except PackageNotFoundError:
        names = packages_distributions().get(top, [])
    return version(names[0]) if names else "unknown"


def _is_installed(file: str) -> bool:
    return any(part in ("site-packages", "dist-packages") for part in Path(file).parts)


def _read(path: Path) -> str:
    try:
        return (
            path.read_text(encoding="utf-8", errors="surrogateescape")
            if path.suffix == ".py"
            else path.read_bytes().hex()
        )
    except OSError as error:
        raise UnreadableError(f"the file {path.name} cannot be read") from error


def _imports(name: str, path: Path) -> Iterator[str]:
    """Names of all modules that a file may import, at its top or inside functions."""
    if path.suffix != ".py":
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError) as error:
        raise UnreadableError(f"the file {path.name} cannot be read") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _attribute_names(code: CodeType) -> frozenset[str]:
    """All attribute names that a code object and those nested in it use."""
    nested = [_attribute_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*nested)


def _package_of(module: str) -> str:
    return module.partition(".")[0]


def _package(value: FunctionType | type) -> str:
    # A decorated function claims the module of what it wraps; its globals tell where its own code stands.
    module = value.__globals__.get("__name__", "") if isinstance(value, FunctionType) else value.__module__
    return _package_of(str(module))


def _is_plain(value: object) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(map(_is_plain, value)))


def _plain_function(member: object) -> FunctionType | None:
    if isinstance(member, (staticmethod, classmethod)):
        member = member.__func__
    elif isinstance(member, property):
        member = member.fget
    elif isinstance(member, functools.cached_property):
        member = member.func
    return member if isinstance(member, FunctionType) else None


def _is_generated(function: FunctionType) -> bool:
    return function.__code__.co_filename == "<string>" or _package(function) == "dataclasses"


def _source(function: FunctionType) -> str:
    """Text of a function, without unwrapping decorators.

    Raises:
        UnreadableError: if there is none, or if it does not tell one lambda from another beside it.
    """
    code = function.__code__
    try:
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError) as error:
        raise UnreadableError(f"the text of {function.__qualname__} cannot be read") from error
    text = "".join(lines)
    last = max((line for *_, line in code.co_lines() if line is not None), default=first)
    cut_short = last >= first + len(lines)
    if cut_short or (code.co_name == "<lambda>" and len(re.findall(r"\blambda\b", text)) != 1):
        raise UnreadableError(f"the text of {function.__qualname__} does not tell it from another one beside it")
    return text
